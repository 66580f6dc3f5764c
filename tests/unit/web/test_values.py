"""How JSON is laid out for a page, and what a form becomes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue
from starlette.exceptions import HTTPException

from assent.web.forms import decision_of
from assent.web.guard import RateLimit
from assent.web.rendering import link
from assent.web.values import MOST_ROWS, brief, differences, editable, rows_of, title_of
from assent.wire.digest import parse_arguments
from assent.wire.errors import MessageError
from assent.wire.protocol import InputField, RequirementKind
from assent.wire.requirements import Requirement
from assent.wire.text import visible

texts = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(texts, values, max_size=5)


def requirement(kind: RequirementKind = "confirmation", *fields: InputField, checked: bool = False) -> Requirement:
    return Requirement(
        id="a" * 64, kind=kind, call_id="c", tool="t", arguments="{}", nonce="n", turn=1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC), fields=list(fields), checked=checked,
    )  # fmt: skip


@given(objects)
def test_the_text_of_an_edit_is_the_same_object_and_hides_nothing(value: dict[str, JsonValue]) -> None:
    text = editable(value)
    assert visible(text) == text
    assert parse_arguments(text) == value


@given(objects, objects)
def test_two_objects_differ_exactly_where_it_is_shown(one: dict[str, JsonValue], other: dict[str, JsonValue]) -> None:
    assert differences(one, one) == []
    assert bool(differences(one, other)) == (json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))


def test_true_is_not_one_and_a_field_may_come_and_go() -> None:
    assert differences({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": [1, True]}, "d": None}) == [
        ("a > b > 2", "2", "true"),
        ("c", "1", None),
        ("d", None, "null"),
    ]


@given(objects)
def test_each_field_has_its_row(value: dict[str, JsonValue]) -> None:
    assert [row.name for row in rows_of(value)] == list(value)


def test_a_list_of_strings_has_a_row_for_each_and_one_of_numbers_stays_json() -> None:
    given: dict[str, JsonValue] = {
        "to": ["ana@example.com", "", "two\nlines"],
        "cc": [],
        "sizes": [1, 2],
        "many": [*range(50)],
    }
    to, cc, sizes, many = rows_of(given)
    assert [(each.shape, each.text) for each in to.rows] == [
        ("text", "ana@example.com"), ("empty", ""), ("block", "two\nlines")
    ]  # fmt: skip
    assert (to.shape, cc.text, sizes.shape, sizes.text, many.shape) == ("items", "[]", "token", "[1, 2]", "json")
    [row] = rows_of({"many": [*["x"] * MOST_ROWS]})
    assert (row.shape, row.rows) == ("json", ())


def test_deep_and_long_values_are_bounded() -> None:
    deep: JsonValue = "end"
    for _ in range(200):
        deep = {"in": deep}
    assert rows_of({"deep": deep})
    [row] = rows_of({"many": [{"n": each} for each in range(10 * MOST_ROWS)]})
    assert (row.shape, row.text[-12:]) == ("json", " characters)")
    [row] = rows_of({"text": "x" * 100_000})
    assert len(row.text) < 7_000
    assert brief({"a": "x" * 1_000, "b": {"c": 1}, "d": True}) == [
        ("a", "x" * 47 + "…"),
        ("b", '{"c": 1}'),
        ("d", "true"),
    ]


def test_a_question_is_its_own_title() -> None:
    assert title_of("ask_user", {"question": "Which region?"}) == "Which region?"
    assert title_of("pay", {"question": "Which region?"}) == "pay"
    assert title_of("ask_user", None) == "ask_user"


def test_links_survive_any_id() -> None:
    assert link("/request", run="../a b&c=d#e", id="") == "/request?run=..%2Fa%20b%26c%3Dd%23e"


REGION = InputField(name="region", type={"enum": ["eu", "us"]})
COUNT = InputField(name="count", type={"anyOf": [{"type": "integer"}, {"type": "null"}]}, required=False)
NOTE = InputField(name="note", type={"anyOf": [{"type": "string"}, {"type": "null"}]}, required=False)


@pytest.mark.parametrize(
    ("one", "form", "signal", "body"),
    [
        (requirement(), {"action": "approve", "reason": " "}, "approve", {}),
        (requirement(), {"action": "approve", "reason": "ok"}, "approve", {"reason": "ok"}),
        (
            requirement(),
            {"action": "approve", "remember_uses": "2", "remember_minutes": "5"},
            "approve",
            {"remember": {"uses": 2, "expires_after": 300}},
        ),
        (requirement(), {"action": "approve", "arguments": '{"a": 1}'}, "approve", {"arguments": {"a": 1}}),
        (requirement(), {"action": "reject", "reason": "no"}, "reject", {"reason": "no"}),
        (
            requirement("external"),
            {"action": "result", "output": "{}", "evidence": "T-1"},
            "submit_result",
            {"output": "{}", "evidence": "T-1"},
        ),
        (
            requirement("external"),
            {"action": "result", "output": "{}", "output_json": "1"},
            "submit_result",
            {"output": {}},
        ),
        (
            requirement("external", InputField(name="output", type={"type": "integer"})),
            {"action": "result", "output": "7"},
            "submit_result",
            {"output": 7},
        ),
        (requirement("outcome"), {"action": "failed", "error": "lost"}, "submit_result", {"error": "lost"}),
        (
            requirement("input", REGION, COUNT, NOTE),
            {"action": "fill", "field-0": "eu", "field-1": "3", "field-2": "as text"},
            "submit_input",
            {"values": {"region": "eu", "count": 3, "note": "as text"}},
        ),
        (
            requirement("input", REGION, COUNT),
            {"action": "fill", "field-0": "eu", "field-1": ""},
            "submit_input",
            {"values": {"region": "eu"}},
        ),
    ],
)
def test_a_form_becomes_the_signal_that_it_says(
    one: Requirement, form: dict[str, str], signal: str, body: dict[str, object]
) -> None:
    assert decision_of(form, one) == (signal, body)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "Choose what to do"),
        ({"action": "delete"}, "Choose what to do"),
        ({"action": "reject", "reason": " "}, "the reason is missing"),
        ({"action": "approve", "arguments": "[1]"}, "The arguments cannot be used"),
        ({"action": "approve", "arguments": '{"a": 1, "a": 2}'}, "The arguments cannot be used"),
        ({"action": "approve", "remember_uses": "many"}, "a whole number above 0"),
        ({"action": "approve", "remember_minutes": "0"}, "a whole number above 0"),
        ({"action": "result"}, "The result is missing"),
        ({"action": "fill"}, "region is missing"),
        ({"action": "fill", "field-0": "mars"}, "choose one of"),
        ({"action": "fill", "field-0": "eu", "field-1": "two"}, "count: give a whole number"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_in_words(form: dict[str, str], words: str) -> None:
    with pytest.raises(MessageError) as refused:
        decision_of(form, requirement("input", REGION, COUNT))
    assert words in str(refused.value)


def test_a_result_that_is_to_be_json_is_json() -> None:
    with pytest.raises(MessageError, match="The result is not JSON"):
        decision_of({"action": "result", "output": "{", "output_json": "1"}, requirement("external"))


def test_too_many_posts_are_refused_until_time_has_passed() -> None:
    now = [0.0]
    limit = RateLimit(2, 10, clock=lambda: now[0])
    limit.check("bob")
    limit.check("bob")
    limit.check("carol")
    with pytest.raises(HTTPException) as refused:
        limit.check("bob")
    assert refused.value.status_code == 429
    assert refused.value.headers == {"Retry-After": "11"}
    now[0] = 10.5
    limit.check("bob")
