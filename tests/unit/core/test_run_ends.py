"""How a run ends, and what it keeps: bounded, whole, and readable by machines, whatever is sent to it."""

from __future__ import annotations

import pytest

from assent.core.events import Cancel, CancelRequested, MessageReceived
from assent.core.run_state import KEPT_MESSAGES, Run, state_of
from assent.core.state_machine import decide
from assent.wire.digest import canonical
from assent.wire.limits import QUEUE_LIMIT
from assent.wire.protocol import Gate
from assent.wire.requirements import RunState
from tests.unit.core.test_state_machine import DENY, failure_of, started
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, MEBIBYTE, NOW, Play, playing

ACTIVITY_LIMIT = 2 * 1024 * 1024


# -- how a run ends ---------------------------------------------------------------------------------------------------


def test_cancel_closes_everything_and_nothing_runs_after() -> None:
    play = playing(ASK, ASK, EXTERNAL, ALLOW)
    play.approve(position=0)
    step = play.cancel()
    assert step.commands == (Cancel(),)
    assert [each.status for each in play.run.requirements] == ["approved", "cancelled", "cancelled"]
    assert play.run.requirements[0].execution == "unknown"
    assert state_of(play.run).running == 0
    ran = len(play.ran)
    for result in (play.approve(position=1), play.reject(position=1), play.submit(position=2, output=1)):
        assert result.status == "late"
    play.tool(3, "late")
    play.answer()
    assert len(play.ran) == ran
    assert play.run.status == "cancelled"


def test_cancel_racing_an_approval_resolves_by_their_order() -> None:
    play = playing(ASK)
    approval = MessageReceived(NOW, "approve", ({"id": play.requirement.id, "by": "bob"},))
    cancel = CancelRequested(NOW)
    approved = decide(decide(play.run, approval).run, cancel).run
    cancelled = decide(decide(play.run, cancel).run, approval).run
    assert approved.requirements[0].status == "approved"
    assert cancelled.requirements[0].status == "cancelled"
    assert approved.status == cancelled.status == "cancelled"


def test_cancelling_twice_is_cancelling_once() -> None:
    play = playing(ASK)
    play.cancel()
    assert play.cancel().commands == ()


def test_a_run_that_uses_up_its_turns_has_nothing_pending() -> None:
    play = playing(ASK, DENY, max_turns=1)
    play.reject()
    assert failure_of(play).startswith("MaxTurnsExceeded")
    assert not play.run.pending


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ({}, {}),
        ("text",),
        (None,),
        ({"agent": "a"},),
        ({"agent": 1, "input": "x"},),
        ({"agent": "a", "input": ""},),
    ],
)
def test_a_run_started_with_anything_else_fails_with_one_line(arguments: tuple[object, ...]) -> None:
    play = Play()
    play.begin(*arguments)
    line = failure_of(play)
    assert line.startswith("InvalidRunRequest: AgentRun")
    assert "\n" not in line
    assert not play.asked


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_unreadable_messages_are_kept_and_change_nothing() -> None:
    play = playing(ASK)
    result = play.send("approve", "yes please", channel="update")
    assert result.status == "refused"
    (attempt,) = play.run.ignored_messages
    assert (attempt.status, attempt.name, attempt.channel) == ("unreadable", "approve", "update")
    assert attempt.text == "'yes please'"
    assert attempt.detail == result.detail
    assert play.requirement.status == "pending"


def test_attempts_are_bounded_and_those_dropped_are_counted() -> None:
    play = playing(ASK)
    for number in range(KEPT_MESSAGES + 7):
        play.send(f"nonsense {number}")
    assert len(play.run.ignored_messages) == KEPT_MESSAGES
    assert play.run.ignored_dropped == 7
    assert play.run.ignored_messages[-1].name == f"nonsense {KEPT_MESSAGES + 6}"


