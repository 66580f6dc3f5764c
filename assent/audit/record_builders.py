"""What an auditor gathers about one requirement, call, grant or turn, until it is a record.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields
from assent.audit.approval import fields_of
from assent.audit.child_builders import ChildBuilder
from assent.audit.records import (
    ApprovalRecord,
    CallRecord,
    Citation,
    GrantRecord,
    RunRecord,
    SentMessage,
    SummaryPart,
    TextDigest,
    ToolRun,
    TurnRecord,
)
from assent.core.compaction import Summary
from assent.core.compaction_steps import is_left_out
from assent.core.events import Failure, RunTool, Summarised, ToolAnswered, ToolLost
from assent.core.state_machine import Run
from assent.core.tool_calls import answer_of, gate_of
from assent.history import event_types
from assent.history.event_types import time_of
from assent.wire.activity_ids import tool_activity_id
from assent.wire.conversation import ToolCall, tool_calls
from assent.wire.digest import text_digest
from assent.wire.protocol import Gate, ModelTurn, RunRequest, ToolOutcome, Usage
from assent.wire.requirements import Attempt, Grant, Requirement
from assent.wire.text import bounded

FAILURE_SHOWN: Final = 500
_Outcome = Literal["executed", "failed", "refused", "postponed", "lost", "running", "unstarted"]


@dataclass(slots=True)
class ToolRunBuilder:
    """One time that a tool was to run: what the rules asked for, and the event that scheduled it, if there is one.

    *child* is the run of the agent that answers the call, *refused* why there is none.
    """

    command: RunTool
    scheduled: HistoryEvent | None = None
    cited: Citation | None = None
    outcome: _Outcome | None = None
    result: TextDigest | None = None
    started: HistoryEvent | None = None
    closed: HistoryEvent | None = None
    cites: list[Citation] = field(default_factory=list[Citation])
    child: ChildBuilder | None = None
    handoff: str | None = None

    def close(
        self,
        event: ToolAnswered | ToolLost,
        closed: HistoryEvent,
        started: HistoryEvent | None,
        cite: Callable[[HistoryEvent], Citation],
        *,
        not_begun: str | None = None,
    ) -> None:
        """Take in how it ended; *not_begun* says why the agent that it is for was not asked."""
        self.started, self.closed = started, closed
        self.cites = [cite(each) for each in (started, closed) if each is not None]
        if not_begun is not None:
            self.outcome, text = "refused", not_begun
        elif isinstance(event, ToolAnswered):
            self.outcome, text = _outcome(event.outcome)
            self.handoff = event.outcome.handoff.agent if event.outcome.handoff is not None else None
        else:
            self.outcome, text = _lost(event, closed), event.failure.message
        self.result = event_fields.digest_of(text)
        if isinstance(event, ToolAnswered) and event.outcome.size is not None and event.outcome.sha256 is not None:
            # The output was cut: the record tells of the whole.
            self.result = self.result.model_copy(update={"size": event.outcome.size, "sha256": event.outcome.sha256})

    def record(self, *, over: bool) -> ToolRun:
        """The record; *over* says that the run has ended."""
        begun = self.started.activity_task_started_event_attributes if self.started is not None else None
        unfinished: _Outcome = "running" if not over else "lost"
        made = ToolRun.model_validate(
            {
                "tool": self.command.tool,
                "activity_id": tool_activity_id(self.command.turn, self.command.position),
                "arguments_sha256": text_digest(self.command.input.arguments),
                "outcome": "unstarted" if self.scheduled is None else self.outcome or unfinished,
                "scheduled_at": None if self.scheduled is None else time_of(self.scheduled),
                "started_at": None if self.started is None else time_of(self.started),
                "finished_at": None if self.closed is None else time_of(self.closed),
                "attempts": begun.attempt if begun is not None else 0,
                "worker": (begun.identity or None) if begun is not None else None,
                "build": event_fields.build_of(self.started) if self.started is not None else None,
                "result": self.result,
                "last_failure": _last_failure(self.started),
                "handoff": self.handoff,
                "events": [each for each in (self.cited, *self.cites) if each is not None],
            }
        )
        return made if self.child is None else _answered_below(made, self.child, over=over)


_BELOW: Final[dict[str, _Outcome]] = {
    "answered": "executed", "failed": "failed", "running": "running", "left": "lost", "unstarted": "unstarted",
}  # fmt: skip


def _answered_below(made: ToolRun, child: ChildBuilder, *, over: bool) -> ToolRun:
    """The record of a call that another agent answers: what came of it is what that one's run came to."""
    record = child.record(over=over)
    came: dict[str, object] = {"outcome": _BELOW[record.outcome], "finished_at": child.ended_at, "result": child.result}
    return made.model_copy(update={**came, "child": record, "events": [*made.events, *record.events]})


