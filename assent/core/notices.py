"""The notices for approvers that a change of a run causes: ids, names and times."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Literal

from pydantic import Field, JsonValue

from assent.wire.limits import NOTICE_NAMES_LIMIT
from assent.wire.protocol import RequirementKind, Stored
from assent.wire.requirements import Requirement
from assent.wire.visibility import ParentEntry

BATCH: Final = 100
"""The notices that one activity sends, at most."""

NoticeType = Literal[
    "requirement.opened", "requirement.reminder", "requirement.escalated", "requirement.decided", "requirement.executed"
]


class Notice(Stored):
    """One change of a requirement, as approvers get it: ids, names and times; never arguments, results or reasons.

    *status* and *execution* are the requirement's. *approvers* are those who may decide.
    """

    type: NoticeType
    at: datetime
    requirement_id: str
    kind: RequirementKind
    tool: str
    status: str
    execution: str | None = None
    approvers: list[str] | None = None
    expires_at: datetime | None = None
    by: str | None = None


class NoticesInput(Stored):
    """The input of the activity `send_notices`. *parents* are the parent runs, the outermost first.

    *context* is that of the run, for the webhooks that ask for it. *caller* is `Run.caller`.
    """

    agent: str
    notices: list[Notice]
    requested_by: str | None = None
    parents: list[ParentEntry] = Field(default_factory=list[ParentEntry])
    context: dict[str, JsonValue] | None = None
    caller: str | None = None


def notices_of(before: Sequence[Requirement], after: Sequence[Requirement], at: datetime) -> list[Notice]:
    """Return the notices of the changes between two states of a run's requirements, in order."""
    if before is after:
        return []
    known = {requirement.id: requirement for requirement in before}
    notices: list[Notice] = []
    for requirement in after:
        earlier = known.get(requirement.id)
        if earlier is not requirement:
            notices += [_notice(kind, requirement, at) for kind in _kinds(earlier, requirement)]
    return notices


def _kinds(before: Requirement | None, after: Requirement) -> Iterator[NoticeType]:
    if before is None:
        if after.status == "pending":
            yield "requirement.opened"
        elif after.grant is None:
            # An edit that was approved at once. A call with a grant was never pending, and no person decided.
            yield "requirement.decided"
        return
    if after.status == "pending":
        if after.escalated > before.escalated:
            yield "requirement.escalated"
        if after.reminders > before.reminders:
            yield "requirement.reminder"
    elif before.status == "pending":
        yield "requirement.decided"
    if after.execution != before.execution and after.execution not in {None, "running"}:
        yield "requirement.executed"


def _notice(kind: NoticeType, requirement: Requirement, at: datetime) -> Notice:
    names, pending = requirement.approvers or [], requirement.status == "pending"
    return Notice(
        type=kind,
        at=at,
        requirement_id=requirement.id,
        kind=requirement.kind,
        tool=requirement.tool,
        status=requirement.status,
        execution=requirement.execution,
        approvers=list(names) if pending and 0 < sum(map(len, names)) <= NOTICE_NAMES_LIMIT else None,
        expires_at=requirement.expires_at if pending else None,
        by=requirement.resolved_by,
    ).without_defaults()
