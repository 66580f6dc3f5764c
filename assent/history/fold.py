"""A run from its recorded history: Temporal's events become those of the core, and the same core decides them.

The SDK hands the workflow code a workflow task's signals and updates *before* its activity results, whatever their
order in history, and the clock stands still within a task. So events are gathered by workflow task and ordered in
the same way here. What only the workflow knew, the nonces, is read from the memo that it upserted in that task.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest
from temporalio.common import RawValue

from assent.core.compaction_steps import summary_of
from assent.core.events import (
    AskBudget,
    BudgetReached,
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
from assent.core.state_machine import Run, Step, decide
from assent.core.tool_calls import checked_of, outcome_of, turn_of
from assent.history import child_workflows
from assent.runtime.converter import PLAIN, decoded
from assent.wire import activity_ids, protocol
from assent.wire.errors import HistoryError
from assent.wire.requirements import PendingRequirement

_STARTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
_TASK_STARTED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED
_TASK_COMPLETED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
_SIGNALED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
_CANCEL_REQUESTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
_SCHEDULED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
_COMPLETED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
_FAILED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
_TIMED_OUT: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT
_UPDATE_ACCEPTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
_MEMO_UPSERTED: Final = EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED
_UPDATE_ADMITTED: Final = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED
_TIMER_FIRED: Final = EventType.EVENT_TYPE_TIMER_FIRED
_RESULTS: Final = child_workflows.OVER | {_STARTED, _CANCEL_REQUESTED, _COMPLETED, _FAILED, _TIMED_OUT, _TIMER_FIRED}
_INBOUND: Final = _RESULTS | {_SIGNALED, _UPDATE_ADMITTED}
_UNREADABLE: Final = (KeyError, IndexError, ValueError, TypeError, AttributeError, StopIteration)


@dataclass(slots=True)
class WorkflowTask:
    """One completed workflow task: what it was handed, when, and the events of the commands it gave."""

    at: datetime
    inbound: list[HistoryEvent]
    commands: list[HistoryEvent] = field(default_factory=list[HistoryEvent])


@dataclass(slots=True)
class Gatherer:
    """Gathers events into completed workflow tasks. What no task has handled yet waits here for the next page."""

    inbound: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    started: dict[int, datetime] = field(default_factory=dict[int, datetime])

    def tasks(self, page: Iterable[HistoryEvent]) -> Iterator[WorkflowTask]:
        """The workflow tasks that a page of a history completes, in order.

        A task that failed or timed out is none: what it was handed goes to the next that completes. The server writes
        a task's completion and its commands as one batch, so a page never ends between them.
        """
        task: WorkflowTask | None = None
        for event in page:
            if event.event_type in _INBOUND:
                self.inbound.append(event)
            elif event.event_type == _TASK_STARTED:
                self.started = {event.event_id: _time(event)}
            elif event.event_type == _TASK_COMPLETED:
                if task is not None:
                    yield task
                task = self._completed(event)
            elif task is not None:
                task.commands.append(event)
        if task is not None:
            yield task

    def _completed(self, event: HistoryEvent) -> WorkflowTask:
        begun = event.workflow_task_completed_event_attributes.started_event_id
        inbound, self.inbound = self.inbound, []
        return WorkflowTask(self.started.get(begun, _time(event)), inbound)


@dataclass(frozen=True, slots=True)
class Told:
    """An event of `assent.core.state_machine`, and the event of the history that tells of it."""

    event: Event
    source: HistoryEvent


@dataclass(slots=True)
class Reader:
    """Turns the workflow tasks of one run into the core's events. Remembers which activity is which."""

    run_id: str
    execution_id: str = ""
    _activities: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    _admitted: dict[str, UpdateRequest] = field(default_factory=dict[str, UpdateRequest])

    def events(self, task: WorkflowTask) -> list[Told]:
        """What happened to the run in *task*, in the order in which its code was told.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        nonces = _nonces(task.commands)
        for event in task.inbound:
            if event.event_type == _UPDATE_ADMITTED:
                request = event.workflow_execution_update_admitted_event_attributes.request
                self._admitted[request.meta.update_id] = request
        messages = [event for event in task.inbound if event.event_type == _SIGNALED]
        messages += [event for event in task.commands if event.event_type == _UPDATE_ACCEPTED]
        # A cancellation and a timer reach the workflow's code one step before the results of activities and children.
        rest = sorted((event for event in task.inbound if event.event_type in _RESULTS), key=_precedence)
        found = [Told(self._message(event, task.at), event) for event in sorted(messages, key=_order)]
        # A run that goes on from another execution is restored before it is handed anything.
        at = 0 if any(map(_is_continued, rest[:1])) else len(found)
        for event in rest:
            read = self._read(event, task.at, nonces)
            if read is not None:
                found.insert(at, Told(read, event))
                at = len(found)
        found += [Told(begun, event) for begun, event in child_workflows.started(task.commands, task.at)]
        for event in task.commands:
            if event.event_type == _SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                self._activities[event.event_id] = (scheduled.activity_type.name, scheduled.activity_id)
        return found

    def _read(self, event: HistoryEvent, at: datetime, nonces: dict[str, str]) -> Event | None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                return self.started(event, at)
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
                return CancelRequested(at)
            case EventType.EVENT_TYPE_TIMER_FIRED:
                return TimeReached(at)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                return self._completed(completed.scheduled_event_id, completed.result.payloads, at, nonces)
            case kind if kind in child_workflows.OVER:
                return child_workflows.answered(event, at)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                return self._not_completed(failed.scheduled_event_id, failed.failure, at, nonces)
            case _:
                late = event.activity_task_timed_out_event_attributes
                return self._not_completed(late.scheduled_event_id, late.failure, at, nonces)

    def started(self, event: HistoryEvent, at: datetime) -> Started:
        """How an execution began, by its first event."""
        begun = event.workflow_execution_started_event_attributes
        return Started(
            at=at,
            run_id=self.run_id or begun.workflow_id,
            execution_id=self.execution_id or begun.original_execution_run_id,
            first_execution_id=begun.first_execution_run_id,
            arguments=arguments_of(begun.input.payloads),
            continued=_is_continued(event),
            parent=child_workflows.parent_of(event),
        )

    def _message(self, event: HistoryEvent, at: datetime) -> MessageReceived:
        if event.event_type == _SIGNALED:
            signal = event.workflow_execution_signaled_event_attributes
            return MessageReceived(at, signal.signal_name, arguments_of(signal.input.payloads))
        accepted = event.workflow_execution_update_accepted_event_attributes
        # After a workflow reset the request stands in an event of its own, where it was admitted again.
        request = self._admitted.get(accepted.protocol_instance_id, accepted.accepted_request)
        return MessageReceived(at, request.input.name, arguments_of(request.input.args.payloads), "update")

    def _completed(
        self, scheduled: int, result: Iterable[Payload], at: datetime, nonces: dict[str, str]
    ) -> Event | None:
        kind, activity_id = self._activities[scheduled]
        value = (*arguments_of(result), None)[0]  # The SDK, too, takes the first, and nothing for null.
        if kind == protocol.CALL_MODEL:
            turn = turn_of(value)
            return ModelFailed(at, turn) if isinstance(turn, Failure) else ModelAnswered(at, turn, nonces)
        if kind == protocol.SUMMARISE:
            return Summarised(at, summary_of(value))
        if (number := activity_ids.check_number(activity_id)) is not None:
            return CheckAnswered(at, number, checked_of(value))
        position = activity_ids.tool_position(activity_id)
        return None if position is None else ToolAnswered(at, position, outcome_of(value), nonces)

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


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a run: what the run was before it, what it came to, and the event of the history that tells it."""

    event: Event
    before: Run
    step: Step
    source: HistoryEvent


