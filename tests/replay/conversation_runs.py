"""Conversations whose histories were recorded: one that was closed after two answers, and one that is idle."""

from __future__ import annotations

from typing import Final

from assent import Agent
from assent.testing import Environment, call, calls, says
from tests.replay.waiting_runs import Write
from tests.support import tools

NAMES: Final = ("conversation", "conversing")


async def tell_of_conversations(running: Environment, written: Write) -> None:
    """Begin with a message, look something up for the second answer, and close one of the two."""
    steps = [says("Hello."), calls(call("look_up", key="k"))]
    for name in NAMES:
        agent = Agent(name="teller", model=running.responses(*steps, says("It is known.")), tools=tools.ALL)
        async with running.serve(agent, task_queue=f"record-{name}") as client:
            run = await client.send_message(f"recorded-{name}", "Hello?", by="alice", agent="teller")
            await run.until_paused()
            await run.send_and_wait("What is k?", by="bob")
            if name == "conversation":
                await run.close(by="alice", reason="that is all")
                await run.result()
            await written(run, name)
