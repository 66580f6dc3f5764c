"""Connects a command to Temporal."""

import asyncio
from collections.abc import Awaitable, Callable

from assent.cli.common import ConnectionOptions
from assent.client.client import AgentClient
from assent.runtime.connection import exit_cleanly


def with_client(place: ConnectionOptions, work: Callable[[AgentClient], Awaitable[int]]) -> int:
    """Connect, do *work*, and return its exit code."""
    exit_cleanly()

    async def connected() -> int:
        client = await AgentClient.connect(
            place.address, namespace=place.namespace, profile=place.profile, task_queue=place.task_queue
        )
        return await work(client)

    return asyncio.run(connected())
