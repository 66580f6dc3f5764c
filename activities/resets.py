"""Whether a workflow reset came between a requirement and the call that it let run.

A reset makes a new execution of the run, in which the server may apply the old decisions again, and start again what
was under way. The workflow cannot tell: its code sees a signal the same, however it came. The history can.
"""

from __future__ import annotations

from typing import Final

from temporalio import activity
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

from assent import protocol
from assent.chain import pages
from assent.protocol import Authorization

_RESET: Final = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW


async def opened_before_a_reset(authorization: Authorization) -> bool:
    """Whether what *authorization* approves began to wait before the newest reset of the run; in its activity.

    What never waited in the open, because a grant or an edit was enough, counts as from before. A run that was never
    reset pays nothing for the question.
    """
    info = activity.info()
    if authorization.execution_id in {None, info.workflow_run_id} or info.workflow_id is None:
        return False
    reset, opened = 0, 0
    async for page in pages(activity.client(), info.workflow_id, info.workflow_run_id or ""):
        for event in page.events:
            if _is_reset(event):
                reset = event.event_id
            if not opened and _opens(event, authorization.requirement_id):
                opened = event.event_id
    return opened < reset


def _is_reset(event: HistoryEvent) -> bool:
    return (
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        and event.workflow_task_failed_event_attributes.cause == _RESET
    )


def _opens(event: HistoryEvent, requirement_id: str) -> bool:
    if event.event_type != EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED:
        return False
    fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
    return protocol.MEMO_PENDING in fields and requirement_id.encode() in fields[protocol.MEMO_PENDING].data
