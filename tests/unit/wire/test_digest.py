"""What exactly is approved: no field can be shifted into another, and nothing lenient is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TypedDict, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from assent.wire.digest import (
    canonical,
    extend,
    idempotency_key,
    parse_arguments,
    policy_digest,
    requirement_id,
    text_digest,
)
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import Authorization
from tests.unit.strategies import NOW, deadlines, json_values, texts

# Few characters, so that a shifted boundary is likely.
shifty = st.text('a",[]\\0', max_size=4)


class Parts(TypedDict):
    """The parts of a requirement's id."""

    run_id: str
    nonce: str
    call_id: str
    tool: str
    arguments: str
    policy_version: str
    needed: int
    expires_at: datetime | None


parts = st.fixed_dictionaries(
    {
        "run_id": shifty,
        "nonce": shifty,
        "call_id": shifty,
        "tool": shifty,
        "arguments": shifty,
        "policy_version": shifty,
        "needed": st.integers(0, 3),
        "expires_at": st.none() | st.integers(0, 3).map(lambda days: NOW + timedelta(days=days)),
    }
)
PARTS = Parts(
    run_id="w",
    nonce="n",
    call_id="c",
    tool="t",
    arguments="{}",
    policy_version="p",
    needed=1,
    expires_at=None,
)


TEXTS = [key for key, value in PARTS.items() if isinstance(value, str)]


def identity(**changes: object) -> str:
    """The id of a requirement with some parts changed."""
    return requirement_id(**cast("Parts", {**PARTS, **changes}))


def raising(raw: str) -> str:
    """The message with which arguments are refused: one line."""
    with pytest.raises(ArgumentsError) as caught:
        parse_arguments(raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(parts, parts)
def test_digest_fields_cannot_be_shifted(one: Parts, other: Parts) -> None:
    assert (requirement_id(**one) == requirement_id(**other)) == (one == other)


@given(parts, st.permutations(sorted(TEXTS)))
def test_swapping_fields_makes_another_requirement(one: Parts, order: list[str]) -> None:
    given_values = dict(one)
    swapped = {key: given_values[other] for key, other in zip(sorted(TEXTS), order, strict=True)}
    other = cast("Parts", {**given_values, **swapped})
    assert (requirement_id(**other) == requirement_id(**one)) == (other == one)


def test_the_id_of_a_requirement_is_pinned() -> None:
    assert identity() == "ae078d139b608f3d4147139ac35444497a7b84e5ba432a03ab74a5a3223497e1"
    assert identity(expires_at=NOW) == "91199ecbe8d42769c3bbb203b1499194dbbd500d78c947bcfc6aa1062416c661"


def test_the_other_digests_are_pinned() -> None:
    assert (
        extend("", [{"role": "user", "content": "é"}])
        == "02bebc26e7725e5cff46ecc861dbf2d243f52498c3aab006bab422924cba51f2"
    )
    assert idempotency_key("w", "r", "c") == "d102569dcf67caacfed16704e7ec23fc"
    assert policy_digest([]) == "60ce809352fa588c"


@given(texts, texts)
def test_one_changed_character_of_the_arguments_makes_another_requirement(one: str, other: str) -> None:
    assume(one != other)
    assert identity(arguments=one) != identity(arguments=other)


@given(deadlines)
def test_a_deadline_that_went_through_json_gives_the_same_id(deadline: datetime | None) -> None:
    sent = Authorization(
        requirement_id="", nonce="n", policy_version="p", needed=1, expires_at=deadline, execution_id="r"
    )
    read = Authorization.model_validate_json(sent.model_dump_json())
    assert identity(expires_at=read.expires_at) == identity(expires_at=deadline)


@given(st.lists(json_values.filter(lambda value: "n" not in repr(value)), max_size=5), st.integers(0, 5))
def test_a_conversation_digest_runs(items: list[object], cut: int) -> None:
    assert extend(extend("", items[:cut]), items[cut:]) == extend("", items)


@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_two_conversations_have_one_digest_only_if_they_are_one(one: list[str], other: list[str]) -> None:
    assert (extend("", one) == extend("", other)) == (one == other)


def test_the_order_of_keys_does_not_matter_to_a_digest_and_their_types_do() -> None:
    assert canonical({"b": 1, "a": 2}) == canonical({"a": 2, "b": 1}) == b'{"a":2,"b":1}'
    assert len({canonical(value) for value in (1, 1.0, True, "1", None, [1])}) == 6


def test_canonical_json_keeps_text_as_it_is_and_has_no_nan() -> None:
    assert canonical("é\u202e") == '"é\u202e"'.encode()
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            canonical(number)


@given(st.text())
def test_any_text_has_a_digest(text: str) -> None:
    assert len(text_digest(text)) == 64


def test_idempotency_keys_differ_by_run_and_call() -> None:
    assert len({idempotency_key(*ids) for ids in ("abc", "abd", "adc", "dbc")}) == 4
    assert idempotency_key("ab", "c", "d") != idempotency_key("a", "bc", "d")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ('{"a": 1, "a": 1}', "name 'a' twice"),
        ('{"a": 1, "\\u0061": 2}', "name 'a' twice"),
        ('{"x": {"a": 1, "b": 2, "a": 3}}', "name 'a' twice"),
        ('{"x": [{"a": 1, "a": 3}]}', "name 'a' twice"),
        ('{"a": NaN}', "hold NaN"),
        ('{"a": [Infinity]}', "hold Infinity"),
        ('{"a": -Infinity}', "hold -Infinity"),
        ('{"a": 1e999}', "hold 1e999"),
        ('{"a": -1e999}', "hold -1e999"),
        ('{"a": [1' + "0" * 309 + "]}", "hold 1000"),
        ('{"a": ' + "9" * 5_000 + "}", "hold 9999"),
    ],
)
def test_duplicate_keys_nan_infinity_are_refused(raw: str, problem: str) -> None:
    assert problem in raising(raw)


@pytest.mark.parametrize("raw", ["[]", "null", "1", '"text"', "true"])
def test_arguments_are_an_object(raw: str) -> None:
    assert "must be a JSON object" in raising(raw)


@pytest.mark.parametrize("raw", ["{", "{} {}", "{'a': 1}", "{a: 1}", '{"a": 1,}', "\ufeff{}", "[" * 100_000])
def test_what_is_not_json_is_refused(raw: str) -> None:
    assert "not valid JSON" in raising(raw)


@pytest.mark.parametrize("raw", ["", "  ", "\n", "{}", " { } "])
def test_nothing_at_all_is_no_arguments(raw: str) -> None:
    assert parse_arguments(raw) == {}


@given(st.dictionaries(texts, json_values.filter(lambda value: "n" not in repr(value))))
def test_strict_json_is_read_as_what_it_says(value: dict[str, object]) -> None:
    assert parse_arguments(json.dumps(value)) == value


def test_a_datetime_is_hashed_with_its_offset() -> None:
    assert NOW.tzinfo is UTC
    later = identity(expires_at=NOW + timedelta(microseconds=1))
    assert later != identity(expires_at=NOW)
