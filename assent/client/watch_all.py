"""Following all runs of an agent, or of all agents: found by visibility, followed by a long poll of each history.

No load on the runs, and no event added to them.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from assent.client import inbox
from assent.client.inbox import Listed
from assent.client.read import follower_of, how_it_closed
from assent.client.run_handle import RunHandle
from assent.core.state_machine import Run
from assent.history import pages
from assent.history.fold import HistoryFold, Transition
from assent.views.run_events import RunEvent, describe
from assent.wire.errors import AssentError, ServerUnreachableError

_PART: Final = 100
"""Events of a page after which there may be another at once."""
EVERY: Final = 10
"""Looks of which one is for all the runs of an agent that go on: a run of another may have been handed over to it."""
INTERVAL: Final = 1.0
"""Seconds between two looks at visibility; longer where a look itself takes longer."""
AT_ONCE: Final = 100
"""Runs that are followed at the same time: each is a long poll that the server keeps open."""
LOOK_BACK: Final = timedelta(seconds=60)
"""How far each look goes back: visibility follows the runs, and clocks differ."""
_READ_AT_ONCE: Final = 10
"""Runs that no search attribute tells of which are read at the same time, before it is known whose they are."""
AHEAD: Final = 1_000
"""Events that are read before they are asked for."""
_AWAY: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
_log = logging.getLogger(__name__)

Told = tuple[str, RunEvent]
"""The id of a run, and what happened in it."""


class Options(TypedDict, total=False):
    """How runs are followed: *from_start*, else from what they are at now; and *at_once* at most, the newest first.

    *say* is told in one line what holds that up: more runs than that, or a server that is away. It is logged else.
    """

    from_start: bool
    at_once: int
    say: Callable[[str], None]


@dataclass(slots=True)
class Watcher:
    """Follows the runs. *registered* says whether the namespace has the Assent search attributes."""

    client: Client
    registered: Callable[[], Awaitable[bool]]
    agent: str | None = None
    from_start: bool = False
    at_once: int = AT_ONCE
    say: Callable[[str], None] = _log.warning
    _events: asyncio.Queue[Told] = field(default_factory=lambda: asyncio.Queue[Told](AHEAD))
    _followed: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    _waiting: dict[str, tuple[Listed, bool]] = field(default_factory=dict[str, tuple[Listed, bool]])
    _known: dict[str, float] = field(default_factory=dict[str, float])
    _of_another: dict[str, float] = field(default_factory=dict[str, float])
    _left_out: int = 0

    async def events(self) -> AsyncGenerator[Told]:
        """What happens, as it happens: of each run in order, of several as it comes.

        Raises:
            MessageError: *agent* is no text that can be sent.
            RPCError: the server refuses; one that is away is waited for.
        """
        looking = asyncio.create_task(self._look())
        try:
            while True:
                coming = asyncio.ensure_future(self._events.get())
                try:
                    await asyncio.wait({coming, looking}, return_when=asyncio.FIRST_COMPLETED)
                    if not coming.done():
                        looking.result()
                    yield coming.result()
                finally:
                    coming.cancel()
        finally:
            tasks = [looking, *self._followed.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- which runs there are -----------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Look for runs that are new, for as long as it takes."""
        first, away, since = True, False, datetime.now(UTC) - LOOK_BACK
        for number in itertools.count():
            begun, now = time.monotonic(), datetime.now(UTC)
            try:
                going_on = first or (self.agent is not None and number % EVERY == 0)
                await self._take_up(since, first=first, going_on=going_on)
            except RPCError as error:
                if not _is_away(error):
                    raise
                if not away:
                    self.say(f"the Temporal server does not answer: {error.message}; still trying")
                away = True
            else:
                # What began while the server was away is found by going back to the last look that it answered.
                first, away, since = False, False, now - LOOK_BACK
            self._begin()
            await asyncio.sleep(max(INTERVAL, time.monotonic() - begun))

    async def _take_up(self, since: datetime, *, first: bool, going_on: bool) -> None:
        found = inbox.changed(self.client, self.agent, since, registered=await self.registered(), going_on=going_on)
        listed = [run async for run in found]
        now, unsure = time.monotonic(), list[Listed]()
        for run in listed:
            known = self._of_another if not run.is_marked and run.execution_id in self._of_another else self._known
            if run.execution_id in known or (first and run.closed):
                known[run.execution_id] = now
            elif run.run_id not in self._followed:
                if self.agent is None or run.is_marked or run.run_id in self._waiting:
                    self._await_room(run, new=not first)
                else:
                    unsure.append(run)
        self._begin()
        limit = asyncio.Semaphore(_READ_AT_ONCE)
        await asyncio.gather(*(self._sort_out(run, limit, new=not first) for run in unsure))
        oldest = now - 2 * LOOK_BACK.total_seconds()
        self._known = {each: at for each, at in self._known.items() if at > oldest}
        self._of_another = {each: at for each, at in self._of_another.items() if at > oldest}

    def _await_room(self, run: Listed, *, new: bool) -> None:
        _, is_new = self._waiting.get(run.run_id, (run, new))
        self._waiting[run.run_id] = run, is_new

    async def _sort_out(self, run: Listed, limit: asyncio.Semaphore, *, new: bool) -> None:
        """Read a run that no search attribute tells of, which takes up no room: it may be of another agent."""
        before, follower = Run(), HistoryFold(run.run_id)
        async with limit:
            try:
                async for page in pages.pages(self.client, run.run_id, run.execution_id):
                    follower = follower_of(follower, page)
                    for happening in follower.feed(page.events):
                        before = happening.step.run
            except AssentError:
                pass  # Who follows it says why it cannot be read.
            except RPCError as error:
                if _is_away(error):
                    raise
        if before.request is None or self._is_meant(before):
            self._await_room(run, new=new)
        else:
            self._of_another[run.execution_id] = time.monotonic()

    def _begin(self) -> None:
        """Follow as many of those that wait as there is room for, and say how many are left."""
        self._followed = {run_id: task for run_id, task in self._followed.items() if not task.done()}
        while self._waiting and len(self._followed) < self.at_once:
            run, new = self._waiting.pop(next(iter(self._waiting)))
            self._known[run.execution_id] = time.monotonic()
            self._followed[run.run_id] = asyncio.create_task(self._follow(run, whole=new or self.from_start))
        if len(self._waiting) != self._left_out:
            self._left_out = len(self._waiting)
            if self._left_out:
                self.say(f"{self._left_out} more runs are not followed yet: {self.at_once} are followed at once")

    # -- one run ------------------------------------------------------------------------------------------------------

    async def _follow(self, run: Listed, *, whole: bool) -> None:
        """Tell what happens in a run. Where the server goes away it is waited for, and nothing is told twice."""
        told, begun = 0, None if whole else await self._length(run)
        while True:
            number = 0
            try:
                async for event in self._events_of(run, begun):
                    number += 1
                    if number > told:
                        await self._events.put((run.run_id, event))
                        told = number
            except (AssentError, RPCError) as error:
                if _is_away(error):
                    await asyncio.sleep(INTERVAL)
                    continue
                self.say(f"run {run.run_id!r} is not followed any more: {error}")
            return

    async def _length(self, run: Listed) -> int:
        """How many events the run's history has now; of one that cannot be had, its reader tells."""
        while True:
            try:
                description = await RunHandle(self.client, run.run_id, execution_id=run.execution_id).description()
            except (AssentError, RPCError) as error:
                if not _is_away(error):
                    return 0
                await asyncio.sleep(INTERVAL)
            else:
                return description.history_length

    async def _events_of(self, run: Listed, begun: int | None) -> AsyncIterator[RunEvent]:
        """The events of a run; with *begun* from what it was after so many events of its history."""
        follower, before, past = HistoryFold(run.run_id), Run(), Past()
        async for page in pages.following(self.client, run.run_id, run.execution_id, whole=begun is None):
            self._known[page.execution_id] = time.monotonic()
            follower = follower_of(follower, page)
            length = (begun or 0) if page.execution_id == run.execution_id else 0
            old, new = _parted(page.events, length)
            for happening in follower.feed(old):
                past.add(_told(happening, before))
                before = happening.step.run
            for event in self._left(past, before, is_whole=bool(old) and old[-1].event_id >= length):
                yield event
            for happening in follower.feed(new):
                if self._is_meant(happening.step.run):
                    for event in _told(happening, before):
                        yield event
                before = happening.step.run
            if self._is_of_another(before, len(page.events)):
                return
        self._known[follower.execution_id] = time.monotonic()
        if not before.ended and self._is_meant(before):
            for event in await self._closed(run.run_id, follower.execution_id):
                yield event

    def _left(self, past: Past, run: Run, *, is_whole: bool) -> list[RunEvent]:
        """What tells how a run stood when it began to be followed, once the whole of that was read."""
        return past.left(run) if is_whole and self._is_meant(run) else []

    async def _closed(self, run_id: str, execution_id: str) -> list[RunEvent]:
        """How the server ended an execution by itself, if it has."""
        description = await RunHandle(self.client, run_id, execution_id=execution_id).description()
        if description.close_time is None:
            return []
        return [RunEvent(kind="failed", at=description.close_time, text=how_it_closed(description))]

    def _is_of_another(self, run: Run, events: int) -> bool:
        """Whether a run is of another agent, and nothing more says that it was handed over: others wait for room."""
        return run.request is not None and not self._is_meant(run) and events < _PART

    def _is_meant(self, run: Run) -> bool:
        """Whether a run is of the agent: asked of it, or handed over to it. Its search attributes may say anything."""
        return self.agent is None or (
            run.request is not None and self.agent in {run.request.agent, run.call_context.agent}
        )


