"""A conversation stays open after an answer: the next message continues it, and somebody closes it."""

from __future__ import annotations

import pytest

from assent.core.continue_as_new import carry, restore
from assent.core.events import CallModel, Cancel, CancelRequested, Complete, Fail
from assent.core.run_state import state_of
from assent.wire.errors import MessageError
from assent.wire.messages import read, read_request
from assent.wire.protocol import DecisionResult
from tests.unit.strategies import ALLOW, ASK, Play, turn_of


def conversing(input: str = "Hello.", **request: object) -> Play:
    """A conversation, up to its first question to the model."""
    play = Play()
    play.start(input=input, conversation=True, **request)
    return play


def idle(text: str = "Hi.", **request: object) -> Play:
    """A conversation that has answered once."""
    play = conversing("Hello.", **request)
    play.answer(text)
    return play


def says(play: Play, content: str) -> DecisionResult:
    """Alice says something more."""
    return play.send("send_message", {"content": content, "by": "alice"})


def asked(play: Play) -> list[list[object]]:
    """What each question to the model carried: the words of people, and outputs of tools."""
    calls = [command.input for command in play.commands if isinstance(command, CallModel)]
    return [[item.get("content", item.get("output")) for item in call.delta] for call in calls]


def test_an_answer_leaves_a_conversation_open_and_idle() -> None:
    play = idle("Hi.")
    state = state_of(play.run)
    assert (state.status, state.content, state.is_idle, state.is_paused, state.is_finished) == (
        "idle", "Hi.", True, False, False,
    )  # fmt: skip
    assert [type(command) for command in play.commands] == [CallModel], "and costs nothing: no timer, no activity"


def test_a_message_continues_it_and_the_model_is_told_only_what_is_new() -> None:
    play = idle()
    assert says(play, "And then?").status == "recorded"
    assert (play.run.status, play.run.content) == ("running", None)
    assert asked(play) == [["Hello."], ["And then?"]]
    play.answer("Then this.")
    assert (play.run.status, play.run.content, play.run.turn) == ("idle", "Then this.", 2)


def test_messages_that_arrive_in_mid_turn_are_queued_and_answered_together() -> None:
    play = conversing()
    for content in ("One more.", "And another."):
        assert says(play, content).status == "recorded"
    play.answer("Hi.")
    assert asked(play) == [["Hello."], ["One more.", "And another."]]
    play.answer("Both.")
    assert (play.run.status, play.run.content) == ("idle", "Both.")


def test_a_conversation_may_begin_with_whatever_is_sent_to_it() -> None:
    play = conversing("")
    assert (play.run.status, play.commands) == ("idle", [])
    says(play, "Hello.")
    assert asked(play) == [["Hello."]]


def test_what_is_sent_before_it_starts_begins_it() -> None:
    play = Play()
    says(play, "Hello.")
    play.start(input="", conversation=True)
    assert asked(play) == [["Hello."]]
    assert play.run.ignored_messages == ()


@pytest.mark.parametrize("words", ["", "Hello."])
def test_a_close_that_arrives_before_it_starts_ends_it_with_its_first_answer(words: str) -> None:
    play = Play()
    if not words:
        says(play, "Hello.")
    assert play.send("close", {"by": "alice"}).status == "recorded"
    assert says(play, "Wait!").status == "late"
    play.start(input=words, conversation=True)
    play.answer("Hi.")
    assert (asked(play), play.run.status, play.run.content) == ([["Hello."]], "completed", "Hi.")


def test_a_conversation_that_is_closed_before_anything_is_said_ends_as_it_starts() -> None:
    play = Play()
    play.send("close", {"by": "alice"})
    play.start(input="", conversation=True)
    assert (play.run.status, play.run.content) == ("completed", "")


def test_a_run_that_is_no_conversation_takes_no_notice_of_a_close_before_it_starts() -> None:
    play = Play()
    play.send("close", {"by": "alice"})
    play.start()
    assert not play.run.closing
    assert says(play, "More.").status == "recorded"


def test_only_a_conversation_may_begin_without_words() -> None:
    with pytest.raises(MessageError, match="the prompt is empty"):
        read_request(({"agent": "a", "input": " "},))


