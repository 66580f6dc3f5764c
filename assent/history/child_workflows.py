"""Reads child runs from the history of their parent run: in Temporal's words, child workflows."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from pydantic import ValidationError
from temporalio.api.history.v1 import HistoryEvent

from assent.core import sub_agents
from assent.core.events import AgentAnswered, AgentStarted, Failure
from assent.history import event_types
from assent.history.payloads import values_of
from assent.wire.protocol import Execution, RunRequest, RunResult, Usage

_CLOSED_BY_SERVER: Final = {
    event_types.CHILD_NOT_STARTED: sub_agents.NOT_STARTED,
    event_types.CHILD_CANCELLED: sub_agents.CANCELLED,
    event_types.CHILD_TERMINATED: sub_agents.TERMINATED,
    event_types.CHILD_TIMED_OUT: sub_agents.TIMED_OUT,
}


def parent_of(first: HistoryEvent) -> Execution | None:
    """Return the execution that started a child run, from the child's first event."""
    parent = first.workflow_execution_started_event_attributes.parent_workflow_execution
    return Execution(run_id=parent.workflow_id, execution_id=parent.run_id) if parent.workflow_id else None


def started(commands: Iterable[HistoryEvent], at: datetime) -> Iterator[tuple[AgentStarted, HistoryEvent]]:
    """Yield the child runs that a workflow task started, each with its event."""
    for event in commands:
        if event.event_type == event_types.CHILD_INITIATED:
            request = request_of(event)
            if request is not None and request.parents:
                yield AgentStarted(at, request.parents[-1].call_id, child_id_of(event)), event


def request_of(initiated: HistoryEvent) -> RunRequest | None:
    """Return the request that a child run was started with; None if it is not a `RunRequest`."""
    payloads = initiated.start_child_workflow_execution_initiated_event_attributes.input.payloads
    try:
        return RunRequest.model_validate((*values_of(payloads), None)[0])
    except ValidationError:
        return None


def answered(event: HistoryEvent, at: datetime) -> AgentAnswered:
    """Return how a child run ended, from one of the events `CHILD_CLOSED`."""
    return AgentAnswered(at, child_id_of(event), *_answer(event))


def child_id_of(event: HistoryEvent) -> str:
    """Return the id of the child run that an event is about; empty for events that are about none."""
    name = event.WhichOneof("attributes") or ""
    attributes = getattr(event, name, None)
    if name.startswith("start_child_workflow"):
        return str(getattr(attributes, "workflow_id", ""))
    return str(attributes.workflow_execution.workflow_id) if attributes and name.startswith("child_workflow") else ""


def _answer(event: HistoryEvent) -> tuple[RunResult | Failure, Usage]:
    if event.event_type == event_types.CHILD_COMPLETED:
        payloads = event.child_workflow_execution_completed_event_attributes.result.payloads
        return sub_agents.read_result((*values_of(payloads), None)[0])
    if event.event_type == event_types.CHILD_FAILED:
        failure = event.child_workflow_execution_failed_event_attributes.failure
        info = failure.application_failure_info
        # The SDK gives the workflow code this text where a failure has none.
        return sub_agents.read_failure(
            info.type, failure.message or "Application error", values_of(info.details.payloads)
        )
    return _CLOSED_BY_SERVER[event.event_type], Usage()
