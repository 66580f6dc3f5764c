"""The records of an audit: what was requested, who decided, what ran. Each cites the events that it was read from.

No record is stored: every audit reads the history again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, overload

from pydantic import Field

from assent.audit.approval import Approval
from assent.history.resets import Reset
from assent.wire.protocol import DecisionStatus, Gate, ParentRun, RunStatus, Stored, Usage
from assent.wire.requirements import Grant, RunState

TEXT_SHOWN: Final = 2_000
"""Characters of a result, answer or failure that a record holds; size and digest are those of the whole text."""

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

Attribution = Literal["verified", "differs", "unverified"]


class Citation(Stored):
    """One event of the history: its execution, and its number there."""

    execution_id: str
    event_id: int


class TextDigest(Stored):
    """The beginning of a text, its size in bytes of UTF-8, and the SHA-256 of these bytes in hex."""

    text: str
    size: int
    sha256: str


class SentMessage(Stored):
    """A message to a run, and its outcome.

    The server received it at *sent_at*, the run handled it at *handled_at* (None: no worker has read it). *by* is the
    name in the message, *identity* the free text by which the sending program names itself, *principal* the sender that
    the server authenticated, if it does so. *attribution* compares *by* and *principal*; it is `unverified` without a
    principal. *content* is the message as JSON. *status* is `unread`, `checking` while a worker checks it, else as in
    `DecisionResult`.
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
    """A child run, which answers a call. Its own audit is that of *run_id*.

    *outcome* is `answered`, `failed`, `running`, `left` (the parent run ended first, and cancelled it), or `unstarted`
    (the parent run ended before it started). *answer* is its answer, *error* says why there is none. *usage* is its
    usage, which the parent run's includes. *events* requested, started and ended it.
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
    """One scheduled activity of a tool.

    *attempts* counts its starts. *worker* ran it last, with the code *build*. *outcome*: `executed`, `failed`,
    `refused` (its worker did not run it), `postponed` (no worker served it; it is tried again), `lost` (it gave no
    result, so its effect is unknown), `running`, or `unstarted` (its run ended first). *result* is its result or
    failure, *last_failure* the failure of the previous attempt.

    If a child run answers the call, *child* is its record. Outcome, result and *finished_at* are then the child run's;
    *started_at*, *attempts* and *worker* are those of the activity before it. *handoff* is the agent that gets the
    conversation.
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

    *executions* are in order; what happened in the *missing* ones is not in the records. *agent* is the first agent,
    also after a handoff. *agent_versions*, *policy_versions* and *models* are in order of first use. *builds* are those
    of the workers of its workflow tasks. *started_identity* and *started_principal* name the sender of its start, as in
    `SentMessage`; *attribution* compares the principal with *requested_by*.

    *instructions* are the texts that functions gave as instructions, in order of first use; *agent_versions* are
    digests of all others. *context* is the request's, as canonical JSON. *parents* are the parent runs, the root of the
    run tree first. *resets* are the workflow resets that made its executions. In a run without a model, *caller* is the
    id of the workflow whose code asks people (empty: a client asks), and *agent* is its name.
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
    context: TextDigest | None = None
    instructions: list[TextDigest] = Field(default_factory=list[TextDigest])
    answer: TextDigest | None = None
    error: str | None = None
    started_at: datetime
    closed_at: datetime | None = None
    turns: int
    tool_calls: int
    usage: Usage
    history_events: int
    parents: list[ParentRun] = Field(default_factory=list[ParentRun])
    resets: list[Reset] = Field(default_factory=list[Reset])
    caller: str | None = None
    events: list[Citation]


class SummaryPart(Stored):
    """What a summary replaced: so many *items* of the conversation of this *digest*; the newest *kept* items stayed.

    *text* is the model's summary, None if it failed. *left_out*: it failed too often. Then the items are left out, and
    the model is told so.
    """

    items: int
    kept: int
    digest: str
    text: TextDigest | None = None
    left_out: bool = False


class TurnRecord(Stored):
    """One model call: agent, model, usage, attempts and worker.

    *instructions_sha256* names the one of the run's *instructions* that the model got; empty if no function gave any.
    With a *summary*, the call was not a turn: it summarised older turns, after *turn*.
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
    instructions_sha256: str = ""
    events: list[Citation]


class CallRecord(Stored):
    """A tool call without a requirement: allowed, denied, or with invalid arguments.

    *told* is the answer to the model for a call that did not run. *agent* made the call.
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
    """The record of a requirement: an `Approval`, its messages, its tool runs, and the events.

    *gate* is the gate of the model's call, None for a requirement that follows another one. *model* made the call, in
    *context.turn*. *decisions* are all messages about it, ignored ones too, in the order in which the run handled them.
    *arguments_before* are the arguments that an edit replaced. *arguments_sha256* is empty if the execution that had
    the arguments is gone. *opened* and *resolved* cite the events at which it began and ceased to be pending.
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
    """A grant, the requirements that it decided (*approvals*), and the messages that revoked it."""

    record: Literal["grant"] = "grant"
    approvals: list[str] = Field(default_factory=list[str])
    decisions: list[SentMessage] = Field(default_factory=list[SentMessage])
    given: Citation


class HandoffRecord(Stored):
    """A handoff of the conversation to another agent, by a call of *tool* in *turn*.

    It took effect *at* the end of the turn; None if the run ended first. *bounded_by* is the version of the policy that
    limits the next agent, in addition to its own. *grants* ended with it. *events* are those of the call and of the
    effect.
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
    """A message that is about no requirement: text for the model, or what could not be read or placed."""

    record: Literal["message"] = "message"


Record = RunRecord | TurnRecord | CallRecord | ApprovalRecord | GrantRecord | HandoffRecord | MessageRecord


@dataclass(frozen=True, slots=True)
class Audit(Sequence[ApprovalRecord]):
    """The audit of a run: the sequence of its approval records, and all other records.

    *state* is the answer of the run's query `state` at this point of the history.
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
        """Return the number of approval records."""
        return len(self.approvals)

    @overload
    def __getitem__(self, index: int) -> ApprovalRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ApprovalRecord]: ...

    def __getitem__(self, index: int | slice) -> ApprovalRecord | Sequence[ApprovalRecord]:
        """Return the approval record, or records, at *index*."""
        return self.approvals[index]

    def records(self) -> Iterator[Record]:
        """Yield every record: the run's first, then by kind, each kind in the order of the history."""
        yield self.run
        yield from self.approvals
        yield from self.grants
        yield from self.handoffs
        yield from self.messages
        yield from self.calls
        yield from self.turns

    @property
    def children(self) -> list[ChildRecord]:
        """The child runs, in the order of their requests."""
        runs = [run for record in self.approvals for run in record.runs]
        runs += [run for record in self.calls for run in record.runs]
        children = [run.child for run in runs if run.child is not None]
        return sorted(children, key=lambda child: child.asked_at or _NEVER)
