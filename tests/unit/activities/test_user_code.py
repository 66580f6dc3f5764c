"""The code of users other than tools: in threads and in the loop, bounded, and unable to end the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from assent.activities.user_code import TooSlowError, UserCode


def sync_text() -> str:
    return "sync"


async def async_text() -> str:
    await asyncio.sleep(0)
    return "async"


def leaves() -> str:
    raise SystemExit(3)


async def leaves_the_loop() -> str:
    raise SystemExit(3)


async def cancels_itself() -> str:
    raise asyncio.CancelledError


async def is_slow() -> str:
    await asyncio.sleep(60)
    return "late"


@pytest.mark.parametrize(("work", "text"), [(sync_text, "sync"), (async_text, "async")])
async def test_what_is_async_is_awaited(work: Callable[[], object], text: str) -> None:
    users = UserCode()
    assert await users.awaited(work) == text
    users.close()


@pytest.mark.parametrize("work", [leaves, leaves_the_loop, cancels_itself])
async def test_no_code_of_a_user_ends_the_worker_or_cancels_an_activity(work: Callable[[], object]) -> None:
    users = UserCode()
    with pytest.raises(RuntimeError, match=r"SystemExit: 3|CancelledError"):
        await users.awaited(work)
    users.close()


async def test_an_async_function_that_takes_too_long_is_not_waited_for() -> None:
    users, begun = UserCode(), time.monotonic()
    with pytest.raises(TooSlowError):
        await users.awaited(is_slow, asyncio.get_running_loop().time() + 0.2)
    assert time.monotonic() - begun < 20
    users.close()
