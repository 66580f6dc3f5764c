"""What people send for a call of workflow code is checked against the JSON schemas of its request."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

import pytest
from pydantic import BaseModel, JsonValue, TypeAdapter

from assent.activities.check_fields import fields_problem
from assent.wire.protocol import InputField


class Account(BaseModel):
    iban: str
    limits: list[int] = []


def field(kind: Any, *, required: bool = True) -> list[InputField]:
    return [InputField(name="a", type=TypeAdapter(kind).json_schema(), required=required)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 5),
        (str, ""),
        (float, 5),
        (int | None, None),
        (Literal["x", 1], 1),
        (Account, {"iban": "DE1", "limits": [1]}),
        (date, "2026-11-29"),
        (datetime, "2026-11-29T12:00:00Z"),
        (dict[str, list[Account]], {"x": [{"iban": "DE1"}]}),
    ],
)
def test_a_value_that_fits_has_no_problem(kind: object, value: JsonValue) -> None:
    assert fields_problem(field(kind), {"a": value}) is None


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (int, "5", "a: '5' is not of type 'integer'"),
        (int, True, "a: True is not of type 'integer'"),
        (str, None, "a: None is not of type 'string'"),
        (Account, {"limits": []}, "a: 'iban' is a required property"),
        (Account, {"iban": "DE1", "limits": ["x"]}, "a: limits[0]: 'x' is not of type 'integer'"),
        (Literal["x", "y"], "z", "a: 'z' is not one of ['x', 'y']"),
        (date, "29.11.2026", "a: '29.11.2026' is not a 'date'"),
        (datetime, "2026-11-29T12:00:00", "a: '2026-11-29T12:00:00' is not a 'date-time'"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(kind: object, value: JsonValue, problem: str) -> None:
    assert fields_problem(field(kind), {"a": value}) == problem


def test_all_that_is_required_and_nothing_else_is_taken() -> None:
    assert fields_problem(field(int), {}) == "a: it is missing"
    assert fields_problem(field(int, required=False), {}) is None
    assert fields_problem(field(int), {"a": 1, "b": 2}) == "there is no field b; there are: a"


@pytest.mark.parametrize(
    "schema",
    [{"type": "x"}, {"$ref": "#/$defs/nowhere"}, {"$ref": "http://127.0.0.1:9/x.json"}, {"minimum": "1"}],
)
def test_a_schema_that_is_none_accepts_nothing_and_fetches_nothing(schema: dict[str, JsonValue]) -> None:
    problem = fields_problem([InputField(name="a", type=schema)], {"a": 1})
    assert problem is not None
    assert problem.startswith("a: its type is no JSON schema that values can be checked against: ")
    assert "\n" not in problem
