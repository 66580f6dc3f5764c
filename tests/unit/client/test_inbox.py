"""Which of what waits is shown, in which order and in which pages; what changed; and how calls are named."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.audit.approval import Approval, is_recorded
from assent.cli.parsing import calls_of
from assent.client.approval_search import ApprovalFilter, approval_prefix, paged, run_of_approval
from assent.client.filters import InboxChanges, Wanted, matches, may_decide, sort_approvals
from assent.client.paging import Page, check_limit, position_of, token_of
from assent.wire.errors import MessageError
from assent.wire.requirements import PendingRequirement
from tests.support.memo_only_runs import NOW, approvals_in, requirement

HOUR = timedelta(hours=1)


def shown(wanted: Wanted, *waiting: PendingRequirement) -> list[str]:
    listed = approvals_in(*waiting, requested_by="alice")
    return [each.context.call_id for each in listed if matches(each, wanted, NOW + HOUR)]


# -- filters ----------------------------------------------------------------------------------------------------------


def test_each_filter_leaves_what_it_names() -> None:
    old, new = requirement("old"), requirement("new", created_at=NOW + HOUR / 2, kind="input", tool="ask")
    due, over = requirement("due", expires_at=NOW + 3 * HOUR), requirement("over", expires_at=NOW)
    everything = (old, new, due, over)
    assert shown(Wanted(), *everything) == ["old", "new", "due", "over"]
    assert shown(Wanted(agent="agent", requested_by="alice"), old) == ["old"]
    assert shown(Wanted(agent="another"), old) == shown(Wanted(requested_by="bob"), old) == []
    assert shown(Wanted(tool="ask"), *everything) == shown(Wanted(kind="input"), *everything) == ["new"]
    assert shown(Wanted(older_than=HOUR), *everything) == ["old", "due", "over"]
    assert shown(Wanted(due_within=HOUR), *everything) == ["over"]
    assert shown(Wanted(due_within=2 * HOUR), *everything) == ["due", "over"]
    assert shown(Wanted(tool="pay", due_within=2 * HOUR, approver="bob"), *everything) == ["due", "over"]


def test_what_waits_for_an_approver_is_what_that_person_may_decide_and_has_not_yet() -> None:
    anybody, named = requirement("anybody"), requirement("named", approvers=["Ann", "bob"])
    voted = requirement("voted", needed=2, approved_by=["ann"])
    nobody, unknown = requirement("nobody", approvers=[]), requirement("unknown", approvers_left_out=40)
    everything = (anybody, named, voted, nobody, unknown)

    def theirs(name: str) -> list[str]:
        listed = approvals_in(*everything, requested_by="alice")
        return [each.context.call_id for each in listed if may_decide(each, name)]

    assert theirs(" ANN ") == ["anybody", "named", "nobody", "unknown"]
    assert theirs("bob") == ["anybody", "named", "voted", "nobody", "unknown"]
    assert theirs("carol") == ["anybody", "voted", "nobody", "unknown"]


def test_who_asked_for_a_run_sees_of_it_only_what_they_may_settle() -> None:
    def may(requested_by: str | None, **fields: object) -> bool:
        [own] = approvals_in(requirement("own", **fields), requested_by=requested_by)
        return may_decide(own, "alice")

    assert not may("Alice")
    assert may("Alice", self_approval=True)
    assert may("Alice", kind="external")
    assert not may("Alice", kind="input")
    assert may(None)


def test_oldest_first_or_soonest_deadline_first_and_those_without_one_last() -> None:
    waiting = approvals_in(
        requirement("a", created_at=NOW + HOUR),
        requirement("b"),
        requirement("c", created_at=NOW + 2 * HOUR, expires_at=NOW),
        requirement("d", created_at=NOW - HOUR, expires_at=NOW + HOUR),
    )
    assert [each.context.call_id for each in sort_approvals(waiting)] == ["d", "b", "a", "c"]
    assert [each.context.call_id for each in sort_approvals(waiting, "deadline")] == ["c", "d", "a", "b"]


# -- following --------------------------------------------------------------------------------------------------------


def test_what_is_new_is_told_at_once_and_what_has_gone_when_it_is_missing_twice() -> None:
    changes, a, b = InboxChanges(), requirement("a"), requirement("b")

    def seen(*waiting: PendingRequirement) -> list[tuple[str, str]]:
        return [(change, each.context.call_id) for change, each in changes.update(approvals_in(*waiting))]

    assert seen(a) == [("opened", "a")]
    assert seen(a, b) == [("opened", "b")]
    assert seen(a) == seen(a, b) == seen(a) == []
    assert seen(a) == [("closed", "b")]
    assert seen() == []
    assert seen() == [("closed", "a")]
    assert seen(b) == [("opened", "b")]


# -- pages ------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1), st.text())
def test_a_token_leads_to_its_position_in_its_own_list_alone(position: bytes, question: str) -> None:
    token = token_of(question, position)
    assert position_of(question, token) == position
    assert not token.startswith("-")
    with pytest.raises(MessageError, match="not a page token of this list"):
        position_of(f"{question}!", token)


@pytest.mark.parametrize("token", ["", "p", "xyz", "pé", "p" + "A" * 8, "p\ud800"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(MessageError, match="not a page token"):
        position_of("question", token)


def test_no_token_is_the_beginning() -> None:
    assert position_of("question", None) == b""


def test_a_page_must_have_room() -> None:
    check_limit(0)
    with pytest.raises(MessageError, match="1 or more"):
        check_limit(0, least=1)


def records_of(ages: Sequence[int]) -> list[Approval]:
    waiting = [requirement(f"{number}", created_at=NOW + age * HOUR) for number, age in enumerate(ages)]
    return approvals_in(*waiting)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5))
def test_pages_are_the_list_from_the_newest_on_each_record_once(ages: list[int], limit: int) -> None:
    records, asked, seen = records_of(ages), ApprovalFilter(), list[Approval]()
    after = b""
    while True:
        page, total = paged(records, asked, limit, after)
        assert total == len(records)
        seen += page
        if page.next_page_token is None:
            break
        assert len(page) == limit
        after = position_of(asked, page.next_page_token)
    assert sorted(each.id for each in seen) == sorted(each.id for each in records)
    assert [each.created_at for each in seen] == sorted((each.created_at for each in records), reverse=True)


def test_records_that_are_opened_meanwhile_do_not_move_the_pages() -> None:
    records = records_of([0, 1, 2, 3])
    page, _ = paged(records[:3], ApprovalFilter(), 2, b"")
    after = position_of(ApprovalFilter(), page.next_page_token)
    rest, total = paged(records, ApprovalFilter(), 2, after)
    assert ([each.context.call_id for each in [*page, *rest]], total) == (["2", "1", "0"], 4)


@pytest.mark.parametrize("after", [b"\xff", b"now 1", b"2026-01-01 1"])
def test_a_position_that_is_no_time_is_refused(after: bytes) -> None:
    with pytest.raises(MessageError, match="page token"):
        paged([], ApprovalFilter(), 1, after)


def test_a_page_is_a_list() -> None:
    assert Page([1, 2]) == [1, 2]
    assert Page[int]() == []
    assert Page([1], "p1").next_page_token is not None


# -- the run of an approval -------------------------------------------------------------------------------------------


def test_an_approval_that_waits_is_found_by_a_unique_prefix() -> None:
    runs = [*approvals_in(requirement("a"), run_id="one"), *approvals_in(requirement("b"), run_id="two")]
    wanted = runs[1].id
    assert run_of_approval(runs, wanted[:8]) == run_of_approval(runs, wanted) == "two"
    assert run_of_approval(runs, "f" * 64) is None
    with pytest.raises(MessageError, match="matches in 2 runs"):
        run_of_approval([*runs, *approvals_in(requirement("b"), run_id="three")], wanted)
    assert approval_prefix(f" {wanted[:8].upper()}") == wanted[:8]
    with pytest.raises(MessageError, match="too short"):
        approval_prefix("")


def test_what_waits_with_an_audit_type_is_no_record_yet() -> None:
    waiting = requirement("a"), requirement("b", approval_type="audit"), requirement("c", approval_type="required")
    assert sum(map(is_recorded, approvals_in(*waiting))) == 2


# -- naming calls -----------------------------------------------------------------------------------------------------


def test_calls_are_named_by_one_run_or_each_with_its_own() -> None:
    assert calls_of(["run", "a"]) == [("run", "a")]
    assert calls_of(["a/run", "a", "b"]) == [("a/run", "a"), ("a/run", "b")]
    assert calls_of(["run/a"]) == [("run", "a")]
    assert calls_of(["one/a", "x/two/b"]) == [("one", "a"), ("x/two", "b")]


@pytest.mark.parametrize("arguments", [["run"], ["run", "other/a"], ["one/a", "two/b", "c"], ["/a"], ["run/"]])
def test_calls_that_are_not_clearly_named_are_refused(arguments: list[str]) -> None:
    with pytest.raises(MessageError, match="name each call"):
        calls_of(arguments)
