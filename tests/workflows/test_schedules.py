"""Runs that a Temporal schedule starts: created in Python, and typed by hand."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import timedelta

import pytest
from temporalio.client import ScheduleIntervalSpec, ScheduleSpec

from assent import Agent, AgentClient, Approval, MessageError
from assent.runtime.embedded_server import temporal_binary
from assent.testing import Environment, call, calls, says
from tests.support.tools import pay

DAILY = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=1))])


async def waiting(client: AgentClient, prefix: str, count: int) -> list[Approval]:
    """What the runs of a schedule wait for, once that are so many."""
    async with asyncio.timeout(60):
        while True:
            found = [each for each in await client.pending() if each.run_id.startswith(prefix)]
            if len(found) == count:
                return found
            await asyncio.sleep(0.2)


async def test_a_schedule_starts_runs_beside_those_that_wait(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("paid"))
    agent = Agent(name="ops", model=model, tools=[pay])
    nightly, by_hand = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("nightly", "by-hand"))
    async with assent_environment.serve(agent) as client:
        schedule = await client.schedule(
            nightly, "ops", "Pay.", spec=DAILY, requested_by="alice", context={"team": "a"}
        )
        with pytest.raises(MessageError, match="there is a schedule"):
            await client.schedule(nightly, "ops", "Pay.", spec=DAILY)
        with pytest.raises(MessageError, match="agent"):
            await client.schedule("other", "", "Pay.", spec=DAILY)
        for count in (1, 2):
            await schedule.trigger()
            found = await waiting(client, nightly, count)
            await asyncio.sleep(1.1)  # The ids of the runs are of a second each.
        assert {(each.requested_by, each.agent) for each in found} == {("alice", "ops")}
        assert await (await client.get_run(found[0].run_id).description()).static_summary() == "`ops`: `Pay.`"
        await client.get_run(found[0].run_id).approve(found[0].id, by="bob")
        assert (await client.get_run(found[0].run_id).until_paused()).content == "paid"
        await schedule.delete()
        command = [
            *("schedule", "create", "--address", assent_environment.server.address, "--schedule-id", by_hand),
            *("--interval", "1d", "--overlap-policy", "AllowAll", "--workflow-id", by_hand),
            *("--type", "AgentRun", "--task-queue", client.task_queue),
            *("--input", json.dumps({"agent": "ops", "input": "Pay.", "requested_by": "alice"})),
        ]
        process = await asyncio.create_subprocess_exec(temporal_binary(), *command, stdout=asyncio.subprocess.DEVNULL)
        assert await asyncio.wait_for(process.wait(), 30) == 0
        handle = client.temporal.get_schedule_handle(by_hand)
        await handle.trigger()
        [one] = await waiting(client, by_hand, 1)
        assert one.requested_by == "alice"
        await handle.delete()
