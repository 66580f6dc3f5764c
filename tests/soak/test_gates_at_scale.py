"""A gate that is slow, on a hundred runs at once."""

from __future__ import annotations

import asyncio
import time
from time import monotonic

import pytest

from assent import Agent, tool
from assent.testing import Environment, call, calls, says

RUNS = 100
GATE_SECONDS = 3.0


def slow(_arguments: dict[str, object]) -> bool:
    """A gate that takes its time, in a thread."""
    time.sleep(GATE_SECONDS)
    return True


@tool(requires_confirmation=slow)
def send_letter(number: int) -> str:
    """Send a letter."""
    return f"{number}"


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_hundred_runs_whose_gate_is_slow_wait_side_by_side(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("send_letter", number=1)), says("done"))
    agent = Agent(name="writer", model=model, tools=[send_letter])
    async with assent_environment.serve(agent) as client:
        begun = monotonic()
        runs = await asyncio.gather(*(client.start("writer", f"Go {number}.") for number in range(RUNS)))
        states = await asyncio.gather(*(run.until_paused() for run in runs))
        took = monotonic() - begun
        asked = sum(each.model == model.id for each in assent_environment.models.requests)
        print(f"\n{RUNS} runs, a gate of {GATE_SECONDS:g} s each: all asked after {took:.1f} s, {asked} model calls")  # noqa: T201 - what this test is run for
        await asyncio.gather(*(run.cancel() for run in runs))
    assert all(state.active_requirements for state in states)
    assert asked == RUNS
