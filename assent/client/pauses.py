"""Detects when a run and the child runs that it waits for are idle, or wait for people; and finds a message's reply."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from pydantic import JsonValue
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from assent.client.read import (
    HistoryPosition,
    cancel_all,
    describe,
    fold_for,
    follow_history,
    has_changed,
    wait_until_started,
)
from assent.core.events import MessageReceived, ModelAnswered, ToolAnswered
from assent.core.run_state import Run
from assent.core.state_machine import decide
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import Page
from assent.views.facts import children_of
from assent.wire.errors import MessageError
from assent.wire.protocol import SEND_MESSAGE

_AHEAD: Final = 8
"""Pages that are read ahead of the consumer."""
_LOOK_AGAIN: Final = 0.5
"""Seconds until a run that seemed to have moved, without a new event, is checked again."""


def only_children_move(fold: HistoryFold) -> bool:
    """Return whether only child runs of a followed run move: it waits for those, and maybe for people."""
    run = fold.run
    if run.ended or run.model_running or run.checks or fold.unread_signals:
        return False
    moving = [call for call in run.calls if call.running or call.again_at is not None]
    return bool(moving) and all(call.child is not None for call in moving)


@dataclass(slots=True)
class PauseDetector:
    """Detects that a followed run is paused: nothing moves until a person decides or sends a message."""

    _task: bool = False

    def is_reached(self, events: Iterable[HistoryEvent], fold: HistoryFold) -> bool:
        """Return whether the run is paused after these *events*, which *fold* was fed."""
        for event in events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._task = True
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self._task = False
        run = fold.run
        if run.ended:
            return True
        # A message that was sent and not handled yet will move it. While a worker has a task of the run, the server
        # buffers messages outside of the history.
        return not (
            run.status == "running" or run.checks or fold.unread_signals or (run.status == "idle" and self._task)
        )


@dataclass(slots=True)
class _FollowedRun:
    """A run that is followed, with its state after what was read."""

    fold: HistoryFold
    task: asyncio.Task[None]
    detector: PauseDetector = field(default_factory=PauseDetector)
    seen: HistoryPosition = field(default_factory=HistoryPosition)
    is_paused: bool = False
    only_children_move: bool = False
    is_over: bool = False

    def add(self, page: Page) -> Iterator[Transition]:
        """Yield the transitions of a page."""
        self.fold = fold_for(self.fold, page)
        yield from self.fold.add(page.events)
        self.is_paused = self.detector.is_reached(page.events, self.fold)
        self.only_children_move = only_children_move(self.fold)
        self.seen = HistoryPosition(page.execution_id, page.events[-1].event_id)


class PauseWatcher:
    """Follows a run, and its child runs while it waits for those."""

    def __init__(self, client: Client, run_id: str, execution_id: str) -> None:
        """*execution_id* is where to begin."""
        self._client = client
        self._run_id = run_id
        self._execution_id = execution_id
        self._followed: dict[str, _FollowedRun] = {}
        self._moved = False
        self._news: asyncio.Queue[tuple[str, Page | Exception | None]] = asyncio.Queue(_AHEAD)

    @property
    def run(self) -> Run:
        """The run itself, as of what was read."""
        return self._followed[self._run_id].fold.run

    async def transitions(self) -> AsyncGenerator[list[tuple[str, Transition]]]:
        """Yield the transitions of the run itself, each with its execution, page by page, until it has ended.

        A page of a child run yields an empty list: `is_reached` may hold by then.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: its history, or that of a child run, cannot be read.
        """
        try:
            self._follow(self._run_id, self._execution_id)
            while True:
                news = await self._next_page()
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
                events = [(page.execution_id, each) for each in followed.add(page)]
                self._follow_children()
                yield events if run_id == self._run_id else []
        finally:
            await cancel_all(each.task for each in self._followed.values())

    async def _next_page(self) -> tuple[str, Page | Exception | None] | None:
        """Return the next page of one of the runs; None when it is time to check again whether one has moved."""
        try:
            async with asyncio.timeout(_LOOK_AGAIN if self._moved else None):
                return await self._news.get()
        except TimeoutError:
            return None

    async def is_reached(self) -> bool:
        """Return whether the run is paused: neither it nor a child run that it waits for moves."""
        reached, self._moved = self._awaited_runs(), False
        if not all(self._is_quiet(run_id) for run_id in reached):
            return False
        # One run may have been read before another, which has moved it since.
        seen = {run_id: self._followed[run_id].seen for run_id in reached}
        # The server may count events that it drops again: the task of an update that is refused.
        self._moved = len(seen) > 1 and await has_changed(self._client, seen)
        return not self._moved

    def _is_quiet(self, run_id: str) -> bool:
        followed = self._followed.get(run_id)
        if followed is None or not (followed.is_paused or followed.only_children_move):
            return False
        # The end of a child run moves its parent run.
        return run_id == self._run_id or not (followed.is_over or followed.fold.run.ended)

    def _awaited_runs(self) -> list[str]:
        """Return the run, the child runs that it waits for, those that these wait for, and so on."""
        run_ids = [self._run_id]
        for run_id in run_ids:
            followed = self._followed.get(run_id)
            if followed is not None and followed.only_children_move:
                children = (child.run_id for child in children_of(followed.fold.run))
                run_ids += [each for each in children if each not in run_ids]
        return run_ids

    def _follow_children(self) -> None:
        reached = self._awaited_runs()
        for run_id in [each for each in self._followed if each not in reached]:
            self._followed.pop(run_id).task.cancel()
        for run_id in reached:
            if run_id not in self._followed:
                self._follow(run_id, None)

    def _follow(self, run_id: str, execution_id: str | None) -> None:
        task = asyncio.create_task(self._read(run_id, execution_id))
        self._followed[run_id] = _FollowedRun(HistoryFold(run_id), task)

    async def _read(self, run_id: str, execution_id: str | None) -> None:
        try:
            if run_id != self._run_id:
                # The parent run has started it; the server does so in a moment, or fails and records that there.
                await wait_until_started(partial(describe, self._client, run_id))
            async for page in follow_history(self._client, run_id, execution_id):
                await self._news.put((run_id, page))
        except Exception as error:  # Raised where the pages are read
            await self._news.put((run_id, error))
        else:
            await self._news.put((run_id, None))


@dataclass(slots=True)
class MessageReply:
    """The reply to a message that was sent after the first *events* events of the execution *execution_id*.

    Equal messages of one sender are not distinguished: the first answer replies to both.
    """

    body: Mapping[str, JsonValue]
    execution_id: str
    events: int
    handled: bool = False
    _delivered: bool = False

    def answer(self, execution_id: str, transition: Transition) -> Run | None:
        """Return the run with the answer to the message; None if this is not the answer yet.

        Raises:
            MessageError: the message did not count.
        """
        if not self.handled:
            if self._is_message(execution_id, transition):
                self._handle(transition)
            return None
        delivered, run = self._delivered, transition.step.run
        self._delivered = delivered or not run.queued
        if run.ended or run.status == "idle":
            return run
        return _pause_at_answer(transition) if delivered else None

    def _is_message(self, execution_id: str, transition: Transition) -> bool:
        event = transition.event
        if not isinstance(event, MessageReceived) or event.name != SEND_MESSAGE or event.arguments != (self.body,):
            return False
        return execution_id != self.execution_id or transition.source.event_id > self.events

    def _handle(self, transition: Transition) -> None:
        result = transition.step.result
        if result is not None and result.status != "recorded":
            raise MessageError(f"the message did not count: {result.status}: {result.detail}")
        self.handled = True
        # The model reads a message to an idle conversation at once; one sent in mid-turn waits for the next turn.
        self._delivered = not transition.step.run.queued


def _pause_at_answer(transition: Transition) -> Run | None:
    """Return the run as it would be paused at this answer, had no more messages waited for the model."""
    before, event = transition.before, transition.event
    if not (before.is_conversation and before.queued and isinstance(event, ModelAnswered | ToolAnswered)):
        return None
    alone = decide(replace(before, queued=(), queued_size=0, closing=False), event).run
    return alone if alone.status == "idle" else None
