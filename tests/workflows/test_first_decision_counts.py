"""Abuse cases C: what is decided once happens once, and the first decision counts."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, DecisionResult, RunHandle, RunState, ToolContext, approval, tool
from assent.client.client import AgentClient
from assent.history.workflow_tasks import TaskGrouper
from assent.testing import Approved, Environment, call, calls, check_replay, drive, says
from tests.support import tools
from tests.support.updates import by_update
from tests.support.visibility import soon

PAY = call("pay", to="a", amount=1)
HOLD = call("restart", service="s")
"""Waits beside the call in question, so that the run is there to be asked."""
TERM = timedelta(seconds=1.5)


@approval(expires_after=TERM)
@tool
def transfer(context: ToolContext, to: str) -> str:
    """Pay somebody, if it is decided in time."""
    tools.note(context, f"transfer({to})")
    return f"transferred to {to}"


def agent(running: Environment, *made: str) -> Agent:
    """An agent that makes these calls side by side."""
    by_name = {"pay": PAY, "restart": HOLD, "transfer": call("transfer", to="a")}
    model = running.responses(calls(*[by_name[name] for name in made]), lambda seen: says(str(seen.tool_outputs)))
    return Agent(name="ops", model=model, tools=[*tools.ALL, transfer])


async def same_everywhere(client: AgentClient, run: RunHandle) -> RunState:
    """The run's state: what it says itself, what its history folds to, and what its history replays to."""
    live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    assert await run.state() == live
    await check_replay(await run.history())
    return live


async def test_a_duplicated_approve_signal_runs_the_tool_once(assent_environment: Environment) -> None:
    """A duplicated approve signal runs the tool once; the copies are recorded."""
    async with assent_environment.serve(agent(assent_environment, "pay", "restart")) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        pay, hold = (await run.until_paused()).active_requirements
        for _ in range(3):
            await run.send("approve", {"id": pay.id, "by": "bob"})
        state = await run.until_paused()
        assert [(each.status, each.by) for each in state.ignored_messages] == [("duplicate", "bob")] * 2
        assert [each.id for each in state.active_requirements] == [hold.id]
        await run.approve(hold, by="bob")
        await run.result()
        assert tools.ran(run.id) == ["pay(a, 1)", "restart(s)"]


async def test_the_same_update_id_twice_returns_the_same_answer(assent_environment: Environment) -> None:
    """The same update id returns the same answer, and is one decision."""
    async with assent_environment.serve(agent(assent_environment, "pay", "restart")) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        pay, _ = (await run.until_paused()).active_requirements
        handle = client.temporal.get_workflow_handle(run.id)
        body = {"id": pay.id, "by": "bob", "verdict": "approve"}
        name = f"click-{uuid.uuid4().hex}"
        side_by_side = await asyncio.gather(*(handle.execute_update("decide", body, id=name) for _ in range(5)))
        # Even where the same id says something else now: the server answers what it answered.
        other = await handle.execute_update("decide", {**body, "verdict": "reject", "reason": "no"}, id=name)
        assert [DecisionResult.model_validate(each).status for each in [*side_by_side, other]] == ["approved"] * 6
        assert side_by_side[0] == other
        again = DecisionResult.model_validate(await handle.execute_update("decide", body, id=f"{name}-2"))
        assert again.status == "duplicate"
        state = await same_everywhere(client, run)
        assert [each.status for each in state.ignored_messages] == ["duplicate"]
        await drive(run, lambda _: Approved(), by="bob")
        assert tools.ran(run.id).count("pay(a, 1)") == 1


async def test_reject_then_approve_stays_rejected(assent_environment: Environment) -> None:
    """Reject then approve stays rejected."""
    async with assent_environment.serve(agent(assent_environment, "pay", "restart")) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        pay, _ = (await run.until_paused()).active_requirements
        assert (await run.reject(pay, by="bob", reason="no")).status == "rejected"
        assert (await run.approve(pay, by="carol", check=False)).status == "late"
        assert (await run.approve(pay, by="bob", arguments={"to": "b", "amount": 2}, check=False)).status == "late"
        await run.send("approve", {"id": pay.id, "by": "carol"})
        state = await run.until_paused()
        assert (state.requirements[0].status, state.requirements[0].resolved_by) == ("rejected", "bob")
        assert [each.status for each in state.ignored_messages] == ["late"] * 3
        await drive(run, lambda _: Approved(), by="bob")
        assert tools.ran(run.id) == ["restart(s)"]


