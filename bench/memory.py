"""The memory of a worker with more runs that wait than it keeps in its cache, and how long it takes to have them."""

from __future__ import annotations

import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import running
from bench.sides import Side
from bench.storm import each
from bench.task import GUARDED, Task

CACHE_VARIABLE: Final = "ASSENT_CACHED_RUNS"
"""Read by both sides' workers."""
GENTLY: Final = 0.1
"""Seconds between two looks at a run: the server is to be the runs'."""


@dataclass(frozen=True)
class Held:
    """MiB of a worker's process with so many *runs* that wait, *seconds* after the first of them was started."""

    runs: int
    mib: float
    seconds: float


async def of_a_worker(side: Side, steps: Sequence[int], cached: int) -> list[Held]:
    """The memory of a new worker after its first run, and with as many runs that wait as each of *steps* says.

    It keeps *cached* of them. The runs are real, and ended before this returns: the next inbox is empty.
    """
    async with side.aside(), running(side.command, {**side.variables, CACHE_VARIABLE: str(cached)}) as worker:
        await side.run(Task(turns=2))
        held, waiting = [Held(0, resident(worker), 0.0)], list[str]()
        begun = time.perf_counter()
        for runs in steps:
            more = [Task(turns=1, tool=GUARDED) for _ in range(runs - len(waiting))]
            waiting += await each(lambda task: _waiting(side, task), more)
            held.append(Held(runs, resident(worker), time.perf_counter() - begun))
        await each(lambda run: side.handle(run).terminate(), waiting)
    return held


async def _waiting(side: Side, task: Task) -> str:
    # One after another: thousands that are started at once wait for minutes in the server's queue.
    run = await side.start(task)
    await side.until_at_rest(run, GENTLY)
    return run


def resident(process: Process) -> float:
    """The memory that a process has in use, in MiB; NaN where there is no `/proc`."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS:"))
