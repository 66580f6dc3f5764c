"""What an auditor gathers about agents that work for agents, until it is a record: runs below, and handoffs.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields
from assent.audit.records import ChildRecord, Citation, HandoffRecord, TextDigest
from assent.core import handoffs, sub_agents
from assent.core.events import AgentAnswered, StartAgent, ToolAnswered
from assent.core.state_machine import Run
from assent.history import child_workflows
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.wire.protocol import Handoff, RunResult, Usage

_Outcome = Literal["answered", "failed", "running", "left", "unstarted"]


@dataclass(slots=True)
class ChildBuilder:
    """The run of another agent that answers a call: what the rules asked for, and the events about it.

    *begun* holds the events by which the server said that such a run had begun, by its id.
    """

    command: StartAgent
    begun: Mapping[str, HistoryEvent]
    cite: Callable[[HistoryEvent], Citation]
    initiated: HistoryEvent | None = None
    closed: HistoryEvent | None = None
    answered: AgentAnswered | None = None

    def close(self, event: AgentAnswered, closed: HistoryEvent) -> None:
        """Take in how it ended."""
        self.answered, self.closed = event, closed

    @property
    def run_id(self) -> str | None:
        """The id of the run; None where it was never asked for."""
        return None if self.initiated is None else child_workflows.child_id_of(self.initiated)

    @property
    def ended_at(self) -> datetime | None:
        """When the run that asked learnt that this one was over."""
        return None if self.closed is None else time_of(self.closed)

    @property
    def result(self) -> TextDigest | None:
        """What it answered, or why it gave no answer."""
        if self.answered is None:
            return None
        answer = self.answered.answer
        told = answer.content if isinstance(answer, RunResult) else f"{answer.kind}: {answer.message}"
        return event_fields.digest_of(told)

    def outcome(self, *, over: bool) -> _Outcome:
        """What came of it; *over* says that the run that asked has ended."""
        if self.initiated is None:
            return "unstarted"
        if self.answered is None:
            return "left" if over else "running"
        return "answered" if isinstance(self.answered.answer, RunResult) else "failed"

    def record(self, *, over: bool) -> ChildRecord:
        """The record; *over* as in `outcome`."""
        started = self.begun.get(self.run_id or "")
        outcome, result = self.outcome(over=over), self.result
        return ChildRecord(
            run_id=self.run_id,
            agent=self.command.request.agent,
            outcome=outcome,
            asked_at=None if self.initiated is None else time_of(self.initiated),
            started_at=None if started is None else time_of(started),
            finished_at=self.ended_at,
            answer=result if outcome == "answered" else None,
            error=result.text if outcome == "failed" and result is not None else None,
            usage=self.answered.usage if self.answered is not None else Usage(),
            events=[self.cite(each) for each in (self.initiated, started, self.closed) if each is not None],
        )


@dataclass(slots=True)
class HandoffBuilder:
    """A call that hands the conversation over: who said so, and what became of it."""

    before: Run
    position: int
    to: Handoff
    said_at: datetime
    cites: list[Citation]
    at: datetime | None = None
    grants: list[str] = field(default_factory=list[str])

    def record(self) -> HandoffRecord:
        """The record."""
        call = self.before.calls[self.position].call
        return HandoffRecord(
            from_agent=self.before.caller.agent,
            to_agent=self.to.agent,
            turn=self.before.turn,
            call_id=call.call_id,
            tool=call.tool,
            said_at=self.said_at,
            at=self.at,
            bounded_by=None if self.to.policy is None else self.to.policy.version,
            grants=self.grants,
            events=self.cites,
        )


def followed(files: list[HandoffBuilder], transition: Transition, cite: Citation) -> None:
    """Take in what something that happened means for handoffs: one that is said, one that takes effect."""
    before, event, run = transition.before, transition.event, transition.step.run
    to = handoffs.said(before, event)
    if to is not None and isinstance(event, ToolAnswered):
        # Of the run before, a record needs a few words; its conversation is not kept for them.
        kept = replace(before, conversation=Run().conversation, requirements=(), attempts=())
        files.append(HandoffBuilder(kept, event.position, to, time_of(transition.source), [cite]))
    if files and files[-1].at is None and handoffs.taken(before, event, run) is not None:
        taken = files[-1]
        taken.at = event.at
        taken.grants = [grant.id for grant in handoffs.ended(before, run)]
        taken.cites += [cite] if cite not in taken.cites else []


def not_begun(transition: Transition) -> str | None:
    """Why the agent that a call was for was not asked; None where it was, or the call is for none."""
    event = transition.event
    if not isinstance(event, ToolAnswered) or event.outcome.delegation is None:
        return None
    if any(isinstance(command, StartAgent) for command in transition.step.commands):
        return None
    objection = sub_agents.objection(transition.before, event.outcome.delegation)
    return objection or "the run had ended before the agent was asked"
