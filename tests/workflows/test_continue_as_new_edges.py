"""The edges of going on in a new execution: what may not come along, what does not fit, what is sent twice."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.common import RetryPolicy

from assent import Agent, DecisionError, RequirementNotFoundError, RunFailedError, tool
from assent.core import continue_as_new
from assent.runtime.webhooks import Webhook
from assent.testing import Environment, call, calls, check_replay, says
from tests.support import tools
from tests.support.webhook_receiver import NAME, SECRET, receiving
from tests.workflows.test_continue_as_new import MINE, executions, live, moved_on, number_of_executions, paused, replay
from tests.workflows.test_decision_binds_one_call import last_event, reset


@tool
def dump(seed: int) -> str:
    """A long text that cannot be made short."""
    return base64.b85encode(hashlib.shake_256(str(seed).encode()).digest(190_000)).decode()


@pytest.mark.parametrize("attempt", ["started", "retried"])
async def test_whoever_starts_a_run_cannot_bring_a_decision_along(
    assent_environment: Environment, attempt: str
) -> None:
    agent = Agent(
        name="ops", model=assent_environment.responses(calls(call("refund", order=1)), says("done")), tools=MINE
    )
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await paused(client, run, after=2)
        [*_, last] = await executions(client, run)
        [carried] = last.events[0].workflow_execution_started_event_attributes.input.payloads
        queue = client.task_queue if attempt == "started" else f"{client.task_queue}-later"
        handle = await client.temporal.start_workflow(
            "AgentRun",
            json.loads(carried.data),
            id=f"forged-{run.id}",
            task_queue=queue,
            # A retry is an execution that the server says goes on from another; its input is the starter's own.
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=2),
            run_timeout=timedelta(seconds=1) if attempt == "retried" else None,
        )
        forged = client.get_run(handle.id)
        if attempt == "retried":
            await asyncio.sleep(1.4)
        async with assent_environment.serve(agent, task_queue=queue, continue_after=1):
            with pytest.raises(RunFailedError, match="agent: Field required"):
                await forged.result()
            state = await live(client, forged)
            assert (state.status, state.requirements) == ("failed", [])
        assert tools.ran(forged.id) == []
        await run.cancel()


async def test_what_does_not_fit_is_said_and_the_run_goes_on_as_it_is(assent_environment: Environment) -> None:
    dumps = [calls(*(call("dump", seed=4 * turn + each) for each in range(4))) for turn in range(3)]
    agent = Agent(
        name="ops",
        model=assent_environment.responses(*dumps, calls(call("refund", order=1)), says("done")),
        tools=[*MINE, dump],
    )
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        requirement = (await paused(client, run)).requirements[0]
        number = await number_of_executions(client, run)
        assert number == 2, "what the first turn gave fits, and no more"
        details = await client.temporal.get_workflow_handle(run.id).query("__temporal_workflow_metadata")
        assert "cannot continue in a new one" in str(details)
        await run.approve(requirement, by="bob")
        assert (await run.result()).content == "done"
        assert await replay(client, run) == number
        assert await run.state() == await live(client, run)


@tool
def print_out(lines: int) -> str:
    """A long text that can be made short."""
    return "the same line again\n" * lines


async def test_a_run_continues_when_the_server_suggests_it(assent_environment: Environment) -> None:
    # The server does at 4 MiB: a result is in a history twice, once as it is made and once as the model is told it.
    pages = [calls(*[call("print_out", lines=12_000)] * 4) for _ in range(3)]
    model = assent_environment.responses(*pages, lambda seen: says(str(len(seen.tool_outputs))))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[print_out])) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        assert (await run.result()).content == "12"
        first, last = await executions(client, run)
        await check_replay(first)
        await check_replay(last)
        [carried] = last.events[0].workflow_execution_started_event_attributes.input.payloads
        assert len(carried.data) < 20_000
        assert (await run.state()) == await live(client, run)


async def test_without_the_setting_a_short_run_never_continues(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("look_up", key="a")), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=MINE)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await run.result()
        assert await replay(client, run) == 1


async def test_notices_are_told_under_the_same_ids_in_a_new_execution(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, SECRET)
    model = assent_environment.responses(calls(call("refund", order=1)), says("done"))
    async with receiving() as receiver:
        hook = Webhook(url=receiver.url, secret_env=NAME, arguments=True)
        agent = Agent(name="ops", model=model, tools=MINE)
        async with assent_environment.serve(agent, continue_after=1, webhooks=[hook]) as client:
            run = await client.start("ops", "Go.", requested_by="alice")
            state = await paused(client, run, after=2)
            await moved_on(client, run, lambda: run.send("approve", {"id": "ffffffff", "by": "eve"}))
            await run.approve(state.requirements[0], by="bob")
            await run.result()
            await replay(client, run)
        ids = {each[0]["webhook-id"] for each in receiver.came}
        assert receiver.types == {
            "requirement.opened": 1, "requirement.decided": 1, "requirement.executed": 1,
        }  # fmt: skip
        assert len(ids) == 3, "what is sent again in a new execution has the id that it had"
        assert receiver.notices[0]["data"]["arguments"] == '{"order": 1}'


async def test_no_approval_outlives_a_reset_of_an_execution_before(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("wire_money", to="shop", amount=5)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=MINE), continue_after=21) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        opened = await last_event(run, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        await run.send("approve", {"id": "ffffffff", "by": "eve"})
        await run.until_paused()
        between = await last_event(run, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        assert between > opened
        await run.send("approve", {"id": first.id, "by": "bob"})
        assert [each.by for each in (await run.until_paused()).requirements[0].votes] == ["bob"]
        await reset(assent_environment, run, "--event-id", str(between))
        # The server applies bob's vote again; the run goes on in a new execution, in which carol's makes two.
        await run.until_paused()
        state = await moved_on(client, run, lambda: run.send_message("Hurry.", by="eve"))
        assert state.requirements[0].approved_by == ["bob"]
        await run.send("approve", {"id": first.id, "by": "carol"})
        async with asyncio.timeout(60):
            while len((state := await live(client, run)).requirements) < 2:  # noqa: ASYNC110 - the worker writes it
                await asyncio.sleep(0.05)
        assert tools.ran(run.id) == []
        [again] = state.active_requirements
        assert again.follows == first.id
        assert "was reset" in (again.note or "")
        for by in ("bob", "carol"):
            await run.approve(again, by=by)
        await run.result()
        assert tools.ran(run.id) == ["wire_money(shop, 5)"]
        await replay(client, run)


async def test_decided_calls_are_carried_short_and_the_record_has_them_whole(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continue_as_new, "KEPT_DECIDED", 2)
    turns = [calls(call("refund", order=number)) for number in range(5)]
    model = assent_environment.responses(*turns, lambda seen: says(str(len(seen.tool_outputs))))
    async with assent_environment.serve(Agent(name="forgetful", model=model, tools=MINE), continue_after=1) as client:
        run = await client.start("forgetful", "Go.", requested_by="alice")
        ids = list[str]()
        for _ in range(4):
            [waiting] = (await run.until_paused()).active_requirements
            ids.append(waiting.id)
            await run.approve(waiting, by="bob", reason="fine")
        await run.until_paused()
        state = await live(client, run)
        assert [(each.id, each.arguments) for each in state.requirements[:-1]] == [(each, "") for each in ids[2:]]
        assert state.requirements_dropped == 2
        with pytest.raises(DecisionError, match="already approved by bob"):
            await run.approve(ids[3], by="carol")
        with pytest.raises(RequirementNotFoundError, match="one of the oldest 2, all decided: see the audit"):
            await run.approve(ids[0], by="carol")
        await run.send("approve", {"id": ids[0], "by": "eve"})
        state = await run.until_paused()
        assert [each.status for each in state.ignored_messages] == ["duplicate", "unknown"]
        await run.approve(state.active_requirements[0], by="bob")
        assert (await run.result()).content == "5"
        assert sorted(tools.ran(run.id)) == [f"refund({number})" for number in range(5)]
        whole = [f'{{"order": {number}}}' for number in range(5)]
        records = await run.approvals()
        assert [each.arguments for each in records] == whole
        assert [each.execution for each in records] == ["executed"] * 5
        assert [each.arguments for each in (await run.audit()).approvals] == whole
        assert (await run.verify()).ok
        assert (await client.statistics(agent="forgetful")).total.approved == 5
        kinds = [event.kind async for event in run.watch()]
        assert kinds.count("waiting") == 5
        assert await replay(client, run) > 5
