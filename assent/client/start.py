"""Starts a run, with the search attributes, memo and details that it has before a worker begins it."""

import hashlib
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue
from temporalio.client import Client, ScheduleActionStartWorkflow
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

from assent.client.rpc import check_size
from assent.client.run_handle import RunHandle
from assent.views.web_ui import request_details, request_summary
from assent.wire import protocol, visibility
from assent.wire.errors import MessageError, RunNotFoundError
from assent.wire.protocol import RunRequest, RunStatus
from assent.wire.text import one_line

PRIORITIES: Final = range(1, 6)
_FAIRNESS_KEY: Final = 64
"""Bytes that the server takes."""


async def begin(
    client: Client,
    task_queue: str,
    request: RunRequest,
    run_id: str,
    attributes: TypedSearchAttributes,
    priority: Priority,
    message: Mapping[str, JsonValue] | None = None,
) -> None:
    """Start a run; with a *message*, start it with that, or send it to the running run of this id.

    Raises:
        MessageError: the id begins with a hyphen, or has characters that do not show.
        WorkflowAlreadyStartedError: a workflow has, or had, the id; with a *message*, one that has ended.
        RPCError: the server does not answer, or refuses.
    """
    _check_id(run_id)
    conflict = WorkflowIDConflictPolicy.FAIL if message is None else WorkflowIDConflictPolicy.USE_EXISTING
    await client.start_workflow(
        protocol.WORKFLOW,
        request,
        id=run_id,
        task_queue=task_queue,
        id_conflict_policy=conflict,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        memo={protocol.MEMO_REQUEST: visibility.request_memo(request)},
        search_attributes=attributes,
        static_summary=request_summary(request),
        static_details=request_details(request),
        priority=priority,
        start_signal=None if message is None else protocol.SEND_MESSAGE,
        start_signal_args=[] if message is None else [check_size(client, message)],
    )


def scheduled(
    request: RunRequest, run_id: str, task_queue: str, attributes: TypedSearchAttributes, priority: Priority
) -> ScheduleActionStartWorkflow:
    """Return the action of a schedule that starts such a run; the server adds the time to the id.

    Raises:
        MessageError: the id begins with a hyphen, or has characters that do not show.
    """
    _check_id(run_id)
    return ScheduleActionStartWorkflow(
        protocol.WORKFLOW,
        request,
        id=run_id,
        task_queue=task_queue,
        memo={protocol.MEMO_REQUEST: visibility.request_memo(request)},
        typed_search_attributes=attributes,
        static_summary=request_summary(request),
        static_details=request_details(request),
        priority=priority,
    )


def _check_id(run_id: str) -> None:
    if run_id.startswith("-") or one_line(run_id) != run_id:
        why = "a command would read it as an option" if run_id.startswith("-") else "it has characters that do not show"
        raise MessageError(f"a run cannot have the id {run_id!r}: {why}")


async def check_own(run: RunHandle) -> None:
    """Check that the workflow that has a run's id is one.

    Raises:
        MessageError: it is of another type.
        RunNotFoundError: there is none.
    """
    description = await run.description()
    if description.workflow_type != protocol.WORKFLOW:
        message = f"the id {run.id!r} is taken by a workflow of type {description.workflow_type!r}; choose another"
        raise MessageError(message)


async def exists(run: RunHandle) -> bool:
    """Return whether any workflow has the run's id."""
    try:
        await run.description()
    except RunNotFoundError:
        return False
    return True


def attributes_of(request: RunRequest, message: Mapping[str, JsonValue] | None = None) -> TypedSearchAttributes:
    """Return the search attributes known at the start; *message* is the first message of a conversation."""
    status: RunStatus = "running" if request.prompt.strip() or message else "idle"
    pairs: list[SearchAttributePair[str]] = [
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT), request.agent),
        SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_STATUS), status),
    ]
    if request.requested_by:
        key = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_REQUESTED_BY)
        pairs.append(SearchAttributePair(key, visibility.keyword(request.requested_by)))
    return TypedSearchAttributes(pairs)


def priority_of(request: RunRequest, key: int | None) -> Priority:
    """Return the order of the run's tasks where workers are behind: by *key*, then requesters by turns.

    Temporal keeps it for the whole run and its activities: each model call and tool call. Servers without fairness
    ignore the second.

    Raises:
        MessageError: *key* is not 1, 2, 3, 4 or 5.
    """
    if key is not None and key not in PRIORITIES:
        raise MessageError(f"a run's priority is 1 (first) to 5 (last), not {key}; the default is 3")
    return Priority(priority_key=key, fairness_key=_fairness_key(request.requested_by))


def _fairness_key(requested_by: str | None) -> str | None:
    if requested_by is None or len(requested_by.encode()) <= _FAIRNESS_KEY:
        return requested_by
    return hashlib.sha256(requested_by.encode()).hexdigest()
