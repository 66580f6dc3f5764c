"""Many runs that each wait for one approval, all approved at once; and what a gate costs a single call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from temporalio.api.enums.v1 import EventType

from bench.sides import Side
from bench.task import GUARDED, WORK, Task

Given = TypeVar("Given")
Got = TypeVar("Got")

AT_ONCE: Final = 64
"""Calls that the benchmark itself has under way."""
_TASK_COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_SCHEDULED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
_STARTED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED


async def approved_at_once(side: Side, runs: int) -> float:
    """Approvals a second: *runs* runs that wait, from the first signal to the last result; each tool ran once.

    Raises:
        RuntimeError: a tool ran another number of times than once.
    """
    waiting = await each(side.start, [Task(turns=1, tool=GUARDED) for _ in range(runs)])
    await each(side.until_waiting, waiting)
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        results = group.create_task(each(side.result, waiting, at_once=runs))
        group.create_task(each(side.approve, waiting))
    took = time.perf_counter() - begun
    if not all(words.isdigit() for words in results.result()):
        message = "a run did not end with what its tool answered"
        raise RuntimeError(message)
    wrong = [count for count in await each(lambda run: _times_run(side, run), waiting) if count != 1]
    if wrong:
        message = f"{len(wrong)} of {runs} tools ran another number of times than once: {wrong[:5]}"
        raise RuntimeError(message)
    return runs / took


async def tasks_added_by_a_gate(side: Side) -> int:
    """How many workflow tasks more a call takes when a person approves it."""
    ungated = await side.start(Task(turns=1, tool=WORK))
    await side.result(ungated)
    gated = await side.start(Task(turns=1, tool=GUARDED))
    await side.until_waiting(gated)
    await side.approve(gated)
    await side.result(gated)
    return await _tasks(side, gated) - await _tasks(side, ungated)


async def _tasks(side: Side, run: str) -> int:
    history = await side.handle(run).fetch_history()
    return sum(event.event_type == _TASK_COMPLETED for event in history.events)


async def _times_run(side: Side, run: str) -> int:
    history = await side.handle(run).fetch_history()
    guarded = {
        event.event_id
        for event in history.events
        if event.event_type == _SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_type.name == GUARDED
    }
    return sum(
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.event_type == _STARTED and event.activity_task_started_event_attributes.scheduled_event_id in guarded
    )


async def each(
    work: Callable[[Given], Awaitable[Got]], things: Iterable[Given], *, at_once: int = AT_ONCE
) -> list[Got]:
    """What *work* gives for each of *things*, so many at once, in order."""
    gate = asyncio.Semaphore(at_once)

    async def one(thing: Given) -> Got:
        async with gate:
            return await work(thing)

    return list(await asyncio.gather(*(one(thing) for thing in things)))
