"""Whether the run's own history asks for an approved call.

An authorization is data: the sender of an activity can put one together. The rules, given the history that the
server has, ask for a call only after the decisions on it. So the history is folded up to the event that scheduled
this activity, and the call must be the one that the rules ask for there.
"""

from __future__ import annotations

from temporalio import activity

from assent.core.events import RunTool
from assent.history import event_types
from assent.history.fold import HistoryFold
from assent.history.pages import pages
from assent.wire.activity_ids import tool_activity_id
from assent.wire.errors import HistoryError
from assent.wire.protocol import ToolCallInput

from .own_run import own_run


async def is_requested(tool: str, call: ToolCallInput) -> bool:
    """Return whether the history of this activity's run asks for exactly this *call* of *tool*.

    Reads the current execution; a continued one starts with the state that the one before carried.

    Raises:
        RPCError: the history cannot be read.
        HistoryError: it cannot be decoded or folded, or does not have this activity yet.
    """
    run, activity_id = own_run(), activity.info().activity_id
    folded = HistoryFold(run.run_id, run.execution_id)
    scheduled, commands = 0, list[RunTool]()
    async for page in pages(activity.client(), run.run_id, run.execution_id):
        for event in page.events:
            if event.event_type == event_types.ACTIVITY_SCHEDULED:
                scheduled += event.activity_task_scheduled_event_attributes.activity_id == activity_id
        for transition in folded.feed(page.events):
            for command in transition.step.commands:
                if isinstance(command, RunTool) and tool_activity_id(command.turn, command.position) == activity_id:
                    commands.append(command)
    if not scheduled:
        message = f"the history of run {run.run_id!r} does not have activity {activity_id!r} yet"
        raise HistoryError(message)
    # A call that is tried again has the same activity id. Its commands and events are in the same order.
    return scheduled <= len(commands) and (commands[scheduled - 1].tool, commands[scheduled - 1].input) == (tool, call)
