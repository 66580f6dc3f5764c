"""Serves an agent's workflow as a team's own worker would, with the framework's plugin and Assent's, until SIGTERM."""

from __future__ import annotations

import asyncio
import atexit
import signal
import sys
import time
from collections.abc import Callable, Sequence

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.plugin import SimplePlugin
from temporalio.worker import Worker

from assent.worker import AssentPlugin


async def serve(plugin: SimplePlugin, workflow: type, activities: Sequence[Callable[..., object]]) -> None:
    """Serve *workflow* on the task queue that the command names. The variables `TEMPORAL_*` say where the server is."""
    atexit.register(time.sleep, 0.05)  # The SDK's threads may still run when the interpreter ends, and abort it.
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await Client.connect(**ClientConfig.load_client_connect_config(), plugins=[plugin])
    gates = AssentPlugin(gated_activities=["wire_transfer"])
    async with Worker(client, task_queue=sys.argv[1], workflows=[workflow], activities=activities, plugins=[gates]):
        print("Serving", workflow.__name__, flush=True)
        await stop.wait()
