"""Whether the run's own history asks for an approved call.

An authorization is data: the sender of an activity can put one together. The rules, given the history that the
server has, ask for a call only after the decisions on it. So the history is folded up to the event that scheduled
this activity, and the call must be the one that the rules ask for there.

Where the run's own workflow code is in this process, and has just asked for exactly this call, the history need not be
read: that code has applied the same rules to the same history.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cachetools import LRUCache
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import RunTool
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.fold import HistoryFold
from assent.history.pages import newer_events, pages
from assent.runtime.converter import PLAIN
from assent.wire.activity_ids import tool_activity_id
from assent.wire.digest import canonical, sha256_hex
from assent.wire.errors import HistoryError
from assent.wire.protocol import Gate, ToolCallInput

from .own_run import own_client, own_run

_LATEST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RequestedCall:
    """A call that the history of a run asks for, its gate, and the digest of the inputs that its activity was given.

    *since* is when the current execution of the run began. What it says of earlier times is carried: no more than said.
    """

    command: RunTool
    gate: Gate | None
    given: str
    since: datetime

    @property
    def is_given(self) -> bool:
        """Whether the activity was given the approved arguments, each value in its place."""
        return self.command.values is not None and self.given == _digest(PLAIN.to_payloads(self.command.values))


@dataclass(slots=True)
class _ExecutionFold:
    """One execution as far as it was read: what each activity was given each time, and the calls asked for.

    Both by activity id. A call that is tried again has the same id; its commands and events are in the same order.
    """

    fold: HistoryFold
    last: int = 0
    since: datetime = _LATEST
    scheduled: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    requested: dict[str, list[RunTool]] = field(default_factory=dict[str, list[RunTool]])

    def add(self, events: Sequence[HistoryEvent]) -> None:
        """Add those *events* that were not read yet. Raises as `HistoryFold.add`."""
        fresh = [event for event in events if event.event_id > self.last]
        for event in fresh:
            self.since = min(self.since, time_of(event))
            if event.event_type == event_types.ACTIVITY_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                self.scheduled.setdefault(scheduled.activity_id, []).append(_digest(scheduled.input.payloads))
        for transition in self.fold.add(fresh):
            for command in transition.step.commands:
                if isinstance(command, RunTool):
                    name = tool_activity_id(command.turn, command.position)
                    self.requested.setdefault(name, []).append(command)
        self.last = fresh[-1].event_id if fresh else self.last


def _digest(inputs: Iterable[Payload]) -> str:
    return sha256_hex(canonical([each.data.hex() for each in inputs]))


_known: Final[LRUCache[str, _ExecutionFold]] = LRUCache(50)
"""By execution id: without it, the cost of a call would grow with the calls before it."""


_live: Final[dict[tuple[str, str], tuple[RunTool, datetime]]] = {}
"""By execution and activity id: what workflow code of this process has asked for now; when the execution began."""


@contextmanager
def live_call(execution_id: str, command: RunTool, since: datetime) -> Generator[None]:
    """Note, for workflow code that is not replayed, that it asks for a call, for as long as it waits for the answer.

    *since* is when its execution began, by the server. A workflow task whose result the server does not take evicts the
    run, and so ends the block.
    """
    key = execution_id, tool_activity_id(command.turn, command.position)
    _live[key] = command, since
    try:
        yield
    finally:
        _live.pop(key, None)


async def requested_since(tool: str, call: ToolCallInput) -> datetime | None:
    """Return when the current execution began, if its history asks for exactly this *call* of *tool*; otherwise None.

    Reads the current execution, unless the run itself, in this process, has asked for the call; that counts for one
    start. A continued execution starts with the state that the one before carried. Raises as `requested_call`.
    """
    live, since = _live.pop((own_run().execution_id, activity.info().activity_id), (None, _LATEST))
    if live is not None and (live.tool, live.input) == (tool, call):
        return since
    requested = await requested_call()
    same = requested is not None and (requested.command.tool, requested.command.input) == (tool, call)
    return requested.since if requested is not None and same else None


async def requested_call() -> RequestedCall | None:
    """Return the call that the history of this activity's run asks this activity for; None if it asks for none.

    Raises:
        RPCError: the history cannot be read.
        HistoryError: it cannot be decoded or folded, or does not have this activity yet.
    """
    run, activity_id = own_run(), activity.info().activity_id
    folded = _known.get(run.execution_id) or _ExecutionFold(HistoryFold(run.run_id, run.execution_id))
    _known[run.execution_id] = folded
    try:
        # Calls of one run may read side by side: events are added in order, and those that are known left out.
        if folded.last:
            folded.add(await newer_events(own_client(), run.run_id, run.execution_id, folded.last))
        else:
            async for page in pages(own_client(), run.run_id, run.execution_id):
                folded.add(page.events)
    except HistoryError:
        _known.pop(run.execution_id, None)  # It may have been added in part.
        raise
    scheduled, requested = folded.scheduled.get(activity_id, []), folded.requested.get(activity_id, [])
    if not scheduled:
        raise HistoryError(f"the history of run {run.run_id!r} does not have activity {activity_id!r} yet")
    if len(scheduled) > len(requested):
        return None
    command = requested[len(scheduled) - 1]
    calls = folded.fold.run.calls  # Empty once the run proceeded without an activity that it took for lost.
    gate = calls[command.position].gate if command.position < len(calls) else None
    return RequestedCall(command, gate, scheduled[-1], folded.since)
