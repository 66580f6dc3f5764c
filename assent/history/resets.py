"""Finds workflow resets in a history: who took a run back to an earlier point, when, why, and from where."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from assent.history.event_types import TASK_FAILED, time_of
from assent.wire.protocol import Stored
from assent.wire.text import one_line

_RESET: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW


class Reset(Stored):
    """A workflow reset: the run continues in *execution_id* from the event before *event_id* of *base_execution_id*.

    What the base execution did after that point is in its own history alone. *by* is the identity of the client that
    asked the server for it, *reason* the words that it gave.
    """

    at: datetime
    by: str | None
    reason: str | None
    execution_id: str
    base_execution_id: str
    event_id: int

    @property
    def text(self) -> str:
        """The reset as one line for people."""
        who, why = one_line(self.by or "an unnamed client"), f": {one_line(self.reason)}" if self.reason else ""
        return f"by {who} to event {self.event_id} of execution {self.base_execution_id}{why}"


def reset_of(event: HistoryEvent) -> Reset | None:
    """Return the reset that an event records; None for every other event.

    A reset makes a new execution with the base execution's events up to a workflow task, which then fails for this
    reason. So the event is in the history of each execution that a reset made.
    """
    failed = event.workflow_task_failed_event_attributes
    if event.event_type != TASK_FAILED or failed.cause != _RESET:
        return None
    return Reset(
        at=time_of(event),
        by=failed.identity or None,
        reason=failed.failure.message or None,
        execution_id=failed.new_run_id,
        base_execution_id=failed.base_run_id,
        event_id=event.event_id,
    )


def resets_of(events: Iterable[HistoryEvent]) -> Iterator[Reset]:
    """Yield the resets that these events record."""
    return (reset for event in events if (reset := reset_of(event)) is not None)
