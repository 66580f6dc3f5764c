"""The interface of an observer: an audit calls one while it reads a history."""

from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import CallModel, CheckCall, RunTool, StartAgent, Summarise
from assent.history.fold import Transition
from assent.history.pages import MissingExecution, Page
from assent.wire import activity_ids

SchedulingCommand = RunTool | CallModel | Summarise | CheckCall | StartAgent
"""The commands that become an activity each, or a child workflow."""


def key_of(command: SchedulingCommand) -> str:
    """Return the id of the activity that a command becomes; for a child workflow, `agent_key`."""
    match command:
        case RunTool(turn=turn, position=position):
            return activity_ids.tool_activity_id(turn, position)
        case CallModel(input=call):
            return activity_ids.model_activity_id(call.turn)
        case Summarise(input=summary):
            return activity_ids.summary_activity_id(summary.number)
        case CheckCall(number=number):
            return activity_ids.check_activity_id(number)
        case StartAgent(request=request):
            return agent_key(request.parents[-1].call_id)


def agent_key(call_id: str) -> str:
    """Return the key of the child workflow that answers a call; no activity has this id."""
    return f"agent for {call_id}"


class AuditObserver:
    """Receives what an `Auditor` reads, and does nothing with it. `assent.audit.verifier` checks it."""

    def on_page(self, page: Page) -> None:
        """Receive a page, before the auditor reads it."""

    def on_missing(self, missing: MissingExecution) -> None:
        """Receive an execution whose history is gone."""

    def on_transition(self, transition: Transition) -> None:
        """Receive a transition of the run."""

    def on_scheduled(self, transition: Transition, command: SchedulingCommand, scheduled: HistoryEvent | None) -> None:
        """Receive a command of the rules and the event that scheduled it; None if the run never did."""

    def on_unrequested(self, scheduled: HistoryEvent) -> None:
        """Receive an activity or child workflow that the run scheduled without a command of the rules."""
