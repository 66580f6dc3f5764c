"""Notices an `async def` tool that blocks the event loop, which every run of the worker shares."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Final

LIMIT: Final = 2.0
"""Seconds for which the loop may not answer before the log says so."""
_EVERY: Final = 0.5

_log = logging.getLogger(__name__)


class LoopWatch:
    """Watches the loop from a thread while async tools run, and logs the one that blocks it, with its stack."""

    def __init__(self) -> None:
        self._tools: dict[asyncio.Task[object], str] = {}
        self._active = threading.Event()
        self._started = False

    @contextmanager
    def running(self, tool: str) -> Generator[None]:
        """Watch while the current task runs *tool*."""
        task = asyncio.current_task()
        if task is None:
            yield
            return
        self._tools[task] = tool
        self._active.set()
        if not self._started:
            self._started = True
            where = (asyncio.get_running_loop(), threading.get_ident())
            threading.Thread(target=self._watch, args=where, name="assent-loop-watch", daemon=True).start()
        try:
            yield
        finally:
            del self._tools[task]
            if not self._tools:
                self._active.clear()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while self._active.wait():
            answered, begun = threading.Event(), monotonic()
            try:
                loop.call_soon_threadsafe(answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not answered.wait(LIMIT):
                tool = self._say(loop, thread)
                while not answered.wait(1) and not loop.is_closed():
                    pass
                _log.warning("the event loop answers again; %s blocked it for %.1f s", tool, monotonic() - begun)
            threading.Event().wait(_EVERY)

    def _say(self, loop: asyncio.AbstractEventLoop, thread: int) -> str:
        task = asyncio.current_task(loop)
        name = None if task is None else self._tools.get(task)
        tool = "something else than a tool" if name is None else f"the async tool {name!r}"
        # Documented, and the only way to see the stack of another thread.
        frame = sys._current_frames().get(thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        stack = "" if frame is None else "".join(traceback.format_stack(frame)[-3:])
        todo = "make it a plain def, which has a thread, or await what it waits for"
        _log.warning("%s blocks the event loop for more than %g s, for all runs: %s\n%s", tool, LIMIT, todo, stack)
        return tool
