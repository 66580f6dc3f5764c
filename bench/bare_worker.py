"""The bare side's worker: `python -m bench.bare_worker ADDRESS TASK_QUEUE`. Ends on SIGTERM."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import time

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.bare_activities import call_model, guarded, work
from bench.bare_workflow import BareRun


async def serve(address: str, task_queue: str) -> None:
    """Serve the bare workflow until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[BareRun],
        activities=[call_model, work, guarded],
        max_cached_workflows=int(os.environ.get("ASSENT_CACHED_RUNS", "1000")),
    ):
        await stop.wait()


if __name__ == "__main__":
    atexit.register(time.sleep, 0.05)  # else the SDK aborts the interpreter at exit, every other time
    asyncio.run(serve(*sys.argv[1:]))
