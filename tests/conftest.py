"""One server and one scripted model for the whole session, and an end to everything that hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import pytest
from hypothesis import settings

pytest_plugins = ["assent.testing.fixtures"]

_LAST_RESORT: Final = 3_000
"""Seconds; more than `session_timeout`, which pytest-timeout checks between tests only."""
_CLEANUP: Final = 10
"""Seconds of a test's limit that are left for what its coroutine cleans up."""

# Otherwise each of some hundred processes compiles all of Assent anew, and every run's sandbox its workflow's module.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A Temporal server (Go) that may use both cores of a small machine takes a quarter more CPU for the same runs: its
# threads wake each other. Several servers stand side by side here anyway.
os.environ.setdefault("GOMAXPROCS", "1")

# A busy machine takes its time for an example; what hangs has a limit of its own. What is found, the first 40 examples
# find, and each run of the suite tries others.
settings.register_profile("assent", deadline=None, max_examples=40)
settings.load_profile("assent")

# A script starts its background jobs with SIGINT ignored, and programs that tests stop by Ctrl-C would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Limits(Protocol):
    @property
    def timeout(self) -> float: ...


def pytest_configure(config: pytest.Config) -> None:
    """End this process in any case: a thread that hangs would keep it alive after its last test.

    A worker of pytest-xdist ends first, so that the main process can report which test it was.
    """
    is_worker = hasattr(config, "workerinput")
    timer = threading.Timer(_LAST_RESORT + (0 if is_worker else 60), _end, [os.dup(2)])
    timer.daemon = True
    timer.start()


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    """Let the SDK interrupt a workflow task of two seconds in a callback of the garbage collector.

    It raises its exception in the task's thread wherever that is, and fails the task, which the server gives again. On
    a busy machine that is no fault of the test that runs meanwhile, as pytest would say.
    """
    report = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type.__name__ != "_InterruptDeadlockError":
            report(unraisable)

    sys.unraisablehook = hook


def _end(output: int) -> None:
    faulthandler.dump_traceback(output)
    os._exit(1)


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: _Limits) -> None:
    """Cancel a coroutine shortly before its limit, so that it cleans up and the report shows its `await`.

    At the limit pytest-timeout fails the test from outside: the report then shows the event loop only.
    """
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.obj = _limited(item.obj, time.monotonic() + settings.timeout - _CLEANUP)


def _limited(test: Callable[..., Awaitable[None]], deadline: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout_at(deadline):
            await test(*args, **kwargs)

    return limited
