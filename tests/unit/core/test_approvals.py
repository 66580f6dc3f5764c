"""What one requirement comes to: who may decide it, what counts, and what is answered to whatever does not."""

# look-alikes are what this is about

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.approvals import SHORTEST_PREFIX, as_text, find_requirement, fold_name
from assent.wire.protocol import Gate
from assent.wire.requirements import Requirement
from tests.unit.strategies import ASK, EXTERNAL, NOW, PEOPLE, Play, json_values, playing

TWO = Gate(verdict="ask", needed=2)
ALICE = "Alice Smith"
LOOKALIKES = [
    ALICE,
    "alice smith",
    "ALICESMITH",
    "Ａｌｉｃｅ Ｓｍｉｔｈ",
    "  Alice   Smith ",
    "Alice\u00a0Smith",
    "Al\u200bice Smith",
    "Alice\u200d\u2060 Smith\ufeff",
    "\u202aAlice Smith\u202c",
    "Ali\u00adce Smith",
    "Alice\ufe0f Smith",
    "Alice\u034f Smith",
    "Alice\u3164Smith",
    "Alice\u180b Smith",
    "Alice Smith\U000e0101",
    "𝐀𝐥𝐢𝐜𝐞 𝑆𝑚𝑖𝑡ℎ",
]

WAYS_TO_WRITE_AN_ID: list[Callable[[str], str]] = [
    str,
    str.upper,
    lambda full: full[:6],
    lambda full: f"  {full[:8]}\n",
]


def requirement(identity: str) -> Requirement:
    """A requirement with this id."""
    return Requirement(
        id=identity, kind="confirmation", call_id="c", tool="t", arguments="{}", nonce="n", turn=1, created_at=NOW
    )


def statuses(play: Play) -> tuple[str, str | None]:
    """What was decided about the only requirement, and by whom."""
    return play.requirement.status, play.requirement.resolved_by


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", LOOKALIKES)
def test_asker_cannot_approve_even_with_lookalike_name(by: str) -> None:
    play = playing(ASK, requested_by=ALICE)
    result = play.approve(by=by)
    assert result.status == "refused"
    assert "may not approve" in result.detail
    assert play.requirement.status == "pending"
    assert play.run.ignored_messages[-1].status == "refused"


@pytest.mark.parametrize("by", LOOKALIKES[1:])
def test_one_person_twice_is_one_vote_however_the_name_is_spelt(by: str) -> None:
    play = playing(TWO, requested_by=None)
    assert play.approve(by=ALICE).status == "recorded"
    assert play.approve(by=by).status == "duplicate"
    assert play.requirement.status == "pending"
    assert not play.ran


@pytest.mark.parametrize(("person", "spelling"), [(p, spelling) for p, all_of in PEOPLE.items() for spelling in all_of])
def test_spellings_of_one_name_fold_to_one(person: str, spelling: str) -> None:
    assert fold_name(spelling) == fold_name(person)


def test_names_of_different_people_stay_different() -> None:
    names = [*PEOPLE, "jose", "bobo", "alicé", "Jürgen", "Jurgen", "李雷", "韩梅梅"]
    assert len({fold_name(name) for name in names}) == len(names)


@given(st.text())
def test_folding_a_name_twice_is_folding_it_once(name: str) -> None:
    assert fold_name(fold_name(name)) == fold_name(name)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text("\u200b\u200d\u2060\ufe0f\u034f \t"), st.integers(0))
def test_invisible_marks_do_not_make_another_person(name: str, marks: str, where: int) -> None:
    where %= len(name) + 1
    assert fold_name(name[:where] + marks + name[where:]) == fold_name(name)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_composed_and_decomposed_names_are_one_person(name: str) -> None:
    assert fold_name(unicodedata.normalize("NFD", name)) == fold_name(unicodedata.normalize("NFC", name))


@pytest.mark.parametrize("by", ["\u200b", "\u2060\ufeff", "\u00ad", "\x00", "\u3164", "\ufe0f"])
def test_a_name_that_cannot_be_seen_is_no_name(by: str) -> None:
    play = playing(ASK)
    assert play.approve(by=by).status == "refused"
    assert play.requirement.status == "pending"


def test_asker_may_reject_and_hand_in_results() -> None:
    rejected, handed_in = playing(ASK), playing(EXTERNAL)
    assert rejected.reject(by="alice").status == "rejected"
    assert handed_in.submit(by="alice", output=1).status == "executed"


