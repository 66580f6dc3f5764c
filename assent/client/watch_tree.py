"""Following a run and all runs below it, live: what each agent does that works for another, and what waits there.

No load on the runs, and no event added to them.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from temporalio.service import RPCError

from assent.views.run_events import RunEvent
from assent.wire.errors import AssentError, RunNotFoundError
from assent.wire.protocol import ChildRun
from assent.wire.requirements import RunState

if TYPE_CHECKING:
    from assent.client.run_handle import RunHandle

GRACE: Final = 10.0
"""Seconds that the end of a run below is waited for once the run above has told of it."""
_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds until a run is looked for again that was asked for a moment ago, and that the server has not begun yet."""
_log = logging.getLogger(__name__)


class Told(NamedTuple):
    """What happened in a run. *path* names the agents from the outermost down to the one whose run *run_id* is."""

    path: tuple[str, ...]
    run_id: str
    event: RunEvent


@dataclass(slots=True)
class TreeWatcher:
    """Follows *run* and the runs below it, each by its id. *say* is told in one line where one cannot be followed."""

    run: RunHandle
    by_id: Callable[[str], RunHandle]
    say: Callable[[str], None] = _log.warning
    _events: asyncio.Queue[Told] = field(default_factory=lambda: asyncio.Queue[Told](1_000))
    _below: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])

    async def events(self) -> AsyncGenerator[Told]:
        """What happens, as it happens, until the run itself has ended.

        What happens in a run below is told after the event by which it began, and before the one by which it is over.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        root = asyncio.create_task(self._follow(self.run, ()))
        try:
            while not (root.done() and self._events.empty()):
                coming = asyncio.ensure_future(self._events.get())
                try:
                    await asyncio.wait({coming, root}, return_when=asyncio.FIRST_COMPLETED)
                    if root.done() and not coming.done():
                        await asyncio.sleep(0)
                    if coming.done():
                        yield coming.result()
                finally:
                    coming.cancel()
            root.result()
        finally:
            tasks = [root, *self._below.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, run: RunHandle, path: tuple[str, ...]) -> None:
        async for event in run.watch():
            # What a run was asked is known once a worker has taken it up, of which its first event tells.
            path = path or _path_of(await run.state())
            if event.kind == "agent_finished" and event.child is not None:
                await self._until_told(event.child)
            await self._events.put(Told(path, run.id, event))
            if event.kind == "agent_started" and event.child is not None:
                self._begin(event.child, path)

    def _begin(self, child: ChildRun, path: tuple[str, ...]) -> None:
        if child.run_id not in self._below:
            self._below[child.run_id] = asyncio.create_task(self._follow_below(child, (*path, child.agent)))

    async def _follow_below(self, child: ChildRun, path: tuple[str, ...]) -> None:
        run = self.by_id(child.run_id)
        try:
            await _begun(run)
            await self._follow(run, path)
        except (AssentError, RPCError) as error:
            self.say(f"run {child.run_id!r} is not followed: {error}")

    async def _until_told(self, child: ChildRun) -> None:
        """Wait until all is told of a run below that is over."""
        if (task := self._below.get(child.run_id)) is not None:
            await asyncio.wait({task}, timeout=GRACE)


def _path_of(state: RunState) -> tuple[str, ...]:
    return (*(each.agent for each in state.parents), state.agent)


async def _begun(run: RunHandle) -> None:
    for pause in _PAUSES:
        try:
            await run.description()
        except RunNotFoundError:
            await asyncio.sleep(pause)
        else:
            return
