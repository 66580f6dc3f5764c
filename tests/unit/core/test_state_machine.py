"""What an event does to a run: the rules, one by one."""

from __future__ import annotations

import pytest

from assent.core.events import Complete, Fail, MessageReceived
from assent.core.notices import NoticesInput
from assent.core.run_state import MAX_TURNS, state_of
from assent.wire.protocol import (
    CheckInput,
    Gate,
    ModelCallInput,
    ModelTurn,
    RunRequest,
    ToolCallInput,
    ToolOptions,
    Usage,
)
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, NOW, TO_B, Play, function_call, playing, said, turn_of

DENY = Gate(verdict="deny", reason="not here")
INVALID = Gate(verdict="invalid", reason="amount: not a number")


def failure_of(play: Play) -> str:
    """The failure with which a run ended, as its last command has it."""
    last = play.commands[-1]
    assert isinstance(last, Fail)
    assert play.run.status == "failed"
    assert play.run.failure == last.failure
    return f"{last.failure.kind}: {last.failure.message}"


def started(**request: object) -> Play:
    """A run that waits for the first answer of its model."""
    play = Play()
    play.start(**request)
    return play


# -- turns ------------------------------------------------------------------------------------------------------------


def test_the_first_model_call_carries_the_prompt_and_names_no_prefix() -> None:
    (command,) = started(input="hello").asked
    assert command.input.model_dump(exclude_unset=True) == {
        "agent": "a",
        "turn": 1,
        "delta": [{"role": "user", "content": "hello"}],
        "requested_by": "alice",
    }


def test_an_answer_without_calls_completes_the_run() -> None:
    play = started()
    play.model(ModelTurn(items=[said("one"), said("two")], usage=Usage(requests=1, input_tokens=2, output_tokens=3)))
    (last,) = play.commands[1:]
    assert isinstance(last, Complete)
    assert last.result.content == "one\n\ntwo"
    assert last.result.turns == 1
    assert last.result.usage == Usage(requests=1, input_tokens=2, output_tokens=3)
    assert play.run.status == "completed"


def test_a_structured_answer_is_the_output() -> None:
    play = started()
    play.model(ModelTurn(items=[said('{"a": [1]}')], structured=True))
    assert play.run.output == {"a": [1]}


def test_usage_adds_up_over_the_turns() -> None:
    play = started()
    play.model(turn_of(DENY).model_copy(update={"usage": Usage(input_tokens=5)}))
    play.model(ModelTurn(items=[said("done")], usage=Usage(input_tokens=7)))
    assert play.run.usage.input_tokens == 12


def test_an_answer_that_does_not_fit_is_asked_for_again() -> None:
    play = started()
    play.model(ModelTurn(items=[said("no json")], follow_up="Answer again."))
    assert play.asked[-1].input.delta == [{"role": "user", "content": "Answer again."}]


def test_two_calls_of_one_turn_named_alike_end_the_run() -> None:
    play = started()
    play.model(ModelTurn(items=[function_call("c"), function_call("c")], gates={"c": ALLOW}))
    assert failure_of(play).startswith("InvalidModelTurn: ")
    assert not play.ran


def test_a_failed_model_call_ends_the_run() -> None:
    play = started()
    play.model_fails()
    assert failure_of(play) == "BadRequest: no"


@pytest.mark.parametrize(
    ("asked", "agents", "turns"),
    [(None, None, MAX_TURNS), (2, None, 2), (None, 3, 3), (2, 3, 2), (9, 3, 3), (99, None, MAX_TURNS), (70, 80, 70)],
)
def test_the_request_lowers_max_turns_and_never_raises_them(asked: int | None, agents: int | None, turns: int) -> None:
    play = started(max_turns=asked)
    for number in range(200):
        if play.run.ended:
            break
        play.model(turn_of(DENY, prefix=f"t{number}-").model_copy(update={"max_turns": agents if not number else None}))
    assert failure_of(play) == f"MaxTurnsExceeded: the run used all of its {turns} turns"
    assert len(play.asked) == turns


def test_the_last_turn_may_still_answer() -> None:
    play = started(max_turns=1)
    play.answer("in time")
    assert play.run.status == "completed"


def test_a_follow_up_counts_as_a_turn() -> None:
    play = started(max_turns=1)
    play.model(ModelTurn(items=[said("no json")], follow_up="again"))
    assert failure_of(play).startswith("MaxTurnsExceeded")


