"""What waits across runs, and which runs have decided something: read from visibility, without a worker.

I/O; not in workflow code.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client

from assent import protocol
from assent.errors import MessageError
from assent.records import PendingRun
from assent.requirements import PendingRequirement

PAGE: Final = 1_000
_RUNS: Final = f"WorkflowType = '{protocol.WORKFLOW}'"
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def pending(
    client: Client, agent: str | None, tool: str | None, *, registered: bool
) -> AsyncIterator[PendingRun]:
    """The runs that wait, of one agent and for one tool where these are given, each with what waits in it.

    *registered* says that the namespace has the Assent search attributes; without them all running runs are read.

    Raises:
        MessageError: a name is no text that can be sent.
        RPCError: the server refuses, or does not answer.
    """
    query = f"{_RUNS} AND ExecutionStatus = 'Running'"
    if registered:
        query += _waiting(agent, tool)
    async for execution in _listed(client, query):
        run = await _pending_run(client, execution)
        if run is not None and (agent is None or run.agent == agent):
            kept = [each for each in run.requirements if tool is None or each.tool == tool]
            if kept:
                yield run.model_copy(update={"requirements": kept})


async def decided(client: Client, agent: str | None, *, registered: bool) -> list[str]:
    """The ids of the runs that have, or may have, waited for somebody.

    Raises:
        MessageError: *agent* is no text that can be sent.
        RPCError: the server refuses, or does not answer.
    """
    query = _RUNS
    if registered:
        named = f" AND {protocol.ATTRIBUTE_AGENT} = {_quoted(agent)}" if agent else ""
        # A run that never waited has no number of pending requirements; one begun before the attributes were
        # registered has no agent either, and is read to be sure.
        query += f" AND ({protocol.ATTRIBUTE_PENDING} IS NOT NULL{named} OR {protocol.ATTRIBUTE_AGENT} IS NULL)"
    # After a workflow reset two executions share one id, and its records are those of the newer.
    return list(dict.fromkeys([each.execution.workflow_id async for each in _listed(client, query)]))


async def _listed(client: Client, query: str) -> AsyncIterator[WorkflowExecutionInfo]:
    """As `Client.list_workflows`, which decodes every search attribute twice: 80 % of what it costs here."""
    token = b""
    while True:
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, page_size=PAGE, query=query, next_page_token=token
        )
        answer = await client.workflow_service.list_workflow_executions(request, retry=True)
        for execution in answer.executions:
            yield execution
        token = answer.next_page_token
        if not token:
            return


async def _pending_run(client: Client, execution: WorkflowExecutionInfo) -> PendingRun | None:
    waiting = await _memo(client, execution, protocol.MEMO_PENDING, list[PendingRequirement])
    if not waiting:
        return None
    request = await _memo(client, execution, protocol.MEMO_REQUEST, dict[str, str]) or {}
    return PendingRun(
        run_id=execution.execution.workflow_id,
        agent=request.get("agent", ""),
        requested_by=request.get("requested_by"),
        requirements=waiting,
    )


async def _memo(client: Client, execution: WorkflowExecutionInfo, name: str, kind: type[_T]) -> _T | None:
    fields = execution.memo.fields
    if name not in fields:
        return None
    try:
        value: list[_T] = await client.data_converter.decode([fields[name]], [kind])
    except (ValueError, RuntimeError, TypeError, KeyError):
        # Somebody else's memo under our name must not hide what all the other runs wait for.
        _log.warning("run %r is left out: its memo %s cannot be read", execution.execution.workflow_id, name)
        return None
    return value[0]


def _waiting(agent: str | None, tool: str | None) -> str:
    # A run begun before the attributes were registered has none, so its memo is read to be sure.
    conditions = [f"{protocol.ATTRIBUTE_PENDING} > 0"]
    if agent is not None:
        conditions.append(f"{protocol.ATTRIBUTE_AGENT} = {_quoted(agent)}")
    if tool is not None:
        conditions.append(f"{protocol.ATTRIBUTE_WAITING_ON} IN ({_quoted(tool)}, {_quoted(protocol.ANY_TOOL)})")
    return f" AND ({' AND '.join(conditions)} OR {protocol.ATTRIBUTE_AGENT} IS NULL)"


def _quoted(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{text!r} is no text that can be sent"
        raise MessageError(message) from None
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
