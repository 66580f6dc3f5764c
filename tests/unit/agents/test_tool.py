"""What a tool is given besides its arguments, and what it returns."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator

from assent.agents.tool import Tool, ToolContext
from assent.agents.tool_decorator import tool, tool_from
from tests.unit.agents.test_tool_decorator import CONTEXT, Colour, Opaque, Order, Point, add, fetch, refusal, written

# -- whose code checks the arguments ----------------------------------------------------------------------------------


def test_only_plain_types_are_checked_without_code_of_the_user() -> None:
    def none() -> None: ...
    def plain(a: int, b: list[str | None], c: float | bool = 1.5, d: str | None = None) -> None: ...
    def with_context(a: int, context: ToolContext) -> None: ...

    assert [tool_from(each).has_own_types for each in (none, plain, with_context)] == [False] * 3


def test_a_type_or_default_that_may_run_code_of_the_user_is_its_own() -> None:
    class Text(str):
        __slots__ = ()

    def validated(a: Annotated[int, AfterValidator(abs)]) -> None: ...
    def model(a: Order) -> None: ...
    def nested(a: list[Order] | None = None) -> None: ...
    def choice(a: Colour) -> None: ...
    def shown(a: str = Text("a")) -> None: ...

    assert [tool_from(each).has_own_types for each in (validated, model, nested, choice, shown)] == [True] * 5


# -- the context ------------------------------------------------------------------------------------------------------


def test_the_context_is_hidden_from_the_model() -> None:
    def plain(a: int, context: ToolContext) -> None: ...
    def optional(a: int, it: ToolContext | None = None) -> None: ...
    def quoted(a: int, it: "ToolContext") -> None: ...  # noqa: UP037
    def annotated(it: Annotated[ToolContext, "unseen"], a: int) -> None: ...

    for function, name in ((plain, "context"), (optional, "it"), (quoted, "it"), (annotated, "it")):
        made = tool_from(function)
        assert made.context_parameter == name
        assert made.parameters["properties"] == {"a": {"type": "integer"}}
        assert made.validate('{"a": 1}') == {"a": 1}


def test_the_context_resolves_where_it_is_imported_for_the_type_checker_only() -> None:
    made = tool_from(written("def unimported(it: ToolContext | None = None) -> None: ..."))
    assert made.context_parameter == "it"


def test_a_tool_without_context_has_no_context_parameter() -> None:
    assert tool(add).context_parameter is None


def test_one_context_is_enough() -> None:
    def twice(a: ToolContext, b: ToolContext | None) -> None: ...

    assert refusal(twice).endswith("'a' and 'b' are both a ToolContext; keep one")


def test_a_context_is_nothing_but_a_context() -> None:
    def either(a: ToolContext | int) -> None: ...
    def several(a: list[ToolContext]) -> None: ...

    assert "'a' mixes ToolContext with other types" in refusal(either)
    assert "'a' mixes ToolContext with other types" in refusal(several)


def test_a_context_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(CONTEXT, "attempt", 2)  # noqa: B010  # what is refused is the assignment, at run time too


# -- what a tool returns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is, \"quoted\" and 'not'", "as it is, \"quoted\" and 'not'"),
        ("", ""),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        (["é"], '["é"]'),
        (Order(item="tea"), '{"item":"tea","price":"1.50"}'),
        (Point(1, datetime(2026, 1, 2, tzinfo=UTC)), '{"x":1,"seen":"2026-01-02T00:00:00Z"}'),
        (Decimal("1.10"), '"1.10"'),
        (Colour.RED, "red"),
        (float("nan"), '"NaN"'),
        ([1, Opaque()], '[1,"<opaque>"]'),
        (b"\xff", "b'\\xff'"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_return_value_reads_as_text_or_json(value: object, text: str) -> None:
    assert tool(add).render(value) == text


def test_a_cycle_becomes_its_repr() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    assert tool(add).render(cycle) == "[[...]]"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("aé\n\"'"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_json_values_survive_rendering(value: object) -> None:
    text = tool(add).render(value)
    assert text == value if isinstance(value, str) else json.loads(text) == value


@given(st.text())
def test_whatever_text_is_rendered_can_be_encoded(text: str) -> None:
    assert tool(add).render(text).encode("utf-8")[:0] == b""


def test_a_bare_tool_annotation_means_any_tool() -> None:
    tools: list[Tool] = [tool(add), tool(fetch)]
    assert [item.name for item in tools] == ["add", "fetch"]