def _outcome(outcome: ToolOutcome) -> tuple[_Outcome, str]:
    if outcome.refused is not None:
        return ("postponed" if outcome.again_after is not None and outcome.gate is None else "refused"), outcome.refused
    if outcome.error is not None:
        return "failed", outcome.error
    return "executed", outcome.output or ""


def _lost(event: ToolLost, closed: HistoryEvent) -> _Outcome:
    """Whether a tool that gave no result is known to have failed."""
    failed = closed.activity_task_failed_event_attributes.failure
    told = failed.HasField("application_failure_info") and event.failure.kind != "RunsOnce"
    return "failed" if told else "lost"


def _last_failure(started: HistoryEvent | None) -> str | None:
    """Why the attempt before the last one failed."""
    if started is None or not started.activity_task_started_event_attributes.HasField("last_failure"):
        return None
    return bounded(started.activity_task_started_event_attributes.last_failure.message, FAILURE_SHOWN)


@dataclass(slots=True)
class ApprovalBuilder:
    """A requirement as it is by now, and what there is to tell about it besides."""

    requirement: Requirement
    opened: Citation
    resolved: Citation | None = None
    gate: Gate | None = None
    model: str = ""
    agent_version: str = ""
    arguments_before: str | None = None
    decisions: list[SentMessage] = field(default_factory=list[SentMessage])
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    runs: list[ToolRunBuilder] = field(default_factory=list[ToolRunBuilder])

    def __post_init__(self) -> None:
        """One that never waited was resolved as it was opened."""
        if self.requirement.status != "pending":
            self.resolved = self.opened

    def change(self, requirement: Requirement, cite: Citation) -> None:
        """Take in what it has become."""
        if self.requirement.status == "pending" and requirement.status != "pending":
            self.resolved = cite
        self.requirement = requirement

    def record(self, run: Run, *, over: bool) -> ApprovalRecord:
        """The record; *over* says that the run has ended."""
        return ApprovalRecord.model_validate(
            {
                **fields_of(run, self.requirement, self.attempts),
                "arguments_sha256": text_digest(self.requirement.arguments),
                "arguments_before": self.arguments_before,
                "gate": self.gate,
                "model": self.model,
                "agent_version": self.agent_version,
                "decisions": self.decisions,
                "runs": [each.record(over=over) for each in self.runs],
                "opened": self.opened,
                "resolved": self.resolved,
            }
        )


@dataclass(slots=True)
class GrantBuilder:
    """A grant as it is by now, the requirements that it approved, and what was sent to end it."""

    grant: Grant
    given: Citation
    approvals: list[str] = field(default_factory=list[str])
    decisions: list[SentMessage] = field(default_factory=list[SentMessage])

    def record(self) -> GrantRecord:
        """The record."""
        return GrantRecord.model_validate(
            {**dict(self.grant), "approvals": self.approvals, "decisions": self.decisions, "given": self.given}
        )


@dataclass(slots=True)
class CallBuilder:
    """A call that nobody is asked about."""

    turn: int
    call: ToolCall
    asked: ModelTurn
    cite: Citation
    agent: str
    runs: list[ToolRunBuilder] = field(default_factory=list[ToolRunBuilder])

    def record(self, *, over: bool) -> CallRecord:
        """The record; *over* says that the run has ended."""
        gate = gate_of(self.asked, self.call)
        told = answer_of(gate)
        return CallRecord(
            turn=self.turn,
            call_id=self.call.call_id,
            tool=self.call.tool,
            arguments=self.call.arguments,
            arguments_sha256=text_digest(self.call.arguments),
            gate=gate,
            policy_version=self.asked.policy_version,
            told=None if told is None else event_fields.digest_of(told),
            runs=[each.record(over=over) for each in self.runs],
            agent=self.agent,
            events=[self.cite],
        )


