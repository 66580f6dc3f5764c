"""The audit of a long run, in a process of its own: how long it takes, and how much memory.

`python -m bench.auditing RUN assent|bare` prints seconds, and MiB of memory that the work added at its peak. The bare
side does the least that any reader of the same history must: it fetches every event, execution by execution.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from typing import Final

from assent import AgentClient
from assent.audit.verifier import Verifier
from assent.history.pages import Page, chain
from assent.runtime.connection import exit_cleanly
from bench.processes import running

KIB: Final = 1024


async def measured(run: str, how: str, variables: Mapping[str, str]) -> tuple[float, float]:
    """Seconds, and MiB, of one audit in a new process."""
    async with running(["-m", "bench.auditing", run, how], variables) as process:
        seconds, memory = (await _line(process)).split()
    return float(seconds), float(memory)


async def _line(process: Process) -> str:
    line = await process.stdout.readline() if process.stdout else b""
    return line.decode()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB


async def _main(run: str, how: str) -> None:
    client = await AgentClient.connect()
    handle = client.get_run(run)
    description = await handle.description()
    before, begun = _peak(), time.perf_counter()
    if how == "bare":
        events = 0
        async for page in chain(client.temporal, run, description.run_id):
            events += len(page.events) if isinstance(page, Page) else 0
    elif how == "verified":
        observer = Verifier(run)
        if not observer.verification(await handle.audit(observer)).ok:
            raise RuntimeError(run)
    else:
        await handle.audit()
    print(time.perf_counter() - begun, max(_peak() - before, 0.1), flush=True)


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(_main(*sys.argv[1:]))
