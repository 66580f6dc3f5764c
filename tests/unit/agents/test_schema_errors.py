"""What a model is told of arguments that do not fit, and what fits any signature."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field

from assent.agents.schema import Parameter, argument_schema
from assent.agents.tool_decorator import tool_from
from assent.wire.errors import ArgumentsError
from tests.unit.agents.test_schema import Colour, Line, Order, complaint

# -- what a model is told ---------------------------------------------------------------------------------------------


def test_every_wrong_field_has_a_line() -> None:
    def order(it: Order, to: str, count: Annotated[int, Field(le=3)], colour: Colour) -> None: ...

    sent = {"it": {"lines": [{"title": "tea"}, {"titel": "tea"}]}, "count": 4, "colour": "green", "tip": 1}
    assert complaint(order, sent).splitlines() == [
        "it.lines[1].title: required, but missing",
        'to: required, but missing; expected {"type": "string"}',
        "count: input should be less than or equal to 3, not 4",
        "colour: input should be 'red' or 'blue', not \"green\"",
        "tip: no argument of this name; this tool takes it, to, count, colour",
    ]


def test_the_branches_of_a_union_share_a_line() -> None:
    def find(id: int | list[str]) -> None: ...

    assert complaint(find, {"id": {}}) == (
        "id: input should be a valid integer, not {}, or input should be a valid array, not {}"
    )


@pytest.mark.parametrize("raw", ["null", "[]", "5", "{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1} x'])
def test_what_is_no_strict_json_object_is_refused(raw: str) -> None:
    def pay(a: int) -> None: ...

    with pytest.raises(ArgumentsError, match="the arguments"):
        tool_from(pay).validate(raw)


def test_the_internal_names_of_fields_are_not_arguments() -> None:
    def pay(amount: int) -> None: ...

    assert "p0: no argument of this name" in complaint(pay, {"p0": 1})


def test_a_complaint_is_bounded() -> None:
    def add(numbers: list[int]) -> None: ...

    lines = complaint(add, {"numbers": ["x" * 100_000] * 1000}).splitlines()
    assert lines[-1] == "and 980 more"
    assert all(len(line) < 200 for line in lines)


def test_a_complaint_keeps_to_its_line_whatever_is_sent() -> None:
    def add(numbers: dict[str, int]) -> None: ...

    sent = {"numbers": {"a\nb\u202e": "c\nd"}}
    assert complaint(add, sent) == "'numbers.a\\nb\\u202e': input should be a valid integer, not \"c\\nd\""


def fails(value: object) -> object:
    """A validator with a bug."""
    raise KeyError(value)


def test_a_validator_that_raises_anything_is_a_wrong_argument() -> None:
    def pay(amount: Annotated[int, BeforeValidator(fails)]) -> None: ...

    assert complaint(pay, {"amount": 1}) == "the arguments could not be checked: KeyError: 1"


# -- for all ----------------------------------------------------------------------------------------------------------


def many(
    a: int, b: list[Line], c: Order | None = None, d: dict[str, bool] | None = None, e: Decimal | str = ""
) -> None:
    """Take many things."""


MANY = tool_from(many)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["title", "lines", "x"]), inner),
    max_leaves=8,
)


@given(st.text() | st.text('{}[]":,a1.eE-\\u0d8 ') | JSON_VALUES.map(json.dumps))
def test_arbitrary_text_is_taken_or_refused(raw: str) -> None:
    try:
        MANY.validate(raw)
    except ArgumentsError as error:
        str(error).encode("utf-8")


@given(st.dictionaries(st.sampled_from("abcdef"), JSON_VALUES))
def test_arbitrary_arguments_are_taken_or_refused_in_words_that_can_be_sent(arguments: dict[str, object]) -> None:
    try:
        MANY.validate(json.dumps(arguments))
    except ArgumentsError as error:
        str(error).encode("utf-8")


TYPES: dict[object, st.SearchStrategy[object]] = {
    int: st.integers(),
    str: st.text("abc é\n"),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    int | None: st.none() | st.integers(),
    list[str]: st.lists(st.text("ab"), max_size=3),
    dict[str, int]: st.dictionaries(st.text("ab"), st.integers(), max_size=3),
    Literal["x", "y"]: st.sampled_from(["x", "y"]),
}
NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True) | st.sampled_from(
    ["schema", "json", "copy", "model_config"]
)
PARAMETERS = st.lists(st.tuples(NAMES, st.sampled_from(list(TYPES)), st.booleans()), unique_by=lambda item: item[0])


@given(PARAMETERS, st.data())
def test_what_fits_a_random_signature_comes_back_as_it_was(
    signature: list[tuple[str, object, bool]], data: st.DataObject
) -> None:
    parameters = [
        Parameter(name, hint, data.draw(TYPES[hint]) if optional else inspect.Parameter.empty)
        for name, hint, optional in signature
    ]
    schema = argument_schema(parameters, {}, where="here")
    required = {name for name, _, optional in signature if not optional}
    assert set(json.loads(json.dumps(schema.parameters)).get("required", [])) == required
    sent = {
        name: data.draw(TYPES[hint]) for name, hint, optional in signature if not optional or data.draw(st.booleans())
    }
    assert schema.validate(json.dumps(sent)) == sent