def test_closing_an_idle_conversation_completes_it_with_its_last_answer() -> None:
    play = idle("Bye.")
    assert play.send("close", {"by": "alice"}).detail == "the conversation ends"
    [complete] = [command for command in play.commands if isinstance(command, Complete)]
    assert (complete.result.content, complete.result.turns) == ("Bye.", 1)
    assert play.run.status == "completed"


def test_closing_in_mid_turn_lets_the_answer_come_first() -> None:
    play = conversing()
    assert "with its next answer" in play.send("close", {"by": "alice"}).detail
    late = says(play, "Wait!")
    assert (late.status, late.detail) == ("late", "the conversation is being closed")
    assert play.send("close", {"by": "bob"}).status == "late"
    play.answer("Bye.")
    assert (play.run.status, play.run.content) == ("completed", "Bye.")


def test_what_is_queued_before_the_close_is_still_answered() -> None:
    play = conversing()
    says(play, "One more.")
    play.send("close", {"by": "alice"})
    play.answer("Hi.")
    assert asked(play) == [["Hello."], ["One more."]]
    play.answer("Bye.")
    assert (play.run.status, play.run.content) == ("completed", "Bye.")


def test_a_run_that_is_no_conversation_cannot_be_closed() -> None:
    play = Play()
    play.start()
    refused = play.send("close", {"by": "alice"})
    assert refused.status == "refused"
    assert "no conversation" in refused.detail
    play.answer("done")
    assert play.run.status == "completed"


@pytest.mark.parametrize("body", [{}, {"by": ""}, {"by": "YOUR NAME"}, "x", None])
def test_an_unreadable_close_is_refused_and_kept(body: object) -> None:
    play = idle()
    assert play.send("close", body).status == "refused"
    assert (play.run.status, len(play.run.ignored_messages)) == ("idle", 1)


def test_the_limits_are_for_each_answer() -> None:
    play = idle(max_turns=2, max_tool_calls=1)
    for _ in range(3):
        says(play, "Again.")
        play.model(turn_of(ALLOW, prefix=f"t{play.run.turn}-"))
        play.tool(0, "ok")
        play.answer("ok")
        assert play.run.status == "idle"
    assert (play.run.turn, play.run.tool_calls) == (7, 3)


def test_a_conversation_that_used_all_its_turns_waits_for_what_it_is_told_next() -> None:
    play = conversing(max_turns=1)
    play.model(turn_of(ALLOW))
    play.tool(0, "ok")
    assert (play.run.status, state_of(play.run).error) == (
        "idle", "MaxTurnsExceeded: the run used all of its 1 turns",
    )  # fmt: skip
    assert not [command for command in play.commands if isinstance(command, Fail)]
    says(play, "Go on.")
    assert state_of(play.run).error is None
    assert list(play.run.conversation.items)[-2:] == [
        {"type": "function_call_output", "call_id": play.run.conversation.items[1]["call_id"], "output": "ok"},
        {"role": "user", "content": "Go on."},
    ]
    play.answer("Gone on.")
    assert play.run.status == "idle"


def test_a_call_waits_for_a_person_in_a_conversation_as_in_any_run() -> None:
    play = idle()
    says(play, "Pay.")
    play.model(turn_of(ASK, prefix="p-"))
    assert play.run.status == "waiting"
    says(play, "Hurry.")
    assert play.run.status == "waiting", "a message is no decision"
    play.approve()
    play.tool(0, "paid")
    assert asked(play)[-1] == ["paid", "Hurry."]


def test_a_cancellation_ends_an_idle_conversation() -> None:
    play = idle()
    step = play.tell(CancelRequested(play.at))
    assert [type(command) for command in step.commands] == [Cancel]


def test_an_idle_conversation_is_carried_as_it_is() -> None:
    play = idle("Hi.")
    found = restore((carry(play.run).model_dump(mode="json", exclude_unset=True),))
    assert found == play.run


def test_close_is_read_by_its_wire_name() -> None:
    assert read("close", [{"by": " alice ", "reason": "enough"}]).by == "alice"
