"""Edits: what a person approves with other arguments, once a worker has checked them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from assent.wire.digest import parse_arguments, requirement_id
from assent.wire.limits import OUTPUT_LIMIT
from assent.wire.protocol import Escalation, Gate
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, INPUT, ONCE, RUN_ID, playing

RAW = '{"to": "A", "amount": 5}'
TWO = Gate(verdict="ask", needed=2)


def test_an_edit_supersedes_what_waited_and_runs_what_was_edited() -> None:
    play = playing(ONCE, arguments=RAW)
    assert play.edit(to="A", amount=3).status == "approved"
    old, new = play.run.requirements
    assert (old.status, old.resolved_by, old.arguments, old.votes) == ("superseded", "bob", RAW, [])
    assert (new.status, new.follows, new.edited_by) == ("approved", old.id, "bob")
    (command,) = play.ran
    assert command.input.arguments == new.arguments == '{"amount":3,"to":"A"}'
    assert command.attempts == 1
    assert play.told == []


def test_an_edit_has_an_id_of_its_own_over_what_runs() -> None:
    play = playing(ASK, arguments=RAW)
    play.edit(amount=3)
    new = play.run.requirements[1]
    assert new.id == requirement_id(
        run_id=RUN_ID,
        nonce=new.nonce,
        call_id="c0",
        tool="pay",
        arguments='{"amount":3}',
        policy_version="p2",
        needed=1,
        expires_at=None,
    )
    assert play.ran[0].input.authorization is not None
    assert play.ran[0].input.authorization.requirement_id == new.id


def test_the_model_is_told_what_a_person_changed() -> None:
    play = playing(ASK, arguments=RAW)
    play.edit(amount=3)
    play.tool(0, "paid 3")
    assert play.told == ['A person changed the arguments of this call to: {"amount":3}\npaid 3']


def test_the_model_is_told_of_an_edit_that_was_then_rejected() -> None:
    play = playing(TWO, arguments=RAW)
    play.edit(gate=TWO, amount=3)
    play.reject(by="carol", position=1)
    assert play.told == ['A person changed the arguments of this call to: {"amount":3}\nRejected: no']


def test_the_vote_of_an_editor_counts_once() -> None:
    play = playing(TWO, arguments=RAW)
    assert play.edit(by="bob", gate=TWO, amount=3).status == "recorded"
    assert play.approve(by="ＢＯＢ", position=1).status == "duplicate"
    assert not play.ran
    assert play.approve(by="carol", position=1).status == "approved"
    assert [vote.by for vote in play.run.requirements[1].votes] == ["bob", "carol"]


def test_votes_on_what_was_superseded_do_not_count_for_what_replaced_it() -> None:
    play = playing(TWO, arguments=RAW)
    play.approve(by="carol")
    assert play.edit(by="bob", gate=TWO, amount=3).status == "recorded"
    assert [vote.by for vote in play.run.requirements[1].votes] == ["bob"]
    assert play.approve(by="dave", position=0).status == "superseded"
    assert not play.ran


def test_an_edit_of_an_edit_follows_it() -> None:
    play = playing(TWO, arguments=RAW)
    play.edit(by="bob", gate=TWO, amount=3)
    play.edit(by="carol", gate=TWO, position=1, amount=4)
    play.approve(by="bob", position=2)
    assert [each.status for each in play.run.requirements] == ["superseded", "superseded", "approved"]
    assert play.run.requirements[2].follows == play.run.requirements[1].id
    assert play.ran[0].input.arguments == '{"amount":4}'


@pytest.mark.parametrize("problem", ["amount: too much", "it could not be read"])
def test_a_refused_edit_consumes_nothing(problem: str) -> None:
    play = playing(ASK, arguments=RAW)
    before = play.run.requirements
    play.offer("approve", {"id": play.requirement.id, "by": "bob", "arguments": {"amount": 3}})
    assert play.check(problem=problem).detail == problem
    assert play.run.requirements == before
    assert play.run.ignored_messages[-1].status == "refused"
    assert play.approve().status == "approved"
    assert play.ran[0].input.arguments == RAW


@pytest.mark.parametrize(
    "gate", [None, Gate(verdict="deny", reason="too much"), EXTERNAL, INPUT, Gate(verdict="invalid")]
)
def test_arguments_that_may_not_run_are_refused_and_consume_nothing(gate: Gate | None) -> None:
    play = playing(ASK, arguments=RAW)
    assert play.edit(gate=gate, amount=3).status == "refused"
    assert play.requirement.status == "pending"
    assert not play.ran


@pytest.mark.parametrize(
    ("gate", "by"),
    [(Gate(verdict="ask", approvers=["carol"]), "bob"), (Gate(verdict="ask", approvers=[]), "bob"), (ALLOW, "alice")],
)
def test_an_editor_who_may_not_approve_the_edited_call_consumes_nothing(gate: Gate, by: str) -> None:
    play = playing(Gate(verdict="ask", self_approval=True), arguments=RAW)
    assert play.edit(by=by, gate=gate, amount=3).status == "refused"
    assert play.requirement.status == "pending"
    assert not play.ran


def test_who_may_not_approve_may_not_edit_and_no_worker_is_asked() -> None:
    for gate, by in ((ASK, "alice"), (Gate(verdict="ask", approvers=["carol"]), "bob")):
        play = playing(gate)
        assert play.approve(by=by, arguments={"amount": 1}).status == "refused"
        assert not play.checks


def test_arguments_that_would_run_unasked_still_take_the_person_who_edited_them() -> None:
    play = playing(ASK, arguments=RAW)
    assert play.edit(gate=ALLOW, amount=1).status == "approved"
    assert play.run.requirements[1].kind == "confirmation"
    assert play.ran[0].input.authorization is not None


def test_an_edit_may_take_more_people_than_the_call_did() -> None:
    play = playing(ASK, arguments=RAW)
    assert play.edit(gate=TWO, amount=9).status == "recorded"
    assert play.run.pending[0].needed == 2
    assert play.approve(by="carol", position=1).status == "approved"


def test_an_edited_call_runs_at_most_once_if_it_did_before() -> None:
    play = playing(ONCE, arguments=RAW)
    play.edit(gate=ALLOW, amount=1)
    assert play.run.calls[0].gate.at_most_once
    assert play.ran[0].attempts == 1


@given(st.none() | st.integers(1, 100), st.none() | st.integers(1, 100), st.integers(0, 99))
def test_nobody_gains_time_by_an_edit(had: int | None, would: int | None, after: int) -> None:
    play = playing(Gate(verdict="ask", needed=2, expires_after=had))
    if had is not None and after >= had:
        return
    play.at = play.requirement.created_at + timedelta(seconds=after)
    edited_at = play.at + timedelta(seconds=1)
    play.offer("approve", {"id": play.requirement.id, "by": "bob", "arguments": {}})
    if had is not None and edited_at >= play.requirement.created_at + timedelta(seconds=had):
        return
    play.check(gate=Gate(verdict="ask", needed=2, expires_after=would))
    old, new = play.run.requirements
    own: datetime | None = None if would is None else edited_at + timedelta(seconds=would)
    assert new.expires_at == min((each for each in (old.expires_at, own) if each is not None), default=None)


def test_an_edit_keeps_what_the_records_call_it() -> None:
    play = playing(Gate(verdict="ask", needed=2, approval_type="required"), arguments=RAW)
    play.edit(gate=TWO, amount=3)
    assert play.run.requirements[1].approval_type == "required"


def test_an_edit_keeps_the_agents_own_escalations() -> None:
    gate = Gate(verdict="ask", needed=2, approvers=["bob"], escalations=[Escalation(after=60, approvers=["carol"])])
    play = playing(gate, arguments=RAW)
    play.edit(gate=gate, amount=3)
    play.wait(minutes=2)
    assert play.approve(by="carol", position=1).status == "approved"


@pytest.mark.parametrize("arguments", [{"text": "line\n"}, {" to": "A"}, {"to": ["\tA"]}, {"to": "A", "to ": "B"}])
def test_white_space_in_edited_arguments_is_what_runs(arguments: dict[str, JsonValue]) -> None:
    play = playing(ASK)
    play.offer("approve", {"id": play.requirement.id, "by": "bob", "arguments": arguments})
    assert parse_arguments(play.checks[0].input.arguments) == arguments


@given(st.dictionaries(st.text("abé\"'", max_size=5), st.integers() | st.text("a\u200bé😀"), max_size=3))
def test_what_is_checked_is_what_is_shown_hashed_and_run(arguments: dict[str, JsonValue]) -> None:
    play = playing(ASK)
    play.offer("approve", {"id": play.requirement.id, "by": "bob", "arguments": arguments})
    play.check()
    text = play.checks[0].input.arguments
    assert text == play.run.requirements[1].arguments == play.ran[0].input.arguments
    assert parse_arguments(text) == arguments


def test_arguments_that_are_too_long_are_refused_before_a_worker_is_asked() -> None:
    play = playing(ASK)
    refused = play.approve(arguments={"to": "x" * OUTPUT_LIMIT})
    assert (refused.status, refused.detail) == (
        "refused",
        f"the arguments are too long; the limit is {OUTPUT_LIMIT} bytes",
    )
    assert not play.checks


def test_what_was_edited_twice_is_authorised_as_coming_from_the_first() -> None:
    """A workflow reset applies every edit again: only the requirement before all of them tells when it was asked."""
    play = playing(Gate(verdict="ask", needed=3))
    first = play.requirement.id
    play.edit(by="bob", gate=Gate(verdict="ask", needed=3), amount=1)
    play.edit(by="carol", position=1, gate=Gate(verdict="ask", needed=3), amount=2)
    for name in ("bob", "dave"):
        play.approve(by=name, position=2)
    [ran] = play.ran
    assert ran.input.authorization is not None
    assert ran.input.authorization.follows == first
