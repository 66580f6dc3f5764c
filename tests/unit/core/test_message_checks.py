"""What is checked on a worker before it counts: values that people fill in, and results from outside."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from assent.core.events import CheckAnswered, Failure
from assent.core.message_handling import CHECKS_AT_ONCE, CHECKS_LIMIT
from assent.core.run_state import state_of
from assent.wire.limits import EVIDENCE_LIMIT
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import Checked, Gate
from tests.unit.strategies import ASK, EXTERNAL, INPUT, Play, playing

RAW = '{"to": "A", "amount": 5}'
CHECKED = Gate(verdict="external", checked=True)
BODY: dict[str, dict[str, object]] = {
    "approve": {"arguments": {"amount": 3}},
    "submit_input": {"values": {"amount": 3}},
    "submit_result": {"output": 3},
}
WAYS = [("approve", ASK), ("submit_input", INPUT), ("submit_result", CHECKED)]


def offer(play: Play, name: str, by: str = "bob", **fields: object) -> None:
    """Somebody sends what has to be checked first."""
    wanted = play.run.requirements[0].id
    step = play.offer(name, {"id": wanted, "by": by, **(fields or BODY[name])})
    assert step.result is None, "it is answered once it is checked"
    assert step.check == play.run.checks_made


# -- values and results -----------------------------------------------------------------------------------------------


def test_values_that_a_worker_checked_go_with_the_call() -> None:
    play = playing(INPUT, arguments='{"to": "A"}')
    offer(play, "submit_input", by="alice")
    assert play.check(gate=None).status == "approved"
    (command,) = play.ran
    assert command.input.values == {"amount": 3}
    assert (play.requirement.kind, play.requirement.values) == ("input", {"amount": 3})
    assert [vote.verdict for vote in play.requirement.votes] == ["submit"]
    assert command.input.authorization is not None
    assert command.input.authorization.approved_by == ["alice"]


def test_the_asker_answers_a_plain_question_and_not_what_counts_as_an_approval() -> None:
    plain, marked = playing(INPUT), playing(INPUT.model_copy(update={"self_approval": False}))
    offer(plain, "submit_input", by="alice")
    assert plain.check().status == "approved"
    body = {"id": marked.requirement.id, "by": "Ａｌｉｃｅ", "values": {"amount": 1}}
    assert marked.send("submit_input", body).status == "refused"


def test_values_that_do_not_fit_are_refused_and_the_call_keeps_waiting() -> None:
    play = playing(INPUT)
    offer(play, "submit_input")
    assert play.check(problem="amount: not a number").status == "refused"
    assert play.requirement.status == "pending"
    offer(play, "submit_input")
    assert play.check().status == "approved"


def test_input_is_rejected_as_anything_else() -> None:
    play = playing(INPUT)
    assert play.reject().status == "rejected"
    assert play.told == ["Rejected: no"]


def test_a_result_is_checked_only_where_the_tool_says_what_it_is() -> None:
    checked, plain = playing(CHECKED), playing(EXTERNAL)
    offer(checked, "submit_result")
    assert checked.check(gate=None).status == "executed"
    assert checked.told == ["3"]
    assert plain.submit(output=3).status == "executed"
    assert not plain.checks


def test_an_error_from_outside_needs_no_check() -> None:
    play = playing(CHECKED)
    assert play.submit(error="no").status == "failed"
    assert not play.checks


def test_evidence_is_kept_with_a_result_and_is_bounded() -> None:
    play = playing(EXTERNAL)
    refused = play.submit(output=1, evidence="x" * EVIDENCE_LIMIT)
    assert "evidence: it is too long" in refused.detail
    play.submit(output=1, evidence={"ticket": "T-1"})
    assert play.requirement.evidence == {"ticket": "T-1"}
    assert state_of(play.run).requirements[0].evidence == {"ticket": "T-1"}


# -- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "gate"), WAYS)
def test_a_check_carries_what_was_sent_and_whose_call_it_is(name: str, gate: Gate) -> None:
    play = playing(gate, arguments=RAW, policy={"default": "allow"})
    offer(play, name)
    (command,) = play.checks
    given = command.input
    assert (given.tool, given.call_id, given.agent, given.requested_by) == ("pay", "c0", "a", "alice")
    assert given.policy == PermissionPolicy(default="allow")
    assert (given.what, given.arguments, given.values, given.output) == {
        "approve": ("arguments", '{"amount":3}', None, None),
        "submit_input": ("values", RAW, {"amount": 3}, None),
        "submit_result": ("output", "", None, 3),
    }[name]
    assert state_of(play.run).running == 1


@pytest.mark.parametrize(("name", "gate"), WAYS)
def test_a_check_that_failed_refuses_and_consumes_nothing(name: str, gate: Gate) -> None:
    play = playing(gate)
    offer(play, name)
    refused = play.checked(1, Failure("Timeout", "no worker"))
    assert (refused.status, refused.detail) == ("refused", "it could not be checked: no worker")
    assert play.requirement.status == "pending"


@pytest.mark.parametrize(("name", "gate"), WAYS)
def test_what_was_decided_while_a_check_ran_is_not_decided_again(name: str, gate: Gate) -> None:
    play = playing(gate)
    offer(play, name)
    assert play.reject(by="carol").status == "rejected"
    assert play.check().status == "late"
    assert play.requirement.status == "rejected"
    assert play.run.ignored_messages[-1].by == "bob"


@pytest.mark.parametrize(("name", "gate"), WAYS)
def test_what_expired_while_a_check_ran_is_not_decided(name: str, gate: Gate) -> None:
    play = playing(gate.model_copy(update={"expires_after": 60.0}))
    offer(play, name)
    play.at += timedelta(minutes=1)
    assert play.check().status == "late"
    assert play.requirement.status == "expired"


@pytest.mark.parametrize("order", list(itertools.permutations((1, 2, 3))))
def test_the_first_check_that_passes_is_the_first_that_counts(order: tuple[int, ...]) -> None:
    play = playing(ASK)
    for number, by in enumerate(("bob", "carol", "dave"), 1):
        offer(play, "approve", by=by, arguments={"amount": number})
    answers = [play.check(number=number).status for number in order]
    assert answers == ["approved", "superseded", "superseded"]
    assert [command.input.arguments for command in play.ran] == [f'{{"amount":{order[0]}}}']
    assert not play.run.checks


def test_only_so_many_are_checked_at_once() -> None:
    play = playing(ASK)
    for _ in range(CHECKS_AT_ONCE):
        offer(play, "approve")
    refused = play.approve(arguments={})
    assert (refused.status, refused.detail) == ("refused", "too many messages are being checked; send it again")
    assert len(play.checks) == CHECKS_AT_ONCE
    play.check(problem="no", number=1)
    offer(play, "approve")


def test_only_so_many_are_checked_in_all_and_a_plain_approval_still_counts() -> None:
    play = playing(ASK)
    for _ in range(CHECKS_LIMIT):
        offer(play, "approve")
        play.check(problem="no")
    assert (
        "messages were checked in this execution; decide it as it is, or send it again later"
        in play.approve(arguments={}).detail
    )
    assert play.approve().status == "approved"


def test_a_check_in_an_ended_run_is_late_and_kept() -> None:
    play = playing(ASK, ASK)
    offer(play, "approve")
    play.cancel()
    assert play.run.checks == ()
    assert [(each.status, each.by) for each in play.run.ignored_messages] == [("late", "bob")]
    step = play.tell(CheckAnswered(play.at, 1, Checked(problem=None, gate=ASK)))
    assert (step.commands, step.result) == ((), None)
    assert not play.ran


def test_a_check_that_a_completed_run_left_behind_is_late_and_kept() -> None:
    play = playing(ASK)
    offer(play, "approve")
    play.reject(by="carol")
    play.answer()
    assert (play.run.status, state_of(play.run).running) == ("completed", 0)
    assert [(each.status, each.by, each.detail) for each in play.run.ignored_messages] == [
        ("late", "bob", "the run ended before it was checked")
    ]


def test_an_answer_to_no_check_changes_nothing() -> None:
    play = playing(ASK)
    before = play.run
    assert play.tell(CheckAnswered(play.at, 7, Checked(problem=None, gate=ASK))).commands == ()
    assert play.run == before