def test_asker_may_approve_where_the_tool_allows_it() -> None:
    play = playing(Gate(verdict="ask", self_approval=True))
    assert play.approve(by="alice").status == "approved"


def test_a_run_that_nobody_asked_for_has_nobody_to_compare_with() -> None:
    assert playing(ASK, requested_by=None).approve(by="alice").status == "approved"


@pytest.mark.parametrize("way", ["approve", "reject"])
def test_only_approvers_may_decide(way: str) -> None:
    play = playing(Gate(verdict="ask", approvers=["Bob", "carol"]))
    decide = play.approve if way == "approve" else play.reject
    refused = decide(by="mallory")
    assert (refused.status, "'mallory' may not decide this; these may: Bob, carol") == (
        "refused",
        refused.detail,
    )
    assert decide(by="ＢＯＢ").status == {"approve": "approved", "reject": "rejected"}[way]


def test_only_approvers_may_hand_in_a_result() -> None:
    play = playing(Gate(verdict="external", approvers=["bob"]))
    assert play.submit(by="mallory", output=1).status == "refused"
    assert play.submit(by="bob", output=1).status == "executed"


# -- how many ---------------------------------------------------------------------------------------------------------


def test_a_quorum_takes_as_many_people_as_it_says() -> None:
    play = playing(Gate(verdict="ask", needed=3))
    assert [play.approve(by=by).status for by in ("bob", "carol", "bob", "dave")] == [
        "recorded",
        "recorded",
        "duplicate",
        "approved",
    ]
    (command,) = play.ran
    assert command.input.authorization is not None
    assert command.input.authorization.approved_by == ["bob", "carol", "dave"]


def test_a_vote_says_how_many_are_missing() -> None:
    assert playing(TWO).approve().detail == "counted; 1 more needed"


def test_one_rejection_beats_quorum() -> None:
    play = playing(Gate(verdict="ask", needed=3))
    play.approve(by="bob")
    play.approve(by="carol")
    assert play.reject(by="dave", reason="too much").status == "rejected"
    assert play.approve(by="erin").status == "late"
    assert play.told == ["Rejected: too much"]
    assert [vote.verdict for vote in play.requirement.votes] == ["approve", "approve", "reject"]
    assert not play.ran


def test_somebody_who_approved_may_still_reject() -> None:
    play = playing(TWO)
    play.approve(by="bob")
    assert play.reject(by="bob").status == "rejected"


# -- once -------------------------------------------------------------------------------------------------------------


def test_the_first_decision_handled_wins() -> None:
    approved, rejected = playing(ASK), playing(ASK)
    assert [approved.approve(by="bob").status, approved.reject(by="carol").status] == ["approved", "late"]
    assert [rejected.reject(by="bob").status, rejected.approve(by="carol").status] == ["rejected", "late"]
    assert statuses(approved) == ("approved", "bob")
    assert statuses(rejected) == ("rejected", "bob")
    assert len(approved.ran) == 1
    assert not rejected.ran


@pytest.mark.parametrize("way", ["approve", "reject"])
def test_the_same_decision_again_is_a_duplicate_and_says_whose_was_first(way: str) -> None:
    play = playing(ASK)
    decide = play.approve if way == "approve" else play.reject
    decide(by="bob")
    again = decide(by="carol")
    assert again.status == "duplicate"
    assert again.detail.endswith("by bob")
    assert play.run.ignored_messages[-1].by == "carol"
    assert len(play.ran) == (way == "approve")


def test_a_decision_records_who_when_why_and_how() -> None:
    play = playing(ASK)
    at = play.at
    body = {"id": play.requirement.id, "by": "bob", "verdict": "approve", "reason": "ok"}
    play.send("decide", body, channel="update")
    (vote,) = play.requirement.votes
    assert (vote.verdict, vote.by, vote.at, vote.reason, vote.channel) == ("approve", "bob", at, "ok", "update")
    assert (play.requirement.resolved_by, play.requirement.resolved_at, play.requirement.reason) == ("bob", at, "ok")


def test_an_approval_after_the_deadline_runs_nothing() -> None:
    play = playing(Gate(verdict="ask", expires_after=1.0))
    assert play.approve().status in {"late", "refused"}
    assert not play.ran


