"""Runs the code of users other than tools: gates, functions of groups, validators of types.

It may block, hang or raise anything. It has threads of its own, so that neither the event loop nor the tools wait for
it, and a time limit, after which its answer is not waited for; Python cannot stop the thread.
"""

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from assent.agents.gates import Gatekeeper
from assent.agents.tool import GateContext, Tool
from assent.wire.protocol import Gate

LIMIT: Final = 30.0
"""Seconds for one question to a user's code."""
TURN_LIMIT: Final = 120.0
"""Seconds for all the gates of one turn."""
THREADS: Final = 100
"""As many as activities that a worker runs at once: none waits for another's."""

R = TypeVar("R")


class TooSlowError(Exception):
    """A user's code took longer than its time limit."""


class UserCode:
    """Threads for users' code other than tools."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="assent-gate")

    async def answer(self, work: Callable[[], R], end: float | None = None) -> R:
        """Return what *work* returns, in a thread. *end*, in the loop's time, may leave it less than `LIMIT`.

        Raises:
            TooSlowError: it took longer, or no thread was free.
            RuntimeError: it raised what would end the worker, such as `SystemExit`.
            Exception: whatever else *work* raises.
        """
        loop = asyncio.get_running_loop()
        left = LIMIT if end is None else end - loop.time()
        context = contextvars.copy_context()
        future = loop.run_in_executor(self._threads, partial(context.run, partial(_contained, work)))
        done, _ = await asyncio.wait([future], timeout=max(0, min(LIMIT, left)))
        if done:
            return future.result()
        future.cancel()
        raise TooSlowError(f"it took longer than {LIMIT:g} s" if left >= LIMIT else "the turn's time for gates is over")

    async def awaited(self, work: Callable[[], object], end: float | None = None) -> object:
        """As `answer`; if *work* is async, it runs in the loop, within the same limits."""
        value = await self.answer(work, end)
        if not inspect.isawaitable(value):
            return value
        task = asyncio.ensure_future(_contained_in_loop(value))
        try:
            left = LIMIT if end is None else end - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait([task], timeout=max(0, min(LIMIT, left)))
            if done:
                return task.result()
            raise TooSlowError(f"it took longer than {LIMIT:g} s")
        finally:
            task.cancel()

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def gate_or_ask(
    users: UserCode,
    keeper: Gatekeeper,
    tool: Tool | None,
    call: GateContext,
    arguments: str,
    *,
    end: float | None = None,
) -> Gate:
    """Return the gate of a call. Where users' code raises, or is too slow (*end*: see `UserCode`), it asks a person.

    Only users' code gets a thread: a change of threads costs more than the gate of a tool without any.
    """
    try:
        if tool is None or not (tool.has_own_types or callable(tool.requires_confirmation) or callable(keeper.groups)):
            return keeper.gate(tool, call, arguments)
        return await users.answer(partial(keeper.gate, tool, call, arguments), end)
    except Exception as error:  # whatever users' code raises where the gatekeeper does not expect it
        problem = error
    if tool is not None and callable(tool.requires_confirmation):
        # Who may approve is still worked out, by functions of their own.
        asking = replace(tool, requires_confirmation=partial(_raise, problem))
        with contextlib.suppress(Exception):  # as above
            return await users.answer(partial(keeper.gate, asking, call, arguments), end)
    return keeper.fallback(tool, call, arguments, problem)


def _raise(error: Exception, _arguments: object) -> bool:
    raise error


def _contained(work: Callable[[], R]) -> R:
    try:
        return work()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration) as error:
        # These would end the event loop, or leave its future without an end.
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


async def _contained_in_loop(work: Awaitable[object]) -> object:
    try:
        return await work
    except (KeyboardInterrupt, SystemExit, asyncio.CancelledError) as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
        # As above; and a user's code cancels no activity.
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