@dataclass(slots=True)
class Past:
    """What had happened in a run before it was followed: what of that tells how it stands."""

    waiting: dict[str, RunEvent] = field(default_factory=dict[str, RunEvent])
    last: RunEvent | None = None

    def add(self, events: Iterable[RunEvent]) -> None:
        """Take in what happened."""
        for event in events:
            self.last = event
            if event.kind == "waiting" and event.requirement_id is not None:
                self.waiting[event.requirement_id] = event

    def left(self, run: Run) -> list[RunEvent]:
        """What waits in *run* still, else what happened last."""
        pending = {each.id for each in run.requirements if each.status == "pending"}
        waits = [event for identity, event in self.waiting.items() if identity in pending]
        return waits or ([self.last] if self.last is not None else [])


def _told(happening: Transition, before: Run) -> Iterator[RunEvent]:
    # A run that goes on in a new execution is there what it was at the end of the one before.
    return describe(happening.event, happening.before if happening.before.id else before, happening.step)


def _parted(events: Sequence[HistoryEvent], length: int) -> tuple[Sequence[HistoryEvent], Sequence[HistoryEvent]]:
    """The events up to number *length*, and those after."""
    old = bisect_right(events, length, key=lambda event: event.event_id)
    return events[:old], events[old:]


def _is_away(error: Exception) -> bool:
    away = isinstance(error, RPCError) and error.status in _AWAY
    return away or isinstance(error, ServerUnreachableError)
