"""Statistics of decisions: how many, how fast and by whom, counted from approval records run by run."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median, quantiles
from typing import Final

from pydantic import Field

from assent.audit.approval import Approval, is_recorded
from assent.core.approvals import fold_name
from assent.wire.protocol import Stored
from assent.wire.requirements import Vote

RUBBER_STAMP: Final = 3.0
"""Seconds that a person needs at least to read what they decide."""
_BY_PEOPLE: Final = frozenset({"approved", "rejected"})


class ToolStatistics(Stored):
    """The numbers of one tool, or of all.

    *asked* counts the requirements that people were asked to decide. It is the sum of the next six fields. An edit
    makes a requirement `superseded` and opens another. *granted* counts the calls that a grant decided. *approval_rate*
    is approved / (approved + rejected + expired). *median_seconds* and *p90_seconds* measure the time until a person's
    decision; an edit does not restart it. *decisions* counts votes, *rubber_stamps* the votes within three seconds.
    *not_counted* counts ignored messages: late, refused, or duplicate.
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


class DeciderStatistics(Stored):
    """The decisions of one person. *name* is the first spelling; another case, for example, is the same person."""

    name: str
    decisions: int = 0
    approved: int = 0
    rejected: int = 0
    submitted: int = 0
    median_seconds: float | None = None
    rubber_stamps: int = 0
    not_counted: int = 0


class Statistics(Stored):
    """Statistics of decisions. *tools* and *deciders* with the largest numbers come first.

    *runs* have a requirement that is counted; *unreadable* runs are not in any number, nor are the runs *left_out*
    beyond the limit. Requirements opened before *since* are not counted.
    """

    since: datetime | None = None
    runs: int = 0
    unreadable: int = 0
    left_out: int = 0
    total: ToolStatistics = ToolStatistics()
    tools: dict[str, ToolStatistics] = Field(default_factory=dict[str, ToolStatistics])
    deciders: list[DeciderStatistics] = Field(default_factory=list[DeciderStatistics])


@dataclass(slots=True)
class _ToolCounter:
    """Counts the numbers of one tool, or of all."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    granted: int = 0
    decisions: int = 0
    rubber_stamps: int = 0
    not_counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, approval: Approval, began: datetime) -> None:
        self.not_counted += len(approval.ignored_messages)
        if approval.grant is not None:
            self.granted += 1
            return
        self.statuses[approval.status] += 1
        self.decisions += len(approval.votes)
        self.rubber_stamps += sum(_is_rubber_stamp(vote, began) for vote in approval.votes)
        if approval.status in _BY_PEOPLE and approval.votes and approval.resolved_at is not None:
            self.seconds.append((approval.resolved_at - began).total_seconds())

    def figures(self) -> ToolStatistics:
        count = self.statuses
        return ToolStatistics(
            asked=count.total(),
            **count,
            granted=self.granted,
            approval_rate=_share(count["approved"], count["approved"] + count["rejected"] + count["expired"]),
            median_seconds=_median(self.seconds),
            p90_seconds=_ninth_decile(self.seconds),
            decisions=self.decisions,
            rubber_stamps=self.rubber_stamps,
            rubber_stamp_share=_share(self.rubber_stamps, self.decisions),
            not_counted=self.not_counted,
        )


@dataclass(slots=True)
class _PersonCounter:
    """Counts the numbers of one person."""

    name: str
    verdicts: Counter[str] = field(default_factory=Counter[str])
    rubber_stamps: int = 0
    not_counted: int = 0
    seconds: array[float] = field(default_factory=lambda: array("d"))

    def add(self, vote: Vote, began: datetime) -> None:
        self.verdicts[vote.verdict] += 1
        self.rubber_stamps += _is_rubber_stamp(vote, began)
        self.seconds.append((vote.at - began).total_seconds())

    def decider(self) -> DeciderStatistics:
        return DeciderStatistics(
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
class StatisticsCounter:
    """Counts run by run. It keeps one or two numbers of 8 bytes for each decision, and no record.

    With *tool*, only requirements of this tool are counted; with *since*, only those opened since then.
    """

    tool: str | None = None
    since: datetime | None = None
    runs: int = 0
    unreadable: int = 0
    left_out: int = 0
    _total: _ToolCounter = field(default_factory=_ToolCounter)
    _tools: dict[str, _ToolCounter] = field(default_factory=dict[str, _ToolCounter])
    _people: dict[str, _PersonCounter] = field(default_factory=dict[str, _PersonCounter])

    def add(self, records: Sequence[Approval]) -> None:
        """Count all records of one run. One of type `audit` counts once it is decided."""
        known = {each.id: each for each in records}
        wanted = [each for each in records if is_recorded(each) and self._is_wanted(each)]
        self.runs += bool(wanted)
        for each in wanted:
            began = pending_since(each, known)
            self._total.add(each, began)
            self._tools.setdefault(each.tool, _ToolCounter()).add(each, began)
            self._add_people(each, began)

    def statistics(self) -> Statistics:
        """Return the statistics so far."""
        tools = sorted(self._tools.items(), key=lambda each: (-each[1].statuses.total(), each[0]))
        people = sorted((each.decider() for each in self._people.values()), key=lambda each: -each.decisions)
        return Statistics(
            since=self.since,
            runs=self.runs,
            unreadable=self.unreadable,
            left_out=self.left_out,
            total=self._total.figures(),
            tools={name: count.figures() for name, count in tools},
            deciders=people,
        )

    def _is_wanted(self, each: Approval) -> bool:
        return self.tool in {None, each.tool} and (self.since is None or each.created_at >= self.since)

    def _add_people(self, approval: Approval, began: datetime) -> None:
        for vote in () if approval.grant is not None else approval.votes:
            self._person(vote.by).add(vote, began)
        for ignored in approval.ignored_messages:
            if ignored.by is not None:
                self._person(ignored.by).not_counted += 1

    def _person(self, name: str) -> _PersonCounter:
        return self._people.setdefault(fold_name(name), _PersonCounter(name))


def pending_since(approval: Approval, known: Mapping[str, Approval]) -> datetime:
    """Return when the call was first pending: an edit opens another requirement, but the editor has read the first."""
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
