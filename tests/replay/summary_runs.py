"""Long conversations whose histories were recorded: one with summaries, one while its summary is being made."""

from __future__ import annotations

import asyncio
from typing import Final

from assent import Agent
from assent.testing import Conversation, Environment, Reply, Step, call, calls, hangs, says
from tests.replay.waiting_runs import Write
from tests.support import tools

NAMES: Final = ("summarised", "summarising")
TOKENS: Final = 2_500


def looks_up(seen: Conversation) -> Reply:
    """Look up one long key after the other, and forget the first ones."""
    number = 0 if seen.last_output is None else int(seen.last_output.removeprefix("value of ")[0]) + 1
    return says("All were looked up.") if number == 9 else calls(call("look_up", key=f"{number}".ljust(1_200, "k")))


def told(seen: Conversation) -> Reply:
    """The summary, or the next key."""
    return looks_up(seen) if seen.tools else says("Nothing but k was found.")


async def tell_of_summaries(running: Environment, written: Write) -> None:
    """A provider that makes summaries, and one that takes its time."""
    scripts: dict[str, Step] = {
        "summarised": told,
        "summarising": lambda seen: looks_up(seen) if seen.tools else hangs(60, times=None),
    }
    for name, script in scripts.items():
        model = running.responses(script)
        agent = Agent(name="teller", model=model, tools=tools.ALL, max_context_tokens=TOKENS)
        async with running.serve(agent, task_queue=f"record-{name}") as client:
            run = await client.start("teller", "Look them up.", requested_by="alice", id=f"recorded-{name}")
            if name == "summarised":
                await run.result()
            else:
                await _until_summarising(run.id, running)
            await written(run, name)


async def _until_summarising(identity: str, running: Environment) -> None:
    handle = running.server.client.get_workflow_handle(identity)
    while True:
        pending = (await handle.describe()).raw_description.pending_activities
        if any(each.activity_type.name == "summarise_conversation" for each in pending):
            return
        await asyncio.sleep(0.05)
