"""Heartbeats while an activity works, so that the death of its worker is noticed within its heartbeat timeout."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from temporalio import activity

from .own_run import encoded

TOLD_EVERY: Final = 0.5
"""Seconds between two heartbeats at the least. `assent.worker` lets the SDK pass them on as often."""


@asynccontextmanager
async def heartbeats(details: Callable[[], object | None] | None = None) -> AsyncGenerator[None]:
    """Heartbeat at half the activity's heartbeat timeout for as long as the block runs.

    What *details* answers goes with every heartbeat, and makes one whenever it has changed, twice a second at most.
    """
    timeout = activity.info().heartbeat_timeout
    if timeout is None:
        yield
        return
    interval = timeout.total_seconds() / 2
    beating = asyncio.create_task(_beat(interval) if details is None else _send_heartbeats(interval, details))
    try:
        yield
    finally:
        beating.cancel()


async def _beat(interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        activity.heartbeat()


async def _send_heartbeats(interval: float, details: Callable[[], object | None]) -> None:
    last, at = None, monotonic()
    while True:
        await asyncio.sleep(min(interval, TOLD_EVERY))
        now = details()
        # A heartbeat without details would take away what the one before it told.
        if now != last or monotonic() - at >= interval:
            activity.heartbeat(*([] if now is None else [encoded(now)]))
            last, at = now, monotonic()
