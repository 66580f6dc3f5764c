"""The agent that Assent's own `worker.py --agents bench.agents` serves."""

from __future__ import annotations

import os
import time
from typing import Final

from assent import Agent, OpenAIResponses, tool
from bench.task import GUARDED, INSTRUCTIONS, MODEL, URL_VARIABLE, WORK, output

AGENT: Final = "bench"
TURNS: Final = 2_100


@tool(name=WORK)
async def work(size: int) -> str:
    """Do nothing.

    Args:
        size: bytes of the answer.
    """
    return output(size)


@tool(name=GUARDED, requires_confirmation=True)
async def guarded(size: int) -> str:
    """Tell the time, once a person has approved.

    Args:
        size: not used.
    """
    now = time.monotonic_ns()
    del size
    return str(now)


agent = Agent(
    name=AGENT,
    model=OpenAIResponses(MODEL, base_url=os.environ.get(URL_VARIABLE)),
    instructions=INSTRUCTIONS,
    tools=[work, guarded],
    max_turns=TURNS,
)
