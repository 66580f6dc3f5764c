"""Calls that come back to people or are tried again, and what ends a run early."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.events import Cancel, Complete, Fail, WakeAt
from assent.core.reopening import LONGEST_RETRY
from assent.core.tool_results import asks_outcome
from assent.wire.protocol import Gate, ModelTurn
from assent.wire.requirements import Requirement
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, INPUT, ONCE, Play, gate_of, pay, playing, turn_of

STOP = Gate(verdict="allow", stop=True)


def lost(gate: Gate = ONCE) -> Play:
    """A run whose call was approved, and whose worker was lost."""
    play = playing(gate)
    for by in ("bob", "carol")[: gate.needed]:
        play.approve(by=by)
    play.lose()
    return play


def opened(play: Play) -> Requirement:
    """The newest requirement."""
    return play.run.requirements[-1]


# -- outcomes ---------------------------------------------------------------------------------------------------------


def test_a_lost_worker_of_an_approved_call_is_asked_about() -> None:
    play = lost()
    before, outcome = play.run.requirements
    assert (before.status, before.execution) == ("approved", "unknown")
    assert (outcome.kind, outcome.status, outcome.follows) == ("outcome", "pending", before.id)
    assert outcome.note == (
        "its worker was lost while it ran (heartbeat); it may or may not have taken effect; "
        "to run it again may do it twice"
    )
    assert outcome.id != before.id
    assert outcome.needs_outcome
    assert play.run.status == "waiting"
    assert len(play.ran) == 1


def test_it_happened_here_is_the_result() -> None:
    play = lost()
    assert play.submit(position=1, output="paid", evidence="receipt 7").status == "executed"
    assert play.told == ["paid"]
    assert (opened(play).status, opened(play).execution, opened(play).evidence) == ("approved", "executed", "receipt 7")
    assert len(play.ran) == 1


def test_it_happened_and_failed() -> None:
    play = lost()
    assert play.submit(position=1, error="no funds").status == "failed"
    assert play.told == ["Error: no funds"]


def test_run_it_again_runs_it_once_more_under_the_new_requirement() -> None:
    play = lost()
    assert play.approve(position=1).status == "approved"
    first, second = play.ran
    assert second.input.arguments == first.input.arguments
    assert second.input.key == first.input.key
    assert second.input.authorization is not None
    assert second.input.authorization.requirement_id == opened(play).id
    play.tool(0, "paid")
    assert play.told == ["paid"]
    assert [each.execution for each in play.run.requirements] == ["unknown", "executed"]


def test_give_up_tells_the_model_why() -> None:
    play = lost()
    assert play.reject(position=1, reason="leave it").status == "rejected"
    assert play.told == ["Outcome unknown: the call may or may not have taken effect, and was given up: leave it"]
    assert len(play.ran) == 1


def test_a_call_that_is_lost_again_is_asked_about_again() -> None:
    play = lost()
    play.approve(position=1)
    play.lose()
    assert [each.kind for each in play.run.requirements] == ["confirmation", "outcome", "outcome"]
    assert opened(play).follows == play.run.requirements[1].id
    assert len({each.id for each in play.run.requirements}) == 3


def test_an_outcome_is_for_those_who_could_decide_the_call() -> None:
    play = lost(Gate(verdict="ask", at_most_once=True, needed=2, approvers=["bob", "carol"]))
    assert play.submit(by="mallory", position=1, output="paid").status == "refused"
    assert play.approve(by="bob", position=1).status == "recorded"
    assert play.approve(by="bob", position=1).status == "duplicate"
    assert play.approve(by="carol", position=1).status == "approved"


def test_the_asker_may_neither_say_what_happened_nor_have_it_run_again() -> None:
    assert lost().approve(by="alice", position=1).status == "refused"
    assert lost().submit(by="alice", position=1, output="paid").status == "refused"
    assert lost().submit(by="bob", position=1, output="paid").status == "executed"


def test_an_outcome_has_no_deadline_because_silence_says_nothing() -> None:
    play = lost(Gate(verdict="ask", at_most_once=True, expires_after=60.0))
    play.wait(days=900)
    assert (opened(play).status, opened(play).expires_at) == ("pending", None)
    assert play.approve(position=1).status == "approved"


@pytest.mark.parametrize("fields", [{"arguments": {"to": "B"}}, {"remember": {"uses": 1}}])
def test_an_outcome_is_neither_edited_nor_remembered(fields: dict[str, object]) -> None:
    play = lost()
    assert play.send("approve", {"id": opened(play).id, "by": "bob", **fields}).status == "refused"
    assert opened(play).status == "pending"


def test_what_a_person_filled_in_goes_with_the_call_that_runs_again() -> None:
    play = playing(INPUT.model_copy(update={"at_most_once": True}))
    play.offer("submit_input", {"id": play.requirement.id, "by": "alice", "values": {"amount": 3}})
    play.check()
    play.lose()
    assert opened(play).kind == "outcome"
    play.approve(position=1)
    assert [command.input.values for command in play.ran] == [{"amount": 3}] * 2


@pytest.mark.parametrize("gate", [ALLOW, ASK])
def test_nobody_is_asked_about_a_call_that_may_run_twice_or_that_nobody_approved(gate: Gate) -> None:
    play = playing(gate)
    if gate.verdict == "ask":
        play.approve()
    assert not asks_outcome(play.run, 0)
    play.lose()
    assert play.told == ["Error: its worker was lost while it ran (heartbeat); it may or may not have taken effect"]


def test_the_workflow_knows_beforehand_whom_it_would_ask_about() -> None:
    play = playing(ONCE, ONCE)
    play.approve(position=0)
    assert [asks_outcome(play.run, position) for position in (0, 1, 2)] == [True, False, False]


# -- asked again ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [ASK, EXTERNAL, INPUT, Gate(verdict="ask", needed=2, reason="two, today")])
def test_a_call_that_takes_more_today_waits_for_a_person_again(gate: Gate) -> None:
    play = playing(ALLOW)
    play.tool(0, refused="the tool now needs an approval", gate=gate, policy_version="p9")
    assert play.told == []
    assert play.run.status == "waiting"
    assert (opened(play).policy_version, opened(play).needed, opened(play).follows) == ("p9", gate.needed, None)
    assert (opened(play).note or "").startswith("the tool now needs an approval")
    assert play.run.calls[0].gate == gate


def test_a_call_that_was_approved_under_less_is_decided_anew() -> None:
    play = playing(ASK)
    play.approve()
    two = Gate(verdict="ask", needed=2)
    play.tool(0, refused="it now needs 2", gate=two, policy_version="p9")
    before, after = play.run.requirements
    assert (before.status, before.execution, before.result) == ("approved", "refused", "it now needs 2")
    assert after.follows == before.id
    assert play.approve(by="bob", position=1).status == "recorded"
    assert play.approve(by="carol", position=1).status == "approved"
    play.tool(0, "paid")
    assert play.told == ["paid"]
    assert len(play.ran) == 2


@pytest.mark.parametrize("gate", [None, ALLOW, Gate(verdict="deny"), Gate(verdict="invalid")])
def test_a_refusal_that_no_person_could_lift_is_told_to_the_model(gate: Gate | None) -> None:
    play = playing(ALLOW)
    play.tool(0, refused="no", gate=gate)
    assert play.told == ["Not run: no"]
    assert not play.run.requirements


# -- tried again ------------------------------------------------------------------------------------------------------


def test_a_call_that_no_worker_serves_is_tried_again_after_a_while_and_stays_approved() -> None:
    play = playing(ASK)
    play.approve()
    moment = play.at
    step = play.tool(0, refused="no such agent here", again_after=30.0)
    assert step.commands == (WakeAt(moment + timedelta(seconds=30)),)
    assert (play.requirement.status, play.requirement.execution) == ("approved", None)
    assert play.run.status == "running"
    play.wait(seconds=10)
    assert len(play.ran) == 1
    play.wait(seconds=30)
    first, second = play.ran
    assert first.input == second.input
    assert play.requirement.execution == "running"
    play.tool(0, "paid")
    assert play.told == ["paid"]


@given(st.floats(0.001, 1e5), st.integers(1, 30))
def test_each_try_waits_twice_as_long_up_to_a_bound(first: float, tries: int) -> None:
    play = playing(ALLOW)
    for number in range(tries):
        moment = play.at
        play.tool(0, refused="not here", again_after=first)
        wait = play.run.wake_at
        assert wait is not None
        expected = min(max(first, 1.0) * 2.0 ** min(number, 30), LONGEST_RETRY)
        assert abs((wait - moment).total_seconds() - expected) < 1e-5
        play.at = wait
        play.wait()
    assert len(play.ran) == tries + 1


def test_a_person_outranks_a_worker_that_does_not_serve_the_call() -> None:
    play = playing(ALLOW)
    play.tool(0, refused="needs a person", gate=ASK, again_after=5.0)
    assert opened(play).status == "pending"
    assert play.run.wake_at is None


def test_a_run_that_ends_tries_nothing_again() -> None:
    play = playing(ALLOW)
    play.tool(0, refused="not here", again_after=5.0)
    play.cancel()
    assert play.wait(hours=1).commands == ()
    assert len(play.ran) == 1


def test_a_result_for_a_call_that_waits_to_be_tried_again_is_not_used() -> None:
    play = playing(ALLOW)
    play.tool(0, refused="not here", again_after=5.0)
    before = play.run
    play.tool(0, "forged")
    assert play.run == before


# -- ending early -----------------------------------------------------------------------------------------------------


def test_a_tool_may_end_the_run_with_its_output() -> None:
    play = playing(STOP)
    step = play.tool(0, "final")
    (last,) = step.commands
    assert isinstance(last, Complete)
    assert (last.result.content, last.result.turns, play.run.status) == ("final", 1, "completed")
    assert play.told == ["final"]


def test_the_first_of_two_that_end_the_run_gives_its_content_and_all_are_waited_for() -> None:
    play = playing(STOP, ALLOW, STOP)
    play.tool(2, "third")
    play.tool(0, "first")
    assert play.run.status == "running"
    play.tool(1, "second")
    assert play.run.content == "first"
    assert play.told == ["first", "second", "third"]


@pytest.mark.parametrize("outcome", [{"error": "x"}, {"refused": "x"}])
def test_a_call_that_was_not_executed_does_not_end_the_run(outcome: dict[str, str]) -> None:
    play = playing(STOP)
    play.tool(0, **outcome)
    assert play.run.status == "running"
    assert len(play.asked) == 2


def test_a_rejected_call_does_not_end_the_run_and_an_approved_or_handed_in_one_does() -> None:
    rejected, approved = (playing(Gate(verdict="ask", stop=True)) for _ in range(2))
    handed_in, failed = (playing(Gate(verdict="external", stop=True)) for _ in range(2))
    rejected.reject()
    approved.approve()
    approved.tool(0, "done")
    handed_in.submit(output="done")
    failed.submit(error="done")
    assert [play.run.status for play in (rejected, approved, handed_in, failed)] == [
        "running",
        "completed",
        "completed",
        "running",
    ]
    assert approved.run.content == handed_in.run.content == "done"


def test_an_edited_call_ends_the_run_as_the_models_would() -> None:
    play = playing(Gate(verdict="ask", stop=True))
    play.edit(gate=ASK, to="B")
    play.tool(0, "done")
    assert (play.run.status, play.run.content) == ("completed", "done")


@pytest.mark.parametrize(
    ("asked", "agents", "limit"), [(None, None, None), (2, None, 2), (None, 3, 3), (2, 3, 2), (3, 2, 2), (0, 9, 0)]
)
def test_the_calls_of_a_run_are_counted_across_turns_and_the_lower_limit_holds(
    asked: int | None, agents: int | None, limit: int | None
) -> None:
    play = Play()
    play.start(max_tool_calls=asked)
    for number in range(5):
        turn = turn_of(ALLOW, prefix=f"t{number}-").model_copy(update={"max_tool_calls": None if number else agents})
        play.model(turn)
        if play.run.calls:
            play.tool(0, "ok")
    assert len(play.ran) == play.run.tool_calls == (5 if limit is None else limit)
    over = [told for told in play.told if told != "ok"]
    line = f"Denied: the run may make {limit} tool calls, and has made them. Answer with what you have."
    assert over == [line] * (0 if limit is None else 5 - limit)


def test_calls_that_wait_count_and_those_that_are_denied_do_not() -> None:
    play = playing(Gate(verdict="deny"), ASK, ALLOW, ALLOW, max_tool_calls=2)
    assert [call.answer is None for call in play.run.calls] == [False, True, True, False]
    assert play.run.tool_calls == 2
    play.reject()
    play.tool(2, "ok")
    play.model(turn_of(ALLOW, prefix="later-"))
    assert play.told[-1].startswith("Denied: the run may make 2 tool calls")


def test_two_calls_named_alike_end_the_run_whatever_their_gates() -> None:
    play = Play()
    play.start()
    twice = turn_of(ASK)
    play.model(ModelTurn(items=[*twice.items, *twice.items], gates=twice.gates))
    assert isinstance(play.commands[-1], Fail)


def test_the_gate_that_a_worker_gives_today_is_the_one_that_is_asked() -> None:
    play = playing(ALLOW)
    play.tool(0, refused="now it asks", gate=gate_of(pay), policy_version="p9")
    assert opened(play).kind == "confirmation"


@pytest.mark.parametrize("due", ["a call to be tried again", "a deadline"])
def test_nothing_is_started_at_the_moment_a_run_is_cancelled(due: str) -> None:
    play = playing(ALLOW if due.startswith("a call") else Gate(verdict="ask", expires_after=60.0))
    if due.startswith("a call"):
        play.tool(0, refused="not here", again_after=5.0)
    play.at += timedelta(hours=1)
    assert play.cancel().commands == (Cancel(),)
