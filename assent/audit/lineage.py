"""Checking what a history says of the runs above it and below it, and comparing that with what these say themselves.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import ParentClosePolicy
from temporalio.api.history.v1 import HistoryEvent, StartChildWorkflowExecutionInitiatedEventAttributes

from assent.audit.records import Citation
from assent.core import handoffs, sub_agents
from assent.core.events import StartAgent, Started, ToolAnswered
from assent.core.state_machine import Run
from assent.history import child_workflows, event_types
from assent.history.fold import Transition
from assent.history.payloads import values_of
from assent.wire import protocol, visibility
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.messages import read_request
from assent.wire.policy import PermissionPolicy, combined
from assent.wire.protocol import RunRequest

_PARENT_EVENT: Final = {
    event_types.CHILD_COMPLETED: event_types.COMPLETED,
    event_types.CHILD_FAILED: event_types.FAILED,
    event_types.CHILD_CANCELLED: event_types.CANCELLED,
    event_types.CHILD_TERMINATED: event_types.TERMINATED,
    event_types.CHILD_TIMED_OUT: event_types.TIMED_OUT,
}
"""What a run is told of the end of one below, and how that one's own history ends then."""
_NONCE: Final = re.compile(r"[0-9a-f]{12}")


# -- one history ------------------------------------------------------------------------------------------------------


def start_problems(command: StartAgent, run: Run, initiated: HistoryEvent, queue: str) -> Iterator[str]:
    """What a child workflow was begun with otherwise than the rules asked for; *queue* is the run's own task queue."""
    attributes = initiated.start_child_workflow_execution_initiated_event_attributes
    agent = command.request.agent
    if attributes.workflow_type.name != protocol.WORKFLOW:
        yield f"a workflow of type {attributes.workflow_type.name!r} was begun in the place of agent {agent!r}"
    above = sub_agents.child_run_id(run, agent, "")
    name = attributes.workflow_id
    if not name.startswith(above) or not _NONCE.fullmatch(name.removeprefix(above)):
        yield f"the run of agent {agent!r} has the id {name!r}, which is not made of this run's"
    given = values_of(attributes.input.payloads)
    if len(given) != 1 or _read(given[0]) != command.request:
        yield f"agent {agent!r} was asked something else than the rules say"
    if attributes.parent_close_policy != ParentClosePolicy.PARENT_CLOSE_POLICY_REQUEST_CANCEL:
        yield f"the run of agent {agent!r} does not end with this one"
    if attributes.HasField("retry_policy") or attributes.cron_schedule:
        yield f"the run of agent {agent!r} would be begun more than once"
    if attributes.task_queue.name != (wanted := command.task_queue or queue):
        yield f"agent {agent!r} was given to task queue {attributes.task_queue.name!r}, and not to {wanted!r}"
    if not _is_shown(attributes, command.request):
        yield f"the inbox was told something else of the run of agent {agent!r}"


def _read(given: object) -> RunRequest | None:
    try:
        return RunRequest.model_validate(given)
    except ValidationError:
        return None


def _is_shown(attributes: StartChildWorkflowExecutionInitiatedEventAttributes, request: RunRequest) -> bool:
    fields = attributes.memo.fields
    told = {name: (*values_of([payload]), None)[0] for name, payload in fields.items()}
    return told == {protocol.MEMO_REQUEST: visibility.request_memo(request)}


def problems(transition: Transition) -> list[str] | None:
    """What is wrong with the run above, or with an agent that is asked or handed over to; None where there is none."""
    event = transition.event
    if isinstance(event, Started):
        return _above(transition.source, transition.step.run)
    if isinstance(event, ToolAnswered) and event.position < len(transition.before.calls):
        directed = event.outcome.delegation is not None or event.outcome.handoff is not None
        return list(_bounds(event, transition.before)) if directed else None
    return None


def _above(first: HistoryEvent, run: Run) -> list[str] | None:
    """Whether Temporal says the same of the run that this one says it answers."""
    begun = first.workflow_execution_started_event_attributes
    try:
        request = run.request or read_request(values_of(begun.input.payloads))
    except MessageError:
        return None
    if not request.parents:
        return None
    parent = begun.parent_workflow_execution.workflow_id
    server = f"run {parent!r} did" if parent else "no run did"
    wrong = f"it says that run {request.parents[-1].run_id!r} began it, and the server says that {server}"
    return [] if request.parents[-1].run_id == parent else [wrong]


