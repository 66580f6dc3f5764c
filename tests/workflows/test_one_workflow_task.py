"""What reaches a run in one workflow task, because no worker was there: what it came to is what the history tells."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, Budget, ToolContext, tool
from assent.testing import Environment, call, calls, says
from tests.support import tools
from tests.workflows.test_continue_as_new import live, replay

SECONDS = 1.5


@tool(heartbeat_timeout=timedelta(seconds=30), stop_after_tool_call=True, idempotent=True)
async def crawl(context: ToolContext) -> str:
    """Take for ever."""
    tools.note(context, "crawls")
    await asyncio.sleep(600)
    return "arrived"


@pytest.mark.parametrize(
    ("on_reached", "what", "status"),
    [
        ("ask", ("time", "cancel"), "CANCELED"),
        ("ask", ("cancel", "time"), "CANCELED"),
        ("ask", ("result", "time"), "COMPLETED"),
        ("end", ("time", "cancel"), "FAILED"),
        ("end", ("cancel", "time"), "CANCELED"),
    ],
    ids=["ask, time, cancel", "ask, cancel, time", "ask, result, time", "end, time, cancel", "end, cancel, time"],
)
async def test_a_time_that_is_over_and_the_end_of_the_run(
    assent_environment: Environment, on_reached: str, what: tuple[str, str], status: str
) -> None:
    queue = f"test-{uuid.uuid4().hex[:8]}"
    agent = Agent(name="top", model=assent_environment.responses(calls(call("crawl")), says("?")), tools=[crawl])
    budget = Budget.model_validate({"max_time": SECONDS, "on_reached": on_reached})
    async with assent_environment.serve(agent, task_queue=queue) as client:
        run = await client.start("top", "Go.", requested_by="alice", budget=budget)
        async with asyncio.timeout(60):
            while True:
                if tools.ran(run.id):
                    break
                await asyncio.sleep(0.02)
    handle = client.temporal.get_workflow_handle(run.id)
    for each in what:
        if each == "cancel":
            await handle.cancel()
        elif each == "result":
            by_hand = client.temporal.get_async_activity_handle(workflow_id=run.id, run_id=None, activity_id="1.0")
            await by_hand.complete({"output": "arrived"})
        else:
            async with asyncio.timeout(60):
                while True:
                    events = (await handle.fetch_history()).events
                    if any(event.event_type == EventType.EVENT_TYPE_TIMER_FIRED for event in events):
                        break
                    await asyncio.sleep(0.1)
    async with assent_environment.serve(agent, task_queue=queue) as client:
        async with asyncio.timeout(60):
            while True:
                described = await run.description()
                if described.close_time is not None:
                    break
                await asyncio.sleep(0.05)
        assert described.status is not None
        assert described.status.name == status
        assert await run.state() == await live(client, run)
        verification = await run.verify()
        # A result that is sent by hand is flagged, as it should be.
        failed = [check.name for check in verification.checks if check.verdict == "failed"]
        assert failed == (["workers"] if "result" in what else [])
        await replay(client, run)


async def test_a_conversation_that_is_closed_and_cancelled_ends_as_it_did_first(
    assent_environment: Environment,
) -> None:
    queue = f"test-{uuid.uuid4().hex[:8]}"
    agent = Agent(name="top", model=assent_environment.responses(says("Hello.")))
    async with assent_environment.serve(agent, task_queue=queue) as client:
        run = await client.start("top", "Hi.", requested_by="alice", conversation=True)
        await run.until_paused()
    await run.send("close", {"by": "bob"})
    await client.temporal.get_workflow_handle(run.id).cancel()
    async with assent_environment.serve(agent, task_queue=queue) as client:
        assert (await run.result()).content == "Hello."
        assert await run.state() == await live(client, run)
        assert (await run.verify()).ok
        await replay(client, run)