# -- calls ------------------------------------------------------------------------------------------------------------


def test_calls_go_their_own_way_at_once() -> None:
    play = playing(ALLOW, ASK, DENY, EXTERNAL, ALLOW)
    assert [command.position for command in play.ran] == [0, 4]
    assert [requirement.kind for requirement in play.run.pending] == ["confirmation", "external"]
    assert play.run.status == "running"


def test_a_denied_call_is_answered_and_never_runs() -> None:
    play = playing(DENY)
    assert play.told == ["Denied: not here"]
    assert not play.ran


def test_a_call_without_a_gate_is_denied() -> None:
    play = playing(None)
    assert play.told == ["Denied: the worker gave no gate for this call"]
    assert not play.ran


def test_invalid_arguments_are_answered_and_nobody_is_asked() -> None:
    play = playing(INVALID)
    assert play.told == ["Error: amount: not a number"]
    assert not play.run.requirements
    assert not play.ran


def test_the_next_model_call_waits_for_every_answer() -> None:
    play = playing(ASK, ALLOW, ASK)
    play.tool(1, "one")
    play.approve(position=1)
    play.tool(2, "two")
    assert len(play.asked) == 1
    play.reject(position=0)
    assert play.told == ["Rejected: no", "one", "two"]
    assert len(play.asked) == 2


def test_answers_keep_the_order_of_the_calls() -> None:
    play = playing(ALLOW, ALLOW, ALLOW)
    for position in (2, 0, 1):
        play.tool(position, str(position))
    assert play.told == ["0", "1", "2"]


@pytest.mark.parametrize("position", [0, 1, 2, 99])
def test_a_result_for_a_call_that_does_not_run_is_not_used(position: int) -> None:
    play = playing(ASK, DENY)
    before = play.run
    assert not play.tool(position, "forged").commands
    assert play.run == before


def test_a_second_result_is_not_used() -> None:
    play = playing(ALLOW, ASK)
    play.tool(0, "first")
    play.tool(0, "second")
    play.lose(0)
    play.reject()
    assert play.told == ["first", "Rejected: no"]


@pytest.mark.parametrize(
    ("outcome", "told", "execution"),
    [
        ({"output": "42"}, "42", "executed"),
        ({"output": ""}, "", "executed"),
        ({"error": "boom"}, "Error: boom", "failed"),
        ({"refused": "the tool is gone"}, "Not run: the tool is gone", "refused"),
    ],
)
def test_what_came_of_an_approved_call_is_told_and_recorded(outcome: dict[str, str], told: str, execution: str) -> None:
    play = playing(ASK)
    play.approve()
    play.tool(0, **outcome)
    assert play.told == [told]
    assert (play.requirement.status, play.requirement.execution) == ("approved", execution)
    assert play.requirement.result == told


def test_a_lost_worker_of_an_idempotent_tool_is_an_error() -> None:
    play = playing(ALLOW)
    play.lose()
    assert play.told == ["Error: its worker was lost while it ran (heartbeat); it may or may not have taken effect"]


@pytest.mark.parametrize(
    ("gate", "attempts"),
    [
        (Gate(verdict="allow"), 5),
        (Gate(verdict="allow", at_most_once=True), 1),
        (Gate(verdict="allow", options=ToolOptions(attempts=3)), 3),
        (Gate(verdict="ask", at_most_once=True), 1),
        (Gate(verdict="ask", at_most_once=True, options=ToolOptions(attempts=9)), 1),
        (Gate(verdict="ask"), 5),
    ],
)
def test_a_tool_is_started_once_unless_it_is_idempotent_or_has_retries(gate: Gate, attempts: int) -> None:
    play = playing(gate)
    if gate.verdict == "ask":
        play.approve()
    (command,) = play.ran
    assert command.attempts == attempts
    assert command.options == (gate.options or ToolOptions())


def test_each_call_has_an_idempotency_key_of_its_own() -> None:
    play = playing(ALLOW, ALLOW)
    assert len({command.input.key for command in play.ran}) == 2


def test_who_asked_is_told_to_the_tool_and_only_then() -> None:
    assert playing(ALLOW).ran[0].input.requested_by == "alice"
    assert "requested_by" not in playing(ALLOW, requested_by=None).ran[0].input.model_fields_set


