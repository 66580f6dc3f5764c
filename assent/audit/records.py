"""The audit of a run: what was asked, who decided, what ran, and where in its history each of these is written.

Every record cites the events that it was read from. Nothing here is stored anywhere: it is read anew from the history.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, overload

from pydantic import Field

from assent.audit.approval import Approval
from assent.wire.protocol import DecisionStatus, Gate, ParentRun, RunStatus, Stored, Usage
from assent.wire.requirements import Grant, RunState

TEXT_SHOWN: Final = 2_000
"""Characters of a result, an answer or a failure that a record holds; its size and digest are those of the whole."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

Attribution = Literal["verified", "differs", "unverified"]


class Citation(Stored):
    """One event of the history: the execution that it is in, and its number there."""

    execution_id: str
    event_id: int


class TextDigest(Stored):
    """A text: its beginning, how many bytes it has as UTF-8, and the SHA-256 of those as hex."""

    text: str
    size: int
    sha256: str


class SentMessage(Stored):
    """Something that was sent to a run, and what it came to.

    *sent_at* is when the server took it, *handled_at* when the run did; None where no worker has read it. *by* is the
    name that the message claims. *identity* is what the sending program said of itself, free text. *principal* is who
    the server saw, where it authenticates senders. *attribution* compares the two: `unverified` where there is no
    principal. *content* is the whole message as JSON. *status* is `unread` where no worker has read it, `checking`
    where one still checks it, else as in `DecisionResult`.
    """

    name: str
    channel: Literal["signal", "update"]
    sent_at: datetime
    handled_at: datetime | None = None
    status: DecisionStatus | Literal["unreadable", "unread", "checking"]
    detail: str = ""
    by: str | None = None
    reason: str | None = None
    identity: str | None = None
    principal: str | None = None
    attribution: Attribution = "unverified"
    content: TextDigest
    events: list[Citation]


class ChildRecord(Stored):
    """The run in which another agent answers a call: a child workflow of the run that calls.

    *outcome* is `answered`, `failed`, `running`, `left` (the run that asked ended first, and it was asked to end too),
    or `unstarted` (that one ended before it began). *answer* is the whole of what it answered, bounded as results are;
    *error* why it gave none; *usage* what it used, which is part of the usage of the run that asked. *events* are those
    by which it was asked for, begun, and over. Its own audit is that of *run_id*.
    """

    run_id: str | None
    agent: str
    outcome: Literal["answered", "failed", "running", "left", "unstarted"]
    asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    answer: TextDigest | None = None
    error: str | None = None
    usage: Usage = Field(default_factory=Usage)
    events: list[Citation] = Field(default_factory=list[Citation])


class ToolRun(Stored):
    """One time that a tool's activity was scheduled.

    *attempts* is how often it was started. *worker* is who ran it last, *build* the code that worker had. *outcome*:
    `executed`, `failed`, `refused` (its worker did not run it), `postponed` (no worker served it; it is tried again),
    `lost` (no result: nobody knows whether it took effect), `running`, or `unstarted` (its run ended first).
    *result* is what it gave, or the failure. *last_failure* is that of the attempt before the last.

    Where the call is answered by another agent, *child* is the run in which that works; outcome, result and
    *finished_at* are those of the child, and *started_at*, *attempts* and *worker* those of the activity before it.
    *handoff* is the agent that the call hands the conversation over to.
    """

    tool: str
    activity_id: str
    arguments_sha256: str
    outcome: Literal["executed", "failed", "refused", "postponed", "lost", "running", "unstarted"]
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    worker: str | None = None
    build: str | None = None
    result: TextDigest | None = None
    last_failure: str | None = None
    child: ChildRecord | None = None
    handoff: str | None = None
    events: list[Citation]


class RunRecord(Stored):
    """A run as a whole.

    *executions* are those that it went on in, in order; *missing* those that are gone, so that the records lack what
    happened there. *agent_versions*, *policy_versions* and *models* are those that there were, in order. *builds* are
    the builds of the workers that decided for it. *started_identity* and *started_principal* are of whoever started
    it, as in `Sent`; *attribution* is about *requested_by*. *agent* is the one that was asked, whoever the conversation
    was handed over to since. *parents* are the runs above, the outermost first, where it answers a call of another.
    """

    record: Literal["run"] = "run"
    run_id: str
    executions: list[str]
    missing: list[str] = Field(default_factory=list[str])
    agent: str
    agent_versions: list[str]
    policy_versions: list[str]
    models: list[str]
    builds: list[str]
    requested_by: str | None
    started_identity: str | None = None
    started_principal: str | None = None
    attribution: Attribution = "unverified"
    status: RunStatus | Literal["terminated", "timed out"]
    input: TextDigest
    answer: TextDigest | None = None
    error: str | None = None
    started_at: datetime
    closed_at: datetime | None = None
    turns: int
    tool_calls: int
    usage: Usage
    history_events: int
    parents: list[ParentRun] = Field(default_factory=list[ParentRun])
    events: list[Citation]


