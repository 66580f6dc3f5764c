"""A requirement, what was decided about it, and the state of a run: what queries, memos and audits are made of."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field, JsonValue

from assent.wire.budget import Budget
from assent.wire.digest import parse_arguments
from assent.wire.duration import Duration
from assent.wire.policy import Condition
from assent.wire.proofs import DecisionProof, ProofLevel
from assent.wire.protocol import (
    ApprovalType,
    ChildRun,
    InputField,
    ParentRun,
    RequirementKind,
    RunStatus,
    Stored,
    Usage,
)


class Vote(Stored):
    """One accepted decision of a person on a requirement. Without a *proof*, *by* is a claim."""

    verdict: Literal["approve", "reject", "submit"]
    by: str
    at: datetime
    reason: str | None = None
    channel: str = "signal"
    proof: DecisionProof | None = None


class EscalationStep(Stored):
    """More people who may decide from this time on, if there is no decision by then."""

    at: datetime
    approvers: list[str]


class Grant(Stored):
    """A remembered decision: further calls of one tool in the same run are approved or rejected without asking.

    *verdict* is the decision. *id* is 64 hex digits; a unique prefix names it, as for a requirement. It decides at most
    *uses* calls (None: any number), until *expires_at* (None: the end of the run). It decides only calls whose
    arguments satisfy *arguments*, under the same *policy_version* and *tool_digest*. *used* counts them. *by* gave it
    with the decision on *requirement_id*; *proof* is the proof of that decision.
    """

    id: str
    tool: str
    by: str
    at: datetime
    requirement_id: str
    policy_version: str = ""
    tool_digest: str = ""
    uses: int | None = None
    expires_at: datetime | None = None
    arguments: dict[str, Condition] | None = None
    used: int = 0
    revoked_by: str | None = None
    revoked_at: datetime | None = None
    reason: str | None = None
    verdict: Literal["approve", "reject"] = "approve"
    proof: DecisionProof | None = None

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id: what people see and type."""
        return self.id[:8]

    def is_active(self, at: datetime) -> bool:
        """Whether it still decides calls at this time."""
        spent = self.uses is not None and self.used >= self.uses
        expired = self.expires_at is not None and at >= self.expires_at
        return self.revoked_at is None and not spent and not expired


class IgnoredMessage(Stored):
    """An ignored message, kept so that people can see it.

    *text* is the beginning of what was sent; the whole is in the history.
    """

    status: Literal["duplicate", "late", "refused", "superseded", "unknown", "unreadable"]
    name: str
    detail: str
    at: datetime
    by: str | None = None
    requirement_id: str | None = None
    text: str = ""
    channel: str = "signal"


RequirementStatus = Literal["pending", "approved", "rejected", "expired", "cancelled", "superseded"]
Execution = Literal["running", "executed", "failed", "refused", "unknown"]


class Requirement(Stored):
    """What one tool call of a run waits for, and how it was decided. Times are UTC.

    *id* is 64 hex digits. People see its first 8; any unique prefix of at least 6 names it. *arguments* are the exact
    bytes of the model. *status* is the decision, *execution* the result of an approved call. With a *nonce*, two equal
    calls differ, as do a call before a reset and one after it. *proof* is the level of proof that a decision needs
    (None: a name is enough).

    *approvers* may decide (None: anyone; empty: no one can approve). Each due step of *escalations* adds people.
    *fields* are what a person fills in, *values* what a person filled in. *evidence* came with a result from outside.
    *grant* is the id of the grant that decided it.

    *follows* is the id of the previous requirement of the same call: an edit by *edited_by* replaced that one, its
    outcome is unknown, or today's policy asks for more. *edited_from* is the first one of a chain of edits. *agent*
    made the call, if the conversation was handed over to it. *shortened*: it was decided in an earlier execution, whose
    history has the rest. *read_as* has the values that the tool gets where *arguments* say something else: defaults
    filled in, validators applied. *binding* is the gate's.
    """

    id: str
    kind: RequirementKind
    call_id: str
    tool: str
    arguments: str
    nonce: str
    turn: int
    created_at: datetime
    policy_version: str = ""
    needed: int = 1
    approvers: list[str] | None = None
    expires_at: datetime | None = None
    approval_type: ApprovalType | None = None
    self_approval: bool = False
    note: str | None = None
    status: RequirementStatus = "pending"
    votes: list[Vote] = Field(default_factory=list[Vote])
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    reason: str | None = None
    execution: Execution | None = None
    result: str | None = None
    escalations: list[EscalationStep] = Field(default_factory=list[EscalationStep])
    escalated: int = 0
    remind_every: Duration | None = None
    remind_at: datetime | None = None
    reminders: int = 0
    fields: list[InputField] = Field(default_factory=list[InputField])
    checked: bool = False
    values: dict[str, JsonValue] | None = None
    evidence: JsonValue = None
    grant: str | None = None
    follows: str | None = None
    edited_by: str | None = None
    edited_from: str | None = None
    agent: str | None = None
    shortened: bool = False
    read_as: dict[str, JsonValue] | None = None
    binding: str = ""
    proof: ProofLevel | None = None

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id: what people see and type."""
        return self.id[:8]

    @property
    def tool_name(self) -> str:
        """The tool's name."""
        return self.tool

    @property
    def tool_args(self) -> dict[str, JsonValue]:
        """The arguments, parsed.

        Raises:
            ArgumentsError: the raw arguments are not a strict JSON object. Never the case for a requirement that
                Assent opened itself.
        """
        return parse_arguments(self.arguments)

    @property
    def needs_confirmation(self) -> bool:
        """Whether it waits for a person to approve or reject."""
        return self.status == "pending" and self.kind == "confirmation"

    @property
    def needs_external_execution(self) -> bool:
        """Whether it waits for a result from outside."""
        return self.status == "pending" and self.kind == "external"

    @property
    def needs_user_input(self) -> bool:
        """Whether it waits for values from a person."""
        return self.status == "pending" and self.kind == "input"

    @property
    def needs_outcome(self) -> bool:
        """Whether it waits for a person to say what came of a call whose worker was lost."""
        return self.status == "pending" and self.kind == "outcome"

    @property
    def needs_budget(self) -> bool:
        """Whether it waits for a person to extend the run's budget."""
        return self.status == "pending" and self.kind == "budget"

    @property
    def approved_by(self) -> list[str]:
        """Who has approved it so far, each person once."""
        return [vote.by for vote in self.votes if vote.verdict == "approve"]


