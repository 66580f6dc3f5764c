"""Votes and edits that a workflow reset applies again let nothing run, however the run went on since."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, AgentClient, RunHandle, RunState
from assent.testing import Environment, call, calls, says
from tests.support import tools
from tests.workflows.test_continue_as_new import MINE, live, paused
from tests.workflows.test_wire import temporal

_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
MODEL = (calls(call("wire_money", to="shop", amount=5), call("refund", order=1)), says("done"))


async def until(client: AgentClient, run: RunHandle, is_so: Callable[[RunState], bool]) -> RunState:
    """The run as it says itself, once it is so."""
    async with asyncio.timeout(60):
        while True:
            state = await live(client, run)
            if is_so(state):
                return state
            await asyncio.sleep(0.05)


async def reset_to(running: Environment, client: AgentClient, run: RunHandle, point: tuple[str, int]) -> None:
    """Put the run back, as an operator does; the server applies again what was sent since."""
    before = (await run.description()).run_id
    execution, event = point
    where = ("--workflow-id", run.id, "--run-id", execution, "--event-id", str(event))
    await temporal(running, "workflow", "reset", *where, "--reason", "test")
    await until(client, run, lambda state: state.execution_id != before)


async def newest_task(client: AgentClient, run: RunHandle) -> tuple[str, int]:
    """The run's newest execution and the newest workflow task in it, once there is one."""
    async with asyncio.timeout(60):
        while True:
            execution = (await run.description()).run_id
            history = await client.temporal.get_workflow_handle(run.id, run_id=execution).fetch_history()
            found = [each.event_id for each in history.events if each.event_type == _COMPLETED]
            if found:
                return execution, found[-1]
            await asyncio.sleep(0.05)


def voted(state: RunState) -> bool:
    """Whether somebody has approved something, and others still have to."""
    return any(each.approved_by and each.status == "pending" for each in state.requirements)


@pytest.mark.parametrize("edit", [None, {"to": "shop", "amount": 6}], ids=["vote", "edit"])
@pytest.mark.parametrize("continue_after", [0, 5], ids=["one execution", "continued"])
async def test_a_vote_from_before_a_reset_counts_for_nothing_that_runs(
    assent_environment: Environment, continue_after: int, edit: dict[str, object] | None
) -> None:
    """One of two votes is put back by a reset, and the other comes after: the call is refused, and asked again."""
    model = assent_environment.responses(*MODEL)
    agent = Agent(name="ops", model=model, tools=MINE)
    async with assent_environment.serve(agent, continue_after=continue_after) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await paused(client, run, after=2 if continue_after else 1)
        wire, refund = state.requirements
        await run.send_message("Hurry.", by="alice")
        await asyncio.sleep(0.5)
        point = await newest_task(client, run)
        arguments = {"arguments": edit} if edit is not None else {}
        await client.temporal.get_workflow_handle(run.id).signal("approve", {"id": wire.id, "by": "bob", **arguments})
        await until(client, run, voted)
        await reset_to(assent_environment, client, run, point)
        await until(client, run, voted)
        await run.send("reject", {"id": refund.id, "by": "dan", "reason": "no"})
        state = await until(client, run, lambda state: state.requirements[1].status == "rejected")
        [waiting] = state.active_requirements
        await run.send("approve", {"id": waiting.id, "by": "carol"})
        state = await until(client, run, lambda state: any(each.execution == "refused" for each in state.requirements))
        assert not tools.ran(run.id)
        [again] = state.active_requirements
        assert (again.tool, again.approved_by, again.follows) == ("wire_money", [], waiting.id)
        for name in ("bob", "carol"):
            await run.send("approve", {"id": again.id, "by": name})
        assert (await run.result()).content == "done"
        assert len(tools.ran(run.id)) == 1
    verification = await run.verify()
    assert verification.ok, verification
