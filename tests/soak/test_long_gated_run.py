"""A run with a thousand calls that a person approves: the last decisions cost what the first ones did."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from assent import Agent, RunHandle, tool
from assent.testing import Conversation, Environment, Reply, call, calls, says

CALLS = 1_000
PART = 100
"""Calls at the end, and at the beginning of another run, that are compared."""


@tool(requires_confirmation=True)
async def send_letter(number: int) -> str:
    """Send a letter."""
    return f"{number}"


def writes(seen: Conversation) -> Reply:
    """A model that sends as many letters as it is told; a summary where no tools are on offer."""
    if not seen.tools:
        return says("Letters were sent.")
    number = 0 if seen.last_output is None else int(seen.last_output) + 1
    return says(f"sent {number}") if number == int(seen.user[0]) else calls(call("send_letter", number=number))


async def approving(run: RunHandle, at: list[float], halfway: asyncio.Event) -> None:
    """Approve whatever waits, as soon as it does, and note when."""
    decided = set[str]()
    async for transition in run.transitions(wait=True):
        for requirement in transition.step.run.pending:
            if requirement.id not in decided:
                decided.add(requirement.id)
                at.append(monotonic())
                if len(at) == CALLS - PART:
                    halfway.set()
                await run.send("approve", {"id": requirement.id, "by": "bob"})


def milliseconds(at: list[float]) -> float:
    """Milliseconds from one decision to the next."""
    return (at[-1] - at[0]) / (len(at) - 1) * 1_000


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_thousand_approved_calls_cost_what_the_first_did(assent_environment: Environment) -> None:
    agent = Agent(
        name="writer",
        model=assent_environment.responses(writes),
        tools=[send_letter],
        max_turns=CALLS + 1,
        max_context_tokens=5_000,
    )
    near_the_end, never = asyncio.Event(), asyncio.Event()
    long: list[float] = []
    short: list[float] = []
    async with assent_environment.serve(agent) as client, asyncio.timeout(600), asyncio.TaskGroup() as group:
        run = await client.start("writer", f"{CALLS}", requested_by="alice")
        group.create_task(approving(run, long, near_the_end))
        await near_the_end.wait()
        # Its last calls and the first ones of another run share the machine, however busy that is.
        other = await client.start("writer", f"{PART}", requested_by="alice")
        group.create_task(approving(other, short, never))
        assert (await run.result()).content == f"sent {CALLS}"
        await other.result()
        verification = await run.verify()
        record = (await run.audit()).run
    last, fresh = milliseconds(long[-PART:]), milliseconds(short)
    first = milliseconds(long[:PART])
    print(  # noqa: T201 - what this test is run for
        f"\nms per call: first {PART} {first:.1f}; last {PART} {last:.1f}, when another run's first "
        f"are {fresh:.1f}; {len(record.executions)} executions, {verification.events:,} events"
    )
    assert verification.ok, verification
    assert len(long) == CALLS
    assert last <= 1.3 * fresh
