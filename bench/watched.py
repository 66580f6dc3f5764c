"""How soon somebody who watches a run is told, beside the SDK's own long poll of the same history."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from temporalio.api.enums.v1 import EventType

from bench.sides import Assent
from bench.task import GUARDED, Task

REST: Final = 0.02
"""Seconds between two messages: people do not send them back to back."""
_SIGNALED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
_TASK_COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED

Times = asyncio.Queue[float]


async def watched(side: Assent, messages: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the sending of each message to a waiting run until `watch` yields what came of it.

    And until the SDK's own long poll yields the event of the workflow task in which the run took the message in, which
    `watch` cannot be before.
    """
    run = await side.start(Task(turns=1, tool=GUARDED))
    await side.until_waiting(run)
    told, polled = Times(), Times()
    readers = [asyncio.create_task(_watch(side, run, told)), asyncio.create_task(_poll(side, run, polled))]
    try:
        await asyncio.sleep(1.0)
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(messages):
            begun = _now()
            await side.agents.get_run(run).send_message("more", by="bench")
            ours.append(await told.get() - begun)
            bare.append(await polled.get() - begun)
            await asyncio.sleep(REST)
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    await side.approve(run)
    await side.result(run)
    return ours, bare


def _now() -> float:
    return time.perf_counter() * 1_000


async def _watch(side: Assent, run: str, told: Times) -> None:
    async for event in side.agents.get_run(run).watch():
        if event.kind == "message":
            told.put_nowait(_now())


async def _poll(side: Assent, run: str, polled: Times) -> None:
    signaled = False
    async for event in side.handle(run).fetch_history_events(wait_new_event=True):
        if event.event_type == _TASK_COMPLETED and signaled:
            polled.put_nowait(_now())
        signaled = event.event_type == _SIGNALED or (signaled and event.event_type != _TASK_COMPLETED)