def test_fifty_people_approving_at_once_run_the_tool_once() -> None:
    play = playing(ASK)
    answers = [play.approve(by=f"person {number}").status for number in range(50)]
    assert answers == ["approved"] + ["duplicate"] * 49
    assert len(play.ran) == 1
    assert len(play.run.ignored_messages) == 49


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), [float("nan")], {"a": [float("inf")]}])
@pytest.mark.parametrize("name", ["submit_result", "deliver"])
def test_a_number_that_json_does_not_have_never_stops_the_run(name: str, value: object) -> None:
    play = playing(EXTERNAL)  # `1e999` is JSON, and every lenient reader makes an infinity of it
    assert play.send(name, {"id": play.requirement.id, "by": "bob", "output": value}).status == "refused"
    assert play.run.pending


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("approve", {"id": MEBIBYTE, "by": "bob"}),
        ("approve", {"id": "ID", "by": MEBIBYTE}),
        ("approve", {"id": "ID", "by": "bob", "reason": MEBIBYTE}),
        ("approve", {"id": "ID", "by": "bob", MEBIBYTE: 1}),
        ("decide", {"id": "ID", "by": "bob", "verdict": MEBIBYTE}),
        ("reject", {"id": "ID", "by": "bob", "reason": MEBIBYTE}),
        ("submit_result", {"id": "ID", "by": MEBIBYTE, "output": 1}),
    ],
)
def test_a_mebibyte_of_text_does_not_swell_the_state(name: str, body: dict[str, object]) -> None:
    play = playing(Gate(verdict="ask", needed=2, approvers=["bob", "carol"]))
    known = {key: play.requirement.id if value == "ID" else value for key, value in body.items()}
    play.send(name, known)
    assert len(state_of(play.run).model_dump_json()) < 16_384


@pytest.mark.parametrize("output", ["x" * 256_000, "é" * 128_000, "\x00" * 256_000, "\x00" * 40_000 + "x" * 216_000])
def test_what_the_model_is_told_fits_into_an_activity(output: str) -> None:
    play = playing(*[ALLOW] * 20)
    for position in range(20):
        play.tool(position, output)
    assert len(play.asked[-1].input.model_dump_json().encode()) < ACTIVITY_LIMIT


def test_what_people_say_fits_into_an_activity() -> None:
    play = playing(ASK)
    for _ in range(4):
        play.send("send_message", {"content": MEBIBYTE, "by": "bob"})
    play.reject()
    assert len(play.asked[-1].input.model_dump_json()) < ACTIVITY_LIMIT


def test_a_result_that_is_cut_says_so() -> None:
    ran, handed_in = playing(ASK), playing(EXTERNAL)
    ran.approve()
    ran.tool(0, "x" * 5_000)
    handed_in.submit(output="x" * 5_000)
    for play in (ran, handed_in):
        assert play.told == ["x" * 5_000]
        result = play.requirement.result or ""
        assert len(result) < 4_100
        assert "1000 characters" in result


def test_the_state_has_all_there_is_to_know_and_survives_as_json() -> None:
    play = playing(ASK, EXTERNAL, ALLOW, input="prompt")
    play.send("approve")
    play.approve(position=0, reason="fine")
    state = state_of(play.run)
    assert RunState.model_validate_json(state.model_dump_json()) == state
    assert (state.id, state.execution_id, state.agent, state.input, state.requested_by) == (
        "run-1",
        "r1",
        "a",
        "prompt",
        "alice",
    )
    assert (state.status, state.running, state.turns) == ("running", 2, 1)
    assert [each.needs_external_execution for each in state.active_requirements] == [True]
    assert not state.is_finished


def test_a_failed_run_says_why_in_its_state() -> None:
    play = started()
    play.model_fails()
    state = state_of(play.run)
    assert (state.error, state.is_finished, state.is_paused) == ("BadRequest: no", True, False)


def test_a_run_that_has_not_started_has_a_state() -> None:
    assert state_of(Run()).status == "running"


def test_thousands_of_messages_cost_as_many_times_one() -> None:
    play = playing(ASK)
    for number in range(3_000):
        play.send("send_message", {"content": f"message {number}", "by": "alice"})
    refused = [attempt for attempt in play.run.ignored_messages if attempt.status == "refused"]
    assert play.run.queued
    assert play.run.queued_size == sum(len(canonical(item)) for item in play.run.queued) <= QUEUE_LIMIT
    assert not refused or "too long" in refused[0].detail
    play.reject()
    assert (play.run.queued, play.run.queued_size) == ((), 0)
