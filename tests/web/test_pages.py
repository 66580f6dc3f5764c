"""What people see and do on the approvals page, over a real server: one worker and a run for each claim."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest_asyncio
from httpx import Response
from starlette.types import ASGIApp

from assent import Agent, AgentClient, Approval, RunHandle, ToolContext, ask_user, tool
from assent.testing import Environment, Step, call, calls, says
from assent.web.app import application
from assent.web.rendering import link
from assent.web.settings import WebSettings
from tests.support.visibility import soon
from tests.web.visitor import ORIGIN, PROXY, Visitor, words

RAN: dict[str, list[str]] = {}


@tool(requires_confirmation=True)
def pay(context: ToolContext, to: str, amount: int) -> str:
    """Pay."""
    RAN.setdefault(context.run_id, []).append(f"{to} {amount}")
    return f"paid {amount} to {to}"


@tool(external_execution=True)
def order(item: str) -> str:
    """Order in a shop."""
    raise NotImplementedError


@dataclass(frozen=True)
class Desk:
    """A page, and runs that wait."""

    client: AgentClient
    environment: Environment
    app: ASGIApp
    agents: dict[str, Agent]

    async def ask(self, name: str, *, by: str = "alice", input: str = "Do it.") -> tuple[RunHandle, str]:
        """Start a run, and return it with the path of the page of its request."""
        run = await self.client.start(name, input, requested_by=by)
        [asked] = await soon(lambda: self._listed(run, name))
        return run, link("/request", run=run.id, id=asked.id)

    async def _listed(self, run: RunHandle, agent: str) -> list[Approval]:
        return [each for each in await self.client.pending(agent=agent) if each.run_id == run.id]

    def visitor(self, name: str) -> Visitor:
        return Visitor.at(self.app, name)


HOSTILE = "<script>alert(1)</script>\u202egnp.exe\x1b[31m\"'`"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(assent_environment: Environment) -> AsyncGenerator[Desk]:
    def agent(name: str, *steps: Step, **options: object) -> Agent:
        model = assent_environment.responses(*steps)
        return Agent(name=name, model=model, tools=[pay, order, ask_user])

    def last(seen: object) -> str:
        return f"{getattr(seen, 'last_output', '')}"

    agents = [
        agent("payer", calls(call("pay", to="bob's bakery", amount=12), text="It is due."), lambda it: says(last(it))),
        agent("insister", *[calls(call("pay", to="bob", amount=1))] * 3, lambda it: says(last(it))),
        agent("buyer", calls(call("order", item="desk")), lambda it: says(last(it))),
        agent(
            "planner",
            calls(call("ask_user", question="Which region?", choices=["eu", "us"])),
            lambda it: says(last(it)),
        ),
        agent("mallory", calls(call("pay", to=HOSTILE, amount=1), text=HOSTILE), lambda it: says(last(it))),
    ]
    async with assent_environment.serve(*agents) as client:
        await client.setup()
        settings = WebSettings.read(url=ORIGIN, trusted_header="X-Forwarded-User", trusted_proxies=[PROXY])
        yield Desk(client, assent_environment, application(client, settings), {each.name: each for each in agents})


async def test_what_waits_is_seen_and_approved_and_runs_once(desk: Desk) -> None:
    run, path = await desk.ask("payer")
    bob, alice, carol = desk.visitor("bob"), desk.visitor("alice"), desk.visitor("carol")
    token = token_of(await carol.get(path))
    address = link("/request", run=run.id, id=path.rpartition("=")[2]).replace("&", "&amp;")
    # The page reads what waits once a second.
    assert address in (await soon(lambda: bob.get("/?show=all&agent=payer"), lambda page: address in page.text)).text
    shown = words(await bob.get(path))
    for text in ("Approve or reject pay payer asked by alice", "to bob's bakery amount 12", "It is due.", "Do it."):
        assert text in shown
    assert "another person decides" in words(await alice.get(path))

    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', (await bob.get(path)).text)
    assert sum([len((await bob.get(each)).content) for each in {*files, path}]) < 60_000

    refused = await alice.decide(path, action="approve")
    assert "Your decision did not count. 'alice' asked for this run and may not approve in it" in refused
    assert "Approved." in await bob.decide(path, action="approve", reason="the bill is right")
    assert (await run.result()).content == "paid 12 to bob's bakery"
    assert RAN[run.id] == ["bob's bakery 12"]
    assert "The call was executed" in words(await bob.get(path))
    again = await carol.decide(path, action="reject", reason="no", token=token)
    assert "Too late: your decision changed nothing. the run has ended; this call was approved by bob" in again
    [record] = await desk.client.audit(run.id)
    assert (record.status, record.resolved_by, record.reason) == ("approved", "bob", "the bill is right")
    assert [each.by for each in record.ignored_messages] == ["alice"]

    events = words(await bob.get(link("/run", id=run.id)))
    for text in (f"Completed {run.id} payer asked by alice", "Waiting", "Decided", "Not counted"):
        assert text in events
    audit = words(await bob.get(link("/audit", id=run.id)))
    for text in (
        "Verified Audit",
        "pay approved , executed Approved by bob",
        "the name is a claim",
        "approve as alice : refused",
        "What no check can show",
    ):
        assert text in audit
    assert "Approved pay payer asked by alice" in words(await bob.get("/mine"))
    assert "You have decided nothing" in words(await desk.visitor("newcomer").get("/mine"))
    statistics = words(await bob.get("/statistics"))
    assert re.search(r"Tool Asked Waiting .* pay \d+ ", statistics)
    assert re.search(r"Person Decisions .* bob \d+ ", statistics)


async def test_a_rejection_needs_a_reason_and_the_model_gets_it(desk: Desk) -> None:
    run, path = await desk.ask("payer")
    bob = desk.visitor("bob")
    missing = await bob.post(path, action="reject", reason="  ")
    assert (missing.status_code, "the reason is missing" in words(missing)) == (400, True)
    assert "Rejected." in await bob.decide(path, action="reject", reason="not on a Friday")
    assert (await run.result()).content == "Rejected: not on a Friday"
    assert run.id not in RAN


async def test_a_rejection_rejects_further_calls_too(desk: Desk) -> None:
    run, path = await desk.ask("insister")
    bob = desk.visitor("bob")
    assert "Further calls of pay in this run are then rejected without asking" in words(await bob.get(path))
    assert "Rejected." in await bob.decide(path, action="reject", reason="never", remember_uses="2")
    assert (await run.result()).content == "Rejected again, without asking: never"
    assert run.id not in RAN
    bought, order_path = await desk.ask("buyer")
    assert "Further calls of order in this run are then rejected" in words(await bob.get(order_path))
    await bought.cancel()


async def test_changed_arguments_are_shown_before_they_are_approved(desk: Desk) -> None:
    run, path = await desk.ask("payer")
    bob = desk.visitor("bob")
    broken = await bob.post(path, action="edit", arguments='{"to": "bob\'s bakery", "amount": ')
    assert (broken.status_code, "The arguments cannot be used" in words(broken)) == (400, True)
    text = json.dumps({"to": "bob's bakery", "amount": 10})
    preview = await bob.post(path, action="edit", arguments=text)
    assert "What changes amount was 12 becomes 10 What would run" in words(preview)
    after = await bob.decide(path, action="approve", arguments=text)
    assert "Approved." in after
    assert "Changed by bob amount was 12 becomes 10" in after
    assert (await run.result()).content.endswith("paid 10 to bob's bakery")
    assert RAN[run.id] == ["bob's bakery 10"]


async def test_a_question_is_answered_and_a_result_handed_in(desk: Desk) -> None:
    bob = desk.visitor("bob")
    asked, question = await desk.ask("planner")
    assert "Which region?" in words(await bob.get(question))
    assert 'choose one of "eu", "us"' in words(await bob.post(question, action="fill", **{"field-0": "mars"}))
    assert "Approved." in await bob.decide(question, action="fill", **{"field-0": "eu"})
    assert (await asked.result()).content == "eu"
    ordered, path = await desk.ask("buyer")
    after = await bob.decide(path, action="result", output="ordered, it comes on Monday", evidence="https://shop/17")
    assert "The result is handed in." in after
    assert (await ordered.result()).content == "ordered, it comes on Monday"


async def test_text_of_others_is_shown_and_never_obeyed(desk: Desk) -> None:
    run, path = await desk.ask("mallory", by='<img src=x onerror="alert(2)">', input=HOSTILE)
    bob = desk.visitor("bob")
    await bob.decide(path, action="reject", reason=HOSTILE)
    await desk.ask("mallory", by='<img src=x onerror="alert(2)">', input=HOSTILE)
    for page in (
        path,
        "/?show=all",
        link("/", show="all", agent=HOSTILE, tool="<script>"),
        link("/request", run="<script>", id=HOSTILE),
    ):
        answer = await bob.get(page)
        text = re.sub(r' value="[^"]*"', "", answer.text)  # Controls send back what they were given.
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text
        assert "\x1b" not in text
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r'(?i)<[^>]+\s(on\w+|style)="', text)
        assert text.count("<script") == 1
    assert r"\u{202e}gnp.exe" in (await bob.get(path)).text
    exact = await bob.get(path.replace("/request", "/arguments"))
    assert exact.headers["content-type"].startswith("text/plain")
    assert exact.headers["x-content-type-options"] == "nosniff"
    assert run.id not in RAN


async def test_other_sites_forms_and_other_peoples_tokens_decide_nothing(desk: Desk) -> None:
    run, path = await desk.ask("payer")
    bob = desk.visitor("bob")
    theirs = token_of(await desk.visitor("carol").get(path))
    for answer in (
        await bob.post(path, action="approve", origin="https://evil.example"),
        await bob.post(path, action="approve", origin="null"),
        await bob.post(path, action="approve", token=theirs),
        await bob.post(path, action="approve", token="forged"),
        await bob.http.post(path, data={"action": "approve"}),
        await Visitor.at(desk.app, "bob", address="10.9.9.9").post(path, action="approve"),
        await Visitor.at(desk.app, "").post(path, action="approve"),
    ):
        assert answer.status_code in {401, 403}, words(answer)
    elsewhere = Visitor.at(desk.app, "bob", origin="https://rebound.example")
    assert (await elsewhere.get(path)).status_code == 421
    assert [each.status for each in (await run.state()).requirements] == ["pending"]
    assert not (await run.state()).ignored_messages
    assert (await bob.get("/request?run=no-such-run&id=abcdef12")).status_code == 404
    assert "give at least 6 digits)" in words(await bob.get(link("/request", run=run.id, id="abc")))
    assert "There is nothing at this address." in words(await bob.get("/nothing"))
    assert (await bob.get("/healthz")).text == "ok\n"
    for link_, status in (
        ("/?tool=%00", 200), ("/?path=x&self=y", 200), ("/?show=all&agent=a%E2%80%AE&token=%00", 200),
        ("/api/requests?tool=a%0A", 200), ("/request?run=%00&id=abcdef12", 404), ("/run?id=%00", 404),
        ("/audit?id=a%00", 404),
    ):  # fmt: skip
        assert (await bob.get(link_)).status_code == status, link_


def token_of(answer: Response) -> str:
    found = re.search(r'name="token" value="([^"]+)"', answer.text)
    assert found
    return found[1]
