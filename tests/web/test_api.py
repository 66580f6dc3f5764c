"""The JSON API does what the pages do, and its OpenAPI document says what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jsonschema
from httpx import Response

from assent import Agent, tool
from assent.testing import Environment, call, calls, says
from assent.web.api import openapi
from assent.web.app import application
from assent.web.rendering import link
from assent.web.settings import WebSettings
from tests.web.visitor import ORIGIN, PROXY, Visitor


@tool(requires_confirmation=True)
def pay(to: str, cents: int) -> str:
    """Pay."""
    return f"paid {cents} to {to}"


def check(answer: Response, path: str, method: str = "get") -> Any:
    """Refuse an answer that is not as the document says; return its content."""
    document = cast("Mapping[str, Any]", openapi())
    responses = document["paths"][path][method]["responses"]
    said = responses.get(str(answer.status_code), responses["default"])
    schema = said["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    return answer.json()


async def test_everything_can_be_read_and_decided_as_json(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="ann", cents=5)), says("done"))
    async with assent_environment.serve(Agent(name="json-payer", model=model, tools=[pay])) as client:
        await client.setup()
        settings = WebSettings.read(url=ORIGIN, trusted_header="X-Forwarded-User", trusted_proxies=[PROXY])
        app = application(client, settings)
        bob, alice = Visitor.at(app, "bob"), Visitor.at(app, "alice")
        run = await client.start("json-payer", "Pay.", requested_by="alice")
        await run.until_paused()
        listed = check(await bob.get("/api/requests?agent=json-payer"), "/api/requests")
        [waiting] = [each for each in listed["requests"] if each["run_id"] == run.id]
        path = link("/api/request", run=run.id, id=waiting["id"])
        assert check(await bob.get(path), "/api/request")["request"]["tool"] == "pay"

        for visitor, document, status in (
            (alice, {"signal": "approve"}, 409),
            (bob, {"signal": "reject"}, 400),
            (bob, {"signal": "approve", "by": "carol"}, 422),
            (bob, {"signal": "cancel"}, 422),
        ):
            answer = await visitor.http.post(path, json=document)
            check(answer, "/api/request", "post")
            assert answer.status_code == status, answer.text
        crossed = [
            await bob.http.post(path, json={"signal": "approve"}, headers={"origin": "https://evil.example"}),
            await bob.http.post(path, json={"signal": "approve"}, headers={"sec-fetch-site": "cross-site"}),
            await bob.http.post(path, content='{"signal": "approve"}', headers={"content-type": "text/plain"}),
            await Visitor.at(app).http.post(path, json={"signal": "approve"}),
        ]
        assert [each.status_code for each in crossed] == [403, 403, 415, 401]
        unsigned = await bob.http.post(path.replace("/request", "/statement"), json={"signal": "approve"})
        assert "no passkey of yours" in check(unsigned, "/api/statement", "post")["problem"]

        approved = await bob.http.post(
            path, json={"signal": "approve", "reason": "ok", "arguments": {"to": "ann", "cents": 4}}
        )
        assert check(approved, "/api/request", "post")["status"] == "approved"
        await run.result()
        for name in ("run", "events", "audit"):
            assert check(await bob.get(link(f"/api/{name}", id=run.id)), f"/api/{name}")
        assert check(await bob.get("/api/decisions"), "/api/decisions")["decisions"][0]["run_id"] == run.id
        assert check(await bob.get("/api/statistics"), "/api/statistics")["total"]["asked"]
        assert (await bob.get("/api/openapi.json")).json() == openapi()
        assert check(await bob.get("/api/run?id=no-such-run"), "/api/run")["problem"]
