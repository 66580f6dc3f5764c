"""The items of a conversation: append-only, and named by their length and digest."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from assent.wire.conversation import (
    EMPTY_DIGEST,
    Conversation,
    ToolCall,
    shorten_outputs,
    text_of,
    tool_calls,
    tool_output,
    user_message,
)
from assent.wire.digest import canonical
from assent.wire.protocol import Item
from tests.unit.strategies import function_call, said, texts

items: st.SearchStrategy[list[Item]] = st.lists(
    st.builds(user_message, texts) | st.builds(said, texts) | st.builds(tool_output, texts, texts), max_size=6
)


def test_an_empty_conversation_has_no_prefix() -> None:
    assert Conversation().prefix is None
    assert Conversation().digest == EMPTY_DIGEST
    assert len(Conversation()) == 0


@given(items, items)
def test_appending_twice_is_appending_once(first: list[Item], second: list[Item]) -> None:
    assert Conversation().append(first).append(second) == Conversation().append([*first, *second])


@given(items, items)
def test_appending_leaves_what_was_there(first: list[Item], second: list[Item]) -> None:
    before = Conversation().append(first)
    after = before.append(second)
    assert before == Conversation().append(first)
    assert list(after.items) == [*first, *second]
    assert len(after) == len(first) + len(second)


@given(items, items)
def test_a_prefix_names_one_conversation(one: list[Item], other: list[Item]) -> None:
    assert (Conversation().append(one).prefix == Conversation().append(other).prefix) == (one == other)


def test_tool_calls_keep_the_order_and_the_raw_arguments() -> None:
    found = tool_calls([said("first"), function_call("b", "x", '{ "a":1 }'), function_call("a", "y", "")])
    assert found == [ToolCall("b", "x", '{ "a":1 }'), ToolCall("a", "y", "")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        ("", ""),
        (None, ""),
        (3, ""),
        ([], ""),
        ([{"type": "output_text", "text": "one"}, {"type": "output_text", "text": "two"}], "one\n\ntwo"),
        ([{"type": "refusal", "refusal": "I will not"}], "I will not"),
        ([{"type": "output_text", "text": ""}, "stray", {"type": "other"}], ""),
    ],
)
def test_the_words_of_the_model_are_read_from_any_shape(content: JsonValue, text: str) -> None:
    assert text_of([{"role": "assistant", "content": content}]) == text


def test_only_the_model_is_quoted() -> None:
    assert text_of([user_message("mine"), said("its"), tool_output("c", "a result"), {"role": "assistant"}]) == "its"


@given(st.lists(st.text('aé"\\x00', max_size=200), max_size=6), st.integers(0, 400))
def test_outputs_are_cut_only_when_they_do_not_fit_and_every_cut_is_marked(outputs: list[str], limit: int) -> None:
    sizes = [len(canonical(output)) for output in outputs]
    told = shorten_outputs(outputs, limit)
    if sum(sizes) <= limit:
        assert told == outputs
        return
    marked = [text.rpartition("\n[cut here: ") if text not in outputs else (text, "", "") for text in told]
    kept = [part for part, _, _ in marked]
    assert all(output.startswith(part) for output, part in zip(outputs, kept, strict=True))
    assert sum(len(canonical(part)) - len('""') for part in kept) <= limit, "as JSON, what is kept fits"


def test_short_outputs_are_kept_whole_beside_a_long_one() -> None:
    short, long = "x" * 10, "y" * 1_000
    first, cut, last = shorten_outputs([short, long, short], 100)
    assert first == last == short
    assert re.fullmatch(r"y{70,76}\n\[cut here: \d\d of 1000 bytes\]", cut)
