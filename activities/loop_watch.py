"""Notices an `async def` tool that blocks the event loop, which every run of the worker shares, and says so.

The log of the worker names it, with its stack; `show` of each run whose tool call it holds up names it too.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from temporalio import activity
from temporalio.client import AsyncActivityHandle

from assent.wire.protocol import BlockedLoop

from .own_run import encoded

LIMIT: Final = 2.0
"""Seconds for which the loop may not answer before the log says so."""
_EVERY: Final = 0.5
_RPC_LIMIT: Final = timedelta(seconds=5)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Call:
    """A tool call under way, and its activity, which can be reported on without the loop."""

    tool: str
    activity: AsyncActivityHandle


class LoopWatch:
    """Watches the loop from a thread while tools run, and reports the one that blocks it."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.Task[object], _Call] = {}
        self._active = threading.Event()
        self._started = False

    @contextmanager
    def running(self, tool: str) -> Generator[None]:
        """Watch while the current task, that of an activity, runs *tool*."""
        task = asyncio.current_task()
        if task is None:
            yield
            return
        handle = activity.client().get_async_activity_handle(task_token=activity.info().task_token)
        self._calls[task] = _Call(tool, handle)
        self._active.set()
        if not self._started:
            self._started = True
            where = (asyncio.get_running_loop(), threading.get_ident())
            threading.Thread(target=self._watch, args=where, name="assent-loop-watch", daemon=True).start()
        try:
            yield
        finally:
            del self._calls[task]
            if not self._calls:
                self._active.clear()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while self._active.wait():
            answered, begun = threading.Event(), monotonic()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not answered.wait(LIMIT):
                tool = self._blocker(loop)
                self._report(tool, thread)
                since = datetime.now(UTC) - timedelta(seconds=monotonic() - begun)
                self._heartbeat(BlockedLoop(blocked_by=tool or "", since=since))
                while not answered.wait(1) and not loop.is_closed():
                    pass
                _log.warning(
                    "the event loop answers again; %s blocked it for %.1f s", _describe(tool), monotonic() - begun
                )
                self._heartbeat()
            threading.Event().wait(_EVERY)

    def _blocker(self, loop: asyncio.AbstractEventLoop) -> str | None:
        task = asyncio.current_task(loop)
        call = None if task is None else self._calls.get(task)
        return call.tool if call else None

    def _report(self, tool: str | None, thread: int) -> None:
        # Documented, and the only way to see the stack of another thread.
        frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        stack = "" if frame is None else "".join(traceback.format_stack(frame)[-3:])
        todo = "make it a plain def, which has a thread, or await what it waits for"
        what = "%s blocks the event loop for more than %g s, for all runs: %s\n%s"
        _log.warning(what, _describe(tool), LIMIT, todo, stack)

    def _heartbeat(self, *details: BlockedLoop) -> None:
        """Send a heartbeat of each tool call under way, by a loop of this thread's own."""
        calls = list(self._calls.values())

        async def send() -> None:
            beats = (each.activity.heartbeat(*map(encoded, details), rpc_timeout=_RPC_LIMIT) for each in calls)
            # Some have ended meanwhile, the server may be away, and a codec may raise anything.
            await asyncio.wait_for(asyncio.gather(*beats, return_exceptions=True), _RPC_LIMIT.total_seconds())

        with suppress(Exception):  # as above
            asyncio.run(send())


def _describe(tool: str | None) -> str:
    return "something else than a tool" if tool is None else f"the async tool {tool!r}"
