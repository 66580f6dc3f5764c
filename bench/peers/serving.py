"""How a peer's worker is served: as the bare side's, with the peer's own plugin."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from temporalio.client import Client, Plugin
from temporalio.worker import Worker

CACHED: Final = int(os.environ.get("ASSENT_CACHED_RUNS", "1000"))


async def serve(
    address: str, task_queue: str, plugin: Plugin, served: type, activities: Sequence[Callable[..., Any]] = ()
) -> None:
    """Serve the workflow *served* until SIGTERM."""
    atexit.register(time.sleep, 0.05)  # as in `bench.bare_worker`
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await Client.connect(address, plugins=[plugin])
    async with Worker(
        client, task_queue=task_queue, workflows=[served], activities=activities, max_cached_workflows=CACHED
    ):
        await stop.wait()