@dataclass(slots=True)
class TurnBuilder:
    """A model call that is over: what it answered, or why it failed, and the events around it."""

    number: int
    turn: ModelTurn | None
    failure: Failure | None
    around: Sequence[HistoryEvent]
    cites: list[Citation]
    agent: str

    def record(self) -> TurnRecord:
        """The record."""
        started = next((each for each in self.around if each.event_type == event_types.ACTIVITY_STARTED), None)
        begun = None if started is None else started.activity_task_started_event_attributes
        turn, last = self.turn, self.around[-1]
        return TurnRecord(
            turn=self.number,
            model=turn.model if turn else "",
            agent_version=turn.agent_version if turn else "",
            policy_version=turn.policy_version if turn else "",
            usage=turn.usage if turn else Usage(),
            calls=len(tool_calls(turn.items)) if turn else 0,
            attempts=begun.attempt if begun is not None else 0,
            worker=(begun.identity or None) if begun is not None else None,
            scheduled_at=time_of(self.around[0]),
            finished_at=time_of(last),
            failure=f"{self.failure.kind}: {self.failure.message}" if self.failure else None,
            agent=self.agent,
            events=self.cites,
        )


@dataclass(slots=True)
class SummaryBuilder:
    """A summary that is over: the run *before* and *after* that, what came of it, and the events around it."""

    before: Run
    after: Run
    event: Summarised
    around: Sequence[HistoryEvent]
    cites: list[Citation]
    turn: None = None

    def record(self) -> TurnRecord:
        """The record."""
        made = self.event.summary
        failure = made if isinstance(made, Failure) else None
        agent = self.before.caller.agent
        record = TurnBuilder(self.before.turn, None, failure, self.around, self.cites, agent).record()
        fields: dict[str, object] = {"summary": self._part()}
        if isinstance(made, Summary):
            fields |= {"model": made.model, "usage": made.usage}
        return record.model_copy(update=fields)

    def _part(self) -> SummaryPart:
        wanted = self.before.compaction.under_way if self.before.compaction else None
        made = self.event.summary
        text = None if isinstance(made, Failure) else made.summary.strip() or None
        return SummaryPart(
            items=wanted.replaced if wanted else 0,
            kept=wanted.keep if wanted else 0,
            digest=self.before.conversation.digest,
            text=None if text is None else event_fields.digest_of(text),
            left_out=is_left_out(self.event, self.before, self.after),
        )


@dataclass(frozen=True, slots=True)
class RunFile:
    """What there is to tell about a run as a whole. *around* are its first event and its last."""

    run_id: str
    request: RunRequest | None
    executions: list[str]
    missing: list[str]
    builds: list[str]
    turns: list[ModelTurn]
    around: Sequence[HistoryEvent]
    how: str | None
    events: int


def run_record(run: Run, file: RunFile) -> RunRecord:
    """The record of a run as a whole."""
    first, last = file.around[0], file.around[-1]
    asker = file.request.requested_by if file.request else None
    return RunRecord.model_validate(
        {
            "run_id": file.run_id,
            "executions": file.executions,
            "missing": file.missing,
            "agent": file.request.agent if file.request else "",
            "agent_versions": _distinct(turn.agent_version for turn in file.turns),
            "policy_versions": _distinct(turn.policy_version for turn in file.turns),
            "models": _distinct(turn.model for turn in file.turns),
            "builds": file.builds,
            "requested_by": asker,
            "started_identity": first.workflow_execution_started_event_attributes.identity or None,
            "started_principal": event_fields.principal_of(first),
            "attribution": event_fields.attribution_of(first, asker),
            "status": file.how if file.how in event_types.CLOSED_BY_SERVER else run.status,
            "input": event_fields.digest_of(file.request.input if file.request else ""),
            "answer": None if run.content is None else event_fields.digest_of(run.content),
            "error": f"{run.failure.kind}: {run.failure.message}" if run.failure else None,
            "started_at": time_of(first),
            "closed_at": time_of(last) if file.how is not None else None,
            "turns": run.turn,
            "tool_calls": run.tool_calls,
            "usage": run.usage,
            "history_events": file.events,
            "parents": file.request.parents if file.request else [],
            "events": [
                Citation(execution_id=file.executions[0], event_id=first.event_id),
                Citation(execution_id=file.executions[-1], event_id=last.event_id),
            ],
        }
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return [each for each in dict.fromkeys(values) if each]