async def test_approve_after_expiry_is_late(assent_environment: Environment) -> None:
    """Approve after expiry is `late`."""
    async with assent_environment.serve(agent(assent_environment, "transfer", "restart")) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        first, _ = (await run.until_paused()).active_requirements
        await soon(run.state, lambda state: state.requirements[0].status == "expired")
        assert (await run.approve(first, by="bob", check=False)).status == "late"
        assert (await run.reject(first, by="bob", reason="no", check=False)).status == "late"
        state = await same_everywhere(client, run)
        assert state.requirements[0].status == "expired"
        state = await drive(run, lambda _: Approved(), by="bob")
        assert "Silence counts as a rejection" in (state.content or "")
        assert tools.ran(run.id) == ["restart(s)"]


async def until(moment: datetime) -> None:
    """Wait until a little after *moment*."""
    await asyncio.sleep((moment - datetime.now(UTC)).total_seconds() + 0.1)


@pytest.mark.parametrize("cached_runs", [1_000, 0])
@pytest.mark.parametrize("channel", ["signal", "update"])
async def test_expiry_and_approval_in_one_workflow_task_are_expiry(
    assent_environment: Environment, channel: str, cached_runs: int
) -> None:
    """Expiry and approval in the same workflow task resolve the same way live, on replay and in the audit."""
    made = agent(assent_environment, "transfer", "restart")
    async with assent_environment.serve(made, cached_runs=cached_runs) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        first, hold = (await run.until_paused()).active_requirements
    assert first.expires_at is not None
    assert datetime.now(UTC) < first.expires_at
    before = asyncio.create_task(decide(run, first.id, "bob", channel))
    await asyncio.sleep(0.1)
    assert datetime.now(UTC) < first.expires_at
    await until(first.expires_at)
    # The server fires a timer some milliseconds late, on a busy machine more.
    assert await soon(lambda: has_fired(run))
    after = asyncio.create_task(decide(run, first.id, "carol", channel))
    await asyncio.sleep(0.1)
    async with assent_environment.serve(made, task_queue=client.task_queue, cached_runs=cached_runs):
        assert list(await asyncio.gather(before, after)) == (["", ""] if channel == "signal" else ["late", "late"])
        await soon(run.until_paused, lambda state: len(state.ignored_messages) == 2)
        state = await same_everywhere(client, run)
        assert (state.requirements[0].status, state.requirements[0].execution) == ("expired", None)
        assert sorted((each.status, each.by) for each in state.ignored_messages) == [("late", "bob"), ("late", "carol")]
        [record, _] = await run.audit()
        assert (record.status, record.resolved_by) == ("expired", None)
        await run.approve(hold, by="bob")
        await run.result()
        assert tools.ran(run.id) == ["restart(s)"]
        assert (await same_everywhere(client, run)).requirements[0] == state.requirements[0]
        assert await came_together(run, channel)


async def decide(run: RunHandle, requirement: str, by: str, channel: str) -> str:
    """Approve by a channel; what an update is answered, nothing of a signal."""
    if channel == "update":
        return (await by_update(run, requirement, by)).status
    await run.send("approve", {"id": requirement, "by": by})
    return ""


async def has_fired(run: RunHandle) -> bool:
    """Whether the server has written down that the run's timer fired."""
    return EventType.EVENT_TYPE_TIMER_FIRED in {event.event_type for event in (await run.history()).events}


async def came_together(run: RunHandle, channel: str) -> bool:
    """Whether one workflow task was told of both approvals and of the deadline."""
    told = [
        Counter(event.event_type for event in [*task.inbound, *task.commands])
        for task in TaskGrouper().tasks((await run.history()).events)
    ]
    wanted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    if channel == "update":
        wanted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    return any(each[wanted] == 2 and each[EventType.EVENT_TYPE_TIMER_FIRED] == 1 for each in told)


@pytest.mark.parametrize("channel", ["signal", "update"])
async def test_fifty_people_approving_at_once_is_one_execution(assent_environment: Environment, channel: str) -> None:
    """Fifty people approving at once: one execution, forty-nine recorded as duplicates."""
    async with assent_environment.serve(agent(assent_environment, "pay", "restart")) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        pay, hold = (await run.until_paused()).active_requirements
        line = asyncio.Semaphore(50 if channel == "signal" else 8)  # The server has ten updates under way at most.

        async def approve(number: int) -> str:
            async with line:
                return await decide(run, pay.id, f"person {number}", channel)

        answers = Counter(await asyncio.gather(*(approve(number) for number in range(50))))
        assert answers == ({"": 50} if channel == "signal" else {"approved": 1, "duplicate": 49})
        await soon(run.until_paused, lambda state: len(state.ignored_messages) == 49)
        state = await same_everywhere(client, run)
        assert [each.status for each in state.ignored_messages] == ["duplicate"] * 49
        people = {str(each.by) for each in state.ignored_messages} | {str(state.requirements[0].resolved_by)}
        assert people == {f"person {number}" for number in range(50)}
        assert len(state.requirements[0].votes) == 1
        await run.approve(hold, by="bob")
        await run.result()
        assert tools.ran(run.id) == ["pay(a, 1)", "restart(s)"]
