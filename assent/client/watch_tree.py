"""Follows a run and its child runs live.

No load on the runs, and no event added to them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from temporalio.service import RPCError

from assent.client.read import drain_queue, wait_until_started
from assent.views.run_events import RunEvent
from assent.wire.errors import AssentError
from assent.wire.protocol import ChildRun
from assent.wire.requirements import RunState

if TYPE_CHECKING:
    from assent.client.run_handle import RunHandle

GRACE: Final = 10.0
"""Seconds to wait for the last event of a child run once its parent run has its end."""
START_LIMIT: Final = 4.0
"""Seconds to wait for a child run that the server has not started yet."""
_log = logging.getLogger(__name__)


class TreeEvent(NamedTuple):
    """An event of the run *run_id*. *path* has the agents from the outermost run to this one."""

    path: tuple[str, ...]
    run_id: str
    event: RunEvent


@dataclass(slots=True)
class TreeWatcher:
    """Follows *run* and its child runs, each by its id. *say* gets one line for each that cannot be followed."""

    run: RunHandle
    by_id: Callable[[str], RunHandle]
    say: Callable[[str], None] = _log.warning
    _events: asyncio.Queue[TreeEvent] = field(default_factory=lambda: asyncio.Queue[TreeEvent](1_000))
    _children: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])

    async def events(self) -> AsyncGenerator[TreeEvent]:
        """Yield events as they happen, until the run itself has ended.

        Those of a child run come after its parent's event that it started, and before the one that it finished.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        root = asyncio.create_task(self._follow(self.run, ()))
        async with aclosing(drain_queue(self._events, root, self._children)) as events:
            async for event in events:
                yield event

    async def _follow(self, run: RunHandle, path: tuple[str, ...]) -> None:
        async for event in run.watch():
            # A run's agent and parents are known once a worker has begun it, which is its first event.
            path = path or _path_of(await run.state())
            if event.kind == "agent_finished" and event.child is not None:
                await self._wait_for_child(event.child)
            await self._events.put(TreeEvent(path, run.id, event))
            if event.kind == "agent_started" and event.child is not None:
                self._start_child(event.child, path)

    def _start_child(self, child: ChildRun, path: tuple[str, ...]) -> None:
        if child.run_id not in self._children:
            self._children[child.run_id] = asyncio.create_task(self._follow_child(child, (*path, child.agent)))

    async def _follow_child(self, child: ChildRun, path: tuple[str, ...]) -> None:
        run = self.by_id(child.run_id)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_LIMIT):
                    await wait_until_started(run.description)
            await self._follow(run, path)
        except (AssentError, RPCError) as error:
            self.say(f"run {child.run_id!r} is not followed: {error}")

    async def _wait_for_child(self, child: ChildRun) -> None:
        """Wait until all events of a finished child run are queued."""
        if (task := self._children.get(child.run_id)) is not None:
            await asyncio.wait({task}, timeout=GRACE)


def _path_of(state: RunState) -> tuple[str, ...]:
    return (*(each.agent for each in state.parents), state.agent)
