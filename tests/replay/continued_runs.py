"""A run that waits, and goes on in a new execution because of a message."""

from __future__ import annotations

import asyncio
from typing import Final

from assent import Agent, RunHandle
from assent.testing import Environment, call, calls, says
from tests.replay.waiting_runs import Write
from tests.support import tools

NAMES: Final = ("hurried", "hurried-on")
"""Its two executions. In the first a message that was refused came before, and changed nothing."""


async def tell_of_a_message(running: Environment, written: Write) -> None:
    """Refuse a message, hurry the run, and decide in its new execution."""
    model = running.responses(calls(call("pay", to="bob", amount=5)), says("done"))
    agent = Agent(name="teller", model=model, tools=tools.ALL)
    async with running.serve(agent, task_queue="record-hurried", continue_after=18) as client:
        run = await client.start("teller", "Hurry.", requested_by="alice", id=f"recorded-{NAMES[1]}")
        [asked] = (await run.until_paused()).active_requirements
        before = (await run.description()).run_id
        await run.send("approve", {"id": "ffffffff", "by": "bob"})
        await run.until_paused()
        await run.send_message("Hurry up.", by="alice")
        while (await run.description()).run_id == before:  # noqa: ASYNC110 - the worker moves it
            await asyncio.sleep(0.05)
        await run.approve(asked.id, by="bob")
        await run.result()
        for name, execution in zip(NAMES, (before, None), strict=True):
            await written(RunHandle(client.temporal, run.id, execution_id=execution), name)
