"""Approvals: the record of a requirement, read from the inbox while it is pending, or from a run."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pydantic import Field, JsonValue

from assent.core.run_state import Run
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import ApprovalType, RequirementKind, Stored
from assent.wire.requirements import Execution, IgnoredMessage, PendingRequirement, Requirement, RequirementStatus, Vote
from assent.wire.visibility import ParentEntry, RequestMemo


class ApprovalContext(Stored):
    """The turn and id of a call."""

    turn: int
    call_id: str
    policy_version: str = ""


class Approval(Stored):
    """A requirement across runs: in the inbox while it waits, as a record once it is decided. Times are UTC.

    *id* is the requirement's, *run_id* its run's, *agent* made the call. *arguments* are the exact bytes of the model.
    They are None if the inbox's memo cannot hold them (*arguments_size* counts their bytes, `assent show` has them), or
    if the execution that had them is gone. *read_as* has the values that the tool gets where *arguments* say something
    else. *status* is the decision, *execution* the outcome of an approved call, *result* the beginning of its result.

    *approvers* may decide until *expires_at* (None: anyone but the requester; *approvers_left_out* counts the names
    that the memo cannot hold). *approved_by* have approved so far, *needed* must. *proof* is the level of proof that a
    decision needs. *note* is a gate's error or a rule's reason. *grant* is the id of the grant that decided it.
    *values* are what a person filled in, *evidence* came with a result from outside. *ignored_messages* had no effect.

    *follows* is the id of the previous record of the same call: it was edited by *edited_by*, its outcome is unknown,
    or a stricter policy did not accept it. *binding* is the gate's. *parents* are the parent runs, the outermost first.
    In a run without a model, *caller* is the id of the workflow whose code asks (empty: a client asks), and *agent* is
    its name.
    """

    id: str
    status: RequirementStatus
    approval_type: ApprovalType | None
    kind: RequirementKind
    run_id: str
    agent: str
    tool: str
    arguments: str | None
    arguments_size: int
    context: ApprovalContext
    requested_by: str | None = None
    created_at: datetime
    needed: int = 1
    approved_by: list[str] = Field(default_factory=list[str])
    votes: list[Vote] = Field(default_factory=list[Vote])
    self_approval: bool = False
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    reason: str | None = None
    execution: Execution | None = None
    result: str | None = None
    ignored_messages: list[IgnoredMessage] = Field(default_factory=list[IgnoredMessage])
    approvers: list[str] | None = None
    approvers_left_out: int = 0
    expires_at: datetime | None = None
    note: str | None = None
    grant: str | None = None
    follows: str | None = None
    edited_by: str | None = None
    read_as: dict[str, JsonValue] | None = None
    binding: str = ""
    proof: ProofLevel | None = None
    values: dict[str, JsonValue] | None = None
    evidence: JsonValue = None
    parents: list[ParentEntry] = Field(default_factory=list[ParentEntry])
    caller: str | None = None

    @property
    def short_id(self) -> str:
        """The first 8 hex digits of the id: what people see and type."""
        return self.id[:8]

    @property
    def tool_name(self) -> str:
        """The tool's name."""
        return self.tool

    @property
    def path(self) -> list[str]:
        """The agents from the outermost parent run to this one."""
        return [*(each.agent for each in self.parents), self.agent]

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
"""What a record has from its requirement as it is."""
_PENDING: Final = tuple(sorted(Approval.model_fields.keys() & PendingRequirement.model_fields.keys()))


def approvals_of(run: Run) -> list[Approval]:
    """Return the records of a run's requirements, in the order in which they were opened."""
    return [
        Approval.model_validate(fields_of(run, requirement, run.ignored_messages)) for requirement in run.requirements
    ]


def pending_of(run: Run) -> tuple[Approval, ...]:
    """The records of the requirements of a run that wait."""
    return tuple(each for each in approvals_of(run) if each.status == "pending")


def is_recorded(approval: Approval) -> bool:
    """Return whether there is a record yet: one of type `audit` exists only once it is decided."""
    return approval.approval_type != "audit" or approval.status != "pending"


def fields_of(run: Run, requirement: Requirement, ignored: Iterable[IgnoredMessage]) -> dict[str, object]:
    """Return the fields of the record of a requirement of *run*; *ignored* are those of the run."""
    request = run.request
    kept = {name: getattr(requirement, name) for name in _SAME}
    kept["approved_by"] = requirement.approved_by
    if requirement.shortened:
        kept["arguments"] = None
    return {
        **kept,
        "run_id": run.id,
        "agent": requirement.agent or (request.agent if request else ""),
        "arguments_size": len(requirement.arguments.encode("utf-8", "surrogatepass")),
        "context": ApprovalContext(
            turn=requirement.turn, call_id=requirement.call_id, policy_version=requirement.policy_version
        ),
        "requested_by": request.requested_by if request else None,
        "parents": [ParentEntry(run_id=each.run_id, agent=each.agent) for each in request.parents] if request else [],
        "caller": run.caller,
        "ignored_messages": [each for each in ignored if each.requirement_id == requirement.id],
    }


def pending_approval(run_id: str, asked: RequestMemo, requirement: PendingRequirement) -> Approval:
    """The record of a requirement of the inbox, which is all that the memos of a run have of it."""
    kept = {name: getattr(requirement, name) for name in _PENDING}
    context = ApprovalContext(
        turn=requirement.turn, call_id=requirement.call_id, policy_version=requirement.policy_version
    )
    return Approval.model_validate({**kept, **dict(asked), "run_id": run_id, "status": "pending", "context": context})
