"""What leaves no trace, or changes nothing, may neither change what a run does next nor wear its history out."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError

from assent import Agent, approval, tool
from assent.testing import Environment, call, calls, says
from tests.workflows.test_continue_as_new import number_of_executions, replay


@approval(expires_after=timedelta(milliseconds=700))
@tool
def wipe(what: str) -> str:
    """Wipe something; soon nobody may any more."""
    return f"wiped {what}"


@tool(requires_confirmation=True)
def wait_for(what: str) -> str:
    """Wait for somebody."""
    return f"{what} came"


async def refused_beside_a_deadline(environment: Environment, continue_after: int) -> int:
    """The number of the last event before the run stood still."""
    agent = Agent(
        name="wiper", model=environment.responses(calls(call("wipe", what="disk")), says("done")), tools=[wipe]
    )
    async with environment.serve(agent, continue_after=continue_after, cached_runs=0) as client:
        queue = client.task_queue
        run = await client.start("wiper", "Go.", requested_by="alice")
        await run.until_paused()
        before = await run.history()
    await asyncio.sleep(1)
    handle = client.temporal.get_workflow_handle(run.id)
    body = {"id": "ffffffff", "by": "bob", "verdict": "approve"}
    update = asyncio.create_task(handle.execute_update("decide", body))
    await asyncio.sleep(0.5)
    async with environment.serve(agent, continue_after=continue_after, cached_runs=0, task_queue=queue):
        with pytest.raises(WorkflowUpdateFailedError):
            await update
        assert (await asyncio.wait_for(run.result(), 60)).content == "done"
    await replay(client, run)
    return before.events[-1].event_id


async def test_a_refused_update_beside_a_deadline_changes_nothing(assent_environment: Environment) -> None:
    still = await refused_beside_a_deadline(assent_environment, 0)
    await refused_beside_a_deadline(assent_environment, still + 1)


@pytest.mark.parametrize("binary", [False, True])
async def test_large_messages_of_which_nothing_comes_make_a_run_go_on_anew(
    assent_environment: Environment, binary: bool
) -> None:
    model = assent_environment.responses(calls(call("wait_for", what="it")), says("done"))
    async with assent_environment.serve(Agent(name="waiter", model=model, tools=[wait_for])) as client:
        run = await client.start("waiter", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
        handle = client.temporal.get_workflow_handle(run.id)
        large = "x" * 1_900_000
        for number in range(5):
            assert await number_of_executions(client, run) == 1, number
            await handle.signal("approve", large.encode() if binary else {"id": "ffffffff", "by": large})
            await run.until_paused()
        async with asyncio.timeout(60):
            while await number_of_executions(client, run) == 1:  # noqa: ASYNC110 - the worker moves it
                await asyncio.sleep(0.05)
        await run.approve(asked, by="bob")
        assert (await run.result()).content == "done"
        assert await replay(client, run) == 2
