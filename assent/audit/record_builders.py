"""Record builders: each gathers what the history says about one approval, grant, call or turn."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields
from assent.audit.approval import fields_of
from assent.audit.child_builders import ChildBuilder
from assent.audit.event_fields import time_or_none
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
from assent.core.run_state import Run
from assent.core.tool_calls import gate_of
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.resets import Reset
from assent.wire.activity_ids import tool_activity_id
from assent.wire.conversation import ToolCall, tool_calls
from assent.wire.digest import canonical, text_digest
from assent.wire.protocol import Gate, ModelTurn, RunRequest, ToolOutcome, Usage
from assent.wire.requirements import Grant, IgnoredMessage, Requirement
from assent.wire.text import bounded

FAILURE_SHOWN: Final = 500
"""Characters of an earlier failure that a record holds."""
_Outcome = Literal["executed", "failed", "refused", "postponed", "lost", "running", "unstarted"]
_CHILD_OUTCOMES: Final[dict[str, _Outcome]] = {
    "answered": "executed", "failed": "failed", "running": "running", "left": "lost", "unstarted": "unstarted",
}  # fmt: skip


@dataclass(slots=True)
class ToolRunBuilder:
    """One run of a tool: the command, the events of its activity, and the *child* run that answers it, if any."""

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
        """Add how the activity ended; *not_begun* says why the child run that it asked for was not started."""
        self.started, self.closed = started, closed
        self.cites = [cite(each) for each in (started, closed) if each is not None]
        if not_begun is not None:
            self.outcome, text = "refused", not_begun
        elif isinstance(event, ToolAnswered):
            self.outcome, text = _outcome(event.outcome)
            self.handoff = event.outcome.handoff.agent if event.outcome.handoff is not None else None
        else:
            self.outcome, text = _has_failed(event, closed), event.failure.message
        self.result = event_fields.digest_of(text)
        if isinstance(event, ToolAnswered) and event.outcome.size is not None and event.outcome.sha256 is not None:
            # The output was cut: size and digest are those of the whole.
            self.result = self.result.model_copy(update={"size": event.outcome.size, "sha256": event.outcome.sha256})

    def record(self, *, over: bool) -> ToolRun:
        """Return the record; *over* says that the run has ended."""
        begun = (self.started or HistoryEvent()).activity_task_started_event_attributes
        tool_run = ToolRun(
            tool=self.command.tool,
            activity_id=tool_activity_id(self.command.turn, self.command.position),
            arguments_sha256=text_digest(self.command.input.arguments),
            outcome="unstarted" if self.scheduled is None else self.outcome or ("lost" if over else "running"),
            scheduled_at=time_or_none(self.scheduled),
            started_at=time_or_none(self.started),
            finished_at=time_or_none(self.closed),
            attempts=begun.attempt,
            worker=begun.identity or None,
            build=event_fields.build_of(self.started) if self.started is not None else None,
            result=self.result,
            last_failure=bounded(begun.last_failure.message, FAILURE_SHOWN) if begun.HasField("last_failure") else None,
            handoff=self.handoff,
            events=[each for each in (self.cited, *self.cites) if each is not None],
        )
        if self.child is None:
            return tool_run
        child = self.child.record(over=over)
        update: dict[str, object] = {
            "outcome": _CHILD_OUTCOMES[child.outcome],
            "finished_at": child.finished_at,
            "result": self.child.result,
            "child": child,
            "events": [*tool_run.events, *child.events],
        }
        return tool_run.model_copy(update=update)


def _outcome(outcome: ToolOutcome) -> tuple[_Outcome, str]:
    if outcome.refused is not None:
        return ("postponed" if outcome.again_after is not None and outcome.gate is None else "refused"), outcome.refused
    if outcome.error is not None:
        return "failed", outcome.error
    return "executed", outcome.output or ""


def _has_failed(event: ToolLost, closed: HistoryEvent) -> _Outcome:
    """Return whether a tool that gave no result is known to have failed."""
    failure = closed.activity_task_failed_event_attributes.failure
    is_known = failure.HasField("application_failure_info") and event.failure.kind != "RunsOnce"
    return "failed" if is_known else "lost"


@dataclass(slots=True)
class ApprovalBuilder:
    """A requirement in its latest state, and what the history says about it."""

    requirement: Requirement
    opened: Citation
    resolved: Citation | None = None
    gate: Gate | None = None
    model: str = ""
    agent_version: str = ""
    arguments_before: str | None = None
    decisions: list[SentMessage] = field(default_factory=list[SentMessage])
    ignored_messages: list[IgnoredMessage] = field(default_factory=list[IgnoredMessage])
    runs: list[ToolRunBuilder] = field(default_factory=list[ToolRunBuilder])

    def __post_init__(self) -> None:
        """Resolve a requirement that never waited as it is opened."""
        if self.requirement.status != "pending":
            self.resolved = self.opened

    def change(self, requirement: Requirement, cite: Citation) -> None:
        """Set the latest state; the short one of a later execution adds nothing."""
        if requirement.shortened:
            return
        if self.requirement.status == "pending" and requirement.status != "pending":
            self.resolved = cite
        self.requirement = requirement

    def record(self, run: Run, *, over: bool) -> ApprovalRecord:
        """Return the record; *over* says that the run has ended."""
        return ApprovalRecord.model_validate(
            {
                **fields_of(run, self.requirement, self.ignored_messages),
                "arguments_sha256": "" if self.requirement.shortened else text_digest(self.requirement.arguments),
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
    """A grant in its latest state, the requirements that it decided, and the messages that revoked it."""

    grant: Grant
    given: Citation
    approvals: list[str] = field(default_factory=list[str])
    decisions: list[SentMessage] = field(default_factory=list[SentMessage])

    def record(self) -> GrantRecord:
        """Return the record."""
        return GrantRecord.model_validate(
            {**dict(self.grant), "approvals": self.approvals, "decisions": self.decisions, "given": self.given}
        )


@dataclass(slots=True)
class CallBuilder:
    """A call without a requirement. *answer* is that to a call that neither ran nor waited."""

    turn: int
    call: ToolCall
    model_turn: ModelTurn
    answer: str | None
    cite: Citation
    agent: str
    runs: list[ToolRunBuilder] = field(default_factory=list[ToolRunBuilder])

    def record(self, *, over: bool) -> CallRecord:
        """Return the record; *over* says that the run has ended."""
        return CallRecord(
            turn=self.turn,
            call_id=self.call.call_id,
            tool=self.call.tool,
            arguments=self.call.arguments,
            arguments_sha256=text_digest(self.call.arguments),
            gate=gate_of(self.model_turn, self.call),
            policy_version=self.model_turn.policy_version,
            told=None if self.answer is None else event_fields.digest_of(self.answer),
            runs=[each.record(over=over) for each in self.runs],
            agent=self.agent,
            events=[self.cite],
        )


@dataclass(slots=True)
class TurnBuilder:
    """A finished model call: its turn or its failure, and its events."""

    number: int
    turn: ModelTurn | None
    failure: Failure | None
    events: Sequence[HistoryEvent]
    cites: list[Citation]
    agent: str

    def record(self) -> TurnRecord:
        """Return the record."""
        started = next(
            (each for each in self.events if each.event_type == event_types.ACTIVITY_STARTED), HistoryEvent()
        )
        begun = started.activity_task_started_event_attributes
        turn = self.turn
        failure = self.failure or (turn.failure if turn else None)
        return TurnRecord(
            turn=self.number,
            model=turn.model if turn else "",
            agent_version=turn.agent_version if turn else "",
            policy_version=turn.policy_version if turn else "",
            usage=turn.usage + turn.wasted if turn else Usage(),
            calls=len(tool_calls(turn.items)) if turn else 0,
            attempts=begun.attempt,
            worker=begun.identity or None,
            scheduled_at=time_of(self.events[0]),
            finished_at=time_of(self.events[-1]),
            failure=f"{failure.kind}: {failure.message}" if failure else None,
            agent=self.agent,
            instructions_sha256=turn.instructions.sha256 if turn and turn.instructions else "",
            events=self.cites,
        )


@dataclass(slots=True)
class SummaryBuilder:
    """A finished summary: the run *before* and *after* it, and its events."""

    before: Run
    after: Run
    event: Summarised
    events: Sequence[HistoryEvent]
    cites: list[Citation]
    turn: None = None

    def record(self) -> TurnRecord:
        """Return the record."""
        summary = self.event.summary
        failure = summary if isinstance(summary, Failure) else None
        text = "" if isinstance(summary, Failure) else summary.summary.strip()
        cut = self.before.compaction.under_way if self.before.compaction else None
        part = SummaryPart(
            items=cut.replaced if cut else 0,
            kept=cut.keep if cut else 0,
            digest=self.before.conversation.digest,
            text=event_fields.digest_of(text) if text else None,
            left_out=is_left_out(self.event, self.before, self.after),
        )
        fields: dict[str, object] = {"summary": part}
        if isinstance(summary, Summary):
            fields |= {"model": summary.model, "usage": summary.usage}
        agent = self.before.call_context.agent
        record = TurnBuilder(self.before.turn, None, failure, self.events, self.cites, agent).record()
        return record.model_copy(update=fields)


def run_record(
    run: Run,
    *,
    request: RunRequest | None,
    run_id: str,
    executions: list[str],
    missing: list[str],
    builds: list[str],
    turns: list[ModelTurn],
    first: HistoryEvent,
    last: HistoryEvent,
    closed_as: str | None,
    events: int,
    resets: list[Reset],
) -> RunRecord:
    """Return the record of a run as a whole; *closed_as* is its close status, *events* the number of its events."""
    requester, context = (request.requested_by, request.context) if request else (None, None)
    return RunRecord(
        run_id=run_id,
        executions=executions,
        missing=missing,
        resets=resets,
        agent=request.agent if request else "",
        agent_versions=_distinct(turn.agent_version for turn in turns),
        policy_versions=_distinct(turn.policy_version for turn in turns),
        models=_distinct(turn.model for turn in turns),
        builds=builds,
        requested_by=requester,
        started_identity=first.workflow_execution_started_event_attributes.identity or None,
        started_principal=event_fields.principal_of(first),
        attribution=event_fields.attribution_of(first, requester),
        status=event_types.CLOSED_BY_SERVER.get(closed_as or "", run.status),
        input=event_fields.digest_of(request.prompt if request else ""),
        instructions=[event_fields.digest_of(text) for text in _distinct(map(_instructions, turns))],
        context=None if context is None else event_fields.digest_of(canonical(context).decode()),
        answer=None if run.content is None else event_fields.digest_of(run.content),
        error=f"{run.failure.kind}: {run.failure.message}" if run.failure else None,
        started_at=time_of(first),
        closed_at=time_of(last) if closed_as is not None else None,
        turns=run.turn,
        tool_calls=run.tool_calls,
        usage=run.usage,
        history_events=events,
        parents=request.parents if request else [],
        caller=run.caller,
        events=[
            Citation(execution_id=executions[0], event_id=first.event_id),
            Citation(execution_id=executions[-1], event_id=last.event_id),
        ],
    )


def _instructions(turn: ModelTurn) -> str:
    return turn.instructions.text or "" if turn.instructions else ""


def _distinct(values: Iterable[str]) -> list[str]:
    return [each for each in dict.fromkeys(values) if each]
