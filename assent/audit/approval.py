"""Approvals: the record of a requirement, read from the inbox while it is pending, or from a run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydantic import Field, JsonValue

from assent.core.state_machine import Run
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import ApprovalType, RequirementKind, Stored
from assent.wire.requirements import Attempt, Execution, PendingRequirement, Requirement, RequirementStatus, Vote
from assent.wire.visibility import RunAbove


class ApprovalContext(Stored):
    """The turn and id of a call."""

    turn: int
    call_id: str
    policy_version: str = ""


class Approval(Stored):
    """The record of one requirement.

    *id* is the requirement's, *source* the agent that made the call. *arguments* are the exact bytes of the model, None
    if the inbox's memo could not hold them (*arguments_size* counts them; `assent show` has them). *status* is the
    decision, *execution* the outcome of an approved call, *result* the beginning of its result. *attempts* are the
    ignored messages. Times are UTC.

    *approvers* may decide (None: any name, unless *approvers_left_out* says how many names the memo could not hold),
    until *expires_at*. *note* is a gate's error or a rule's reason. *grant* is the id of the grant that approved it.
    *follows* is the id of the earlier record for the same call: one that an edit by *edited_by* replaced, one of a lost
    call, or one that no longer satisfies a stricter policy. A person filled in *values*; a result from outside came
    with *evidence*. *parents* are the run's parent run and the parents of that, the root of the run tree first.
    """

    id: str
    status: RequirementStatus
    approval_type: ApprovalType | None
    kind: RequirementKind
    run_id: str
    source: str
    tool_name: str
    arguments: str | None
    arguments_size: int
    context: ApprovalContext
    requested_by: str | None = None
    created_at: datetime
    needed: int = 1
    votes: list[Vote] = Field(default_factory=list[Vote])
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    reason: str | None = None
    execution: Execution | None = None
    result: str | None = None
    attempts: list[Attempt] = Field(default_factory=list[Attempt])
    approvers: list[str] | None = None
    approvers_left_out: int = 0
    expires_at: datetime | None = None
    note: str | None = None
    grant: str | None = None
    follows: str | None = None
    edited_by: str | None = None
    values: dict[str, JsonValue] | None = None
    evidence: JsonValue = None
    parents: list[RunAbove] = Field(default_factory=list[RunAbove])

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id: what people see and type."""
        return self.id[:8]

    @property
    def agent(self) -> str:
        """The agent that made the call: another name of *source*."""
        return self.source

    @property
    def tool_args(self) -> dict[str, JsonValue] | None:
        """The arguments, parsed; None if the memo could not hold them, or they are not valid."""
        if self.arguments is None:
            return None
        try:
            return parse_arguments(self.arguments)
        except ArgumentsError:
            return None


_SAME: Final = tuple(sorted(Approval.model_fields.keys() & Requirement.model_fields.keys()))
"""The fields that a record copies from its requirement."""


class PendingRun(Stored):
    """One run of the inbox and its pending requirements, read from visibility alone.

    *parents* are its parent run and the parents of that, the root of the run tree first.
    """

    run_id: str
    agent: str
    requested_by: str | None
    requirements: list[PendingRequirement]
    parents: list[RunAbove] = Field(default_factory=list[RunAbove])

    @property
    def path(self) -> list[str]:
        """The agents from the root of the run tree to this run."""
        return [*(each.agent for each in self.parents), self.agent]

    def approvals(self) -> list[Approval]:
        """Return the pending requirements as records."""
        return [_pending(self, requirement) for requirement in self.requirements]


def approvals_of(run: Run) -> list[Approval]:
    """Return the records of a run's requirements, in the order in which they were opened."""
    return [Approval.model_validate(fields_of(run, requirement, run.attempts)) for requirement in run.requirements]


def is_recorded(approval: Approval) -> bool:
    """Return whether there is a record yet: one of type `audit` exists only once it is decided."""
    return approval.approval_type != "audit" or approval.status != "pending"


def fields_of(run: Run, requirement: Requirement, attempts: Iterable[Attempt]) -> dict[str, object]:
    """Return the fields of the record of a requirement of *run*; *attempts* are those of the run."""
    request = run.request
    kept = {name: getattr(requirement, name) for name in _SAME}
    return {
        **kept,
        "run_id": run.id,
        "source": requirement.agent or (request.agent if request else ""),
        "tool_name": requirement.tool,
        "arguments_size": len(requirement.arguments.encode("utf-8", "surrogatepass")),
        "context": ApprovalContext(
            turn=requirement.turn, call_id=requirement.call_id, policy_version=requirement.policy_version
        ),
        "requested_by": request.requested_by if request else None,
        "parents": [RunAbove(run_id=each.run_id, agent=each.agent) for each in request.parents] if request else [],
        "attempts": [attempt for attempt in attempts if attempt.requirement_id == requirement.id],
    }


def _pending(run: PendingRun, requirement: PendingRequirement) -> Approval:
    return Approval(
        id=requirement.id,
        status="pending",
        approval_type=requirement.approval_type,
        kind=requirement.kind,
        run_id=run.run_id,
        source=run.agent,
        tool_name=requirement.tool,
        arguments=requirement.arguments,
        arguments_size=requirement.arguments_size,
        context=ApprovalContext(
            turn=requirement.turn, call_id=requirement.call_id, policy_version=requirement.policy_version
        ),
        requested_by=run.requested_by,
        created_at=requirement.created_at,
        needed=requirement.needed,
        approvers=requirement.approvers,
        approvers_left_out=requirement.approvers_left_out,
        expires_at=requirement.expires_at,
        parents=run.parents,
    )
