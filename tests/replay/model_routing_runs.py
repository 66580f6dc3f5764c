"""Runs whose model is asked on a task queue of its own: one that is over, and one while nobody serves that queue."""

from __future__ import annotations

import asyncio
from typing import Final

from assent import Agent
from assent.testing import Environment, call, calls, says
from tests.replay.waiting_runs import Write
from tests.support import tools

NAMES: Final = ("asked-elsewhere", "waiting-to-be-asked-elsewhere")
QUEUE: Final = "record-models"


async def tell_of_model_queues(running: Environment, written: Write) -> None:
    """Look something up and pay, in the run whose model somebody asks."""
    steps = [calls(call("look_up", key="k"), call("pay", to="bob", amount=5)), says("done")]
    for name in NAMES:
        # One that nobody serves.
        queue = QUEUE if name == "asked-elsewhere" else f"{QUEUE}-nowhere"
        agent = Agent(name="teller", model=running.responses(*steps), tools=tools.ALL, model_task_queue=queue)
        async with (
            running.serve(agent, task_queue=f"record-{name}") as client,
            running.serve(agent, task_queue=QUEUE),
        ):
            run = await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")
            if name == "asked-elsewhere":
                [asked] = (await run.until_paused()).active_requirements
                await run.approve(asked, by="bob")
                await run.result()
            else:
                await _until_sent_on(run.id, running)
            await written(run, name)


async def _until_sent_on(identity: str, running: Environment) -> None:
    handle = running.server.client.get_workflow_handle(identity)
    while True:
        pending = (await handle.describe()).raw_description.pending_activities
        if any(each.activity_options.task_queue.name == f"{QUEUE}-nowhere" for each in pending):
            return
        await asyncio.sleep(0.05)
