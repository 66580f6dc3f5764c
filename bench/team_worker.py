"""The worker of a team, with the plugin beside workflows of its own: `python -m bench.team_worker TASK_QUEUE`."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import time

from temporalio.client import Client
from temporalio.worker import Worker

from assent.worker import HEARTBEAT_THROTTLE, AssentPlugin
from bench.agents import agent
from bench.asking_workflows import Asking, BareAsking, BareQuestion


async def serve(task_queue: str) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"])
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[Asking, BareAsking, BareQuestion],
        plugins=[AssentPlugin([agent])],
        max_cached_workflows=2_000,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
    ):
        await stop.wait()


if __name__ == "__main__":
    atexit.register(time.sleep, 0.05)  # else the SDK aborts the interpreter at exit, every other time
    asyncio.run(serve(*sys.argv[1:]))
