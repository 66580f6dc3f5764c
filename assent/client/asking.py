"""What came of one message to a run: which of the model's answers is the answer to it.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent.core.events import MessageReceived, ModelAnswered, ToolAnswered
from assent.core.state_machine import Run, decide
from assent.history.fold import HistoryFold, Transition
from assent.wire.errors import MessageError
from assent.wire.protocol import SEND_MESSAGE


@dataclass(slots=True)
class Asked:
    """A message that was sent after the first *events* events of the execution *execution_id*.

    Equal messages of the same sender cannot be told apart, and need not be: the first answer is to both.
    """

    body: Mapping[str, JsonValue]
    execution_id: str
    events: int
    handled: bool = False
    _told: bool = False

    def answer(self, execution_id: str, happening: Transition) -> Run | None:
        """The run as it stands with the answer to the message; None where this is not the answer yet.

        Raises:
            MessageError: the message did not count.
        """
        if not self.handled:
            if self._is_it(execution_id, happening):
                self._handle(happening)
            return None
        told, run = self._told, happening.step.run
        self._told = told or not run.queued
        if run.ended or run.status == "idle":
            return run
        return _passed(happening) if told else None

    def _is_it(self, execution_id: str, happening: Transition) -> bool:
        event = happening.event
        if not isinstance(event, MessageReceived) or event.name != SEND_MESSAGE or event.arguments != (self.body,):
            return False
        return execution_id != self.execution_id or happening.source.event_id > self.events

    def _handle(self, happening: Transition) -> None:
        result = happening.step.result
        if result is not None and result.status != "recorded":
            message = f"the message was not taken: {result.status}: {result.detail}"
            raise MessageError(message)
        self.handled = True
        # What is sent to an idle conversation is told at once; what comes in mid-turn waits for the next one.
        self._told = not happening.step.run.queued


def _passed(happening: Transition) -> Run | None:
    """The run with an answer that it did not rest at, because more messages waited for the model."""
    before, event = happening.before, happening.event
    if not (before.is_conversation and before.queued and isinstance(event, ModelAnswered | ToolAnswered)):
        return None
    alone = decide(replace(before, queued=(), queued_size=0, closing=False), event).run
    return alone if alone.status == "idle" else None


def stands(follower: HistoryFold) -> bool:
    """Whether nothing of a run that is followed moves but runs below it: it waits for those, and maybe for people."""
    run = follower.run
    if run.ended or run.model_running or run.checks or follower.unread:
        return False
    moving = [call for call in run.calls if call.running or call.again_at is not None]
    return bool(moving) and all(call.child is not None for call in moving)


@dataclass(slots=True)
class Rest:
    """Whether a run that is followed rests: nothing of it moves until somebody decides or says something."""

    _task: bool = False

    def is_reached(self, events: Iterable[HistoryEvent], follower: HistoryFold) -> bool:
        """Whether it rests after these *events*, which *follower* has been fed."""
        for event in events:
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._task = True
            elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                self._task = False
        run = follower.run
        if run.ended:
            return True
        # A message that is sent and not handled yet will move it. While a worker has a task of the run, the server
        # keeps what is sent out of the history until that is done.
        return not (run.status == "running" or run.checks or follower.unread or (run.status == "idle" and self._task))
