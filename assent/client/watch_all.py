"""Follows all runs of an agent, or of all agents: visibility finds them, a long poll follows each history.

No load on the runs, and no event added to them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from assent.client import inbox
from assent.client.inbox import ListedRun
from assent.client.read import closing_status_text, describe_transition, drain_queue, fold_for
from assent.client.run_handle import RunHandle
from assent.core.run_state import Run
from assent.history import pages
from assent.history.fold import HistoryFold
from assent.views.run_events import RunEvent
from assent.wire.errors import AssentError, ServerUnreachableError

_PART: Final = 100
"""Events of a page that may be followed by another page at once."""
EVERY: Final = 10
"""Every how many polls all running runs of an agent are listed: a run of another may be handed over to it."""
INTERVAL: Final = 1.0
"""Seconds between two polls of visibility; longer where a poll itself takes longer."""
MAX_FOLLOWED: Final = 100
"""Runs that are followed at the same time: each is a long poll at the server."""
OVERLAP: Final = timedelta(seconds=60)
"""How far each poll looks back: visibility lags behind the runs, and clocks differ."""
_READ_AT_ONCE: Final = 10
"""Runs without search attributes that are read at the same time, to find out their agent."""
AHEAD: Final = 1_000
"""Events that are read ahead of the consumer."""
_AWAY: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
_log = logging.getLogger(__name__)

RunAndEvent = tuple[str, RunEvent]
"""The id of a run, and an event of it."""


class Options(TypedDict, total=False):
    """How runs are followed: *from_start*, else from their present state; at most *at_once*, the newest first.

    *say* gets one line about what holds that up: more runs than *at_once*, or a server that is away. Default: the log.
    """

    from_start: bool
    at_once: int
    say: Callable[[str], None]


@dataclass(slots=True)
class RunsWatcher:
    """Follows the runs. *registered* says whether the namespace has the Assent search attributes."""

    client: Client
    registered: Callable[[], Awaitable[bool]]
    agent: str | None = None
    from_start: bool = False
    at_once: int = MAX_FOLLOWED
    say: Callable[[str], None] = _log.warning
    _events: asyncio.Queue[RunAndEvent] = field(default_factory=lambda: asyncio.Queue[RunAndEvent](AHEAD))
    _followed: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, "asyncio.Task[None]"])
    _waiting: dict[str, tuple[ListedRun, bool]] = field(default_factory=dict[str, tuple[ListedRun, bool]])
    _known: dict[str, float] = field(default_factory=dict[str, float])
    _other_agents: dict[str, float] = field(default_factory=dict[str, float])
    _left_out: int = 0

    async def events(self) -> AsyncGenerator[RunAndEvent]:
        """Yield events as they happen; those of one run are in order.

        Raises:
            MessageError: *agent* cannot be sent as text.
            RPCError: the server refuses; one that is away is waited for.
        """
        looking = asyncio.create_task(self._poll())
        async with aclosing(drain_queue(self._events, looking, self._followed)) as events:
            async for event in events:
                yield event

    # -- which runs there are -----------------------------------------------------------------------------------------

    async def _poll(self) -> None:
        """Poll for new runs for ever."""
        first, away, since = True, False, datetime.now(UTC) - OVERLAP
        for number in itertools.count():
            begun, now = time.monotonic(), datetime.now(UTC)
            try:
                running = first or (self.agent is not None and number % EVERY == 0)
                await self._find_new(since, first=first, running=running)
            except RPCError as error:
                if not _is_away(error):
                    raise
                if not away:
                    self.say(f"the Temporal server does not answer: {error.message}; still trying")
                away = True
            else:
                # The next poll looks back to the last one that the server answered.
                first, away, since = False, False, now - OVERLAP
            self._follow_waiting()
            await asyncio.sleep(max(INTERVAL, time.monotonic() - begun))

    async def _find_new(self, since: datetime, *, first: bool, running: bool) -> None:
        runs = inbox.changed(self.client, self.agent, since, registered=await self.registered(), running=running)
        listed = [run async for run in runs]
        now, unsure = time.monotonic(), list[ListedRun]()
        for run in listed:
            known = self._other_agents if not run.is_marked and run.execution_id in self._other_agents else self._known
            if run.execution_id in known or (first and run.closed):
                known[run.execution_id] = now
            elif run.run_id not in self._followed:
                if self.agent is None or run.is_marked or run.run_id in self._waiting:
                    self._await_room(run, new=not first)
                else:
                    unsure.append(run)
        self._follow_waiting()
        limit = asyncio.Semaphore(_READ_AT_ONCE)
        await asyncio.gather(*(self._classify(run, limit, new=not first) for run in unsure))
        oldest = now - 2 * OVERLAP.total_seconds()
        self._known = {each: at for each, at in self._known.items() if at > oldest}
        self._other_agents = {each: at for each, at in self._other_agents.items() if at > oldest}

    def _await_room(self, run: ListedRun, *, new: bool) -> None:
        _, is_new = self._waiting.get(run.run_id, (run, new))
        self._waiting[run.run_id] = run, is_new

    async def _classify(self, run: ListedRun, limit: asyncio.Semaphore, *, new: bool) -> None:
        """Read a run without search attributes before it takes a place: it may be of another agent."""
        before, fold = Run(), HistoryFold(run.run_id)
        async with limit:
            try:
                async for page in pages.pages(self.client, run.run_id, run.execution_id):
                    fold = fold_for(fold, page)
                    for transition in fold.add(page.events):
                        before = transition.step.run
            except AssentError:
                pass  # The task that follows it says why it cannot be read.
            except RPCError as error:
                if _is_away(error):
                    raise
        if before.request is None or self._is_selected(before):
            self._await_room(run, new=new)
        else:
            self._other_agents[run.execution_id] = time.monotonic()

    def _follow_waiting(self) -> None:
        """Follow as many waiting runs as there is room for, and say how many are left."""
        for run_id in [run_id for run_id, task in self._followed.items() if task.done()]:
            del self._followed[run_id]
        while self._waiting and len(self._followed) < self.at_once:
            run, new = self._waiting.pop(next(iter(self._waiting)))
            self._known[run.execution_id] = time.monotonic()
            self._followed[run.run_id] = asyncio.create_task(self._follow(run, whole=new or self.from_start))
        if len(self._waiting) != self._left_out:
            self._left_out = len(self._waiting)
            if self._left_out:
                self.say(f"{self._left_out} more runs are not followed yet: {self.at_once} are followed at once")

    # -- one run ------------------------------------------------------------------------------------------------------

    async def _follow(self, run: ListedRun, *, whole: bool) -> None:
        """Queue the events of a run. Waits for a server that goes away, and queues no event twice."""
        passed_on, begun = 0, None if whole else await self._length(run)
        while True:
            number = 0
            try:
                async for event in self._events_of(run, begun):
                    number += 1
                    if number > passed_on:
                        await self._events.put((run.run_id, event))
                        passed_on = number
            except (AssentError, RPCError) as error:
                if _is_away(error):
                    await asyncio.sleep(INTERVAL)
                    continue
                self.say(f"run {run.run_id!r} is not followed any more: {error}")
            return

    async def _length(self, run: ListedRun) -> int:
        """Return the length of the run's history; 0 if it cannot be read, which its reader then reports."""
        while True:
            try:
                description = await RunHandle(self.client, run.run_id, execution_id=run.execution_id).description()
            except (AssentError, RPCError) as error:
                if not _is_away(error):
                    return 0
                await asyncio.sleep(INTERVAL)
            else:
                return description.history_length

    async def _events_of(self, run: ListedRun, begun: int | None) -> AsyncIterator[RunEvent]:
        """Yield the events of a run; with *begun* from its state after that many events of its history."""
        fold, before, past = HistoryFold(run.run_id), Run(), Backlog()
        async for page in pages.follow(self.client, run.run_id, run.execution_id, whole=begun is None):
            self._known[page.execution_id] = time.monotonic()
            fold = fold_for(fold, page)
            length = (begun or 0) if page.execution_id == run.execution_id else 0
            old, new = _split(page.events, length)
            for transition in fold.add(old):
                past.add(describe_transition(transition, before))
                before = transition.step.run
            for event in self._left(past, before, is_whole=bool(old) and old[-1].event_id >= length):
                yield event
            for transition in fold.add(new):
                if self._is_selected(transition.step.run):
                    for event in describe_transition(transition, before):
                        yield event
                before = transition.step.run
            if self._is_other_agents(before, len(page.events)):
                return
        self._known[fold.execution_id] = time.monotonic()
        if not before.ended and self._is_selected(before):
            for event in await self._closed(run.run_id, fold.execution_id):
                yield event

    def _left(self, past: Backlog, run: Run, *, is_whole: bool) -> list[RunEvent]:
        """Return the events that show the state in which following began, once all of it was read."""
        return past.left(run) if is_whole and self._is_selected(run) else []

    async def _closed(self, run_id: str, execution_id: str) -> list[RunEvent]:
        """Return the event for an execution that the server closed (terminated, timed out)."""
        description = await RunHandle(self.client, run_id, execution_id=execution_id).description()
        if description.close_time is None:
            return []
        return [RunEvent(kind="failed", at=description.close_time, text=closing_status_text(description))]

    def _is_other_agents(self, run: Run, events: int) -> bool:
        """Return whether a run is of another agent, with no sign of a handover to this one: it gives up its place."""
        return run.request is not None and not self._is_selected(run) and events < _PART

    def _is_selected(self, run: Run) -> bool:
        """Return whether a run is of the agent: started with it, or handed over to it, whatever its attributes say."""
        return self.agent is None or (
            run.request is not None and self.agent in {run.request.agent, run.call_context.agent}
        )


@dataclass(slots=True)
class Backlog:
    """The past of a run before it was followed, reduced to the events that show its state."""

    waiting: dict[str, RunEvent] = field(default_factory=dict[str, RunEvent])
    last: RunEvent | None = None

    def add(self, events: Iterable[RunEvent]) -> None:
        """Add events."""
        for event in events:
            self.last = event
            if event.kind == "waiting" and event.requirement_id is not None:
                self.waiting[event.requirement_id] = event

    def left(self, run: Run) -> list[RunEvent]:
        """Return the events of what still waits in *run*, else the last event."""
        pending = {each.id for each in run.requirements if each.status == "pending"}
        waits = [event for identity, event in self.waiting.items() if identity in pending]
        return waits or ([self.last] if self.last is not None else [])


def _split(events: Sequence[HistoryEvent], length: int) -> tuple[Sequence[HistoryEvent], Sequence[HistoryEvent]]:
    """Split events into those up to number *length*, and those after."""
    old = bisect_right(events, length, key=lambda event: event.event_id)
    return events[:old], events[old:]


def _is_away(error: Exception) -> bool:
    away = isinstance(error, RPCError) and error.status in _AWAY
    return away or isinstance(error, ServerUnreachableError)
