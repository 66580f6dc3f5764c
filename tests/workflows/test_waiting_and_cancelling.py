"""Abuse cases G: waiting costs nothing, cancelling starts nothing, no malformed signal stops a run or vanishes."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from pydantic import JsonValue
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent import Agent, Requirement, RunFailedError, RunHandle, RunNotFoundError, RunState, approval, ask_user, tool
from assent.client.client import AgentClient
from assent.runtime.webhooks import Webhook
from assent.testing import Approved, Environment, call, calls, check_replay, drive, says
from assent.testing._script import Call
from tests.support import tools
from tests.support.visibility import soon

MONTH = timedelta(days=30)


@approval(expires_after=MONTH)
@tool(requires_confirmation=True)
def lease(months: int) -> str:
    """Sign a lease."""
    return f"signed for {months}"


TOOLS: list[Callable[..., object]] = [*tools.ALL, lease, ask_user]
TIMERS = EventType.EVENT_TYPE_TIMER_STARTED
SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


@dataclass(frozen=True)
class Waiting:
    """A run that waits, and the agent that it is of."""

    agent: Agent
    client: AgentClient
    run: RunHandle
    waiting: Sequence[Requirement]

    async def events(self, kind: EventType.ValueType | None = None) -> list[HistoryEvent]:
        found = (await self.run.history()).events
        return [event for event in found if kind is None or event.event_type == kind]

    async def agrees(self) -> RunState:
        """The state, which the run itself, the fold of its history and its replay tell alike."""
        live = RunState.model_validate(await self.client.temporal.get_workflow_handle(self.run.id).query("state"))
        assert await self.run.state() == live
        await check_replay(await self.run.history())
        return live


@asynccontextmanager
async def waiting(running: Environment, *wanted: Call) -> AsyncGenerator[Waiting]:
    agent = Agent(name="g", model=running.responses(calls(*wanted), says("done")), tools=TOOLS)
    async with running.serve(agent) as client:
        run = await client.start("g", "Go.", requested_by="alice")
        yield Waiting(agent, client, run, (await run.until_paused()).active_requirements)


# -- a month of waiting -----------------------------------------------------------------------------------------------


async def began_to_wait(it: Waiting, running: Environment) -> None:
    """Let time pass, a worker come up anew and look at the run: nothing of it is in the history."""
    before = await it.events()
    async with running.serve(it.agent, task_queue=it.client.task_queue):
        await it.agrees()
        await asyncio.sleep(1.5)
        await it.agrees()
    assert await it.events() == before
    assert (await it.run.description()).raw_description.pending_activities == []


async def test_a_waiting_run_without_deadlines_has_no_timer_and_no_event(assent_environment: Environment) -> None:
    """A month of waiting: with no deadline there is no timer, and nothing happens after it began to wait."""
    async with waiting(assent_environment, call("pay", to="a", amount=1), call("ask_user", question="Sure?")) as it:
        pass
    await began_to_wait(it, assent_environment)
    assert await it.events(TIMERS) == []
    last = (await it.events())[-1]
    assert last.event_type == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES


async def test_a_waiting_run_with_a_deadline_of_a_month_has_one_timer(assent_environment: Environment) -> None:
    """A month of waiting: three calls with a deadline of 30 days, and one without, are one timer of 30 days."""
    leases = [call("lease", months=number) for number in range(3)]
    async with waiting(assent_environment, *leases, call("pay", to="a", amount=1)) as it:
        pass
    await began_to_wait(it, assent_environment)
    [timer] = await it.events(TIMERS)
    left = timer.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
    assert MONTH - timedelta(minutes=1) < left <= MONTH
    async with assent_environment.serve(it.agent, task_queue=it.client.task_queue):
        assert (await drive(it.run, lambda _: Approved(), by="bob")).content == "done"
    assert len(await it.events(TIMERS)) == 1


# -- cancelling -------------------------------------------------------------------------------------------------------


async def scheduled(it: Waiting) -> list[str]:
    """The tools whose activities the history has."""
    names = [event.activity_task_scheduled_event_attributes.activity_type.name for event in await it.events(SCHEDULED)]
    return [name for name in names if name != "call_model"]


async def cancelled(it: Waiting) -> RunState:
    """The end of a cancelled run, which everybody tells alike, and in which no tool was started."""
    with pytest.raises(RunFailedError, match="cancelled"):
        await it.run.result()
    state = await it.agrees()
    assert (state.status, state.active_requirements) == ("cancelled", [])
    assert tools.ran(it.run.id) == []
    return state


async def test_cancelling_while_everything_waits_starts_no_tool(assent_environment: Environment) -> None:
    """Confirmation, deadline, result and input wait; after the cancel none is decided, and none can be."""
    wanted = [call("pay", to="a", amount=1), call("lease", months=1), call("ship", order="1")]
    async with waiting(assent_environment, *wanted, call("ask_user", question="Sure?")) as it:
        await it.run.cancel()
        state = await cancelled(it)
        assert {each.status for each in state.requirements} == {"cancelled"}
        assert await scheduled(it) == []
        for requirement in it.waiting:
            assert (await it.run.approve(requirement, by="bob", check=False)).status == "late"
        with pytest.raises(RunNotFoundError, match="still running"):
            await it.run.send("approve", {"id": it.waiting[0].id, "by": "bob"})
        assert (await cancelled(it)).requirements == state.requirements


@pytest.mark.parametrize("order", ["approve first", "cancel first"])
async def test_a_cancel_and_an_approval_sent_to_a_stopped_worker_resolve_one_way(
    assent_environment: Environment, order: str
) -> None:
    """Both in one workflow task, in both orders: live, state, fold and replay agree, and no tool is started."""
    async with waiting(assent_environment, call("pay", to="a", amount=1), call("lease", months=1)) as it:
        pass
    if order == "cancel first":
        await it.run.cancel()
    for requirement in it.waiting:
        await it.run.send("approve", {"id": requirement.id, "by": "bob"})
    if order == "approve first":
        await it.run.cancel()
    async with assent_environment.serve(it.agent, task_queue=it.client.task_queue):
        state = await cancelled(it)
        await asyncio.sleep(1)
        assert tools.ran(it.run.id) == []
    # The SDK hands over signals before a cancellation, whatever their order. So both calls were approved, and the
    # cancellation in the same workflow task took their activities back before the server heard of them.
    assert await scheduled(it) == []
    assert [(each.status, each.execution) for each in state.requirements] == [("approved", "refused")] * 2
    records = await it.run.audit()
    assert [(each.status, each.execution) for each in records] == [("approved", "refused")] * 2


@pytest.mark.parametrize("order", ["reject first", "cancel first"])
async def test_a_cancel_and_a_rejection_sent_to_a_stopped_worker_resolve_one_way(
    assent_environment: Environment, order: str
) -> None:
    """As with an approval; what is rejected is not asked of the model either."""
    async with waiting(assent_environment, call("pay", to="a", amount=1)) as it:
        pass
    [requirement] = it.waiting
    body: dict[str, JsonValue] = {"id": requirement.id, "by": "bob", "reason": "no"}
    if order == "cancel first":
        await it.run.cancel()
        await it.run.send("reject", body)
    else:
        await it.run.send("reject", body)
        await it.run.cancel()
    async with assent_environment.serve(it.agent, task_queue=it.client.task_queue):
        state = await cancelled(it)
    assert await scheduled(it) == []
    assert [each.status for each in state.requirements] == ["rejected"]


async def test_a_cancel_racing_an_approval_live_resolves_one_way(assent_environment: Environment) -> None:
    """Both at once, with the worker up: whichever wins, the state, the fold and the replay agree on it."""
    for number in range(6):
        async with waiting(assent_environment, call("pay", to="a", amount=number)) as it:
            [requirement] = it.waiting
            both = [it.run.approve(requirement, by="bob"), it.run.cancel()]
            result, _ = await asyncio.gather(*(both if number % 2 else reversed(both)), return_exceptions=True)
            await it.run.until_paused()
            state = await it.agrees()
            assert state.status in {"cancelled", "completed"}, result
            ran = tools.ran(it.run.id)
            assert len(ran) <= (state.requirements[0].status == "approved")
            assert len(ran) == 1 or state.requirements[0].execution in {None, "refused", "unknown"}


async def test_a_cancelled_run_whose_last_notices_go_out_starts_no_tool(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes the notices, so the run stays open for a while: what is approved in that time is too late."""
    monkeypatch.setenv("HOOK", f"whsec_{base64.b64encode(bytes(32)).decode()}")
    hooks = [Webhook(url="http://127.0.0.1:9/", secret_env="HOOK")]
    agent = Agent(
        name="g",
        model=assent_environment.responses(calls(call("pay", to="a", amount=1), call("lease", months=1)), says("done")),
        tools=TOOLS,
    )
    async with assent_environment.serve(agent, webhooks=hooks) as client:
        run = await client.start("g", "Go.", requested_by="alice")
        it = Waiting(agent, client, run, (await run.until_paused()).active_requirements)
    await it.run.send("approve", {"id": it.waiting[0].id, "by": "bob"})
    await it.run.cancel()
    async with assent_environment.serve(agent, task_queue=client.task_queue, webhooks=hooks):
        await soon(lambda: has_ended(it.run))
        await it.run.send("approve", {"id": it.waiting[1].id, "by": "bob"})
        state = await cancelled(it)
    assert [each.status for each in state.requirements] == ["approved", "cancelled"]
    assert [each.status for each in state.ignored_messages] == ["late"]


async def has_ended(run: RunHandle) -> bool:
    return (await run.state()).is_finished
