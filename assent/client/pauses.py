"""When nothing of a run moves any more: of it, and of the runs below it that it waits for.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Final

from temporalio.client import Client

from assent.client.asking import Rest, stands
from assent.client.read import Seen, follower_of, grow, has_moved, until_there
from assent.core.state_machine import Run
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import Page
from assent.views.facts import children_of

_AHEAD: Final = 8
"""Pages that are read ahead."""
_LOOK_AGAIN: Final = 0.5
"""Seconds after which a run that had moved, and of which nothing came, is looked at again."""


@dataclass(slots=True)
class _Followed:
    """A run that is followed, and how it stands after what was read of it."""

    follower: HistoryFold
    task: asyncio.Task[None]
    rest: Rest = field(default_factory=Rest)
    seen: Seen = field(default_factory=Seen)
    rests: bool = False
    stands: bool = False
    is_over: bool = False

    def feed(self, page: Page) -> Iterator[Transition]:
        """What happened on a page."""
        self.follower = follower_of(self.follower, page)
        yield from self.follower.feed(page.events)
        self.rests = self.rest.is_reached(page.events, self.follower)
        self.stands = stands(self.follower)
        self.seen = Seen(page.execution_id, page.events[-1].event_id)


class Resting:
    """Follows a run, and whatever runs below it while it waits for those."""

    def __init__(self, client: Client, run_id: str, execution_id: str) -> None:
        """Nothing is followed yet; *execution_id* is where to begin."""
        self._client = client
        self._run_id = run_id
        self._execution_id = execution_id
        self._followed: dict[str, _Followed] = {}
        self._moved = False
        self._news: asyncio.Queue[tuple[str, Page | Exception | None]] = asyncio.Queue(_AHEAD)

    @property
    def run(self) -> Run:
        """The run itself, as of what was read of it."""
        return self._followed[self._run_id].follower.run

    async def happenings(self) -> AsyncGenerator[list[tuple[str, Transition]]]:
        """What happens in the run itself, each with its execution, until it has ended.

        Whatever is read is yielded, with nothing in it where it was of another run: `is_reached` may hold by then.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: its history, or that of a run below, cannot be read.
        """
        try:
            self._follow(self._run_id, self._execution_id)
            while True:
                news = await self._next()
                if news is None:
                    yield []
                    continue
                run_id, page = news
                followed = self._followed.get(run_id)
                if followed is None:
                    continue
                if isinstance(page, Exception):
                    raise page
                if page is None:
                    followed.is_over = True
                    if run_id == self._run_id:
                        return
                    continue
                found = [(page.execution_id, each) for each in followed.feed(page)]
                self._follow_those_below()
                yield found if run_id == self._run_id else []
        finally:
            tasks = [each.task for each in self._followed.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> tuple[str, Page | Exception | None] | None:
        """The next page of one of the runs; None where it is time to look again whether one has moved."""
        try:
            async with asyncio.timeout(_LOOK_AGAIN if self._moved else None):
                return await self._news.get()
        except TimeoutError:
            return None

    async def is_reached(self) -> bool:
        """Whether the run rests by now: nothing of it moves, nor of a run that it waits for."""
        reached, self._moved = self._reached(), False
        if not all(self._is_quiet(run_id) for run_id in reached):
            return False
        # What was read of one may be older than what was read of another, which moved it.
        seen = {run_id: self._followed[run_id].seen for run_id in reached}
        # The server may count events that it takes back, and tells nobody of: a task for an update that is refused.
        self._moved = len(seen) > 1 and await has_moved(self._client, seen)
        return not self._moved

    def _is_quiet(self, run_id: str) -> bool:
        followed = self._followed.get(run_id)
        if followed is None or not (followed.rests or followed.stands):
            return False
        # Of one below that has ended, the one above will be told.
        return run_id == self._run_id or not (followed.is_over or followed.follower.run.ended)

    def _reached(self) -> list[str]:
        """The run, and those below it that it waits for, and those that these wait for."""
        found = [self._run_id]
        for run_id in found:
            followed = self._followed.get(run_id)
            if followed is not None and followed.stands:
                below = (child.run_id for child in children_of(followed.follower.run))
                found += [each for each in below if each not in found]
        return found

    def _follow_those_below(self) -> None:
        reached = self._reached()
        for run_id in [each for each in self._followed if each not in reached]:
            self._followed.pop(run_id).task.cancel()
        for run_id in reached:
            if run_id not in self._followed:
                self._follow(run_id, None)

    def _follow(self, run_id: str, execution_id: str | None) -> None:
        task = asyncio.create_task(self._read(run_id, execution_id))
        self._followed[run_id] = _Followed(HistoryFold(run_id), task)

    async def _read(self, run_id: str, execution_id: str | None) -> None:
        try:
            if run_id != self._run_id:
                # The run above has begun it, and the server will in a moment; or it cannot, and says so above.
                await until_there(self._client, run_id)
            async for page in grow(self._client, run_id, execution_id):
                await self._news.put((run_id, page))
        except Exception as error:  # Whoever waits for the pages is told
            await self._news.put((run_id, error))
        else:
            await self._news.put((run_id, None))
