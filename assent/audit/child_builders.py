"""Record builders of child runs and handoffs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields
from assent.audit.event_fields import time_or_none
from assent.audit.records import ChildRecord, Citation, HandoffRecord, TextDigest
from assent.core import handoffs, sub_agents
from assent.core.events import AgentAnswered, StartAgent, ToolAnswered
from assent.core.run_state import Run
from assent.history import child_workflows
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.wire.protocol import Handoff, RunResult, Usage


@dataclass(slots=True)
class ChildBuilder:
    """A child run that answers a call: the command, and the events about it.

    *starts* are the events by which the server said that child runs had started, by run id.
    """

    command: StartAgent
    starts: Mapping[str, HistoryEvent]
    cite: Callable[[HistoryEvent], Citation]
    initiated: HistoryEvent | None = None
    closed: HistoryEvent | None = None
    answered: AgentAnswered | None = None

    def close(self, event: AgentAnswered, closed: HistoryEvent) -> None:
        """Add how it ended."""
        self.answered, self.closed = event, closed

    @property
    def run_id(self) -> str | None:
        """The id of the child run; None if no event asked for it."""
        return None if self.initiated is None else child_workflows.child_id_of(self.initiated)

    @property
    def result(self) -> TextDigest | None:
        """Its answer, or the reason why there is none."""
        if self.answered is None:
            return None
        answer = self.answered.answer
        text = answer.content if isinstance(answer, RunResult) else f"{answer.kind}: {answer.message}"
        return event_fields.digest_of(text)

    def record(self, *, over: bool) -> ChildRecord:
        """Return the record; *over* says that the parent run has ended."""
        started = self.starts.get(self.run_id or "")
        result = self.result
        outcome: Literal["answered", "failed", "running", "left", "unstarted"]
        if self.initiated is None:
            outcome = "unstarted"
        elif self.answered is None:
            outcome = "left" if over else "running"
        else:
            outcome = "answered" if isinstance(self.answered.answer, RunResult) else "failed"
        return ChildRecord(
            run_id=self.run_id,
            agent=self.command.request.agent,
            outcome=outcome,
            asked_at=time_or_none(self.initiated),
            started_at=time_or_none(started),
            finished_at=time_or_none(self.closed),
            answer=result if outcome == "answered" else None,
            error=result.text if outcome == "failed" and result is not None else None,
            usage=self.answered.usage if self.answered is not None else Usage(),
            events=[self.cite(each) for each in (self.initiated, started, self.closed) if each is not None],
        )


@dataclass(slots=True)
class HandoffBuilder:
    """A call that hands the conversation over, and when that took effect."""

    before: Run
    position: int
    to: Handoff
    said_at: datetime
    cites: list[Citation]
    at: datetime | None = None
    grants: list[str] = field(default_factory=list[str])

    def record(self) -> HandoffRecord:
        """Return the record."""
        call = self.before.calls[self.position].call
        return HandoffRecord(
            from_agent=self.before.call_context.agent,
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


def follow_handoffs(builders: list[HandoffBuilder], transition: Transition, cite: Citation) -> None:
    """Update *builders* with a handoff that a transition asks for, or that takes effect with it."""
    before, event, run = transition.before, transition.event, transition.step.run
    to = handoffs.handoff_of(before, event)
    if to is not None and isinstance(event, ToolAnswered):
        # A record needs little of the run, so the conversation is not kept.
        small = replace(before, conversation=Run().conversation, requirements=(), ignored_messages=())
        builders.append(HandoffBuilder(small, event.position, to, time_of(transition.source), [cite]))
    if builders and builders[-1].at is None and handoffs.effective_handoff(before, event, run) is not None:
        latest = builders[-1]
        latest.at = event.at
        latest.grants = [grant.id for grant in handoffs.ended_grants(before, run)]
        latest.cites += [cite] if cite not in latest.cites else []


def why_not_started(transition: Transition) -> str | None:
    """Return why the child run that a call asked for was not started; None if it was, or the call asked for none."""
    event = transition.event
    if not isinstance(event, ToolAnswered) or event.outcome.delegation is None:
        return None
    if any(isinstance(command, StartAgent) for command in transition.step.commands):
        return None
    objection = sub_agents.delegation_objection(transition.before, event.outcome.delegation)
    return objection or "the run had ended before the agent was asked"
