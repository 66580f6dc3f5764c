"""The schema that a model sees, and the check of the arguments that it sends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, JsonValue

from assent.agents.schema import Parameter, argument_schema, read_docstring
from assent.agents.tool_decorator import tool_from
from assent.wire.errors import ArgumentsError


class Line(BaseModel):
    """One line of an order."""

    title: str
    count: int = Field(default=1, ge=1)


class Order(BaseModel):
    """An order."""

    lines: list[Line]
    gift: bool = False


class Node(BaseModel):
    """A tree."""

    children: list[Node] = []


class Colour(Enum):
    """A colour."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """A point."""

    x: int


def properties(function: Callable[..., object]) -> dict[str, JsonValue]:
    """The properties of a function's schema."""
    found = tool_from(function).parameters["properties"]
    assert isinstance(found, dict)
    return found


def validate(function: Callable[..., object], arguments: object) -> dict[str, object]:
    """The values that *arguments* have for a function."""
    return tool_from(function).validate(json.dumps(arguments))


def complaint(function: Callable[..., object], arguments: object) -> str:
    """What a model is told of *arguments*."""
    with pytest.raises(ArgumentsError) as caught:
        validate(function, arguments)
    return str(caught.value)


# -- the schema -------------------------------------------------------------------------------------------------------


def test_a_signature_makes_an_object_that_allows_nothing_else() -> None:
    def pay(to: str, amount: int, note: str = "none") -> None: ...

    assert tool_from(pay).parameters == {
        "type": "object",
        "properties": {
            "to": {"type": "string"},
            "amount": {"type": "integer"},
            "note": {"type": "string", "default": "none"},
        },
        "required": ["to", "amount"],
        "additionalProperties": False,
    }


def test_no_parameters_make_an_empty_object() -> None:
    def now() -> None: ...

    assert tool_from(now).parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert validate(now, {}) == {}
    assert complaint(now, {"zone": "UTC"}) == "zone: no argument of this name; this tool takes no arguments"


def test_the_docstring_describes_tool_and_parameters() -> None:
    def pay(to: str, amount: int, why: str = "") -> str:
        """Pay somebody.

        Over two
        lines.

        Args:
            to: whom
                to pay.
            amount (int): in cents.
            other: is no parameter.

        Returns:
            A receipt.

        Raises:
            ValueError: sometimes.
        """
        return to

    made = tool_from(pay)
    assert made.description == "Pay somebody.\n\nOver two\nlines."
    assert made.parameters["properties"] == {
        "to": {"type": "string", "description": "whom\nto pay."},
        "amount": {"type": "integer", "description": "in cents."},
        "why": {"type": "string", "default": ""},
    }


@pytest.mark.parametrize("docstring", [None, "", "   ", "One.", "Args:", "Args:\n\nReturns:", "Args:\n    no colon"])
def test_any_docstring_is_taken(docstring: str | None) -> None:
    assert isinstance(read_docstring(docstring).description, str)


@given(st.text("Args:\n Returns\tx(-)*é", max_size=60))
def test_no_docstring_makes_an_import_fail(docstring: str) -> None:
    read_docstring(docstring)


def test_an_annotation_describes_before_the_docstring() -> None:
    def pay(
        a: Annotated[int, Field(description="from Field", ge=0)],
        b: Annotated[str, "from text"],
        c: Annotated[int, Field(gt=5)] = 6,
    ) -> None:
        """Pay.

        Args:
            a: from the docstring.
            b: from the docstring.
            c: from the docstring.
        """

    assert properties(pay) == {
        "a": {"type": "integer", "description": "from Field", "minimum": 0},
        "b": {"type": "string", "description": "from text"},
        "c": {"type": "integer", "description": "from the docstring.", "exclusiveMinimum": 5, "default": 6},
    }