class RunState(Stored):
    """The answer of the query `state`, and the durable JSON of a paused run.

    *id* is the workflow id. *execution_id* is Temporal's id of this execution, *first_execution_id* that of the first
    one; a workflow reset makes a new execution. *agent* is the current one. *running* counts the current activities:
    tool calls, or the model call. *tool_calls* counts the calls that ran or waited. *budget* is the current limit.
    *grants* include those that ended. *context* is the request's.

    *requirements_dropped* counts the oldest decided requirements, which only earlier executions' histories have.
    *ignored_messages* are the newest, *ignored_dropped* counts older ones that are not kept. *parents* are the parent
    runs, the outermost first, *children* the active child runs. In a run without a model, *caller* is the id of the
    workflow whose code asks people (empty: a client asks), and *agent* is its name.
    """

    id: str
    execution_id: str = ""
    first_execution_id: str = ""
    agent: str = ""
    status: RunStatus = "running"
    input: str = ""
    requested_by: str | None = None
    context: dict[str, JsonValue] | None = None
    content: str | None = None
    output: JsonValue = None
    error: str | None = None
    turns: int = 0
    usage: Usage = Usage()
    running: int = 0
    tool_calls: int = 0
    grants: list[Grant] = Field(default_factory=list[Grant])
    budget: Budget | None = None
    parents: list[ParentRun] = Field(default_factory=list[ParentRun])
    children: list[ChildRun] = Field(default_factory=list[ChildRun])
    caller: str | None = None
    requirements: list[Requirement] = Field(default_factory=list[Requirement])
    requirements_dropped: int = 0
    ignored_messages: list[IgnoredMessage] = Field(default_factory=list[IgnoredMessage])
    ignored_dropped: int = 0

    @property
    def is_paused(self) -> bool:
        """Whether only a decision lets the run proceed."""
        return self.status == "waiting"

    @property
    def is_idle(self) -> bool:
        """Whether it is a conversation that waits for the next message."""
        return self.status == "idle"

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended."""
        return self.status in {"completed", "failed", "cancelled"}

    @property
    def active_requirements(self) -> list[Requirement]:
        """The requirements that wait."""
        return [requirement for requirement in self.requirements if requirement.status == "pending"]


class PendingRequirement(Stored):
    """The memo of one pending requirement (`assent_pending_0`, …): what the inbox shows without a worker.

    *arguments* is None if they, with *read_as*, are too long for a memo. Then *arguments_size* is their number of
    bytes, and `assent show` has them whole. *approvers* is None for anyone, or if a memo cannot hold the names:
    *approvers_left_out* then counts them.
    """

    id: str
    kind: RequirementKind
    call_id: str
    tool: str
    nonce: str
    created_at: AwareDatetime
    turn: int = 0
    arguments: str | None = None
    arguments_size: int = 0
    needed: int = 1
    approved_by: list[str] = Field(default_factory=list)
    approval_type: ApprovalType | None = None
    approvers: list[str] | None = None
    approvers_left_out: int = 0
    expires_at: AwareDatetime | None = None
    policy_version: str = ""
    self_approval: bool = False
    read_as: dict[str, JsonValue] | None = None
    binding: str = ""
    proof: ProofLevel | None = None
