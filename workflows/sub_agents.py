"""The runs of other agents that answer calls of a run: child workflows of it.

When a run closes, however it does, the server asks its children to cancel. So it does where a run goes on in a new
execution, for which reason a run with children waits with that (measured on server 1.32).
"""

from __future__ import annotations

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, CancelledError, ChildWorkflowError, TemporalError, TerminatedError

from assent import delegation, protocol, views, visibility
from assent.converter import decoded
from assent.events import Failure, StartAgent
from assent.protocol import RunResult, Usage

from . import publish


async def answer(command: StartAgent, run_id: str) -> tuple[RunResult | Failure, Usage]:
    """What the run of another agent comes to, and what it used."""
    request = command.request
    try:
        child = await workflow.start_child_workflow(
            protocol.WORKFLOW,
            request,
            id=run_id,
            task_queue=command.task_queue,
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            # This run itself asks nothing of it: the server does, whatever ends this run.
            cancellation_type=workflow.ChildWorkflowCancellationType.ABANDON,
            memo={protocol.MEMO_REQUEST: visibility.request_memo(request)},
            search_attributes=publish.attributes_at_start(request) if command.attributes else None,
            static_summary=views.request_summary(request),
            static_details=views.request_details(request),
        )
    except TemporalError:
        # What comes of activities reaches this code one step later than what comes of a start.
        await asyncio.sleep(0)
        return delegation.NOT_STARTED, Usage()
    try:
        # Without a type: a result that is none would fail to decode, and wedge this run for ever.
        result: object = await child
    except ChildWorkflowError as error:
        return _failure(error)
    return delegation.result_of(*decoded([result]))


def _failure(error: ChildWorkflowError) -> tuple[Failure, Usage]:
    """Why it gave no answer, in the words that the history has."""
    match error.cause:
        case ApplicationError() as cause:
            return delegation.failed(cause.type, cause.message, decoded(cause.details))
        case CancelledError():
            return delegation.CANCELLED, Usage()
        case TerminatedError():
            return delegation.TERMINATED, Usage()
        case _:
            return delegation.TIMED_OUT, Usage()