def test_types_become_their_schemas() -> None:
    def everything(
        literal: Literal["a", "b"],
        optional: int | None,
        union: int | str,
        colour: Colour,
        numbers: list[int],
        by_name: dict[str, float],
        pair: tuple[int, str],
        when: datetime,
        point: Point,
    ) -> None: ...

    found = properties(everything)
    assert found["literal"] == {"type": "string", "enum": ["a", "b"]}
    assert found["optional"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert found["union"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert found["colour"] == {"$ref": "#/$defs/Colour"}
    assert found["numbers"] == {"type": "array", "items": {"type": "integer"}}
    assert found["by_name"] == {"type": "object", "additionalProperties": {"type": "number"}}
    assert found["when"] == {"type": "string", "format": "date-time"}
    assert found["point"] == {"$ref": "#/$defs/Point"}


def test_a_schema_is_self_contained() -> None:
    def order(it: Order, tree: Node) -> None: ...

    schema = tool_from(order).parameters
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)
    references = {part.split('"')[0] for part in json.dumps(schema).split('"$ref": "#/$defs/')[1:]}
    assert references == set(definitions) == {"Order", "Line", "Node"}


def test_titles_are_dropped_but_not_a_property_called_title() -> None:
    def file(title: str, line: Line, extra: dict[str, str] = {"title": "kept"}) -> None: ...  # noqa: B006

    schema = tool_from(file).parameters
    assert properties(file)["title"] == {"type": "string"}
    assert properties(file)["extra"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "default": {"title": "kept"},
    }
    assert schema["$defs"] == {
        "Line": {
            "type": "object",
            "description": "One line of an order.",
            "properties": {"title": {"type": "string"}, "count": {"type": "integer", "default": 1, "minimum": 1}},
            "required": ["title"],
        }
    }


def test_a_default_that_json_cannot_carry_is_applied_but_not_shown() -> None:
    def look(it: object = complaint) -> None: ...

    assert properties(look) == {"it": {}}
    assert validate(look, {}) == {}


@pytest.mark.parametrize(
    "name", ["schema", "json", "copy", "dict", "model_config", "model_fields", "validate", "self_", "p0", "p1", "title"]
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    made = argument_schema([Parameter(name, int), Parameter("other", str, "x")], {}, where="here")
    assert made.parameters["required"] == [name]
    assert made.validate(json.dumps({name: 1})) == {name: 1}


def test_an_alias_in_an_annotation_does_not_rename_the_parameter() -> None:
    def pay(amount: Annotated[int, Field(alias="sum", validation_alias="total")]) -> None: ...

    assert properties(pay) == {"amount": {"type": "integer"}}
    assert validate(pay, {"amount": 1}) == {"amount": 1}


# -- values -----------------------------------------------------------------------------------------------------------


def test_values_are_python_values() -> None:
    def order(it: Order, at: Point, when: datetime, price: Decimal, colour: Colour, pair: tuple[int, str]) -> None: ...

    given = {
        "it": {"lines": [{"title": "tea"}]},
        "at": {"x": 1},
        "when": "2026-01-02T03:04:05Z",
        "price": "1.10",
        "colour": "red",
        "pair": [1, "a"],
    }
    assert validate(order, given) == {
        "it": Order(lines=[Line(title="tea")]),
        "at": Point(1),
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "price": Decimal("1.10"),
        "colour": Colour.RED,
        "pair": (1, "a"),
    }


def test_what_is_left_out_is_left_to_the_function() -> None:
    def pay(a: int, b: int = 2, c: Annotated[int, Field(default=3)] = 4) -> tuple[int, int, int]:
        return a, b, c

    values = validate(pay, {"a": 1})
    assert values == {"a": 1}
    assert tool_from(pay)(**values) == (1, 2, 4)


def test_a_default_inside_the_annotation_is_supplied() -> None:
    def pay(a: Annotated[int, Field(default=3)]) -> None: ...

    assert "required" not in tool_from(pay).parameters
    assert validate(pay, {}) == {"a": 3}


@pytest.mark.parametrize(("sent", "value"), [(5, 5), ("5", 5), ("-5", -5), (5.0, 5), ("5.0", 5)])
def test_a_number_may_be_in_quotes(sent: object, value: int) -> None:
    def pay(amount: int) -> None: ...

    assert validate(pay, {"amount": sent}) == {"amount": value}


@pytest.mark.parametrize("sent", [True, False, 5.5, "5.5", "five", "1e3", " 5", "٥", "", None, [5]])
def test_nothing_else_becomes_a_whole_number(sent: object) -> None:
    def pay(amount: int) -> None: ...

    assert complaint(pay, {"amount": sent}).startswith("amount: input should be a valid integer")


@pytest.mark.parametrize("sent", ["true", "yes", "1", 1, 0, None])
def test_nothing_becomes_a_boolean(sent: object) -> None:
    def pay(really: bool) -> None: ...

    assert complaint(pay, {"really": sent}).startswith("really: input should be a valid boolean")


@pytest.mark.parametrize("sent", ["true", 1])
def test_nothing_becomes_a_boolean_inside_a_model(sent: object) -> None:
    def order(it: Order) -> None: ...

    assert complaint(order, {"it": {"lines": [], "gift": sent}}).startswith("it.gift: ")


def test_one_leniency_does_not_open_the_door_to_another() -> None:
    def pay(amount: int, really: bool) -> None: ...

    assert complaint(pay, {"amount": "5", "really": "true"}).splitlines()[1].startswith("really: ")


@pytest.mark.parametrize("sent", ["nan", "inf", "-Infinity", "9" * 400, True])
def test_nothing_odd_becomes_a_number(sent: object) -> None:
    def pay(amount: float) -> None: ...

    assert complaint(pay, {"amount": sent}).startswith("amount: ")


def test_a_number_becomes_neither_text_nor_a_date() -> None:
    def pay(note: str, day: date, when: datetime) -> None: ...

    lines = complaint(pay, {"note": 5, "day": 20000, "when": 1700000000}).splitlines()
    assert [line.split(":")[0] for line in lines] == ["note", "day", "when"]


def test_text_that_looks_like_a_number_stays_text_where_text_fits() -> None:
    def find(id: int | str) -> None: ...

    assert validate(find, {"id": "5"}) == {"id": "5"}
