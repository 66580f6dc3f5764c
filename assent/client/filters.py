"""Which of what waits somebody wants to see, and in which order.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypedDict

from assent.audit.approval import PendingRun
from assent.core.approvals import fold_name
from assent.wire.protocol import RequirementKind
from assent.wire.requirements import PendingRequirement

Sort = Literal["age", "deadline"]
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Filters(TypedDict, total=False):
    """What `AgentClient.pending` and `pending_page` can be narrowed to; what is None, or left out, narrows nothing.

    *agent*, *tool*, *requested_by* and *kind* are compared exactly. *approver* leaves what this person may decide and
    has not approved yet, names compared as the run compares them. *older_than* leaves what has waited at least so
    long, *due_within* what has a deadline at most so far away, past ones included. *tree* is the id of a run: it, and
    the runs below it, are left.
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
        """Whether the server can find them by search attributes alone."""
        others = (self.kind, self.approver, self.older_than, self.due_within, self.tree)
        return all(each is None for each in others)


def kept(run: PendingRun, wanted: Wanted, now: datetime) -> PendingRun | None:
    """The run with those of its requirements that are wanted; None where there is none."""
    if wanted.agent not in {None, run.agent} or wanted.requested_by not in {None, run.requested_by}:
        return None
    if wanted.tree is not None and wanted.tree not in {run.run_id, *(each.run_id for each in run.parents)}:
        return None
    left = [each for each in run.requirements if _is_wanted(run, each, wanted, now)]
    if len(left) == len(run.requirements):
        return run if left else None
    return run.model_copy(update={"requirements": left}) if left else None


def _is_wanted(run: PendingRun, each: PendingRequirement, wanted: Wanted, now: datetime) -> bool:
    return (
        wanted.tool in {None, each.tool}
        and wanted.kind in {None, each.kind}
        and (wanted.older_than is None or now - each.created_at >= wanted.older_than)
        and (wanted.due_within is None or (each.expires_at is not None and each.expires_at - now <= wanted.due_within))
        and (wanted.approver is None or may_decide(run, each, wanted.approver))
    )


def may_decide(run: PendingRun, each: PendingRequirement, name: str) -> bool:
    """Whether it waits for this person, too: *name* may decide it, and has not approved it yet.

    Where nobody can approve, everybody may reject. Where the memo had no room for the names, it may be anybody.
    """
    person = fold_name(name)
    if each.approvers and not any(fold_name(one) == person for one in each.approvers):
        return False
    if any(fold_name(one) == person for one in each.approved_by):
        return False
    own = run.requested_by is not None and fold_name(run.requested_by) == person
    return not own or each.self_approval or each.kind == "external"


def since(each: PendingRequirement) -> datetime:
    """The sort key that puts the oldest first."""
    return each.created_at


def due(each: PendingRequirement) -> datetime:
    """The sort key that puts the soonest deadline first, and those without one last."""
    return each.expires_at or _NEVER


KEYS: Final[dict[Sort, Callable[[PendingRequirement], datetime]]] = {"age": since, "deadline": due}


def sorted_runs(runs: list[PendingRun], sort: Sort) -> list[PendingRun]:
    """The runs, by what in each of them comes first."""
    key = KEYS[sort]
    return sorted(runs, key=lambda run: min(map(key, run.requirements)))


Change = Literal["opened", "closed"]
Call = tuple[PendingRun, PendingRequirement]


def calls(runs: Iterable[PendingRun], sort: Sort = "age") -> list[Call]:
    """Each call that waits with its run, sorted by itself."""
    key = KEYS[sort]
    return sorted(((run, each) for run in runs for each in run.requirements), key=lambda call: key(call[1]))


class Changes:
    """What is new and what has gone from one look at the inbox to the next."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._known: dict[tuple[str, str], Call] = {}
        self._missed: set[tuple[str, str]] = set()

    def seen(self, runs: Iterable[PendingRun]) -> list[tuple[Change, PendingRun, PendingRequirement]]:
        """What has changed since, now that these runs wait.

        What is missing for the first time is only noted: a run that goes on in a new execution is in neither of its
        rows for a moment.
        """
        now = {(run.run_id, each.id): (run, each) for run, each in calls(runs)}
        opened = [now[key] for key in now if key not in self._known]
        gone = [key for key in self._known if key not in now]
        closed = [self._known.pop(key) for key in gone if key in self._missed]
        self._missed = {key for key in gone if key in self._known}
        self._known |= now
        return [*(("closed", *call) for call in closed), *(("opened", *call) for call in opened)]
