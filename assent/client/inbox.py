"""Reads from visibility what waits across runs, and which runs have decisions; needs no worker."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.service import RPCError

from assent.audit.approval import Approval, pending_approval
from assent.client.filters import Wanted, matches
from assent.client.rpc import to_assent_error
from assent.runtime.payload_codec import encoding_problem
from assent.wire import protocol, visibility
from assent.wire.errors import MessageError
from assent.wire.protocol import RunStatus
from assent.wire.requirements import PendingRequirement
from assent.wire.text import bounded, one_line

PAGE: Final = 1_000
"""Executions of one request to the server: the most that it returns."""
_RUNS: Final = f"WorkflowType = '{protocol.WORKFLOW}'"
_RUNNING: Final = f"{_RUNS} AND ExecutionStatus = 'Running'"
_UNMARKED: Final = f"{protocol.ATTRIBUTE_AGENT} IS NULL"
"""A run started before the attributes were registered, or by a foreign client a moment ago: its memo is read."""
ERROR_SHOWN: Final = 300
"""Characters of an error that the log gets: a foreign memo can make it as long as it likes."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run as visibility lists it: its id, its newest execution, and whether that one has ended.

    *is_marked* says whether it has the search attribute with its agent.
    """

    run_id: str
    execution_id: str
    closed: bool
    is_marked: bool


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """Takes the place of a memo that could not be read."""

    error: Exception


async def pending(
    client: Client, wanted: Wanted, unreadable: set[str], *, registered: bool, task_queue: str | None = None
) -> AsyncIterator[list[Approval]]:
    """Yield the runs that wait, in the server's order, each with its approvals that pass *wanted*.

    *task_queue* leaves the runs that it serves. *registered* says that the namespace has the Assent search attributes;
    without them all running runs are read.

    Raises:
        MessageError: a name is not text that can be sent.
        RPCError: the server refuses, or does not answer.
    """
    now, seen, token = datetime.now(UTC), set[str](), b""
    query = await _query(client, wanted, registered=registered)
    if task_queue is not None:
        query += f" AND TaskQueue = {_quoted(task_queue)}"
    while True:
        executions, token = await _list_page(client, query, token, PAGE)
        for run in _matching(executions, await _runs(client, executions, unreadable), wanted, now):
            # A run that continues as new may be listed twice for a moment; the newer execution comes first.
            left = [each for each in run if each.run_id not in seen]
            if left:
                seen.add(left[0].run_id)
                yield left
        if not token:
            return


async def page(
    client: Client, wanted: Wanted, limit: int, position: bytes, unreadable: set[str], *, registered: bool
) -> tuple[list[list[Approval]], bytes]:
    """Return at most *limit* runs from *position*, and the position of the next page, empty on the last one.

    If search attributes alone select them, that is one page of the server. Otherwise its pages are read until this one
    is full, and the last is read again with the size that ends at the last run. Raises as `pending`.
    """
    now, approvals = datetime.now(UTC), dict[str, list[Approval]]()
    query = await _query(client, wanted, registered=registered)
    size = min(limit, PAGE) if registered and wanted.by_server else PAGE
    while True:
        executions, after = await _list_page(client, query, position, size)
        runs = _matching(executions, await _runs(client, executions, unreadable), wanted, now)
        left = [(index, run) for index, run in enumerate(runs) if run]
        room = limit - len(approvals)
        if len(left) > room:
            size = left[room - 1][0] + 1
            continue
        for _, one in left:
            approvals.setdefault(one[0].run_id, one)
        position, size = after, PAGE
        if not position or len(approvals) >= limit:
            return list(approvals.values()), position


async def total(client: Client, wanted: Wanted, *, registered: bool) -> int | None:
    """Count the runs that wait; None where counting alone cannot tell. Raises as `pending`."""
    asker = wanted.requested_by
    if not registered or not wanted.by_server or (asker is not None and visibility.keyword(asker) != asker):
        return None
    unsure = _UNMARKED
    if wanted.tool is not None:
        unsure = f"({unsure} OR {protocol.ATTRIBUTE_WAITING_ON} = {_quoted(visibility.ANY_TOOL)})"
    sure, more = await asyncio.gather(
        client.count_workflows(f"{_RUNNING} AND {_conditions(wanted)}"),
        client.count_workflows(f"{_RUNNING} AND {unsure}"),
    )
    return None if more.count else sure.count


async def count_open(client: Client, status: RunStatus, task_queue: str) -> int:
    """Count the runs of a task queue that have not ended and have this status. Raises as `pending`."""
    query = f"{_RUNNING} AND TaskQueue = {_quoted(task_queue)} AND {protocol.ATTRIBUTE_STATUS} = {_quoted(status)}"
    return (await client.count_workflows(query)).count


async def runs_with_approvals(
    client: Client, agent: str | None, requested_by: str | None, *, registered: bool, open_since: datetime | None = None
) -> AsyncIterator[ListedRun]:
    """Yield the runs that have waited, or may have; running ones first, newest first. Raises as `pending`.

    With *open_since* only those that still run, or ended since then.
    """
    query = f"{_RUNS} AND ExecutionStatus != 'ContinuedAsNew'"
    if open_since is not None:
        query += f" AND (ExecutionStatus = 'Running' OR CloseTime >= {_time(open_since)})"
    if registered:
        named = [f"{protocol.ATTRIBUTE_PENDING} IS NOT NULL", *_names(agent, requested_by)]
        # A run that never waited has no number of pending requirements; one begun before the attributes were
        # registered has no agent either, and is read to be sure.
        query += f" AND ({' AND '.join(named)} OR {_UNMARKED})"
    async for run in _list_runs(client, query):
        yield run


async def changed(
    client: Client, agent: str | None, since: datetime, *, registered: bool, running: bool
) -> AsyncIterator[ListedRun]:
    """Yield the runs that started or ended since, and with *running* all that run, newest first. Raises as `pending`.

    Only those that may be of *agent*: one started before the search attributes were registered may be.
    """
    which = [f"StartTime >= {_time(since)}", f"CloseTime >= {_time(since)}"]
    which += ["ExecutionStatus = 'Running'"] if running else []
    query = f"{_RUNS} AND ExecutionStatus != 'ContinuedAsNew' AND ({' OR '.join(which)})"
    if registered and agent is not None:
        query += f" AND ({' AND '.join(_names(agent, None))} OR {_UNMARKED})"
    async for run in _list_runs(client, query):
        yield run


async def _list_runs(client: Client, query: str) -> AsyncIterator[ListedRun]:
    seen, token = set[str](), b""
    while True:
        executions, token = await _list_page(client, query, token, PAGE)
        for each in executions:
            # After a workflow reset two executions share one id, and its records are those of the newer.
            if each.execution.workflow_id not in seen:
                seen.add(each.execution.workflow_id)
                closed = each.status != WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
                is_marked = protocol.ATTRIBUTE_AGENT in each.search_attributes.indexed_fields
                yield ListedRun(each.execution.workflow_id, each.execution.run_id, closed, is_marked)
        if not token:
            return


def _matching(
    executions: Sequence[WorkflowExecutionInfo], runs: Sequence[Sequence[Approval]], wanted: Wanted, now: datetime
) -> list[list[Approval]]:
    """Return what passes *wanted* of each execution. A workflow that runs an agent is known to the server alone."""
    above = [{each.parent_execution.workflow_id, each.root_execution.workflow_id} for each in executions]
    return [
        [each for each in run if matches(each, wanted, now, workflows)]
        for run, workflows in zip(runs, above, strict=True)
    ]


async def _list_page(
    client: Client, query: str, token: bytes, size: int
) -> tuple[Sequence[WorkflowExecutionInfo], bytes]:
    """List executions. `Client.list_workflows` decodes every search attribute twice: 80 % of its cost here."""
    request = ListWorkflowExecutionsRequest(
        namespace=client.namespace, page_size=size, query=query, next_page_token=token
    )
    answer = await client.workflow_service.list_workflow_executions(request, retry=True)
    return answer.executions, answer.next_page_token


# -- memos ------------------------------------------------------------------------------------------------------------


async def _runs(
    client: Client, executions: Sequence[WorkflowExecutionInfo], unreadable: set[str]
) -> list[list[Approval]]:
    """Return what waits in each execution; add the ids of runs that cannot be read to *unreadable*."""
    # All memos are one batch for the codec, which may be remote.
    memos = [(number, name) for number, each in enumerate(executions) for name in _names_of_memos(each)]
    payloads = [executions[number].memo.fields[name] for number, name in memos]
    values = await _decoded(client, payloads, [_memo_type(name) for _, name in memos])
    memo_values: list[dict[str, object]] = [{} for _ in executions]
    failed: dict[int, list[tuple[str, _Unreadable]]] = {}
    for (number, name), value in zip(memos, values, strict=True):
        if isinstance(value, _Unreadable):
            failed.setdefault(number, []).append((name, value))
        memo_values[number][name] = value
    # One unreadable memo must not hide what all the other runs wait for, and one run not fill the log.
    for number, problems in failed.items():
        run_id, (name, value) = executions[number].execution.workflow_id, problems[0]
        why = encoding_problem(value.error) or bounded(one_line(str(value.error)), ERROR_SHOWN)
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        if run_id not in unreadable:
            _log.warning("run %r is left out: its memo %s%s cannot be read: %s", run_id, name, others, why)
        unreadable.add(run_id)
    return [_run(each, memo) for each, memo in zip(executions, memo_values, strict=True)]


def _names_of_memos(execution: WorkflowExecutionInfo) -> list[str]:
    names = execution.memo.fields
    return visibility.pending_keys(names) + ([protocol.MEMO_REQUEST] if protocol.MEMO_REQUEST in names else [])


def _memo_type(name: str) -> type[Any]:
    return dict[str, Any] if name == protocol.MEMO_REQUEST else PendingRequirement


def _run(execution: WorkflowExecutionInfo, memo: dict[str, object]) -> list[Approval]:
    # A codec encodes the value that removes a memo, too: then the memo stays, without a value.
    waiting = [each for each in memo.values() if isinstance(each, PendingRequirement)]
    asked = visibility.read_request_memo(memo.get(protocol.MEMO_REQUEST), execution.parent_execution.workflow_id)
    run_id = execution.execution.workflow_id
    return [pending_approval(run_id, asked, each) for each in waiting]


async def _decoded(client: Client, payloads: Sequence[Payload], kinds: Sequence[type[Any]]) -> list[object]:
    """Decode the payloads at once; if one is unreadable, by halves until it is found."""
    if not payloads:
        return []
    error: Exception
    try:
        values: list[object] = await client.data_converter.decode(payloads, list(kinds))
    except Exception as raised:  # A codec may raise anything
        error = raised
    else:
        if len(values) == len(payloads):
            return values
        error = ValueError(f"the codec made {len(values)} of {len(payloads)} payloads")
    if len(payloads) == 1:
        return [_Unreadable(error)]
    middle = len(payloads) // 2
    first = await _decoded(client, payloads[:middle], kinds[:middle])
    return first + await _decoded(client, payloads[middle:], kinds[middle:])


# -- queries ----------------------------------------------------------------------------------------------------------


async def _query(client: Client, wanted: Wanted, *, registered: bool) -> str:
    running = _RUNNING
    if wanted.tree is not None and (root := await _root_of(client, wanted.tree)) is not None:
        # The server knows the root run of each, and the memo the runs between.
        running = f"{running} AND RootWorkflowId = {_quoted(root)}"
    return f"{running} AND ({_conditions(wanted)} OR {_UNMARKED})" if registered else running


async def _root_of(client: Client, run_id: str) -> str | None:
    """Return the root workflow of a run, which may be itself; None where the server does not say.

    Raises:
        RunNotFoundError: there is no run of this id.
    """
    try:
        return (await client.get_workflow_handle(run_id).describe()).root_id
    except RPCError as error:
        translated = to_assent_error(error, run_id, client.namespace)
        raise translated from (None if translated is error else error)


def _conditions(wanted: Wanted) -> str:
    conditions = [f"{protocol.ATTRIBUTE_PENDING} > 0", *_names(wanted.agent, wanted.requested_by)]
    if wanted.tool is not None:
        tools = f"{_quoted(wanted.tool)}, {_quoted(visibility.ANY_TOOL)}"
        conditions.append(f"{protocol.ATTRIBUTE_WAITING_ON} IN ({tools})")
    return " AND ".join(conditions)


def _names(agent: str | None, requested_by: str | None) -> list[str]:
    named = [(protocol.ATTRIBUTE_AGENT, agent), (protocol.ATTRIBUTE_REQUESTED_BY, requested_by)]
    return [f"{attribute} = {_quoted(name)}" for attribute, name in named if name is not None]


def _time(at: datetime) -> str:
    return f"'{at.astimezone(UTC).isoformat()}'"


def _quoted(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MessageError(f"{text!r} is not text that can be sent") from None
    escaped = visibility.keyword(text).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
