"""Approvals: the record about a requirement, from the inbox while it waits and from history once it is decided.

Pure; safe in workflow code.
"""

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
    """Where in its run a call came up: the turn, and the call's own id."""

    turn: int
    call_id: str
    policy_version: str = ""


class Approval(Stored):
    """The record of one requirement.

    *id* is the requirement's. *run_id* is the workflow id. *source* is the agent that asked. *arguments* are the exact
    bytes that the model produced, None where the inbox's memo could not hold them (*arguments_size* says how many
    there are, `assent show` has them). *status* is the decision, *execution* what came of an approved call, *result*
    the beginning of its result. *attempts* are the decisions that did not count. Times are UTC.

    *approvers* may decide (None: anybody, unless *approvers_left_out* says how many the memo could not hold), until
    *expires_at*. *note* is a gate's error or a rule's reason. *grant* is the id of the grant that approved it.
    *follows* is the id of the record that this one came after for the same call: an edit's, by *edited_by*, a lost
    call's, or one that a stricter policy found too little. *values* are what a person filled in, *evidence* came with
    a result from outside. *parents* are the runs that its run works for, the outermost first.
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
        """The agent that asked: *source* by the name that other calls use."""
        return self.source

    @property
    def tool_args(self) -> dict[str, JsonValue] | None:
        """The arguments, parsed; None where they are not at hand."""
        if self.arguments is None:
            return None
        try:
            return parse_arguments(self.arguments)
        except ArgumentsError:
            return None


_SAME: Final = tuple(sorted(Approval.model_fields.keys() & Requirement.model_fields.keys()))
"""What a record has from its requirement as it is."""


class PendingRun(Stored):
    """One run of the inbox: who asked which agent, and what waits. Read from visibility alone.

    *parents* are the runs that it works for, the outermost first.
    """

    run_id: str
    agent: str
    requested_by: str | None
    requirements: list[PendingRequirement]
    parents: list[RunAbove] = Field(default_factory=list[RunAbove])

    @property
    def path(self) -> list[str]:
        """The agents from the outermost one down to the one that waits: each works for the one before."""
        return [*(each.agent for each in self.parents), self.agent]

    def approvals(self) -> list[Approval]:
        """What waits, as records."""
        return [_pending(self, requirement) for requirement in self.requirements]


def approvals_of(run: Run) -> list[Approval]:
    """The records of a run's requirements, in the order in which they were opened."""
    return [Approval.model_validate(fields_of(run, requirement, run.attempts)) for requirement in run.requirements]


def is_recorded(approval: Approval) -> bool:
    """Whether there is a record yet: one of type `audit` exists only once it is decided."""
    return approval.approval_type != "audit" or approval.status != "pending"


def fields_of(run: Run, requirement: Requirement, attempts: Iterable[Attempt]) -> dict[str, object]:
    """The fields of the record of a requirement of *run*; *attempts* are those of the run."""
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
