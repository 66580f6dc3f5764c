"""Looking on while a history is audited.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from typing import Protocol

from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import CallModel, CheckCall, RunTool, StartAgent, Summarise
from assent.history.fold import Transition
from assent.history.pages import Missing, Page
from assent.wire import activity_ids

SchedulingCommand = RunTool | CallModel | Summarise | CheckCall | StartAgent
"""The commands that become an activity each, or a child workflow."""


def key_of(command: SchedulingCommand) -> str:
    """The id of the activity that it becomes; of a child workflow what stands for one."""
    match command:
        case RunTool(turn=turn, position=position):
            return activity_ids.tool_activity_id(turn, position)
        case CallModel(input=call):
            return activity_ids.model_activity_id(call.turn)
        case Summarise(input=wanted):
            return activity_ids.summary_activity_id(wanted.number)
        case CheckCall(number=number):
            return activity_ids.check_activity_id(number)
        case StartAgent(request=request):
            return agent_key(request.parents[-1].call_id)


def agent_key(call_id: str) -> str:
    """What stands for the child workflow that answers a call; the id of no activity."""
    return f"agent for {call_id}"


def task_queue_of(command: SchedulingCommand) -> str | None:
    """The task queue that it names; None: that of the run."""
    match command:
        case RunTool(options=options):
            return options.task_queue
        case CallModel(task_queue=queue) | Summarise(task_queue=queue):
            return queue
        case StartAgent(task_queue=queue):
            return queue
        case CheckCall():
            return None


class AuditObserver(Protocol):
    """Whoever looks on while a history is audited, to check it (see `assent.audit.verifier`)."""

    def on_page(self, page: Page) -> None:
        """A page, before anything was read from it."""

    def on_missing(self, missing: Missing) -> None:
        """An execution that is gone."""

    def on_transition(self, transition: Transition, execution_id: str) -> None:
        """Something that happened to the run."""

    def on_scheduled(self, transition: Transition, command: SchedulingCommand, scheduled: HistoryEvent | None) -> None:
        """What the rules asked for, and the event by which the run scheduled that; None where it did not."""

    def on_unrequested(self, scheduled: HistoryEvent, execution_id: str) -> None:
        """An activity that the run scheduled and the rules did not ask for."""
