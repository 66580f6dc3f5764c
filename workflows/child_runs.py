"""The runs of other agents that answer calls of a run: child workflows of it.

When a run closes, however it does, the server asks its children to cancel. It does so at
continue-as-new too, so a run with children waits for them first (measured on server 1.32).
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ApplicationError, CancelledError, ChildWorkflowError, TemporalError, TerminatedError

from assent.core import sub_agents
from assent.core.events import Failure, StartAgent
from assent.runtime.converter import decoded
from assent.views import web_ui
from assent.wire import protocol, visibility
from assent.wire.protocol import RunResult, Usage

from . import publisher


async def answer(command: StartAgent, run_id: str) -> tuple[RunResult | Failure, Usage]:
    """Run another agent as a child run, and return its result or failure, and its usage."""
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
            search_attributes=publisher.attributes_at_start(request) if command.attributes else None,
            static_summary=web_ui.request_summary(request),
            static_details=web_ui.request_details(request),
        )
    except TemporalError:
        # What comes of activities reaches this code one step later than what comes of a start.
        await asyncio.sleep(0)
        return sub_agents.NOT_STARTED, Usage()
    try:
        # Without a type: a result that is none would fail to decode, and wedge this run for ever.
        result: object = await child
    except ChildWorkflowError as error:
        return _failure(error)
    return sub_agents.read_result(*decoded([result]))


def _failure(error: ChildWorkflowError) -> tuple[Failure, Usage]:
    """Why it gave no answer, in the words that the history has."""
    match error.cause:
        case ApplicationError() as cause:
            return sub_agents.read_failure(cause.type, cause.message, decoded(cause.details))
        case CancelledError():
            return sub_agents.CANCELLED, Usage()
        case TerminatedError():
            return sub_agents.TERMINATED, Usage()
        case _:
            return sub_agents.TIMED_OUT, Usage()
