"""Looking on while a history is audited.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from typing import Protocol

from temporalio.api.history.v1 import HistoryEvent

from assent import activity_ids
from assent.chain import Missing, Page
from assent.events import CallModel, CheckCall, RunTool, Summarise
from assent.history import Happening

Scheduling = RunTool | CallModel | Summarise | CheckCall
"""The commands that become an activity each."""


def activity_id_of(command: Scheduling) -> str:
    """The id of the activity that it becomes."""
    match command:
        case RunTool(turn=turn, position=position):
            return activity_ids.tool_activity_id(turn, position)
        case CallModel(input=call):
            return activity_ids.model_activity_id(call.turn)
        case Summarise(input=wanted):
            return activity_ids.summary_activity_id(wanted.number)
        case CheckCall(number=number):
            return activity_ids.check_activity_id(number)


class Witness(Protocol):
    """Whoever looks on while a history is audited, to check it (see `assent.verification`)."""

    def saw_page(self, page: Page) -> None:
        """A page, before anything was read from it."""

    def saw_missing(self, missing: Missing) -> None:
        """An execution that is gone."""

    def saw_happening(self, happening: Happening, execution_id: str) -> None:
        """Something that happened to the run."""

    def saw_scheduled(self, happening: Happening, command: Scheduling, scheduled: HistoryEvent | None) -> None:
        """What the rules asked for, and the event by which the run scheduled that; None where it did not."""

    def saw_unasked(self, scheduled: HistoryEvent, execution_id: str) -> None:
        """An activity that the run scheduled and the rules did not ask for."""