def _bounds(event: ToolAnswered, before: Run) -> Iterator[str]:
    """Whether another agent is bounded by what bounds the one that asks it, and is asked what the call says."""
    bound, given, to = before.caller.policy, event.outcome.delegation, handoffs.said(before, event)
    for each, how in ((given, "asked"), (to, "handed over to")):
        if each is not None and not _contains(each.policy, bound):
            yield f"agent {each.agent!r} was {how} without all of the policy that bounds agent {before.caller.agent!r}"
    if given is not None and given.input != _input_of(before.calls[event.position].call.arguments):
        yield f"agent {given.agent!r} was given another task than the call's arguments say"


def _contains(policy: PermissionPolicy | None, bound: PermissionPolicy | None) -> bool:
    return combined(policy, bound) == combined(policy)


def _input_of(arguments: str) -> str | None:
    try:
        found = parse_arguments(arguments).get("input")
    except ArgumentsError:
        return None
    return found if isinstance(found, str) else None


# -- a history beside that of the run above ---------------------------------------------------------------------------


@dataclass(slots=True)
class Lineage:
    """What one history says of its own beginning and end, and of those of the runs below it."""

    first: HistoryEvent | None = None
    last: HistoryEvent | None = None
    begun: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    ended: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    cites: dict[str, list[Citation]] = field(default_factory=dict[str, list[Citation]])

    def read(self, event: HistoryEvent, execution_id: str) -> str | None:
        """Take in an event; what is wrong with it, if anything is."""
        self.first, self.last = self.first or event, event
        if event.event_type == event_types.CHILD_INITIATED:
            name = child_workflows.child_id_of(event)
            if name in self.begun:
                return f"run {name!r} was begun twice"
            self.begun[name] = event
            self.cites[name] = [Citation(execution_id=execution_id, event_id=event.event_id)]
        elif event.event_type in event_types.CHILD_CLOSED:
            name = child_workflows.child_id_of(event)
            self.ended[name] = event
            self.cites.setdefault(name, []).append(Citation(execution_id=execution_id, event_id=event.event_id))
        return None


def differences(above: Lineage, below: Lineage, run_id: str) -> Iterator[str]:
    """In what the run *run_id* began, was asked or ended otherwise than the history of the run above says."""
    begun, first, last = above.begun.get(run_id), below.first, below.last
    if begun is None or first is None or last is None:
        yield "the run above never began it"
        return
    asked = begun.start_child_workflow_execution_initiated_event_attributes
    started = first.workflow_execution_started_event_attributes
    if _written(started.input) != _written(asked.input):
        yield "it was asked something else than the run above says"
    if started.parent_initiated_event_id != begun.event_id:
        yield f"it was begun by event {started.parent_initiated_event_id} of the run above, and not by {begun.event_id}"
    told = above.ended.get(run_id)
    if told is not None and told.event_type in _PARENT_EVENT:
        yield from _ends(told, last)


def _ends(told: HistoryEvent, last: HistoryEvent) -> Iterator[str]:
    if last.event_type != _PARENT_EVENT[told.event_type]:
        yield "it ended otherwise than the run above was told"
    elif told.event_type == event_types.CHILD_COMPLETED:
        answer = told.child_workflow_execution_completed_event_attributes.result
        if _written(answer) != _written(last.workflow_execution_completed_event_attributes.result):
            yield "it answered something else than the run above was told"
    elif told.event_type == event_types.CHILD_FAILED:
        why = told.child_workflow_execution_failed_event_attributes.failure
        own = last.workflow_execution_failed_event_attributes.failure
        info, its = why.application_failure_info, own.application_failure_info
        said = why.message, info.type, _written(info.details)
        if said != (own.message, its.type, _written(its.details)):
            yield "it failed with something else than the run above was told"


def _written(payloads: Payloads) -> list[bytes]:
    return [payload.data for payload in payloads.payloads]
