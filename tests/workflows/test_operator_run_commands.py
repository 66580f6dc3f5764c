"""What operators and foreign clients do to a run with Temporal's own means: reset, cancel, terminate, retry, by hand.

Each is the real `temporal` command, as in `test_reset.py`; retries and schedules are set by a client of the SDK.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from assent import (
    Agent,
    Remember,
    Requirement,
    RequirementNotFoundError,
    RunFailedError,
    RunHandle,
    RunNotFoundError,
    RunState,
    ToolContext,
    approval,
    tool,
)
from assent.client.client import AgentClient
from assent.testing import Conversation, Environment, Reply, Step, call, calls, check_replay, says
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_wire import temporal


@approval(approvals=2)
@tool
async def wire(context: ToolContext, to: str) -> str:
    """Wire money; takes two people."""
    tools.note(context, f"wire({to}) {context.idempotency_key}")
    return f"wired to {to}"


@approval
@tool(heartbeat_timeout=timedelta(seconds=1))
async def crawl(context: ToolContext) -> str:
    """Take for ever."""
    tools.note(context, "crawls")
    await asyncio.sleep(600)
    return "arrived"


TOOLS: list[Callable[..., object]] = [*tools.ALL, wire, crawl]


def told(seen: Conversation) -> Reply:
    return says(json.dumps(list(seen.tool_outputs.values())))


@dataclass(frozen=True)
class Case:
    """A run, and the means to do things to it from outside."""

    running: Environment
    client: AgentClient
    run: RunHandle
    waiting: Sequence[Requirement]

    async def workflow(self, verb: str, *more: str) -> None:
        """Run `temporal workflow VERB` on the run."""
        await temporal(self.running, "workflow", verb, "--workflow-id", self.run.id, *more)

    async def activity(self, verb: str, identity: str, *more: str) -> None:
        """Run `temporal activity VERB` on an activity of the run."""
        await temporal(
            self.running, "activity", verb, "--workflow-id", self.run.id, "--activity-id", identity, *more
        )  # fmt: skip

    async def reset(self, to: str | int) -> RunState:
        """Reset the run to a kind of task, or to an event; its state once it waits or has ended."""
        where = ("--type", to) if isinstance(to, str) else ("--event-id", str(to))
        before = (await self.run.description()).run_id
        await self.workflow("reset", "--reason", "test", *where)
        await self.run.until_paused()
        assert (await self.run.description()).run_id != before
        return await self.agrees()

    async def agrees(self) -> RunState:
        """The state, which the run itself and the fold of its history tell alike; its replay goes through."""
        live = RunState.model_validate(await self.client.temporal.get_workflow_handle(self.run.id).query("state"))
        folded = await self.run.state()
        assert folded == live
        await check_replay(await self.run.history())
        return folded

    async def task_after(self, kind: EventType.ValueType) -> int:
        """The id of the event that completes the first workflow task after the first event of a kind."""
        seen = False
        for event in (await self.run.history()).events:
            seen = seen or event.event_type == kind
            if seen and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return event.event_id
        raise AssertionError(EventType.Name(kind))

    async def task_after_turn(self, turn: int) -> int:
        """The id of the event that completes the workflow task which was handed the model's answer of a turn."""
        events = (await self.run.history()).events
        asked = [
            event.event_id
            for event in events
            if event.activity_task_scheduled_event_attributes.activity_type.name == "call_model"
        ]
        answered = False
        for event in events:
            scheduled = event.activity_task_completed_event_attributes.scheduled_event_id
            answered = answered or scheduled == asked[turn - 1]
            if answered and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return event.event_id
        raise AssertionError(turn)

    async def ran(self, *lines: str) -> None:
        """Wait until the tools have written these lines, and no other."""
        found = await soon(self._ran, lambda found: len(found) >= len(lines))
        assert found == list(lines)

    async def _ran(self) -> list[str]:
        return tools.ran(self.run.id)

    async def asks_anew(self, state: RunState, old: Requirement) -> Requirement:
        """The one requirement of a run that asks again; the *old* id authorises nothing any more."""
        [anew] = state.active_requirements
        assert anew.id != old.id
        assert (anew.votes, anew.status) == ([], "pending")
        with pytest.raises(RequirementNotFoundError):
            await self.run.approve(old, by="bob")
        await self.run.send("approve", {"id": old.id, "by": "bob"})
        await self.run.until_paused()
        assert (await self.agrees()).ignored_messages[-1].status == "unknown"
        return anew


@asynccontextmanager
async def case(running: Environment, *steps: Step) -> AsyncGenerator[Case]:
    agent = Agent(name="r", model=running.responses(*steps), tools=TOOLS)
    async with running.serve(agent) as client:
        run = await client.start("r", "Go.", requested_by="alice")
        yield Case(running, client, run, (await run.until_paused()).active_requirements)


# -- reset ------------------------------------------------------------------------------------------------------------


