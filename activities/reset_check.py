"""Whether a workflow reset came between a requirement and the call that it let run.

A reset makes a new execution of the run, in which the server may apply the old decisions again, and start again what
was under way. The workflow cannot tell: its code sees a signal the same, however it came. The history can.
"""

from collections.abc import Sequence
from typing import Final

from cachetools import LRUCache
from temporalio.api.enums.v1 import WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.service import RPCError, RPCStatusCode

from assent.history import event_types
from assent.history.pages import pages
from assent.wire import visibility
from assent.wire.protocol import Authorization

from .own_run import own_client, own_run

_known: Final[LRUCache[str, tuple[str, bool]]] = LRUCache(10_000)
"""By execution id: the previous execution, and whether a reset made this one."""
_RESET: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW


async def opened_before_reset(authorization: Authorization) -> bool:
    """Whether what *authorization* approves began to wait before the newest reset of the run; in its activity.

    What an edit put in the place of another began to wait when that did: a reset may have applied the edit again. What
    never waited in the open, because a grant was enough, counts as from before. For a run that was never reset this
    costs nothing; after continue-as-new it reads the first event of each execution, once.
    """
    run = own_run()
    if authorization.execution_id == run.execution_id:
        return False
    executions = await _executions(run.run_id, run.execution_id)
    if not any(was_reset for _, was_reset in executions):
        return False
    ids = [each for each in (authorization.requirement_id, authorization.follows) if each is not None]
    # Each execution may list it again, so that only the oldest one that does says when it began to wait.
    before: bool | None = None
    reset_since = False
    for execution_id, _ in executions:
        reset, opened = await _find_events(run.run_id, execution_id, ids)
        if opened:
            before = reset_since or opened < reset
        reset_since = reset_since or reset > 0
    return reset_since if before is None else before


async def _executions(run_id: str, execution_id: str) -> list[tuple[str, bool]]:
    """The executions of the run, this one first, each with whether a reset made it."""
    started: list[tuple[str, bool]] = []
    while execution_id:
        try:
            before, was_reset = await _beginning(run_id, execution_id)
        except RPCError as error:
            if started and error.status == RPCStatusCode.NOT_FOUND:
                break  # The server has deleted what is older than its retention.
            raise
        started.append((execution_id, was_reset))
        execution_id = before
    return started


async def _beginning(run_id: str, execution_id: str) -> tuple[str, bool]:
    """The execution before *execution_id* (empty for none), and whether a reset made this one. It never changes."""
    known = _known.get(execution_id)
    if known is None:
        handle = own_client().get_workflow_handle(run_id, run_id=execution_id)
        first = await anext(handle.fetch_history_events(page_size=1))
        begun = first.workflow_execution_started_event_attributes
        known = begun.continued_execution_run_id, begun.original_execution_run_id != execution_id
        _known[execution_id] = known
    return known


async def _find_events(run_id: str, execution_id: str, ids: Sequence[str]) -> tuple[int, int]:
    """The events of an execution in which it was reset, and in which one of *ids* was first listed; 0 where in none."""
    reset, opened = 0, 0
    async for page in pages(own_client(), run_id, execution_id):
        for event in page.events:
            if _is_reset(event):
                reset = event.event_id
            if not opened and _opens(event, ids):
                opened = event.event_id
    return reset, opened


def _is_reset(event: HistoryEvent) -> bool:
    return event.event_type == event_types.TASK_FAILED and event.workflow_task_failed_event_attributes.cause == _RESET


def _opens(event: HistoryEvent, ids: Sequence[str]) -> bool:
    if event.event_type != event_types.MEMO_UPSERTED:
        return False
    fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
    opened = [fields[name].data for name in visibility.pending_keys(fields)]
    return any(each.encode() in data for each in ids for data in opened)
