"""A plugin of pytest that delays calls at random, as a busy machine does: `make test-delays`.

A quarter of what the client asks and of what the workers answer waits up to 0.4 s before or after. That finds tests
that take for immediate what the server does later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from temporalio.bridge.client import Client
from temporalio.bridge.worker import Worker

SHARE: Final = 0.25
LONGEST: Final = 0.4
"""Seconds; short delays are likelier than long ones."""

_Call = Callable[..., Awaitable[Any]]


def _delayed(call: _Call) -> _Call:
    async def delayed(*args: Any, **kwargs: Any) -> Any:
        await _wait()
        try:
            return await call(*args, **kwargs)
        finally:
            await _wait()

    return delayed


async def _wait() -> None:
    delayed, part = random.random() < SHARE, random.random() ** 2  # noqa: S311 - these are no secrets
    if delayed:
        await asyncio.sleep(part * LONGEST)


def pytest_configure() -> None:
    """Delay the calls of this process; those of the commands that a test starts are not."""
    for owner, name in (
        (Client, "call"),
        (Worker, "complete_workflow_activation"),
        (Worker, "complete_activity_task"),
    ):
        setattr(owner, name, _delayed(getattr(owner, name)))
