"""A run of 2,000 turns: no turn costs more than those at the beginning did, and the bytes grow with the turns alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from time import monotonic

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent import Agent, RunHandle, tool
from assent.client.client import AgentClient
from assent.history.pages import pages
from assent.testing import Conversation, Environment, Reply, call, calls, says

TURNS = 2_000
PART = 100
"""Turns at the end, and at the beginning of another run, that are compared."""
KIB = 1024
TOKENS = 20_000
"""What the conversation may have: some 18 results."""
_SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


@tool
async def read_page(number: int) -> str:
    """Read a page of 4 KiB."""
    return (f"{number:06d} " + "lorem ipsum " * 400)[: 4 * KIB]


class Pages:
    """A model that reads as many pages as it is told, and notes when it was asked about each."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self.at: defaultdict[int, list[float]] = defaultdict(list[float])
        self.near_the_end = asyncio.Event()

    def __call__(self, seen: Conversation) -> Reply:
        """The next page after the one that was read last; a summary where no tools are on offer."""
        if not seen.tools:
            return says("The pages so far hold nothing but lorem ipsum. " * 20)
        turns = int(seen.user[0])
        number = 0 if seen.last_output is None else int(seen.last_output[:6]) + 1
        self.at[turns].append(monotonic())
        if number == TURNS - PART:
            self.near_the_end.set()
        return says(f"read {number} pages") if number == turns - 1 else calls(call("read_page", number=number))

    def milliseconds(self, turns: int, *, last: bool) -> float:
        """Milliseconds for each of the first turns, or of the last, of the run that has so many."""
        at = self.at[turns][-PART:] if last else self.at[turns][:PART]
        return (at[-1] - at[0]) / (len(at) - 1) * 1_000


async def events(client: AgentClient, run: RunHandle, executions: list[str]) -> AsyncIterator[HistoryEvent]:
    """The events of all executions of a run, as they are stored."""
    for execution in executions:
        async for page in pages(client.temporal, run.id, execution):
            for event in page.stored:
                yield event


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_two_thousand_turns_cost_what_the_first_did(assent_environment: Environment) -> None:
    model = Pages()
    agent = Agent(
        name="reader",
        model=assent_environment.responses(model),
        tools=[read_page],
        max_turns=TURNS,
        max_context_tokens=TOKENS,
    )
    async with assent_environment.serve(agent) as client, asyncio.timeout(600):
        run = await client.start("reader", f"{TURNS}")
        await model.near_the_end.wait()
        # Its last turns and the first ones of another run share the machine, however busy that is.
        other = await client.start("reader", f"{PART}")
        assert (await run.result()).content == f"read {TURNS - 1} pages"
        await other.result()
        record = (await run.audit()).run
        size = number = summaries = 0
        sizes: list[int] = []
        async for event in events(client, run, record.executions):
            size, number = size + event.ByteSize(), number + 1
            if event.event_type == _SCHEDULED:
                kind = event.activity_task_scheduled_event_attributes.activity_type.name
                summaries += kind == "summarise_conversation"
                if kind == "call_model":
                    sizes.append(size)
        verification = await run.verify()
    first, last, fresh = (
        model.milliseconds(TURNS, last=False),
        model.milliseconds(TURNS, last=True),
        model.milliseconds(PART, last=False),
    )
    print(  # noqa: T201 - what this test is run for
        f"\nms per turn: first {PART} {first:.1f}; last {PART} {last:.1f}, when another run's first are {fresh:.1f}\n"
        f"{size:,} bytes, {number:,} events, {len(record.executions)} executions, {summaries} summaries; bytes by turn "
        f"500, 1,000, 1,500, 2,000: {', '.join(f'{sizes[at - 1]:,}' for at in (500, 1_000, 1_500, 2_000))}"
    )
    assert verification.ok, verification
    assert summaries > 20
    assert last <= 1.3 * fresh
    assert sizes[1_999] - sizes[999] <= 1.1 * (sizes[999] - sizes[0])
