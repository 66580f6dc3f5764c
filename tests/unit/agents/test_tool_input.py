"""What people fill in for a tool, and what they hand in as its result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from pydantic import BaseModel, Field, JsonValue

from assent.agents.ask_user import ask_user
from assent.agents.tool import Tool, ToolContext
from assent.agents.tool_decorator import tool
from assent.wire.errors import ArgumentsError
from tests.unit.strategies import json_values, look, texts, transfer


class Address(BaseModel):
    """Where."""

    street: str
    number: int = 1


@dataclass
class Receipt:
    """What came of it."""

    id: str
    total: int


@tool(user_input_fields=["address", "when", "speed"])
def ship(
    item: str,
    address: Address,
    when: date,
    speed: Literal["slow", "fast"] = "slow",
    context: ToolContext | None = None,
) -> str:
    """Ship an item.

    Args:
        item: what.
        address: where to.
        when: on which day.
        speed: how fast.
        context: unseen.
    """
    return f"{item} {address} {when} {speed} {context}"


@tool(requires_user_input=True)
def confess(what: str, count: Annotated[int, Field(ge=1)] = 1) -> str:
    """Confess."""
    return f"{what} {count}"


WHERE: dict[str, JsonValue] = {"street": "High"}


def wrong(made: Tool, values: dict[str, JsonValue], raw: str = "{}") -> str:
    """What is wrong with what a person filled in."""
    with pytest.raises(ArgumentsError) as caught:
        made.validate_input(raw, values)
    return str(caught.value)


def outcome(annotation: object, output: JsonValue) -> str | None:
    """What is wrong with a result from outside, for a tool that returns this."""

    def deploy() -> None: ...

    deploy.__annotations__["return"] = annotation
    return tool(external_execution=True)(deploy).result_problem(output)


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_the_model_does_not_see_what_a_person_fills_in() -> None:
    shown = ship.parameters["properties"]
    assert isinstance(shown, dict)
    assert list(shown) == ["item"]
    with pytest.raises(ArgumentsError, match="no argument of this name"):
        ship.validate('{"item": "tea", "when": "2026-01-01"}')


def test_each_field_has_its_name_type_description_and_whether_it_is_needed() -> None:
    address, when, speed = ship.input_fields('{"item": "tea"}')
    assert (address.name, address.description, address.required) == ("address", "where to.", True)
    assert (when.name, when.type, when.required) == ("when", {"type": "string", "format": "date"}, True)
    assert (speed.name, speed.description, speed.required) == ("speed", "how fast.", False)
    assert speed.type["enum"] == ["slow", "fast"]


def test_a_nested_type_carries_what_it_refers_to_and_a_plain_one_does_not() -> None:
    address, when, _ = ship.input_fields('{"item": "tea"}')
    assert "Address" in str(address.type)
    assert "street" in str(address.type)
    assert "$defs" not in when.type


def test_all_parameters_are_asked_for_by_default() -> None:
    assert [each.name for each in confess.input_fields("{}")] == ["what", "count"]
    assert confess.parameters["properties"] == {}


def test_a_tool_that_asks_nobody_has_no_fields_and_takes_no_values() -> None:
    assert look.input_fields("{}") == []
    assert wrong(look, {}) == "this tool takes nothing from a person"


# -- what is filled in ------------------------------------------------------------------------------------------------


def test_values_that_fit_become_python_values() -> None:
    values = ship.validate_input('{"item": "tea"}', {"address": WHERE, "when": "2026-01-02"})
    assert values == {"address": Address(street="High"), "when": date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "address: required, but missing"),
        ({"address": WHERE}, "when: required, but missing"),
        ({"address": {}, "when": "2026-01-02"}, "address.street: required, but missing"),
        ({"address": WHERE, "when": "soon"}, "when: "),
        ({"address": WHERE, "when": "2026-01-02", "speed": "warp"}, "speed: "),
        ({"address": WHERE, "when": "2026-01-02", "item": "gold"}, "item: no argument of this name"),
        ({"address": "High", "when": "2026-01-02"}, "address: "),
    ],
)
def test_values_that_do_not_fit_are_named(values: dict[str, JsonValue], problem: str) -> None:
    assert problem in wrong(ship, values)


@given(json_values, texts)
def test_whatever_is_filled_in_is_read_or_refused(value: JsonValue, name: str) -> None:
    if "nan" in repr(value) or "inf" in repr(value):
        return
    for values in ({"amount": value}, {name: value}):
        try:
            found = transfer.validate_input("{}", values)
        except ArgumentsError:
            continue
        assert type(found["amount"]) is int


def test_a_constraint_on_a_value_holds() -> None:
    assert "count" in wrong(confess, {"what": "x", "count": 0})
    assert confess.validate_input("{}", {"what": "x", "count": 2}) == {"what": "x", "count": 2}


# -- ask_user ---------------------------------------------------------------------------------------------------------


def test_a_question_without_choices_takes_any_answer() -> None:
    raw = '{"question": "Why?"}'
    assert [each.type for each in ask_user.input_fields(raw)] == [{"type": "string"}]
    assert ask_user.validate_input(raw, {"answer": "because"}) == {"answer": "because"}
    assert ask_user.input_fields('{"question": "Why?", "choices": []}')[0].type == {"type": "string"}


def test_a_question_with_choices_takes_one_of_them() -> None:
    raw = '{"question": "Sure?", "choices": ["yes", "no"]}'
    assert [each.type for each in ask_user.input_fields(raw)] == [{"enum": ["yes", "no"]}]
    assert ask_user.validate_input(raw, {"answer": "no"}) == {"answer": "no"}
    assert wrong(ask_user, {"answer": "maybe"}, raw) == "answer: it must be one of: yes, no"
    assert "answer" in wrong(ask_user, {"answer": True}, raw)


def test_the_answer_is_what_the_model_is_told() -> None:
    assert ask_user("Sure?", "yes", ["yes", "no"]) == "yes"


# -- results from outside ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", [None, Any, object, type(None), "Missing"])
@pytest.mark.parametrize("output", [None, 1, "text", {"a": [1]}])
def test_an_annotation_that_says_nothing_takes_any_result(annotation: object, output: JsonValue) -> None:
    assert outcome(annotation, output) is None


@pytest.mark.parametrize(
    ("annotation", "output", "fits"),
    [
        (str, "text", True),
        (str, 1, False),
        (int, 1, True),
        (int, "1", False),
        (int, True, False),
        (bool, 1, False),
        (float, 1, True),
        (list[int], [1, 2], True),
        (list[int], [1, "2"], False),
        (dict[str, int], {"a": 1}, True),
        (dict[str, int], {"a": "b"}, False),
        (int | None, None, True),
        (date, "2026-01-02", True),
        (date, "tomorrow", False),
        (Address, {"street": "High"}, True),
        (Address, {"street": 1}, False),
        (Receipt, {"id": "r", "total": 3}, True),
        (Receipt, {"id": "r"}, False),
    ],
)
def test_a_result_is_checked_against_the_return_annotation(annotation: object, output: JsonValue, fits: bool) -> None:
    assert (outcome(annotation, output) is None) == fits


def test_what_is_wrong_with_a_result_says_where() -> None:
    assert (outcome(dict[str, int], {"a": "b"}) or "").startswith("a: ")
    assert (outcome(int, "x") or "").startswith("the output: ")
    assert "total: required, but missing" in (outcome(Receipt, {"id": "r"}) or "")


@given(json_values)
def test_no_result_makes_the_check_raise(output: JsonValue) -> None:
    if "nan" in repr(output) or "inf" in repr(output):
        return
    for annotation in (int, Receipt, list[Address], dict[str, date]):
        problem = outcome(annotation, output)
        assert problem is None or problem