class SummaryPart(Stored):
    """What a summary replaced: how many *items* of the conversation of that *digest*, and what stayed behind them.

    *text* is the summary as the model made it; None where it failed. *left_out*: it had failed too often, and the model
    is told that the items are left out.
    """

    items: int
    kept: int
    digest: str
    text: TextDigest | None = None
    left_out: bool = False


class TurnRecord(Stored):
    """One model call: of which agent, which model, how many tokens, how often it was tried, on which worker.

    With *summary* it was no turn of the run: after that *turn*, it summarised older ones.
    """

    record: Literal["turn"] = "turn"
    turn: int
    summary: SummaryPart | None = None
    model: str
    agent_version: str
    policy_version: str
    usage: Usage
    calls: int
    attempts: int
    worker: str | None
    scheduled_at: datetime | None
    finished_at: datetime | None
    failure: str | None = None
    agent: str = ""
    events: list[Citation]


class CallRecord(Stored):
    """A tool call that nobody was asked about: one that was allowed, or denied, or whose arguments did not fit.

    *told* is what the model was told of a call that did not run, *agent* the one that made it.
    """

    record: Literal["call"] = "call"
    turn: int
    call_id: str
    tool: str
    arguments: str
    arguments_sha256: str
    gate: Gate
    policy_version: str
    told: TextDigest | None = None
    runs: list[ToolRun] = Field(default_factory=list[ToolRun])
    agent: str = ""
    events: list[Citation]


class ApprovalRecord(Approval):
    """The record of a requirement: all of `Approval`, with who sent what, what ran, and where it is written.

    *gate* is the gate that the call was given when the model asked, None for a requirement that came after another.
    *model* asked for it, in *context.turn*. *decisions* is everything that was sent about it, counted or not, in the
    order in which the run handled it. *arguments_before* are those that an edit replaced. *opened* and *resolved* cite
    the events by which it began to wait and ceased to.
    """

    record: Literal["approval"] = "approval"
    arguments_sha256: str
    arguments_before: str | None = None
    gate: Gate | None = None
    model: str = ""
    agent_version: str = ""
    decisions: list[SentMessage] = Field(default_factory=list[SentMessage])
    runs: list[ToolRun] = Field(default_factory=list[ToolRun])
    opened: Citation
    resolved: Citation | None = None


class GrantRecord(Grant):
    """An approval that was remembered, the approvals that it gave, and what was sent to end it."""

    record: Literal["grant"] = "grant"
    approvals: list[str] = Field(default_factory=list[str])
    decisions: list[SentMessage] = Field(default_factory=list[SentMessage])
    given: Citation


class HandoffRecord(Stored):
    """That an agent handed the conversation over to another, by a call of *tool* in *turn*.

    *at* is when that took effect, at the end of the turn; None where the run ended first. *bounded_by* is the version
    of what bounds the agent that goes on, besides its own policy. *grants* are the approvals that ended with it.
    *events* are those by which it was said, and took effect.
    """

    record: Literal["handoff"] = "handoff"
    from_agent: str
    to_agent: str
    turn: int
    call_id: str
    tool: str
    said_at: datetime
    at: datetime | None = None
    bounded_by: str | None = None
    grants: list[str] = Field(default_factory=list[str])
    events: list[Citation]


class MessageRecord(SentMessage):
    """Something that was sent and is about no requirement: a message for the model, or what could not be placed."""

    record: Literal["message"] = "message"


Record = RunRecord | TurnRecord | CallRecord | ApprovalRecord | GrantRecord | HandoffRecord | MessageRecord


@dataclass(frozen=True, slots=True)
class Audit(Sequence[ApprovalRecord]):
    """The audit of a run: the sequence of its approval records, and the rest of what there is to tell.

    *state* is what the run's own query `state` answers at this point of the history.
    """

    run: RunRecord
    approvals: tuple[ApprovalRecord, ...]
    grants: tuple[GrantRecord, ...]
    handoffs: tuple[HandoffRecord, ...]
    calls: tuple[CallRecord, ...]
    turns: tuple[TurnRecord, ...]
    messages: tuple[MessageRecord, ...]
    state: RunState

    def __len__(self) -> int:
        """How many approval records there are."""
        return len(self.approvals)

    @overload
    def __getitem__(self, index: int) -> ApprovalRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ApprovalRecord]: ...

    def __getitem__(self, index: int | slice) -> ApprovalRecord | Sequence[ApprovalRecord]:
        """The approval record, or records, at *index*."""
        return self.approvals[index]

    def records(self) -> Iterator[Record]:
        """Every record: the run's first, then by kind, each kind in the order of the history."""
        yield self.run
        yield from self.approvals
        yield from self.grants
        yield from self.handoffs
        yield from self.messages
        yield from self.calls
        yield from self.turns

    @property
    def children(self) -> list[ChildRecord]:
        """The runs in which other agents answered its calls, in the order in which they were asked."""
        runs = [run for record in self.approvals for run in record.runs]
        runs += [run for record in self.calls for run in record.runs]
        found = [run.child for run in runs if run.child is not None]
        return sorted(found, key=lambda child: child.asked_at or _NEVER)