# -- what kind --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["submit_result", "deliver"])
def test_result_for_a_confirmation_is_refused(name: str) -> None:
    play = playing(ASK)
    result = play.send(name, {"id": play.requirement.id, "by": "bob", "output": "forged"})
    assert result.status == "refused"
    assert play.requirement.status == "pending"
    assert not play.told


def test_a_result_for_an_approved_confirmation_is_not_taken_for_the_same_decision() -> None:
    play = playing(ASK)
    play.approve()
    assert play.submit(output="forged").status == "late"


def test_an_external_call_is_not_approved_but_handed_in() -> None:
    play = playing(EXTERNAL)
    assert "use submit_result" in play.approve().detail
    assert play.requirement.status == "pending"
    assert not play.ran


def test_a_result_from_outside_is_the_answer() -> None:
    play = playing(EXTERNAL)
    assert play.submit(output={"b": 1, "a": "é"}).status == "executed"
    assert play.told == ['{"a":"é","b":1}']
    assert statuses(play) == ("approved", "bob")
    assert play.requirement.execution == "executed"
    assert not play.ran


def test_a_failure_from_outside_reaches_the_model_as_a_failed_tool() -> None:
    play = playing(EXTERNAL)
    assert play.submit(error="no space").status == "failed"
    assert play.told == ["Error: no space"]
    assert play.requirement.execution == "failed"


def test_a_rejected_external_call_tells_the_model_and_goes_on() -> None:
    play = playing(EXTERNAL)
    play.reject()
    assert play.told == ["Rejected: no"]
    assert play.submit(output="late").status == "late"
    assert len(play.asked) == 2


def test_a_second_result_is_not_used() -> None:
    play = playing(EXTERNAL, ASK)
    play.submit(position=0, output="first")
    assert play.submit(position=0, output="second").status == "duplicate"
    play.reject(position=1)
    assert play.told[0] == "first"


def test_an_output_and_an_error_together_are_refused_and_the_call_keeps_waiting() -> None:
    play = playing(EXTERNAL)
    assert play.submit(output=1, error="x").status == "refused"
    assert play.submit(output=1).status == "executed"


@pytest.mark.parametrize("gate", [ASK, EXTERNAL])
def test_input_for_a_call_that_takes_none_is_refused(gate: Gate) -> None:
    play = playing(gate)
    result = play.send("submit_input", {"id": play.requirement.id, "by": "bob", "values": {}})
    assert result.status == "refused"
    assert play.requirement.status == "pending"


# -- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WAYS_TO_WRITE_AN_ID)
def test_an_id_may_be_a_prefix_in_any_case(write: Callable[[str], str]) -> None:
    play = playing(ASK)
    assert play.send("approve", {"id": write(play.requirement.id), "by": "bob"}).status == "approved"


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("aaaaa", "too short"),
        ("", "too short"),
        ("   a   ", "too short"),
        ("aaaaaa", "matches 2 requirements"),
        ("bbbbbb", "no requirement of this run"),
        ("a" * 65, "no requirement of this run"),
        ("aaaaaa*", "no requirement of this run"),
    ],
)
def test_an_id_that_names_nothing_says_why(wanted: str, problem: str) -> None:
    found = find_requirement([requirement("a" * 63 + "0"), requirement("a" * 63 + "1")], wanted)
    assert isinstance(found, str)
    assert problem in found


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=9, unique=True), st.data())
def test_a_unique_prefix_names_one_requirement(ids: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.sampled_from(ids))
    prefix = wanted[: data.draw(st.integers(SHORTEST_PREFIX, 64))]
    found = find_requirement([requirement(identity) for identity in ids], prefix)
    unique = sum(identity.startswith(prefix) for identity in ids) == 1
    assert (isinstance(found, Requirement) and found.id == wanted) == unique


def test_a_decision_for_an_unknown_requirement_changes_nothing_and_is_kept() -> None:
    play = playing(ASK)
    before = play.run.requirements
    assert play.send("approve", {"id": "0" * 64, "by": "bob"}).status == "unknown"
    assert play.run.requirements == before
    assert play.run.ignored_messages[-1].status == "unknown"


@given(json_values.filter(lambda value: not isinstance(value, str)).filter(lambda value: "n" not in repr(value)))
def test_a_result_that_is_no_text_is_read_as_json(value: object) -> None:
    assert as_text(value) == as_text(value).strip()


def test_text_is_read_as_it_is() -> None:
    assert as_text(' "quoted" ') == ' "quoted" '
    assert as_text(None) == "null"
