"""The statistics of decisions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.audit.approval import Approval, ApprovalContext
from assent.audit.decision_statistics import Statistics, StatisticsCounter
from assent.wire.requirements import IgnoredMessage, Vote

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
Verdict = Literal["approve", "reject", "submit"]


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def record(number: int, **given: Any) -> Approval:
    """Return a record with the id *number*, which is pending by default."""
    plain: dict[str, Any] = {
        "id": f"{number:064x}",
        "status": "pending",
        "approval_type": "required",
        "kind": "confirmation",
        "run_id": "run",
        "agent": "ops",
        "tool": "pay",
        "arguments": "{}",
        "arguments_size": 2,
        "context": ApprovalContext(turn=1, call_id=f"call-{number}"),
        "created_at": START,
    }
    return Approval.model_validate(plain | given)


def vote(by: str, seconds: float, verdict: Verdict = "approve", channel: str = "signal") -> Vote:
    return Vote(verdict=verdict, by=by, at=after(seconds), channel=channel)


def statistics_of(approvals: Iterable[Approval]) -> Statistics:
    """Return the statistics of records; the records of each run must be adjacent."""
    tally = StatisticsCounter()
    for _, records in groupby(approvals, key=lambda each: each.run_id):
        tally.add(list(records))
    return tally.statistics()


def decided(number: int, *votes: Vote, status: str = "approved", **given: Any) -> Approval:
    last = votes[-1]
    return record(number, status=status, votes=list(votes), resolved_by=last.by, resolved_at=last.at, **given)


def test_nothing_has_no_rate_and_no_time() -> None:
    found = statistics_of([])
    assert (found.runs, found.tools, found.deciders) == (0, {}, [])
    total = found.total
    assert (total.asked, total.approval_rate, total.median_seconds, total.rubber_stamp_share) == (0, None, None, None)


def test_each_tool_is_counted_by_what_became_of_its_requirements() -> None:
    statuses = ["pending", "expired", "cancelled", "superseded"]
    found = statistics_of([
        decided(1, vote("bob", 10)),
        decided(2, vote("bob", 20, "reject"), status="rejected"),
        *(record(number, status=status) for number, status in enumerate(statuses, 3)),
        decided(7, vote("bob", 60), tool="deploy"),
    ])  # fmt: skip
    pay = found.tools["pay"]
    assert (pay.asked, pay.pending, pay.approved, pay.rejected, pay.expired, pay.cancelled, pay.superseded) == (
        6, 1, 1, 1, 1, 1, 1,
    )  # fmt: skip
    assert pay.approval_rate == pytest.approx(1 / 3)
    assert (found.tools["deploy"].approval_rate, found.total.asked, found.runs) == (1, 7, 1)
    assert list(found.tools) == ["pay", "deploy"]


def test_the_time_to_decide_is_that_of_people() -> None:
    by_people = [decided(number, vote("bob", number * 10)) for number in range(1, 11)]
    expired = record(50, status="expired", resolved_at=after(9_000))
    found = statistics_of([*by_people, expired, decided(51, vote("ann", 0, channel="grant"), grant="g" * 64)]).total
    assert found.median_seconds == 55
    assert found.p90_seconds == pytest.approx(91)


def test_the_time_of_one_decision_is_its_median_and_its_ninth_decile() -> None:
    found = statistics_of([decided(1, vote("bob", 7))]).total
    assert (found.median_seconds, found.p90_seconds) == (7, 7)


def test_a_call_that_a_grant_let_through_was_asked_of_nobody() -> None:
    found = statistics_of([decided(1, vote("bob", 5)), decided(2, vote("bob", 0, channel="grant"), grant="g" * 64)])
    assert (found.total.asked, found.total.granted, found.total.decisions, found.total.rubber_stamps) == (1, 1, 1, 0)
    assert [(each.name, each.decisions) for each in found.deciders] == [("bob", 1)]


def test_a_decision_under_three_seconds_is_a_rubber_stamp_and_one_of_three_is_none() -> None:
    found = statistics_of([
        decided(1, vote("bob", 2.999)),
        decided(2, vote("bob", 3)),
        decided(3, vote("ann", 1, "reject"), status="rejected"),
        decided(4, vote("eve", 100)),
    ])  # fmt: skip
    assert (found.total.rubber_stamps, found.total.rubber_stamp_share) == (2, 0.5)
    assert {each.name: each.rubber_stamps for each in found.deciders} == {"bob": 1, "ann": 1, "eve": 0}


def test_each_vote_of_a_quorum_is_a_decision_and_its_time_is_that_of_the_last() -> None:
    found = statistics_of([decided(1, vote("bob", 2), vote("ann", 50), needed=2)])
    assert (found.total.decisions, found.total.rubber_stamps, found.total.median_seconds) == (2, 1, 50)


def test_a_vote_that_did_not_decide_yet_is_a_decision_of_whoever_gave_it() -> None:
    found = statistics_of([record(1, votes=[vote("bob", 2)], needed=2)])
    assert (found.total.pending, found.total.decisions, found.total.median_seconds) == (1, 1, None)


def test_an_edit_does_not_make_its_editor_a_rubber_stamp() -> None:
    before = record(1, status="superseded", resolved_by="ann", resolved_at=after(40))
    between = record(2, status="superseded", created_at=after(40), follows=before.id, edited_by="ann")
    edited = decided(3, vote("eve", 60), created_at=after(60), follows=between.id, edited_by="eve")
    found = statistics_of([before, between, edited])
    assert (found.total.rubber_stamps, found.total.median_seconds, found.total.superseded) == (0, 60, 2)


def test_what_follows_without_an_edit_began_to_wait_when_it_was_opened() -> None:
    before = decided(1, vote("ann", 100))
    again = decided(2, vote("ann", 101), created_at=after(100), follows=before.id)
    assert statistics_of([before, again]).total.rubber_stamps == 1


def test_names_are_one_person_as_the_run_compares_them() -> None:
    votes = [vote("Carol", 5), vote("carol ", 10, "reject"), vote("CAROL", 15, "submit")]
    found = statistics_of(decided(number, each) for number, each in enumerate(votes))
    [carol] = found.deciders
    assert (carol.name, carol.decisions, carol.approved, carol.rejected, carol.submitted) == ("Carol", 3, 1, 1, 1)
    assert carol.median_seconds == 10


def test_deciders_are_sorted_by_how_much_they_decided() -> None:
    votes = [vote("ann", 5), vote("bob", 5), vote("bob", 5)]
    found = statistics_of(decided(number, each) for number, each in enumerate(votes))
    assert [each.name for each in found.deciders] == ["bob", "ann"]


def test_what_did_not_count_is_counted_apart_with_whoever_sent_it() -> None:
    late = IgnoredMessage(status="late", name="approve", detail="", at=after(90), by="BOB", requirement_id=f"{1:064x}")
    nobody = late.model_copy(update={"by": None})
    found = statistics_of([decided(1, vote("bob", 5), ignored_messages=[late, nobody])])
    assert (found.total.not_counted, found.total.decisions) == (2, 1)
    assert [(each.name, each.decisions, each.not_counted) for each in found.deciders] == [("bob", 1, 1)]


def test_an_audit_record_counts_once_it_is_decided() -> None:
    audit = {"approval_type": "audit"}
    found = statistics_of([record(1, **audit), decided(2, vote("bob", 5), **audit)])
    assert (found.total.asked, found.total.pending, found.total.approved) == (1, 0, 1)


def test_only_one_tool_and_what_was_opened_since_are_counted_if_asked_for() -> None:
    records = [
        decided(1, vote("bob", 5)),
        decided(2, vote("bob", 105), created_at=after(100)),
        decided(3, vote("bob", 105), created_at=after(100), tool="deploy"),
    ]
    tally = StatisticsCounter("pay", after(100))
    tally.add(records)
    tally.add([record(4, run_id="other", tool="deploy")])
    found = tally.statistics()
    assert (found.since, found.runs, found.total.asked, list(found.tools)) == (after(100), 1, 1, ["pay"])
    assert found.total.median_seconds == 5


@given(st.lists(st.tuples(st.sampled_from(["pay", "ship"]), st.sampled_from(["pending", "approved", "expired"]))))
def test_the_statuses_of_the_tools_sum_up_to_what_was_asked(each: list[tuple[str, str]]) -> None:
    found = statistics_of(
        record(number, tool=tool, status=status, run_id=f"run-{number % 3}")
        for number, (tool, status) in enumerate(each)
    )
    for figures in (found.total, *found.tools.values()):
        assert figures.asked == figures.pending + figures.approved + figures.expired
    assert found.total.asked == sum(figures.asked for figures in found.tools.values()) == len(each)
