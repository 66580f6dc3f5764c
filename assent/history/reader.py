"""Translates Temporal's events into those of the core.

The SDK hands the workflow code a workflow task's signals and updates *before* its activity results, whatever their
order in history, and the clock stands still within a task. `TaskReader` orders the events of a task in the same way.
The nonces that only the workflow knew are in the memo that it upserted in that task.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.core.compaction_steps import read_summary
from assent.core.events import (
    CancelRequested,
    CheckAnswered,
    Event,
    Failure,
    MessageReceived,
    ModelAnswered,
    ModelFailed,
    Started,
    Summarised,
    TimeReached,
    ToolAnswered,
    ToolLost,
)
from assent.core.tool_calls import read_check, read_outcome, read_turn
from assent.history import child_workflows, event_types
from assent.history.payloads import values_of
from assent.history.workflow_tasks import RESULTS, WorkflowTask
from assent.runtime.converter import PLAIN
from assent.wire import activity_ids, protocol, visibility
from assent.wire.requirements import PendingRequirement


@dataclass(frozen=True, slots=True)
class SourcedEvent:
    """An event of the core, and the event of the history that it was read from."""

    event: Event
    source: HistoryEvent


@dataclass(slots=True)
class TaskReader:
    """Turns the workflow tasks of one run into the core's events. Remembers which activity is which."""

    run_id: str
    execution_id: str = ""
    _activities: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    _admitted: dict[str, UpdateRequest] = field(default_factory=dict[str, UpdateRequest])

    def events(self, task: WorkflowTask) -> list[SourcedEvent]:
        """Return the core's events of *task*, in the order in which the workflow code received them.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        nonces = nonces_of(task.commands)
        for event in task.inbound:
            if event.event_type == event_types.UPDATE_ADMITTED:
                request = event.workflow_execution_update_admitted_event_attributes.request
                self._admitted[request.meta.update_id] = request
        messages = [event for event in task.inbound if event.event_type == event_types.SIGNALED]
        messages += [event for event in task.commands if event.event_type == event_types.UPDATE_ACCEPTED]
        # A cancellation and a timer reach the workflow's code one step before the results of activities and children.
        rest = sorted((event for event in task.inbound if event.event_type in RESULTS), key=_precedence)
        events = [SourcedEvent(self._message(event, task.at), event) for event in sorted(messages, key=_order)]
        # A continued execution is restored before it receives messages.
        at = 0 if any(map(is_continued, rest[:1])) else len(events)
        for event in rest:
            read = self._read_event(event, task.at, nonces)
            if read is not None:
                events.insert(at, SourcedEvent(read, event))
                at = len(events)
        events += [SourcedEvent(each, event) for each, event in child_workflows.started(task.commands, task.at)]
        for event in task.commands:
            if event.event_type == event_types.ACTIVITY_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                self._activities[event.event_id] = (scheduled.activity_type.name, scheduled.activity_id)
        return events

    def _read_event(self, event: HistoryEvent, at: datetime, nonces: dict[str, str]) -> Event | None:
        match event.event_type:
            case event_types.STARTED:
                return self.started(event, at, nonces)
            case event_types.CANCEL_REQUESTED:
                return CancelRequested(at)
            case event_types.TIMER_FIRED:
                return TimeReached(at)
            case event_types.ACTIVITY_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                return self._completed(completed.scheduled_event_id, completed.result.payloads, at, nonces)
            case event_types.ACTIVITY_FAILED:
                failed = event.activity_task_failed_event_attributes
                return self._not_completed(failed.scheduled_event_id, failed.failure, at, nonces)
            case event_types.ACTIVITY_TIMED_OUT:
                late = event.activity_task_timed_out_event_attributes
                return self._not_completed(late.scheduled_event_id, late.failure, at, nonces)
            case _:
                return child_workflows.answered(event, at)

    def started(self, event: HistoryEvent, at: datetime, nonces: Mapping[str, str]) -> Started:
        """Return how an execution began, from its first event and the *nonces* of its first workflow task."""
        begun = event.workflow_execution_started_event_attributes
        return Started(
            at=at,
            run_id=self.run_id or begun.workflow_id,
            execution_id=self.execution_id or begun.original_execution_run_id,
            first_execution_id=begun.first_execution_run_id,
            arguments=values_of(begun.input.payloads),
            continued=is_continued(event),
            parent=child_workflows.parent_of(event),
            nonces=nonces,
        )

    def _message(self, event: HistoryEvent, at: datetime) -> MessageReceived:
        if event.event_type == event_types.SIGNALED:
            signal = event.workflow_execution_signaled_event_attributes
            return MessageReceived(at, signal.signal_name, values_of(signal.input.payloads))
        accepted = event.workflow_execution_update_accepted_event_attributes
        # After a workflow reset, an event of its own holds the request: `UPDATE_ADMITTED`.
        request = self._admitted.get(accepted.protocol_instance_id, accepted.accepted_request)
        return MessageReceived(at, request.input.name, values_of(request.input.args.payloads), "update")

    def _completed(
        self, scheduled: int, result: Iterable[Payload], at: datetime, nonces: dict[str, str]
    ) -> Event | None:
        kind, activity_id = self._activities[scheduled]
        value = (*values_of(result), None)[0]  # The SDK, too, takes the first, and nothing for null.
        if kind == protocol.CALL_MODEL:
            turn = read_turn(value)
            return ModelFailed(at, turn) if isinstance(turn, Failure) else ModelAnswered(at, turn, nonces)
        if kind == protocol.SUMMARISE:
            return Summarised(at, read_summary(value))
        if (number := activity_ids.check_number(activity_id)) is not None:
            return CheckAnswered(at, number, read_check(value))
        position = activity_ids.tool_position(activity_id)
        return None if position is None else ToolAnswered(at, position, read_outcome(value), nonces)

    def _not_completed(
        self, scheduled: int, failure: FailureProto, at: datetime, nonces: dict[str, str]
    ) -> Event | None:
        kind, activity_id = self._activities[scheduled]
        if kind == protocol.CALL_MODEL:
            return ModelFailed(at, _failure(failure))
        if kind == protocol.SUMMARISE:
            return Summarised(at, _failure(failure))
        if (number := activity_ids.check_number(activity_id)) is not None:
            return CheckAnswered(at, number, _failure(failure))
        position = activity_ids.tool_position(activity_id)
        return None if position is None else ToolLost(at, position, _failure(failure), nonces)


def _order(event: HistoryEvent) -> tuple[int, int]:
    if event.event_type == event_types.SIGNALED:
        return event.event_id, 0
    accepted = event.workflow_execution_update_accepted_event_attributes
    return accepted.accepted_request_sequencing_event_id, event.event_id


def _precedence(event: HistoryEvent) -> int:
    first = {event_types.STARTED: 0, event_types.CANCEL_REQUESTED: 1, event_types.TIMER_FIRED: 1}
    return first.get(event.event_type, 2)


def is_continued(event: HistoryEvent) -> bool:
    """Return whether an execution began with the state of another one; a retried run begins with its first input."""
    begun = event.workflow_execution_started_event_attributes
    return bool(begun.continued_execution_run_id) and begun.attempt <= 1 and not begun.cron_schedule


def nonces_of(commands: Iterable[HistoryEvent]) -> dict[str, str]:
    """Return the nonces in the memo upserts of a workflow task, by call id; the newest turn wins."""
    pending: list[PendingRequirement] = []
    for event in commands:
        if event.event_type == event_types.MEMO_UPSERTED:
            fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
            entries = [entry_of(fields[name]) for name in visibility.pending_keys(fields)]
            pending += [entry for entry in entries if entry is not None]
    return {entry.call_id: entry.nonce for entry in sorted(pending, key=lambda entry: entry.turn)}


def entry_of(memo: Payload) -> PendingRequirement | None:
    """Return what the memo of a pending requirement holds; None if it says that none waits there any more.

    Raises:
        ValidationError, RuntimeError: it holds something else.
        KeyError: a codec that this process lacks has encoded it.
    """
    entry: PendingRequirement | None = PLAIN.from_payload(memo, PendingRequirement)
    return entry


def _failure(failure: FailureProto) -> Failure:
    cause = failure.cause if failure.HasField("activity_failure_info") and failure.HasField("cause") else failure
    # The SDK gives the workflow code these texts where a failure has none.
    if cause.HasField("application_failure_info"):
        return Failure(cause.application_failure_info.type or "Error", cause.message or "Application error")
    if cause.HasField("canceled_failure_info"):
        return Failure("Cancelled", "the activity was cancelled")
    if cause.HasField("timeout_failure_info"):
        is_overrun = cause.timeout_failure_info.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
        return Failure("Timeout", cause.message or "Timeout", is_overrun=is_overrun)
    return Failure("Error", cause.message or "Failure error")