async def test_a_waiting_run_reset_to_before_the_models_answer_asks_again(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("wire", to="a")), told) as it:
        [old] = it.waiting
        await it.run.send("approve", {"id": old.id, "by": "ann"})
        state = await it.reset("FirstWorkflowTask")
        # The half of the quorum was signalled again by the server, and is a half of nothing.
        assert [each.status for each in state.ignored_messages] == ["unknown"]
        anew = await it.asks_anew(state, old)
        assert (await it.run.approve(anew, by="ben")).status == "recorded"
        assert (await it.run.reject(anew, by="ann", reason="no")).status == "rejected"
        assert json.loads((await it.run.result()).content) == ["Rejected: no"]
        assert tools.ran(it.run.id) == []


async def test_a_waiting_run_reset_to_where_the_answer_was_handled_asks_again(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("pay", to="a", amount=1)), told) as it:
        [old] = it.waiting
        state = await it.reset(await it.task_after(EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED))
        assert state.turns == 1
        anew = await it.asks_anew(state, old)
        assert (await it.run.approve(anew, by="bob")).status == "approved"
        await it.run.result()
        assert tools.ran(it.run.id) == ["pay(a, 1)"]


async def test_a_reset_to_after_the_approval_runs_nothing_again(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("wire", to="a")), calls(call("pay", to="b", amount=2)), told) as it:
        [wiring] = it.waiting
        for name in ("ann", "ben"):
            await it.run.approve(wiring, by=name)
        [paying] = (await it.run.until_paused()).active_requirements
        ran = tools.ran(it.run.id)
        assert len(ran) == 1
        state = await it.reset("LastWorkflowTask")
        assert state.requirements[0].execution == "executed"
        anew = await it.asks_anew(state, paying)
        await it.run.approve(anew, by="ann")
        assert json.loads((await it.run.result()).content) == ["wired to a", "paid 2 to b"]
        assert tools.ran(it.run.id) == [*ran, "pay(b, 2)"]


async def test_a_reset_to_between_approval_and_result_does_not_run_the_call_again(
    assent_environment: Environment,
) -> None:
    """The tool ran after what the reset undid, so its approval of before authorises nothing: a person is asked."""
    async with case(assent_environment, calls(call("pay", to="a", amount=1)), told) as it:
        [old] = it.waiting
        await it.run.send("approve", {"id": old.id, "by": "bob"})
        await it.run.result()
        state = await it.reset(await it.task_after(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED))
        assert [(each.status, each.execution) for each in state.requirements] == [
            ("approved", "refused"),
            ("pending", None),
        ]
        [asked] = state.active_requirements
        assert asked.follows == old.id
        assert "reset" in (asked.note or "")
        assert tools.ran(it.run.id) == ["pay(a, 1)"]
        await it.run.reject(asked, by="bob", reason="it ran already")
        assert json.loads((await it.run.result()).content) == ["Rejected: it ran already"]
        assert tools.ran(it.run.id) == ["pay(a, 1)"]


async def test_a_reset_to_before_a_use_of_a_grant_does_not_run_the_call_again(assent_environment: Environment) -> None:
    paying = [calls(call("pay", to="a", amount=number)) for number in (1, 2)]
    async with case(assent_environment, *paying, told) as it:
        [old] = it.waiting
        await it.run.approve(old, by="bob", remember=Remember(uses=5))
        await it.run.result()
        assert tools.ran(it.run.id) == ["pay(a, 1)", "pay(a, 2)"]
        state = await it.reset(await it.task_after_turn(2))
        assert state.is_paused
        assert tools.ran(it.run.id) == ["pay(a, 1)", "pay(a, 2)"]
        await it.workflow("terminate")


async def test_a_reset_with_an_edit_in_the_history(assent_environment: Environment) -> None:
    async with case(
        assent_environment, calls(call("pay", to="a", amount=100)), calls(call("restart", service="s")), told
    ) as it:
        [old] = it.waiting
        await it.run.approve(old, by="bob", arguments={"to": "a", "amount": 1})
        await it.run.until_paused()
        after = await it.reset("LastWorkflowTask")
        statuses = [(each.tool, each.status, each.execution) for each in after.requirements]
        assert statuses[:2] == [("pay", "superseded", None), ("pay", "approved", "executed")]
        assert tools.ran(it.run.id) == ["pay(a, 1)"]
        before = await it.reset("FirstWorkflowTask")
        # The server applies the update again: it names nothing, so the call waits with the model's own arguments.
        anew = await it.asks_anew(before, old)
        assert anew.tool_args == {"to": "a", "amount": 100}
        await it.run.reject(anew, by="bob", reason="no")
        assert tools.ran(it.run.id) == ["pay(a, 1)"]


