"""Items to requests and back: the pure part, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue

from assent.activities.providers import (
    CallError,
    Question,
    chat,
    responses,
    with_unique_call_ids,
)
from assent.activities.providers.strict_schema import strictest
from assent.agents.models import OpenAIResponses
from assent.testing._requests import is_strict
from assent.wire.conversation import text_of, tool_calls, tool_output, user_message
from assent.wire.protocol import Item


def asked(call_id: str, name: str = "add") -> Item:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"}


def test_one_answer_is_one_chat_message() -> None:
    said: Item = {"role": "assistant", "content": "Both."}
    reasoning: Item = {"type": "reasoning", "summary": []}
    items = [user_message("Hi"), reasoning, said, asked("a"), asked("b")]
    items += [tool_output("b", "2"), tool_output("a", "1"), user_message("More")]
    messages = chat.messages_of(items)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[1]["content"] == "Both."
    assert [message.get("tool_call_id") for message in messages[2:4]] == ["a", "b"]


def test_outputs_stand_behind_their_calls_whatever_was_said_meanwhile() -> None:
    items = [asked("a"), user_message("Hurry!"), tool_output("a", "1")]
    assert [message["role"] for message in chat.messages_of(items)] == ["assistant", "tool", "user"]


def test_two_turns_are_two_chat_messages() -> None:
    items = [asked("a"), tool_output("a", "1"), asked("b"), tool_output("b", "2")]
    roles = [message["role"] for message in chat.messages_of(items)]
    assert roles == ["assistant", "tool", "assistant", "tool"]


def test_arguments_that_a_server_sends_as_an_object_become_text() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": {"x": "é"}}}
    answer = chat.answer_of({"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]})
    assert answer.items == [{"type": "function_call", "call_id": "a", "name": "add", "arguments": '{"x": "é"}'}]
    assert answer.usage.input_tokens == 0


@pytest.mark.parametrize(("sent", "kept"), [(None, ""), ({"x": "é"}, '{"x": "é"}'), ([1], "[1]")])
def test_arguments_of_a_response_that_are_no_text_become_text(sent: JsonValue, kept: str) -> None:
    item: Item = {"type": "function_call", "id": "fc", "call_id": "a", "name": None, "arguments": sent}
    answer = responses.answer_of({"output": [item]})
    assert [(each.tool, each.arguments) for each in tool_calls(answer.items)] == [("", kept)]


def test_arguments_that_are_cut_off_are_passed_on() -> None:
    item = {
        "type": "function_call",
        "id": "fc",
        "call_id": "a",
        "name": "add",
        "arguments": '{"x',
        "status": "incomplete",
    }
    answer = responses.answer_of({"output": [item], "incomplete_details": {"reason": "max_output_tokens"}})
    assert answer.items == [{"type": "function_call", "id": "fc", "call_id": "a", "name": "add", "arguments": '{"x'}]


def test_reasoning_that_used_up_all_tokens_leaves_words_and_nothing_the_api_would_refuse() -> None:
    reasoning: Item = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"}
    answer = responses.answer_of({"output": [reasoning], "incomplete_details": {"reason": "max_output_tokens"}})
    assert [item.get("role") for item in answer.items] == ["assistant"]
    assert "cut off" in (answer.text or "")


def test_a_stored_message_is_small_and_is_sent_whole() -> None:
    part: Item = {"type": "output_text", "text": "Hi.", "annotations": [], "logprobs": []}
    item = {
        "type": "message",
        "id": "msg",
        "role": "assistant",
        "status": "completed",
        "content": [part],
        "phase": None,
    }
    answer = responses.answer_of({"output": [item]})
    small: Item = {"type": "output_text", "text": "Hi."}
    assert answer.items == [{"type": "message", "id": "msg", "role": "assistant", "content": [small]}]
    sent = responses.body_of(Question(OpenAIResponses(id="m"), None, answer.items))["input"]
    full: Item = {"annotations": [], **small}
    assert sent == [{**answer.items[0], "content": [full], "status": "completed"}]


def test_items_of_a_kind_we_do_not_know_are_passed_back_verbatim() -> None:
    item: Item = {"type": "brand_new", "id": "x", "deep": {"status": None}}
    assert responses.answer_of({"output": [item]}).items == [item]


@pytest.mark.parametrize(("code", "retry"), [("server_error", True), ("rate_limit_exceeded", True), ("bad", False)])
def test_a_response_that_failed_says_whether_to_try_again(code: str, retry: bool) -> None:
    with pytest.raises(CallError, match="Oh") as caught:
        responses.answer_of({"output": [], "error": {"code": code, "message": "Oh."}})
    assert caught.value.posture.retry is retry


ids = st.sampled_from(["", "call_0", "call_0_1", "call_0_2", "x" * 64])


@given(st.lists(ids), st.lists(ids))
def test_call_ids_are_unique_within_a_conversation(before: list[str], new: list[str]) -> None:
    taken = with_unique_call_ids([asked(one) for one in before], [])
    named = with_unique_call_ids([asked(one) for one in new], taken)
    found = [str(item["call_id"]) for item in [*taken, *named]]
    assert len(set(found)) == len(found)
    assert all(0 < len(one) <= 64 for one in found)


def test_a_call_id_that_is_new_stays() -> None:
    items = [asked("b"), user_message("Hi")]
    assert with_unique_call_ids(items, [asked("a")]) == items


class Inner(BaseModel):
    """A part."""

    name: str | None = None
    tags: list[str] = Field(default_factory=list)


class Outer(BaseModel):
    """A whole."""

    inner: Inner = Field(default=Inner(), description="The inner one.")
    many: list[Inner]


def test_a_pydantic_model_can_be_asked_for_strictly() -> None:
    schema, strict = strictest(Outer.model_json_schema())
    assert strict
    assert is_strict(schema)
    assert "default" not in str(schema)
    assert "The inner one." in str(schema)


class Free(BaseModel):
    """What strict mode cannot express."""

    values: dict[str, int]


def test_a_mapping_cannot_and_is_sent_as_it_is() -> None:
    schema = Free.model_json_schema()
    assert strictest(schema) == (schema, False)


@given(st.text())
def test_any_words_survive_the_chat_api(text: str) -> None:
    answer = chat.answer_of({"choices": [{"message": {"content": text}}]})
    assert text_of(answer.items) == text == (answer.text or "")
