"""Runs with many gated calls: what they leave behind, how long they take, and the memory of their worker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from bench.long import Left, left_behind
from bench.memory import resident
from bench.processes import running
from bench.sides import Assent
from bench.task import GUARDED, Task

AT_ONCE = 100
"""Calls of one turn."""


@dataclass(frozen=True)
class Long:
    """A run of many gated calls: seconds, milliseconds a call of the first and the last turns, MiB of its worker."""

    seconds: float
    first: float
    last: float
    before: float
    after: float
    left: Left


async def left_by(side: Assent, tool: str, calls: int) -> Left:
    """What a run with so many calls in one turn leaves behind; those that wait are approved."""
    run = await side.start(Task(turns=1, tool=tool, calls=calls))
    await _approved(side, run)
    return await left_behind(side.temporal, run)


async def long_run(side: Assent, calls: int) -> Long:
    """A run of so many gated calls, a hundred a turn, in a new worker."""
    async with side.aside(), running(side.command, side.variables) as worker:
        await side.run(Task(turns=2))
        before, begun = resident(worker), time.perf_counter()
        run = await side.start(Task(turns=calls // AT_ONCE, tool=GUARDED, calls=AT_ONCE))
        at = await _approved(side, run)
        seconds, after = time.perf_counter() - begun, resident(worker)
    part = max(1, len(at) // 10)
    first, last = at[part] - at[0], at[-1] - at[-1 - part]
    return Long(
        seconds, first * 1_000 / part, last * 1_000 / part, before, after, await left_behind(side.temporal, run)
    )


async def _approved(side: Assent, name: str) -> list[float]:
    """Approve whatever waits, until the run ends; when each was approved."""
    run, decided, at = side.agents.get_run(name), set[str](), list[float]()
    async for transition in run.transitions(wait=True):
        new = [each.id for each in transition.step.run.pending if each.id not in decided]
        decided.update(new)
        await asyncio.gather(*(run.send("approve", {"id": each, "by": "bench"}) for each in new))
        at += [time.perf_counter()] * len(new)
    return at
