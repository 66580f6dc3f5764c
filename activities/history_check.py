"""Whether the run's own history asks for an approved call.

An authorization is data: the sender of an activity can put one together. The rules, given the history that the
server has, ask for a call only after the decisions on it. So the history is folded up to the event that scheduled
this activity, and the call must be the one that the rules ask for there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache
from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import RunTool
from assent.history import event_types
from assent.history.fold import HistoryFold
from assent.history.pages import newer_events, pages
from assent.wire.activity_ids import tool_activity_id
from assent.wire.errors import HistoryError
from assent.wire.protocol import ToolCallInput

from .own_run import own_run


@dataclass(slots=True)
class _Folded:
    """One execution as far as it was read: how often each activity was scheduled, and the calls that the rules ask for.

    Both by activity id. A call that is tried again has the same id; its commands and events are in the same order.
    """

    fold: HistoryFold
    last: int = 0
    scheduled: Counter[str] = field(default_factory=Counter[str])
    requested: dict[str, list[RunTool]] = field(default_factory=dict[str, list[RunTool]])

    def feed(self, events: Sequence[HistoryEvent]) -> None:
        """Add those *events* that were not read yet. Raises as `HistoryFold.feed`."""
        fresh = [event for event in events if event.event_id > self.last]
        for event in fresh:
            if event.event_type == event_types.ACTIVITY_SCHEDULED:
                self.scheduled[event.activity_task_scheduled_event_attributes.activity_id] += 1
        for transition in self.fold.feed(fresh):
            for command in transition.step.commands:
                if isinstance(command, RunTool):
                    name = tool_activity_id(command.turn, command.position)
                    self.requested.setdefault(name, []).append(command)
        self.last = fresh[-1].event_id if fresh else self.last


_known: Final[LRUCache[str, _Folded]] = LRUCache(50)
"""By execution id: without it, the cost of a call would grow with the calls before it."""


async def is_requested(tool: str, call: ToolCallInput) -> bool:
    """Return whether the history of this activity's run asks for exactly this *call* of *tool*.

    Reads the current execution; a continued one starts with the state that the one before carried.

    Raises:
        RPCError: the history cannot be read.
        HistoryError: it cannot be decoded or folded, or does not have this activity yet.
    """
    run, activity_id = own_run(), activity.info().activity_id
    folded = _known.get(run.execution_id) or _Folded(HistoryFold(run.run_id, run.execution_id))
    _known[run.execution_id] = folded
    try:
        # Calls of one run may read side by side: events are added in order, and those that are known left out.
        if folded.last:
            folded.feed(await newer_events(activity.client(), run.run_id, run.execution_id, folded.last))
        else:
            async for page in pages(activity.client(), run.run_id, run.execution_id):
                folded.feed(page.events)
    except HistoryError:
        _known.pop(run.execution_id, None)  # It may have been added in part.
        raise
    scheduled, requested = folded.scheduled[activity_id], folded.requested.get(activity_id, [])
    if not scheduled:
        message = f"the history of run {run.run_id!r} does not have activity {activity_id!r} yet"
        raise HistoryError(message)
    if scheduled > len(requested):
        return False
    return (requested[scheduled - 1].tool, requested[scheduled - 1].input) == (tool, call)