@dataclass(slots=True)
class Follower:
    """Folds a history page by page. *run* is the run as of the last page; *run_id* and *execution_id* name it."""

    run_id: str = ""
    execution_id: str = ""
    run: Run = field(default_factory=Run)
    _gatherer: Gatherer = field(default_factory=Gatherer)
    _reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        """Read under the same ids."""
        self._reader = Reader(self.run_id, self.execution_id)

    @property
    def unread(self) -> list[HistoryEvent]:
        """The signals that arrived and that no workflow task has handled yet."""
        return [event for event in self._gatherer.inbound if event.event_type == _SIGNALED]

    def feed(
        self, page: Iterable[HistoryEvent], until: Callable[[WorkflowTask], bool] | None = None
    ) -> Iterator[Happening]:
        """What happened on a page, in order; with *until*, no further than the first task that satisfies it.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        for task in self._gatherer.tasks(page):
            for told in self._told(task):
                before = Run() if isinstance(told.event, Started) and told.event.continued else self.run
                step = _decided(before, told)
                self.run = step.run
                yield Happening(told.event, before, step, told.source)
                yield from self._asked(task, told, step)
            if until is not None and until(task):
                return
        if not self.run.id:
            self.run = self._carried()

    def _asked(self, task: WorkflowTask, told: Told, step: Step) -> Iterator[Happening]:
        """What the run told itself at once: that it asks for more budget, under a nonce that it drew."""
        for command in step.commands:
            if isinstance(command, AskBudget):
                before = self.run
                again = Told(BudgetReached(told.event.at, _nonces(task.commands)), told.source)
                opened = _decided(before, again)
                self.run = opened.run
                yield Happening(again.event, before, opened, told.source)

    def _carried(self) -> Run:
        """What an execution that no worker has taken up yet will begin with, where it goes on from another."""
        first = next(iter(self._gatherer.inbound), None)
        if first is None or not _is_continued(first):
            return self.run
        return _decided(Run(), Told(self._reader.started(first, _time(first)), first)).run

    def _told(self, task: WorkflowTask) -> list[Told]:
        try:
            return self._reader.events(task)
        except _UNREADABLE as error:
            raise _unreadable((task.inbound or task.commands or [HistoryEvent()])[0], error) from None


def _decided(run: Run, told: Told) -> Step:
    try:
        return decide(run, told.event)
    except KeyError as error:
        message = f"the history lacks the memo that tells the nonce of call {error}; it is cut, or not of a run"
        raise HistoryError(message) from None
    except _UNREADABLE as error:
        raise _unreadable(told.source, error) from None


def _unreadable(event: HistoryEvent, error: Exception) -> HistoryError:
    """What is said of a history that no run can have made: decisions are never refused by raising."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]  # More lines would quote what was sent.
    return HistoryError(f"the history cannot be read at event {event.event_id}: it is cut, or was changed ({what})")


