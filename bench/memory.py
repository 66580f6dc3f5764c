"""The memory of a worker with more runs that wait than it keeps in its cache."""

from __future__ import annotations

from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from bench.processes import running
from bench.sides import Side
from bench.storm import each
from bench.task import GUARDED, Task

CACHE_VARIABLE: Final = "ASSENT_CACHED_RUNS"
"""Read by both sides' workers."""


async def of_a_worker(side: Side, runs: int, cached: int) -> tuple[float, float]:
    """MiB of a new worker's process: after its first run, and with so many runs that wait, of which it keeps *cached*.

    The runs are real, and ended before this returns: what is measured next has an empty inbox.
    """
    async with side.aside(), running(side.command, {**side.variables, CACHE_VARIABLE: str(cached)}) as worker:
        await side.run(Task(turns=2))
        before = resident(worker)
        waiting = await each(side.start, [Task(turns=1, tool=GUARDED) for _ in range(runs)])
        await each(side.until_at_rest, waiting)
        after = resident(worker)
        await each(lambda run: side.handle(run).terminate(), waiting)
    return before, after


def resident(process: Process) -> float:
    """The memory that a process has in use, in MiB; NaN where there is no `/proc`."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS:"))
