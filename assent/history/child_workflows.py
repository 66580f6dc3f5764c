"""The runs of other agents in a run's history: child workflows, as Temporal records them.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent
from temporalio.common import RawValue

from assent.core import sub_agents
from assent.core.events import AgentAnswered, AgentStarted, Failure
from assent.runtime.converter import decoded
from assent.wire.protocol import Execution, RunRequest, RunResult, Usage

INITIATED: Final = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
_NOT_STARTED: Final = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED
_COMPLETED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED
_FAILED: Final = EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED
_SERVER: Final = {
    _NOT_STARTED: sub_agents.NOT_STARTED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: sub_agents.CANCELLED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: sub_agents.TERMINATED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: sub_agents.TIMED_OUT,
}
OVER: Final = frozenset({_COMPLETED, _FAILED, *_SERVER})
"""The events by which a run learns that one below is over, or was never begun."""


def parent_of(first: HistoryEvent) -> Execution | None:
    """The run that began another, by the first event of that one."""
    parent = first.workflow_execution_started_event_attributes.parent_workflow_execution
    return Execution(run_id=parent.workflow_id, execution_id=parent.run_id) if parent.workflow_id else None


def started(commands: Iterable[HistoryEvent], at: datetime) -> Iterator[tuple[AgentStarted, HistoryEvent]]:
    """The runs that a workflow task began, each with its event."""
    for event in commands:
        if event.event_type == INITIATED:
            attributes = event.start_child_workflow_execution_initiated_event_attributes
            request = request_of(event)
            if request is not None and request.parents:
                yield AgentStarted(at, request.parents[-1].call_id, attributes.workflow_id), event


def request_of(event: HistoryEvent) -> RunRequest | None:
    """What a run that was begun is asked; None where that is no request."""
    payloads = event.start_child_workflow_execution_initiated_event_attributes.input.payloads
    given = (*_values(payloads), None)[0]
    try:
        return RunRequest.model_validate(given)
    except ValidationError:
        return None


def answered(event: HistoryEvent, at: datetime) -> AgentAnswered:
    """How a run that was begun ended, by one of the events `OVER`."""
    answer, usage = _answer(event)
    return AgentAnswered(at, child_id_of(event), answer, usage)


def child_id_of(event: HistoryEvent) -> str:
    """The id of the run that an event of a child workflow is about; empty where it is about none."""
    name = event.WhichOneof("attributes") or ""
    attributes = getattr(event, name, None)
    if name.startswith("start_child_workflow"):
        return str(getattr(attributes, "workflow_id", ""))
    return str(attributes.workflow_execution.workflow_id) if attributes and name.startswith("child_workflow") else ""


def _answer(event: HistoryEvent) -> tuple[RunResult | Failure, Usage]:
    if event.event_type == _COMPLETED:
        payloads = event.child_workflow_execution_completed_event_attributes.result.payloads
        return sub_agents.result_of((*_values(payloads), None)[0])
    if event.event_type == _FAILED:
        return _failed(event.child_workflow_execution_failed_event_attributes.failure)
    return _SERVER[event.event_type], Usage()


def _failed(failure: FailureProto) -> tuple[Failure, Usage]:
    info = failure.application_failure_info
    # The SDK puts words where a failure has none, and the run was told those.
    return sub_agents.failed(info.type, failure.message or "Application error", _values(info.details.payloads))


def _values(payloads: Iterable[Payload]) -> tuple[object, ...]:
    return decoded([RawValue(payload) for payload in payloads])