def fold(
    events: Iterable[HistoryEvent],
    *,
    run_id: str = "",
    execution_id: str = "",
    until: Callable[[WorkflowTask], bool] | None = None,
) -> Run:
    """The run that a history tells of; with *until*, as it was when the first task that satisfies it was done.

    The ids are those the history was asked for by; where they are not given, those in its first event are taken.

    Raises:
        HistoryError: the history is cut, or not one of a run.
    """
    follower = Follower(run_id, execution_id)
    for _ in follower.feed(events, until):
        pass
    return follower.run


def scheduled(activity_id: str) -> Callable[[WorkflowTask], bool]:
    """Whether a workflow task scheduled the activity of this id; for `fold`."""

    def found(task: WorkflowTask) -> bool:
        return any(
            event.event_type == _SCHEDULED and event.activity_task_scheduled_event_attributes.activity_id == activity_id
            for event in task.commands
        )

    return found


def _order(event: HistoryEvent) -> tuple[int, int]:
    if event.event_type == _SIGNALED:
        return event.event_id, 0
    accepted = event.workflow_execution_update_accepted_event_attributes
    return accepted.accepted_request_sequencing_event_id, event.event_id


def _precedence(event: HistoryEvent) -> int:
    return {_STARTED: 0, _CANCEL_REQUESTED: 1, _TIMER_FIRED: 1}.get(event.event_type, 2)


def _is_continued(event: HistoryEvent) -> bool:
    """Whether an execution began with what another carried over: not with what the starter of a retried run chose."""
    begun = event.workflow_execution_started_event_attributes
    return bool(begun.continued_execution_run_id) and begun.attempt <= 1 and not begun.cron_schedule


def arguments_of(payloads: Iterable[Payload]) -> tuple[object, ...]:
    """The inputs of a workflow, signal, update or activity as JSON values; what is not JSON becomes `Undecodable`."""
    return decoded([RawValue(payload) for payload in payloads])


def _nonces(commands: Iterable[HistoryEvent]) -> dict[str, str]:
    """The nonces that the memo upserts of a workflow task tell, by call id; the newest turn wins."""
    found: list[PendingRequirement] = []
    for event in commands:
        if event.event_type == _MEMO_UPSERTED:
            fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
            if protocol.MEMO_PENDING in fields:
                found += _entries(fields[protocol.MEMO_PENDING])
    return {entry.call_id: entry.nonce for entry in sorted(found, key=lambda entry: entry.turn)}


def _entries(payload: Payload) -> list[PendingRequirement]:
    entries: list[PendingRequirement] = PLAIN.from_payload(payload, list[PendingRequirement])
    return entries


def _failure(failure: FailureProto) -> Failure:
    cause = failure.cause if failure.HasField("activity_failure_info") and failure.HasField("cause") else failure
    # The SDK puts words where a failure has none, and the run was told those.
    if cause.HasField("application_failure_info"):
        return Failure(cause.application_failure_info.type or "Error", cause.message or "Application error")
    if cause.HasField("canceled_failure_info"):
        return Failure("Cancelled", "the activity was cancelled")
    if cause.HasField("timeout_failure_info"):
        return Failure("Timeout", cause.message or "Timeout")
    return Failure("Error", cause.message or "Failure error")


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(UTC)
