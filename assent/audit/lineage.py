"""Checks what a history says about parent and child runs, and compares it with the histories of these runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import ParentClosePolicy
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes

from assent.audit.records import Citation
from assent.core import handoffs, sub_agents
from assent.core.events import StartAgent, Started, ToolAnswered
from assent.core.run_state import Run
from assent.history import child_workflows, event_types
from assent.history.fold import Transition
from assent.history.payloads import values_of
from assent.wire import protocol, visibility
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.messages import read_request
from assent.wire.policy import PermissionPolicy, combined
from assent.wire.protocol import RunRequest

_CLOSE_EVENTS: Final = {
    event_types.CHILD_COMPLETED: event_types.COMPLETED,
    event_types.CHILD_FAILED: event_types.FAILED,
    event_types.CHILD_CANCELLED: event_types.CANCELLED,
    event_types.CHILD_TERMINATED: event_types.TERMINATED,
    event_types.CHILD_TIMED_OUT: event_types.TIMED_OUT,
}
"""The event by which a parent run learns of the end of a child run, and the last event of that child run."""
_NONCE: Final = re.compile(r"[0-9a-f]{12}")


# -- one history ------------------------------------------------------------------------------------------------------


def start_problems(command: StartAgent, run: Run, initiated: HistoryEvent, queue: str) -> Iterator[str]:
    """Yield in what a child workflow differs from its command; *queue* is the task queue of the parent run."""
    attributes = initiated.start_child_workflow_execution_initiated_event_attributes
    agent = command.request.agent
    if attributes.workflow_type.name != protocol.WORKFLOW:
        yield f"a workflow of type {attributes.workflow_type.name!r} was started instead of agent {agent!r}"
    prefix, child_id = sub_agents.child_run_id(run, agent, ""), attributes.workflow_id
    if not child_id.startswith(prefix) or not _NONCE.fullmatch(child_id.removeprefix(prefix)):
        yield f"the run of agent {agent!r} has the id {child_id!r}, which is not made of this run's"
    arguments = values_of(attributes.input.payloads)
    if len(arguments) != 1 or _read_request(arguments[0]) != command.request:
        yield f"agent {agent!r} got another request than the rules say"
    if attributes.parent_close_policy != ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
        yield f"the run of agent {agent!r} does not end with this one"
    if attributes.HasField("retry_policy") or attributes.cron_schedule:
        yield f"the run of agent {agent!r} would be started more than once"
    if attributes.task_queue.name != (wanted := command.task_queue or queue):
        yield f"agent {agent!r} was given to task queue {attributes.task_queue.name!r}, and not to {wanted!r}"
    if not _is_shown(attributes, command.request):
        yield f"the inbox shows another request for the run of agent {agent!r}"


def _read_request(value: object) -> RunRequest | None:
    try:
        return RunRequest.model_validate(value)
    except ValidationError:
        return None


def _is_shown(attributes: StartChildWorkflowExecutionInitiatedEventAttributes, request: RunRequest) -> bool:
    fields = attributes.memo.fields
    memo = {name: (*values_of([payload]), None)[0] for name, payload in fields.items()}
    return memo == {protocol.MEMO_REQUEST: visibility.request_memo(request)}


def problems(transition: Transition) -> list[str] | None:
    """Return the problems of a parent run, of a called agent or of a handoff; None if there is none of these."""
    event = transition.event
    if isinstance(event, Started):
        return _parent_problems(transition.source, transition.step.run)
    if isinstance(event, ToolAnswered) and event.position < len(transition.before.calls):
        directed = event.outcome.delegation is not None or event.outcome.handoff is not None
        return list(_limit_problems(event, transition.before)) if directed else None
    return None


def _parent_problems(first: HistoryEvent, run: Run) -> list[str] | None:
    """Compare the parent run that the request names with the one that the server recorded."""
    begun = first.workflow_execution_started_event_attributes
    try:
        request = run.request or read_request(values_of(begun.input.payloads))
    except MessageError:
        return None
    if not request.parents:
        return None
    parent = begun.parent_workflow_execution.workflow_id
    server = f"run {parent!r} did" if parent else "no run did"
    wrong = f"its request says that run {request.parents[-1].run_id!r} started it, and the server says that {server}"
    return [] if request.parents[-1].run_id == parent else [wrong]


def _limit_problems(event: ToolAnswered, before: Run) -> Iterator[str]:
    """Yield whether another agent lacks a limit of the agent that called it, or got another task than the call says."""
    caller = before.call_context
    delegated, to = event.outcome.delegation, handoffs.handoff_of(before, event)
    for each, how in ((delegated, "called"), (to, "handed over to")):
        if each is not None and not _contains(each.policy, caller.policy):
            yield f"agent {each.agent!r} was {how} without the whole policy that limits agent {caller.agent!r}"
    if delegated is not None and delegated.input != _input_of(before.calls[event.position].call.arguments):
        yield f"agent {delegated.agent!r} got another task than the call's arguments say"


def _contains(policy: PermissionPolicy | None, bound: PermissionPolicy | None) -> bool:
    return combined(policy, bound) == combined(policy)


def _input_of(arguments: str) -> str | None:
    try:
        text = parse_arguments(arguments).get("input")
    except ArgumentsError:
        return None
    return text if isinstance(text, str) else None


# -- a history beside that of the parent run --------------------------------------------------------------------------


@dataclass(slots=True)
class Lineage:
    """The first and last event of a history, and the events that started and ended its child runs."""

    first: HistoryEvent | None = None
    last: HistoryEvent | None = None
    begun: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    ended: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    cites: dict[str, list[Citation]] = field(default_factory=dict[str, list[Citation]])

    def add(self, event: HistoryEvent, execution_id: str) -> str | None:
        """Add an event; return its problem, if it has one."""
        self.first, self.last = self.first or event, event
        if event.event_type == event_types.CHILD_INITIATED:
            name = child_workflows.child_id_of(event)
            if name in self.begun:
                return f"run {name!r} was started twice"
            self.begun[name] = event
            self.cites[name] = [Citation(execution_id=execution_id, event_id=event.event_id)]
        elif event.event_type in event_types.CHILD_CLOSED:
            name = child_workflows.child_id_of(event)
            self.ended[name] = event
            self.cites.setdefault(name, []).append(Citation(execution_id=execution_id, event_id=event.event_id))
        return None


def differences(parent: Lineage, child: Lineage, run_id: str) -> Iterator[str]:
    """Yield in what the start, request and end of the run *run_id* differ from what its parent run recorded."""
    begun, first, last = parent.begun.get(run_id), child.first, child.last
    if begun is None or first is None or last is None:
        yield "the parent run did not start it"
        return
    recorded = begun.start_child_workflow_execution_initiated_event_attributes
    started = first.workflow_execution_started_event_attributes
    if _data(started.input) != _data(recorded.input):
        yield "it got another request than the parent run recorded"
    if started.parent_initiated_event_id != begun.event_id:
        yield f"event {started.parent_initiated_event_id} of the parent run started it, and not event {begun.event_id}"
    ended = parent.ended.get(run_id)
    if ended is not None and ended.event_type in _CLOSE_EVENTS:
        yield from _end_differences(ended, last)


def _end_differences(ended: HistoryEvent, last: HistoryEvent) -> Iterator[str]:
    if last.event_type != _CLOSE_EVENTS[ended.event_type]:
        yield "it ended in another way than the parent run recorded"
    elif ended.event_type == event_types.CHILD_COMPLETED:
        answer = ended.child_workflow_execution_completed_event_attributes.result
        if _data(answer) != _data(last.workflow_execution_completed_event_attributes.result):
            yield "it gave another answer than the parent run recorded"
    elif ended.event_type == event_types.CHILD_FAILED:
        recorded = ended.child_workflow_execution_failed_event_attributes.failure
        if _failure(recorded) != _failure(last.workflow_execution_failed_event_attributes.failure):
            yield "it failed for another reason than the parent run recorded"


def _failure(failure: Failure) -> tuple[str, str, list[bytes]]:
    info = failure.application_failure_info
    return failure.message, info.type, _data(info.details)


def _data(payloads: Payloads) -> list[bytes]:
    return [payload.data for payload in payloads.payloads]
