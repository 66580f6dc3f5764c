"""The JSON API does what the pages do, and its OpenAPI document says what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jsonschema
from httpx import Response

from assent import Agent, RunHandle, tool
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


@tool(requires_confirmation=True)
def refund(cents: int) -> str:
    """Refund."""
    return f"refunded {cents}"


def check(answer: Response, path: str, method: str = "get") -> Any:
    """Refuse an answer that is not as the document says; return its content."""
    document = cast("Mapping[str, Any]", openapi())
    responses = document["paths"][path][method]["responses"]
    said = responses.get(str(answer.status_code), responses["default"])
    schema = said["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json(), {**schema, "components": document["components"]})
    return answer.json()


async def test_everything_can_be_read_and_decided_as_json(assent_environment: Environment) -> None:
    model = assent_environment.responses(
        calls(call("pay", to="ann", cents=5)), calls(call("refund", cents=1)),
        calls(call("pay", to="bo", cents=1)), says("done"),
    )  # fmt: skip
    async with assent_environment.serve(Agent(name="json-payer", model=model, tools=[pay, refund])) as client:
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
            path,
            json={"signal": "approve", "reason": "ok", "arguments": {"to": "ann", "cents": 4}},
        )
        assert check(approved, "/api/request", "post")["status"] == "approved"
        await revoke(run, bob, Visitor.at(app))
        await run.reject((await run.state()).active_requirements[0], by="bob", reason="no")
        await run.result()
        for name in ("run", "events", "audit"):
            assert check(await bob.get(link(f"/api/{name}", id=run.id)), f"/api/{name}")
        assert check(await bob.get("/api/decisions"), "/api/decisions")["decisions"][0]["run_id"] == run.id
        assert check(await bob.get("/api/statistics"), "/api/statistics")["total"]["asked"]
        assert (await bob.get("/api/openapi.json")).json() == openapi()
        assert check(await bob.get("/api/run?id=no-such-run"), "/api/run")["problem"]


async def revoke(run: RunHandle, bob: Visitor, stranger: Visitor) -> None:
    [refund] = (await run.until_paused()).active_requirements
    remembered = {"signal": "approve", "remember": {"uses": 2}}
    check(await bob.http.post(link("/api/request", run=run.id, id=refund.id), json=remembered), "/api/request", "post")
    [grant] = (await run.until_paused()).grants
    path = link("/api/revoke", id=run.id, grant=grant.short_id)
    refused = [
        await bob.http.post(path, json={}, headers={"origin": "https://evil.example"}),
        await bob.http.post(path, content="{}", headers={"content-type": "text/plain"}),
        await stranger.http.post(path, json={}),
        await bob.http.post(path, json={"by": "carol"}),
        await bob.http.post(link("/api/revoke", id=run.id, grant="0" * 64), json={}),
        await bob.http.get(path),
    ]
    assert [each.status_code for each in refused] == [403, 415, 401, 422, 404, 405]
    unsigned = await bob.http.post(path.replace("/revoke", "/revoke/statement"), json={})
    assert "no passkey of yours" in check(unsigned, "/api/revoke/statement", "post")["problem"]
    assert [each.revoked_by for each in (await run.state()).grants] == [None]
    ended = await bob.http.post(path, json={"reason": "once was enough"})
    check(ended, "/api/revoke", "post")
    assert ended.status_code == 200, ended.text
    assert [each.revoked_by for each in (await run.state()).grants] == ["bob"]
    again = await bob.http.post(path, json={})
    assert (again.status_code, bool(check(again, "/api/revoke", "post")["detail"])) == (409, True)
