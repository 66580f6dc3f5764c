"""Detects a child run whose parent, or a parent of that, no longer has it.

When a run ends, the server asks its child runs to cancel; when it is reset, the server does not. After a reset to a
point before the call, the child run and its own child runs work in vain (measured on server 1.32).
"""

from typing import Final

from temporalio.client import WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from assent.history.child_workflows import child_id_of
from assent.history.event_types import CHILD_INITIATED
from assent.history.pages import pages
from assent.wire import protocol
from assent.wire.protocol import Execution
from assent.wire.visibility import read_request_memo

from .own_run import own_client, own_run

PUT_BACK: Final = "the run that asked for this was put back to before it did, so that this one is cancelled"
ENDED: Final = "the run that asked for this has ended, so that this one is cancelled"


async def orphaned(parent: Execution | None) -> str | None:
    """Say why no parent has this activity's run any more, or return None; *parent* started it."""
    below = own_run().run_id
    while parent is not None:
        try:
            began = await _check_parent(parent, below)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return ENDED  # The server deletes nothing else.
        if isinstance(began, str):
            return began
        below, parent = parent.run_id, await _parent_of(began)
    return None


async def _check_parent(parent: Execution, below: str) -> WorkflowExecutionDescription | str:
    """Return the run *parent* if it is running and its history has the child *below*; else the reason."""
    client = own_client()
    began = await client.get_workflow_handle(parent.run_id, run_id=parent.execution_id).describe()
    if began.status == WorkflowExecutionStatus.RUNNING:
        return began
    now = await client.get_workflow_handle(parent.run_id).describe()
    if now.status != WorkflowExecutionStatus.RUNNING:
        return ENDED
    return now if await _has_started_child(parent.run_id, now.run_id or "", below) else PUT_BACK


async def _parent_of(run: WorkflowExecutionDescription) -> Execution | None:
    """Return the parent run of *run*, if any; a foreign workflow that started it may end freely."""
    memo: object = await run.memo_value(protocol.MEMO_REQUEST, None)
    request = read_request_memo(memo, run.parent_id)
    if not request.parents or run.parent_id is None or run.parent_run_id is None:
        return None
    return Execution(run_id=run.parent_id, execution_id=run.parent_run_id)


async def _has_started_child(parent: str, execution_id: str, child: str) -> bool:
    """Whether the history of a run, since it was put back, has that it began this one."""
    async for page in pages(own_client(), parent, execution_id):
        if any(event.event_type == CHILD_INITIATED and child_id_of(event) == child for event in page.events):
            return True
    return False


async def cancel_own_run() -> None:
    """Ask for the run under way to be cancelled; in its activity."""
    await own_client().get_workflow_handle(own_run().run_id).cancel()
