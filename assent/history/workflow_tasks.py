"""Groups the events of a history by workflow task, because a run decides once for each task."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from temporalio.api.history.v1 import HistoryEvent

from assent.history import event_types
from assent.history.event_types import time_of

RESULTS: Final = event_types.CHILD_CLOSED | {
    event_types.STARTED,
    event_types.CANCEL_REQUESTED,
    event_types.TIMER_FIRED,
    event_types.ACTIVITY_COMPLETED,
    event_types.ACTIVITY_FAILED,
    event_types.ACTIVITY_TIMED_OUT,
}
"""What the server gives to a workflow task, apart from messages."""
_INBOUND: Final = RESULTS | {event_types.SIGNALED, event_types.UPDATE_ADMITTED}


@dataclass(slots=True)
class WorkflowTask:
    """One completed workflow task: when it ran, the events that it received, and those of its commands."""

    at: datetime
    inbound: list[HistoryEvent]
    commands: list[HistoryEvent] = field(default_factory=list[HistoryEvent])


@dataclass(slots=True)
class TaskGrouper:
    """Groups events into completed workflow tasks. *inbound* holds the events that no task has received yet."""

    inbound: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    started: dict[int, datetime] = field(default_factory=dict[int, datetime])

    def tasks(self, page: Iterable[HistoryEvent]) -> Iterator[WorkflowTask]:
        """Yield the workflow tasks that a page of a history completes, in order.

        The next completed task receives the events of a task that failed or timed out. The server writes a task's
        completion and its commands as one batch, so a page never ends between them.
        """
        task: WorkflowTask | None = None
        for event in page:
            if event.event_type in _INBOUND:
                self.inbound.append(event)
            elif event.event_type == event_types.TASK_STARTED:
                self.started = {event.event_id: time_of(event)}
            elif event.event_type == event_types.TASK_COMPLETED:
                if task is not None:
                    yield task
                started_id = event.workflow_task_completed_event_attributes.started_event_id
                task = WorkflowTask(self.started.get(started_id, time_of(event)), self.inbound)
                self.inbound = []
            elif task is not None:
                task.commands.append(event)
        if task is not None:
            yield task


def schedules(activity_id: str) -> Callable[[WorkflowTask], bool]:
    """Return a predicate for `fold`: does a workflow task schedule the activity of this id?"""
    return lambda task: any(
        event.activity_task_scheduled_event_attributes.activity_id == activity_id
        for event in task.commands
        if event.event_type == event_types.ACTIVITY_SCHEDULED
    )
