"""Filters and sort orders of the inbox."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypedDict

from assent.audit.approval import Approval
from assent.core.approvals import is_approver, may_approve
from assent.wire.protocol import RequirementKind

Sort = Literal["age", "deadline"]
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Filters(TypedDict, total=False):
    """Filters of `AgentClient.pending`; a field that is None or left out filters nothing.

    *agent*, *tool*, *requested_by* and *kind* are compared exactly. *approver* selects what this person may decide and
    has not approved yet; names are compared as the run compares them. *older_than* selects what has waited at least
    this long, *due_within* what has a deadline within this time, past deadlines included. *tree* is the id of a run,
    and selects it and its child runs; or the id of a workflow, and selects what it asks and the agents that it runs.
    """

    agent: str | None
    tool: str | None
    requested_by: str | None
    kind: RequirementKind | None
    approver: str | None
    older_than: timedelta | None
    due_within: timedelta | None
    tree: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """`Filters`, complete."""

    agent: str | None = None
    tool: str | None = None
    requested_by: str | None = None
    kind: RequirementKind | None = None
    approver: str | None = None
    older_than: timedelta | None = None
    due_within: timedelta | None = None
    tree: str | None = None

    @property
    def by_server(self) -> bool:
        """Return whether the server can filter by search attributes alone."""
        others = (self.kind, self.approver, self.older_than, self.due_within, self.tree)
        return all(each is None for each in others)


def _tree_of(each: Approval) -> set[str]:
    return {each.run_id, *(parent.run_id for parent in each.parents)}


def matches(each: Approval, wanted: Wanted, now: datetime, workflows: Collection[str] = ()) -> bool:
    """Return whether a pending approval passes the filters. *workflows* started its run, or are above that."""
    return (
        wanted.agent in {None, each.agent}
        and wanted.requested_by in {None, each.requested_by}
        and (wanted.tree is None or wanted.tree in workflows or wanted.tree in _tree_of(each))
        and wanted.tool in {None, each.tool}
        and wanted.kind in {None, each.kind}
        and (wanted.older_than is None or now - each.created_at >= wanted.older_than)
        and (wanted.due_within is None or (each.expires_at is not None and each.expires_at - now <= wanted.due_within))
        and (wanted.approver is None or may_decide(each, wanted.approver))
    )


def may_decide(each: Approval, name: str) -> bool:
    """Return whether *name* may decide it, and has not approved it yet.

    Where no person can approve, every person may reject. Where the memo had no room for the names, any person may.
    """
    return not is_approver(name, each.approved_by) and may_approve(
        name,
        kind=each.kind,
        approvers=each.approvers or None,
        self_approval=each.self_approval,
        requested_by=each.requested_by,
    )


def sort_approvals(approvals: Iterable[Approval], sort: Sort = "age") -> list[Approval]:
    """Sort approvals: the oldest first, or the soonest deadline first and those without one last."""
    if sort == "age":
        return sorted(approvals, key=lambda each: each.created_at)
    return sorted(approvals, key=lambda each: each.expires_at or _NEVER)


Change = Literal["opened", "closed"]


class InboxChanges:
    """Compares two reads of the inbox: what is new, and what has gone."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Approval] = {}
        self._missed: set[tuple[str, str]] = set()

    def update(self, approvals: Iterable[Approval]) -> list[tuple[Change, Approval]]:
        """Return the changes since the last read, given what waits now.

        An approval counts as closed when it is missing twice: a run that continues as new has no row for a moment.
        """
        now = {(each.run_id, each.id): each for each in sort_approvals(approvals)}
        opened = [now[key] for key in now if key not in self._known]
        gone = [key for key in self._known if key not in now]
        closed = [self._known.pop(key) for key in gone if key in self._missed]
        self._missed = {key for key in gone if key in self._known}
        self._known |= now
        return [*(("closed", each) for each in closed), *(("opened", each) for each in opened)]
