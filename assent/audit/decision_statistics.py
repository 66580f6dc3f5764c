"""How people decide, in numbers: from the records of approvals, run by run.

Pure; safe in workflow code.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from statistics import median, quantiles
from typing import Final

from pydantic import Field

from assent.audit.approval import Approval, is_recorded
from assent.core.approvals import fold_name
from assent.wire.protocol import Stored
from assent.wire.requirements import Vote

RUBBER_STAMP: Final = 3.0
"""Seconds under which nobody has read what they decide."""
_BY_PEOPLE: Final = frozenset({"approved", "rejected"})


class Figures(Stored):
    """The numbers of one tool, or of all.

    *asked* counts the requirements that people were asked about, and is the sum of the six after it. One that an edit
    replaced is `superseded`, and what took its place is asked, too. *granted* are the calls that a grant let through,
    which nobody was asked about. *approval_rate* is approved / (approved + rejected + expired). *median_seconds* and
    *p90_seconds* are of the time from the question to the decision, of those that people decided; an edit does not
    begin it anew. *decisions* counts what each person said (a call that takes two people has two), *rubber_stamps*
    those of them that came less than three seconds after it began to wait. *not_counted* counts what was sent about
    a requirement without effect: late, refused, or a second time.
    """

    asked: int = 0
    pending: int = 0
    approved: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    superseded: int = 0
    granted: int = 0
    approval_rate: float | None = None
    median_seconds: float | None = None
    p90_seconds: float | None = None
    decisions: int = 0
    rubber_stamps: int = 0
    rubber_stamp_share: float | None = None
    not_counted: int = 0


class Decider(Stored):
    """What one person decided. *name* is as they wrote it first; case and the like make no other person."""

    name: str
    decisions: int = 0
    approved: int = 0
    rejected: int = 0
    submitted: int = 0
    median_seconds: float | None = None
    rubber_stamps: int = 0
    not_counted: int = 0


class Statistics(Stored):
    """How people decide. *tools* have the most asked about first, *deciders* those who decided most.

    *runs* are those with a requirement of these; *unreadable* could not be read, and are in no number. *since* is when
    the requirements were opened at the earliest.
    """

    since: datetime | None = None
    runs: int = 0
    unreadable: int = 0
    total: Figures = Figures()
    tools: dict[str, Figures] = Field(default_factory=dict[str, Figures])
    deciders: list[Decider] = Field(default_factory=list[Decider])


def statistics_of(approvals: Iterable[Approval]) -> Statistics:
    """The statistics of these records, those of each run in one piece."""
    tally = Tally()
    for _, records in groupby(approvals, key=lambda each: each.run_id):
        tally.add(list(records))
    return tally.statistics()


@dataclass(slots=True)
class _Count:
    """The numbers of one tool, or of all, as they grow."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    granted: int = 0
    decisions: int = 0
    rubber_stamps: int = 0
    not_counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, approval: Approval, began: datetime) -> None:
        self.not_counted += len(approval.attempts)
        if approval.grant is not None:
            self.granted += 1
            return
        self.statuses[approval.status] += 1
        self.decisions += len(approval.votes)
        self.rubber_stamps += sum(_is_rubber_stamp(vote, began) for vote in approval.votes)
        if approval.status in _BY_PEOPLE and approval.votes and approval.resolved_at is not None:
            self.seconds.append((approval.resolved_at - began).total_seconds())

    def figures(self) -> Figures:
        count = self.statuses
        given: dict[str, object] = {
            "asked": count.total(),
            **count,
            "granted": self.granted,
            "approval_rate": _share(count["approved"], count["approved"] + count["rejected"] + count["expired"]),
            "median_seconds": _median(self.seconds),
            "p90_seconds": _ninth_decile(self.seconds),
            "decisions": self.decisions,
            "rubber_stamps": self.rubber_stamps,
            "rubber_stamp_share": _share(self.rubber_stamps, self.decisions),
            "not_counted": self.not_counted,
        }
        return Figures.model_validate(given)


@dataclass(slots=True)
class _Person:
    """The numbers of one person, as they grow."""

    name: str
    verdicts: Counter[str] = field(default_factory=Counter[str])
    rubber_stamps: int = 0
    not_counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, vote: Vote, began: datetime) -> None:
        self.verdicts[vote.verdict] += 1
        self.rubber_stamps += _is_rubber_stamp(vote, began)
        self.seconds.append((vote.at - began).total_seconds())

    def decider(self) -> Decider:
        return Decider(
            name=self.name,
            decisions=self.verdicts.total(),
            approved=self.verdicts["approve"],
            rejected=self.verdicts["reject"],
            submitted=self.verdicts["submit"],
            median_seconds=_median(self.seconds),
            rubber_stamps=self.rubber_stamps,
            not_counted=self.not_counted,
        )


@dataclass(slots=True)
class Tally:
    """Counts run by run. Of each decision it keeps a number of 8 bytes or two, and no record.

    *tool* and *since* leave only the requirements of this tool, and those opened since then.
    """

    tool: str | None = None
    since: datetime | None = None
    runs: int = 0
    unreadable: int = 0
    _total: _Count = field(default_factory=_Count)
    _tools: dict[str, _Count] = field(default_factory=dict[str, _Count])
    _people: dict[str, _Person] = field(default_factory=dict[str, _Person])

    def add(self, records: Sequence[Approval]) -> None:
        """Count the records of one run, all of them. One of type `audit` counts once it is decided."""
        known = {each.id: each for each in records}
        wanted = [each for each in records if is_recorded(each) and self._is_wanted(each)]
        self.runs += bool(wanted)
        for each in wanted:
            began = began_to_wait(each, known)
            of_tool = self._tools.setdefault(each.tool_name, _Count())
            for count in (self._total, of_tool):
                count.add(each, began)
            self._add_people(each, began)

    def statistics(self) -> Statistics:
        """What came of it."""
        tools = sorted(self._tools.items(), key=lambda each: (-each[1].statuses.total(), each[0]))
        people = sorted((each.decider() for each in self._people.values()), key=lambda each: -each.decisions)
        return Statistics(
            since=self.since,
            runs=self.runs,
            unreadable=self.unreadable,
            total=self._total.figures(),
            tools={name: count.figures() for name, count in tools},
            deciders=people,
        )

    def _is_wanted(self, each: Approval) -> bool:
        return self.tool in {None, each.tool_name} and (self.since is None or each.created_at >= self.since)

    def _add_people(self, approval: Approval, began: datetime) -> None:
        for vote in () if approval.grant is not None else approval.votes:
            self._person(vote.by).add(vote, began)
        for attempt in approval.attempts:
            if attempt.by is not None:
                self._person(attempt.by).not_counted += 1

    def _person(self, name: str) -> _Person:
        return self._people.setdefault(fold_name(name), _Person(name))


def began_to_wait(approval: Approval, known: Mapping[str, Approval]) -> datetime:
    """When the call was first asked about: an edit opens another requirement, but the editor has read the first."""
    while approval.edited_by is not None and approval.follows is not None and approval.follows in known:
        approval = known[approval.follows]
    return approval.created_at


def _is_rubber_stamp(vote: Vote, began: datetime) -> bool:
    return (vote.at - began).total_seconds() < RUBBER_STAMP


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _median(seconds: array[float]) -> float | None:
    return median(seconds) if seconds else None


def _ninth_decile(seconds: array[float]) -> float | None:
    if len(seconds) < 2:
        return seconds[0] if seconds else None
    return quantiles(seconds, n=10, method="inclusive")[-1]