def test_whatever_works_for_a_run_gets_its_context_and_only_where_there_is_one() -> None:
    def inputs(context: object = None) -> dict[type, object]:
        play = playing(ASK, ALLOW, TO_B, notices=True, context=context)
        play.offer("approve", {"id": play.run.requirements[0].id, "by": "bob", "arguments": {"to": "B"}})
        play.comes(2, {"delegation": {"agent": "b", "input": "do it"}})
        given = [getattr(each, "input", getattr(each, "request", None)) for each in play.commands]
        return {
            type(each): each.model_dump(exclude_unset=True).get("context", "") for each in given if each is not None
        }

    kinds = (ModelCallInput, ToolCallInput, NoticesInput, CheckInput, RunRequest)
    assert inputs({"tenant": "acme"}) == {kind: {"tenant": "acme"} for kind in kinds}
    assert inputs() == dict.fromkeys(kinds, "")


def test_approval_of_one_call_does_not_approve_its_twin() -> None:
    play = playing(ASK, ASK, arguments='{"to": "A"}')
    one, twin = play.run.requirements
    assert one.id != twin.id
    play.approve(position=0)
    assert [command.position for command in play.ran] == [0]
    assert play.run.pending == [twin]


def test_deciding_one_of_two_leaves_the_other_waiting() -> None:
    play = playing(ASK, ASK)
    play.reject(position=1)
    assert [requirement.status for requirement in play.run.requirements] == ["pending", "rejected"]
    assert play.run.status == "waiting"


def test_the_same_call_in_a_later_turn_asks_again() -> None:
    play = playing(ASK)
    play.approve()
    play.tool(0, "ok")
    play.model(turn_of(ASK))
    first, second = play.run.requirements
    assert first.id != second.id
    assert second.status == "pending"
    assert play.approve(position=0).status == "duplicate"
    assert len(play.ran) == 1


@pytest.mark.parametrize("name", ["approve", "reject", "submit_result", "decide", "deliver"])
def test_a_decision_before_the_requirement_exists_decides_nothing(name: str) -> None:
    known = playing(ASK).requirement.id
    play = Play()
    body = {"approve": {}, "reject": {"reason": "no"}, "decide": {"verdict": "approve"}}.get(name, {"output": 1})
    assert play.send(name, {"id": known, "by": "bob", **body}).status == "unknown"
    play.start()
    play.tell(MessageReceived(NOW, name, ({"id": known, "by": "bob", **body},)))
    play.model(turn_of(ASK))
    assert play.requirement.status == "pending"
    assert not play.ran


@pytest.mark.parametrize(
    ("gates", "status"),
    [((ASK,), "waiting"), ((ASK, ALLOW), "running"), ((EXTERNAL, DENY), "waiting"), ((DENY,), "running")],
)
def test_a_run_waits_when_nothing_of_it_moves(gates: tuple[Gate, ...], status: str) -> None:
    play = playing(*gates)
    assert play.run.status == status
    assert state_of(play.run).is_paused == (status == "waiting")


# -- messages to the model --------------------------------------------------------------------------------------------


def test_a_message_is_read_with_the_next_turn() -> None:
    play = playing(ASK)
    assert play.send("send_message", {"content": "hurry", "by": "bob"}).status == "recorded"
    play.reject()
    assert [item.get("content") for item in play.asked[-1].input.delta] == [None, "hurry"]
    play.answer()
    assert [item.get("content") for item in play.run.conversation.items].count("hurry") == 1


def test_a_message_before_the_start_is_read_with_the_first_turn() -> None:
    play = Play()
    play.send("send_message", {"content": "early", "by": "bob"})
    play.start(input="prompt")
    assert [item["content"] for item in play.asked[0].input.delta] == ["prompt", "early"]


def test_a_message_during_the_final_answer_makes_another_turn() -> None:
    play = started()
    play.send("send_message", {"content": "and this?", "by": "bob"})
    play.answer("first")
    assert play.run.status == "running"
    play.answer("second")
    assert play.run.content == "second"


def test_a_message_that_no_turn_is_left_for_does_not_cost_the_answer() -> None:
    play = started(max_turns=1)
    play.send("send_message", {"content": "and this?", "by": "bob"})
    play.answer("the answer")
    assert (play.run.status, play.run.content) == ("completed", "the answer")


def test_a_message_after_the_end_is_late_and_kept() -> None:
    play = started()
    play.answer()
    assert play.send("send_message", {"content": "too late", "by": "bob"}).status == "late"
    (attempt,) = play.run.ignored_messages
    assert (attempt.status, attempt.by, "too late" in attempt.text) == ("late", "bob", True)
