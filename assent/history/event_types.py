"""Temporal's types of history events by short names, in groups, and when an event was written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

STARTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
FAILED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED
CANCELLED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED
TERMINATED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED
TIMED_OUT: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT
CONTINUED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW

TASK_STARTED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
TASK_COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
TASK_FAILED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED

SIGNALED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
UPDATE_ADMITTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
UPDATE_ACCEPTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
CANCEL_REQUESTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
TIMER_FIRED: Final = EventType.EVENT_TYPE_TIMER_FIRED
MEMO_UPSERTED: Final = EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED

ACTIVITY_SCHEDULED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
ACTIVITY_STARTED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
ACTIVITY_COMPLETED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
ACTIVITY_FAILED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
ACTIVITY_TIMED_OUT: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
ACTIVITY_CANCELLED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED

CHILD_INITIATED: Final = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
CHILD_NOT_STARTED: Final = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED
CHILD_STARTED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
CHILD_COMPLETED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED
CHILD_FAILED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED
CHILD_CANCELLED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED
CHILD_TERMINATED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED
CHILD_TIMED_OUT: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT

CLOSE_STATUSES: Final = {
    COMPLETED: "completed",
    FAILED: "failed",
    CANCELLED: "cancelled",
    TERMINATED: "terminated",
    TIMED_OUT: "timed out",
}
"""The events that close a run, and its status after each. `CONTINUED` closes only an execution."""
CLOSING: Final = frozenset({CONTINUED, *CLOSE_STATUSES})
"""The events that close an execution."""
ClosedByServer = Literal["terminated", "timed out"]
CLOSED_BY_SERVER: Final[Mapping[str, ClosedByServer]] = {"terminated": "terminated", "timed out": "timed out"}
"""The statuses of runs that the server closed without asking their code, each by its name."""
ACTIVITY_CLOSED: Final = frozenset({ACTIVITY_COMPLETED, ACTIVITY_FAILED, ACTIVITY_TIMED_OUT, ACTIVITY_CANCELLED})
CHILD_CLOSED: Final = frozenset(
    {CHILD_NOT_STARTED, CHILD_COMPLETED, CHILD_FAILED, CHILD_CANCELLED, CHILD_TERMINATED, CHILD_TIMED_OUT}
)
"""The events by which a run learns that a child run is over, or could not be started."""


def time_of(event: HistoryEvent) -> datetime:
    """Return when the server wrote the event, in UTC."""
    return event.event_time.ToDatetime(UTC)
