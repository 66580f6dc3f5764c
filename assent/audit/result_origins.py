"""Checks that each result came from the worker that the server had given the activity to.

A person with write access to the namespace can complete an activity by hand (`temporal activity complete`), and raise
the number of its attempts. The server records who sent the result. The names are what the programs chose for
themselves, so equal names prove nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from temporalio.api.history.v1 import (
    ActivityTaskScheduledEventAttributes,
    ActivityTaskStartedEventAttributes,
    HistoryEvent,
)

from assent.audit import event_fields
from assent.history import event_types
from assent.wire.text import visible


@dataclass(slots=True)
class ResultOrigins:
    """The open activities of one execution: how each was scheduled and started. *examined* counts results."""

    examined: int = 0
    _scheduled: dict[int, ActivityTaskScheduledEventAttributes] = field(
        default_factory=dict[int, ActivityTaskScheduledEventAttributes]
    )
    _started: dict[int, ActivityTaskStartedEventAttributes] = field(
        default_factory=dict[int, ActivityTaskStartedEventAttributes]
    )

    def add(self, event: HistoryEvent) -> Iterator[str]:
        """Read the next event; yield what is wrong with the origin of the result that it brings."""
        if event.event_type == event_types.ACTIVITY_SCHEDULED:
            self._scheduled[event.event_id] = event.activity_task_scheduled_event_attributes
        elif event.event_type == event_types.ACTIVITY_STARTED:
            self._started[event_fields.scheduled_id_of(event)] = event.activity_task_started_event_attributes
        elif event.event_type in event_types.ACTIVITY_CLOSED:
            scheduled_id = event_fields.scheduled_id_of(event)
            scheduled, started = self._scheduled.pop(scheduled_id, None), self._started.pop(scheduled_id, None)
            if event.event_type == event_types.ACTIVITY_COMPLETED and scheduled is not None and started is not None:
                self.examined += 1
                yield from _problems(scheduled, started, event.activity_task_completed_event_attributes.identity)


def _problems(
    scheduled: ActivityTaskScheduledEventAttributes, started: ActivityTaskStartedEventAttributes, sender: str
) -> Iterator[str]:
    name = scheduled.activity_type.name
    # The server makes up the start of an activity that no worker has taken; only a worker's own start has an id.
    if not started.request_id:
        yield f"{name} was started by no worker; {visible(sender)} sent its result"
    elif started.identity != sender:
        yield f"{name} was started by worker {visible(started.identity)}, and {visible(sender)} sent its result"
    limit = scheduled.retry_policy.maximum_attempts
    if 0 < limit < started.attempt:
        yield f"{name} may be started {limit} times, and has the result of attempt {started.attempt}"
