"""Notices over the real server, to a real receiver: what is posted, how often, and what never is."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from assent import Agent, RunHandle, RunState, approval, tool
from assent.client.client import AgentClient
from assent.runtime.embedded_server import free_port
from assent.runtime.webhooks import Webhook
from assent.testing import Approved, Environment, call, calls, check_replay, drive, says
from tests.support import tools
from tests.support.visibility import soon
from tests.support.webhook_receiver import NAME, SECRET, Receiver, receiving
from tests.workflows.test_reset import reset


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, SECRET)


def to(receiver: Receiver, **options: Any) -> Webhook:
    return Webhook(url=receiver.url, secret_env=NAME, **options)


def status(code: int, **headers: str) -> web.Response:
    return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})


@asynccontextmanager
async def paying(
    running: Environment, *webhooks: Webhook, raw: str | None = None
) -> AsyncGenerator[tuple[AgentClient, RunHandle, RunState]]:
    """A run that waits for one payment."""
    asked = call("pay", raw=raw) if raw else call("pay", to="bob", amount=5)
    model = running.responses(calls(asked), says("done"))
    async with running.serve(Agent(name="payer", model=model, tools=tools.ALL), webhooks=webhooks) as client:
        run = await client.start("payer", "Pay Bob.", requested_by="alice")
        yield client, run, await run.until_paused()


async def agree(client: AgentClient, run: RunHandle) -> None:
    """Notices change neither what the history says of the run, nor whether it replays."""
    live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    assert await run.state() == live
    await check_replay(await run.history())


async def test_opened_decided_and_executed_are_each_posted_once_and_verify(assent_environment: Environment) -> None:
    async with (
        receiving() as receiver,
        paying(assent_environment, to(receiver, link="https://ui.test/w/{run_id}")) as (client, run, state),
    ):
        [requirement] = state.active_requirements
        await receiver.until(1)
        await run.approve(requirement, by="bob", reason="a secret reason")
        await run.result()
        opened, decided, executed = await receiver.until(3)
        assert len(receiver.came) == 3
        assert {each["data"]["requirement_id"] for each in (opened, decided, executed)} == {requirement.id}
        assert opened["type"] == "requirement.opened"
        assert opened["data"] | {"requirement_id": "", "short_id": ""} == {
            "run_id": run.id, "agent": "payer", "requested_by": "alice", "parents": [], "caller": None,
            "requirement_id": "", "short_id": "", "kind": "confirmation", "effects": None, "tool": "pay",
            "status": "pending", "execution": None, "approvers": None,
            "expires_at": None, "by": None, "link": f"https://ui.test/w/{run.id}",
        }  # fmt: skip
        assert opened["data"]["short_id"] == requirement.short_id
        assert (decided["type"], decided["data"]["status"], decided["data"]["by"]) == (
            "requirement.decided", "approved", "bob",
        )  # fmt: skip
        assert (executed["type"], executed["data"]["execution"]) == ("requirement.executed", "executed")
        await agree(client, run)


@approval(
    approvers=["dana"],
    remind_every=timedelta(milliseconds=400),
    escalate=[(timedelta(milliseconds=600), ["ceo"])],
    expires_after=timedelta(milliseconds=1500),
)
@tool
def wipe(what: str) -> str:
    """Wipe something."""
    return f"wiped {what}"


async def test_reminders_escalations_and_deadlines_are_each_posted_once(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("wipe", what="x")), says("done"))
    agent = Agent(name="wiper", model=model, tools=[wipe])
    async with receiving() as receiver, assent_environment.serve(agent, webhooks=[to(receiver)]) as client:
        run = await client.start("wiper", "Wipe.")
        await run.result()
        [requirement] = (await run.state()).requirements
        reminders = requirement.reminders  # What is missed on a busy machine is not made up for.
        assert (requirement.status, reminders in {1, 2, 3}, requirement.escalated) == ("expired", True, 1)
        await receiver.until(3 + reminders)
        assert receiver.types == {
            "requirement.opened": 1,
            "requirement.reminder": reminders,
            "requirement.escalated": 1,
            "requirement.decided": 1,
        }
        assert len(receiver.came) == 3 + reminders
        by_type = {each["type"]: each["data"] for each in receiver.notices}
        assert by_type["requirement.opened"]["approvers"] == ["dana"]
        assert by_type["requirement.opened"]["expires_at"] is not None
        assert by_type["requirement.escalated"]["approvers"] == ["dana", "ceo"]
        assert (by_type["requirement.decided"]["status"], by_type["requirement.decided"]["by"]) == ("expired", None)
        await agree(client, run)


async def test_notices_carry_ids_and_a_link_but_no_arguments_and_no_credential(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless configured otherwise."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-model-provider")
    caplog.set_level(logging.DEBUG)
    raw = '{"to": "IBAN-OF-BOB", "amount": 5}'
    async with receiving(lambda n: status(500 if n == 1 else 403 if n == 2 else 204)) as receiver:
        hook = Webhook(
            url=receiver.url.replace("//", "//user:hunter2@"), secret_env=NAME, link="https://ui.test/{run_id}"
        )
        async with paying(assent_environment, hook, raw=raw) as (client, run, state):
            await run.approve(state.active_requirements[0], by="bob", reason="BECAUSE-I-SAY-SO")
            await run.result()
            history = (await client.temporal.get_workflow_handle(run.id).fetch_history()).to_json()
    bodies = b"".join(body for _, body, _ in receiver.came).decode()
    assert receiver.types.keys() >= {"requirement.opened", "requirement.decided", "requirement.executed"}
    assert all("arguments" not in each["data"] for each in receiver.notices)
    assert all(each["data"]["link"] == f"https://ui.test/{run.id}" for each in receiver.notices)
    for word in ("IBAN-OF-BOB", "BECAUSE-I-SAY-SO", "paid", "sk-of-the", "hunter2", "t0ken", SECRET):
        assert word not in bodies
    # One header has what the receiver itself asked for: its own user name and password.
    assert {headers["authorization"] for headers, _, _ in receiver.came} == {
        f"Basic {base64.b64encode(b'user:hunter2').decode()}"
    }
    # The receiver's own log is its own affair.
    logged = "\n".join(each.getMessage() for each in caplog.records if not each.name.startswith("aiohttp"))
    for word in ("hunter2", "t0ken", SECRET, SECRET.removeprefix("whsec_"), "sk-of-the"):
        assert word not in history
        assert word not in logged
    assert f"http://127.0.0.1:{receiver.port} refused the notice" in logged


async def test_arguments_are_sent_where_asked_for_and_hostile_text_in_them_is_escaped(
    assent_environment: Environment,
) -> None:
    raw = '{"to": "bob\u202egnp.exe\u200b\u2066", "amount": 5}'
    async with receiving() as asking, receiving() as other:
        hooks = (to(asking, arguments=True), to(other))
        async with paying(assent_environment, *hooks, raw=raw) as (_, run, _):
            await drive(run, lambda _: Approved(), by="bob")
            opened, decided, _ = await asking.until(3)
            assert opened["data"]["arguments"] == '{"to": "bob\\u{202e}gnp.exe\\u{200b}\\u{2066}", "amount": 5}'
            assert opened["data"]["arguments_left_out"] is None
            assert decided["data"]["arguments"] is None
            assert decided["data"]["arguments_left_out"] == "the call no longer waits; assent show has them"
            await other.until(3)
            assert all("arguments" not in each["data"] for each in other.notices)


async def test_arguments_that_are_too_long_are_said_to_be(assent_environment: Environment) -> None:
    raw = json.dumps({"to": "b" * 5_000, "amount": 5})
    async with receiving() as receiver:
        hook = to(receiver, arguments=True, events=("requirement.opened",))
        async with paying(assent_environment, hook, raw=raw) as (_, run, _):
            [opened] = await receiver.until(1)
            assert opened["data"]["arguments"] is None
            assert opened["data"]["arguments_left_out"] == (
                f"{len(raw)} bytes are too long for a notice; assent show has them"
            )
            await drive(run, lambda _: Approved(), by="bob")
        assert receiver.types == {"requirement.opened": 1}


async def test_a_receiver_that_fails_is_tried_again_and_no_other_is_told_twice(assent_environment: Environment) -> None:
    async with (
        receiving(lambda n: status(500, retry_after="0.3") if n <= 3 else status(204)) as failing,
        receiving() as healthy,
        paying(assent_environment, to(failing), to(healthy)) as (_, run, state),
    ):
        async with asyncio.timeout(60):
            while len(failing.came) < 4:  # noqa: ASYNC110 - another task's handler writes it
                await asyncio.sleep(0.02)
        assert len({headers["webhook-id"] for headers, _, _ in failing.came}) == 1
        assert len({body for _, body, _ in failing.came}) == 1
        times = [at for _, _, at in failing.came]
        assert all(later - earlier >= 0.3 for earlier, later in pairwise(times))
        assert len(healthy.came) == 1
        await run.reject(state.active_requirements[0], by="bob", reason="no")
        await run.result()
        assert (await failing.until(2))[1]["data"]["status"] == "rejected"
        await healthy.until(2)
        assert (len(failing.came), len(healthy.came)) == (5, 2)


async def test_a_batch_of_notices_is_taken_up_where_it_was_left(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(*[call("pay", to="a", amount=n) for n in range(5)]), says("done"))
    agent = Agent(name="payer", model=model, tools=tools.ALL)
    # The third POST is told to wait: the first two stay delivered, and the third and what follows come once more.
    async with (
        receiving(lambda n: status(429, retry_after="0.2") if n == 3 else status(200)) as receiver,
        assent_environment.serve(agent, webhooks=[to(receiver, events=("requirement.opened",))]) as client,
    ):
        run = await client.start("payer", "Pay.", requested_by="alice")
        await receiver.until(5)
        ids = [headers["webhook-id"] for headers, _, _ in receiver.came]
        assert len(ids) == 6
        assert ids[2] == ids[3]
        assert len(set(ids)) == 5
        await drive(run, lambda _: Approved(), by="bob")


@pytest.mark.parametrize("code", [301, 307, 400, 404, 410])
async def test_a_refusal_is_final_and_no_redirect_is_followed(assent_environment: Environment, code: int) -> None:
    async with receiving() as elsewhere, receiving(lambda _: status(code, location=elsewhere.url)) as refusing:
        async with paying(assent_environment, to(refusing)) as (_, run, state):
            await refusing.until(1)
            await run.approve(state.active_requirements[0], by="bob")
            begun = time.monotonic()
            await run.result()
            assert time.monotonic() - begun < 5
        # After 410 Gone nothing more is sent there.
        assert len(refusing.came) == (1 if code == 410 else 3)
        assert elsewhere.came == []


async def test_a_dead_port_and_a_receiver_that_hangs_block_neither_the_run_nor_others(
    assent_environment: Environment,
) -> None:
    dead = Webhook(url=f"http://127.0.0.1:{free_port()}/", secret_env=NAME)
    async with receiving(hangs=60) as hanging, receiving() as healthy:
        hooks = (dead, to(hanging), to(healthy))
        async with paying(assent_environment, *hooks) as (client, run, state):
            await healthy.until(1)
            await run.approve(state.active_requirements[0], by="bob")
            # The tool runs and the model is asked while notices are still on their way.
            await soon(lambda: _ran(run))
            assert tools.ran(run.id) == ["pay(bob, 5)"]
            begun = time.monotonic()
            assert (await run.result()).content == "done"
            # The end of the run waits ten seconds for notices, and no longer.
            assert time.monotonic() - begun < 14
            assert len(await healthy.until(3)) == 3
            await agree(client, run)


async def _ran(run: RunHandle) -> bool:
    return bool(tools.ran(run.id))


async def test_a_run_that_ends_at_once_after_its_last_decision_has_sent_its_notices(
    assent_environment: Environment,
) -> None:
    async with receiving(hangs=0.5) as slow, paying(assent_environment, to(slow)) as (_, run, state):
        await run.approve(state.active_requirements[0], by="bob")
        await run.result()
        assert slow.types == {"requirement.opened": 1, "requirement.decided": 1, "requirement.executed": 1}


async def test_cancelling_a_run_sends_that_its_requirement_is_cancelled(assent_environment: Environment) -> None:
    async with receiving() as receiver, paying(assent_environment, to(receiver)) as (client, run, _):
        await run.cancel()
        opened, decided = await receiver.until(2)
        assert (opened["type"], decided["type"]) == ("requirement.opened", "requirement.decided")
        assert (decided["data"]["status"], decided["data"]["by"]) == ("cancelled", None)
        assert (await run.until_paused()).status == "cancelled"
        await agree(client, run)


async def test_a_result_from_outside_is_told_and_not_carried(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("ship", order="1")), says("done"))
    agent = Agent(name="shop", model=model, tools=tools.ALL)
    async with receiving() as receiver, assent_environment.serve(agent, webhooks=[to(receiver)]) as client:
        run = await client.start("shop", "Ship.", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        await run.submit_result(requirement, by="warehouse", output="PARCEL-7")
        await run.result()
        await receiver.until(3)
        assert [(each["type"], each["data"]["kind"], each["data"]["execution"]) for each in receiver.notices] == [
            ("requirement.opened", "external", None),
            ("requirement.decided", "external", "executed"),
            ("requirement.executed", "external", "executed"),
        ]
        assert not any(b"PARCEL-7" in body for _, body, _ in receiver.came)


async def test_an_edit_is_told_as_one_call_superseded_and_one_approved(assent_environment: Environment) -> None:
    async with receiving() as receiver, paying(assent_environment, to(receiver)) as (_, run, state):
        [first] = state.active_requirements
        await run.approve(first, by="bob", arguments={"to": "bob", "amount": 4})
        await run.result()
        _, edited = (await run.state()).requirements
        told = [(each["data"]["requirement_id"], each["data"]["status"]) for each in await receiver.until(4)]
        assert told == [
            (first.id, "pending"), (first.id, "superseded"), (edited.id, "approved"), (edited.id, "approved"),
        ]  # fmt: skip
        assert receiver.types["requirement.executed"] == 1


async def test_a_reset_asks_again_with_a_new_notice_and_tells_nothing_twice_under_two_ids(
    assent_environment: Environment,
) -> None:
    async with receiving() as receiver, paying(assent_environment, to(receiver)) as (_, run, state):
        await run.approve(state.active_requirements[0], by="bob")
        await run.result()
        await receiver.until(3)
        await reset(assent_environment, run, to="LastWorkflowTask")
        await run.until_paused()
        assert len(receiver.notices) == 3
        await reset(assent_environment, run, to="FirstWorkflowTask")
        again = await run.until_paused()
        *_, opened = await receiver.until(4)
        assert opened["data"]["requirement_id"] == again.active_requirements[0].id != state.active_requirements[0].id
        await drive(run, lambda _: Approved(), by="bob")


async def test_a_worker_without_webhooks_schedules_no_notices(assent_environment: Environment) -> None:
    async with paying(assent_environment) as (client, run, _):
        await drive(run, lambda _: Approved(), by="bob")
        assert "send_notices" not in (await client.temporal.get_workflow_handle(run.id).fetch_history()).to_json()


async def test_a_run_with_webhooks_costs_nothing_where_nobody_is_asked(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("look_up", key="k")), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with receiving() as receiver, assent_environment.serve(agent, webhooks=[to(receiver)]) as client:
        run = await client.start("ops", "Go.")
        await run.result()
        assert "send_notices" not in (await client.temporal.get_workflow_handle(run.id).fetch_history()).to_json()
        assert receiver.came == []
