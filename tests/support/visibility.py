"""Temporal's list of runs follows the runs by some milliseconds, on a busy machine by more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def soon(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool] = bool) -> T:
    """What *ask* answers, once it *holds*; its last answer where it does not within 5 seconds."""
    answer = await ask()
    for _ in range(200):
        if holds(answer):
            break
        await asyncio.sleep(0.025)
        answer = await ask()
    return answer