async def test_a_reset_with_a_grant_in_the_history(assent_environment: Environment) -> None:
    paying = [calls(call("pay", to="a", amount=number)) for number in (1, 2, 3)]
    async with case(assent_environment, *paying, told) as it:
        [old] = it.waiting
        await it.run.approve(old, by="bob", remember=Remember(uses=1))
        [third] = (await it.run.until_paused()).active_requirements
        after = await it.reset("LastWorkflowTask")
        assert [(each.used, each.uses) for each in after.grants] == [(1, 1)]
        assert [each.grant is not None for each in after.requirements] == [False, True, False]
        await it.asks_anew(after, third)
        before = await it.reset("FirstWorkflowTask")
        assert before.grants == []
        await it.asks_anew(before, old)
        assert tools.ran(it.run.id) == ["pay(a, 1)", "pay(a, 2)"]
        await it.workflow("terminate")


async def test_a_reset_with_an_outcome_asked_in_the_history(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        [asked] = await lost(it)
        after = await it.reset("LastWorkflowTask")
        assert after.active_requirements[0].kind == "outcome"
        anew = await it.asks_anew(after, asked)
        assert anew.follows == it.waiting[0].id
        before = await it.reset("FirstWorkflowTask")
        # Nothing of the call is left in the history, so it is asked about as if it had never run; it has, once.
        first = await it.asks_anew(before, it.waiting[0])
        assert first.kind == "confirmation"
        await it.run.reject(first, by="bob", reason="it ran already")
        assert json.loads((await it.run.result()).content) == ["Rejected: it ran already"]
        await it.ran("crawls")


async def lost(it: Case) -> list[Requirement]:
    """Approve a call that takes for ever, and fail its activity by hand: what is asked then."""
    assert (await it.run.approve(it.waiting[0], by="bob")).status == "approved"
    await it.ran("crawls")
    await it.activity("fail", "1.0", "--reason", "by hand")
    state = await it.run.until_paused()
    assert state.requirements[0].execution == "unknown"
    return state.active_requirements


# -- cancel, terminate ------------------------------------------------------------------------------------------------


async def is_told_late(it: Case) -> None:
    """Whoever decides after the end is told so, and nothing runs."""
    for requirement in it.waiting:
        answers = [
            await it.run.approve(requirement, by="bob", check=False),
            await it.run.reject(requirement, by="bob", reason="no", check=False),
            await it.run.submit_result(requirement, by="bob", output="x", check=False),
        ]
        assert [answer.status for answer in answers] == ["late"] * 3
        assert all(answer.detail.startswith("the run has ended") for answer in answers)
        with pytest.raises(RunNotFoundError, match="still running"):
            await it.run.send("approve", {"id": requirement.id, "by": "bob"})
    assert tools.ran(it.run.id) == []


async def gone(client: AgentClient, run: RunHandle) -> bool:
    return run.id not in [each.run_id for each in await client.pending()]


async def test_the_cancel_command_ends_a_waiting_run_and_nothing_runs_after(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("pay", to="a", amount=1), call("ship", order="1")), told) as it:
        await it.workflow("cancel")
        with pytest.raises(RunFailedError, match="cancelled"):
            await it.run.result()
        await is_told_late(it)
        state = await it.agrees()
        assert state.status == "cancelled"
        assert {each.status for each in state.requirements} == {"cancelled"}
        assert await soon(lambda: gone(it.client, it.run))


async def test_the_terminate_command_ends_a_waiting_run_and_nothing_runs_after(
    assent_environment: Environment,
) -> None:
    async with case(assent_environment, calls(call("pay", to="a", amount=1), call("ship", order="1")), told) as it:
        await it.workflow("terminate")
        with pytest.raises(RunFailedError, match="terminated"):
            await it.run.result()
        await is_told_late(it)
        state = await it.run.state()
        assert (state.status, state.error) == ("failed", "Closed: the server closed the run: terminated")
        assert {each.status for each in state.requirements} == {"cancelled"}
        assert [each.kind for each in [event async for event in it.run.watch()]][-1] == "failed"
        assert {each.status for each in await it.run.audit()} == {"cancelled"}
        assert await soon(lambda: gone(it.client, it.run))


async def test_a_terminated_run_can_be_reset_and_asks_again(assent_environment: Environment) -> None:
    async with case(assent_environment, calls(call("pay", to="a", amount=1)), told) as it:
        await it.workflow("terminate")
        anew = await it.asks_anew(await it.reset("LastWorkflowTask"), it.waiting[0])
        await it.run.approve(anew, by="bob")
        assert json.loads((await it.run.result()).content) == ["paid 1 to a"]
        assert tools.ran(it.run.id) == ["pay(a, 1)"]


async def test_terminating_a_run_inside_an_approved_call_says_that_its_outcome_is_unknown(
    assent_environment: Environment,
) -> None:
    async with case(assent_environment, calls(call("crawl")), told) as it:
        await it.run.approve(it.waiting[0], by="bob")
        await it.ran("crawls")
        await it.workflow("terminate")
        [record] = await it.run.audit()
        assert (record.status, record.execution) == ("approved", "unknown")
        await it.ran("crawls")
