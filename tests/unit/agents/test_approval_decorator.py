"""`@approval`: above or below `@tool`, with and without a pause of the tool's own."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest

from assent.agents.approval_decorator import approval
from assent.agents.tool import ApprovalTerms, Tool
from assent.agents.tool_decorator import tool, tool_from
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import ApprovalType


def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def fresh() -> Callable[[int], str]:
    """A function that carries no mark yet."""

    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    return pay


def refusal(make: Callable[[], object]) -> str:
    """The one line with which what *make* does is refused, without the place, which is checked here."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    place, _, rest = str(caught.value).partition(": ")
    assert re.fullmatch(r"test_approval_decorator\.py:\d+", place), caught.value
    assert "\n" not in rest
    return rest


def flags(made: Tool) -> tuple[object, bool, str | None]:
    """What the decorators decided."""
    return made.requires_confirmation, made.external_execution, made.approval_type


@pytest.mark.parametrize("kind", ["required", "audit"])
@pytest.mark.parametrize("external", [False, True])
def test_both_orders_make_the_same_tool(kind: ApprovalType, external: bool) -> None:
    above = approval(type=kind)(tool(requires_confirmation=not external, external_execution=external)(fresh()))
    below = tool(requires_confirmation=not external, external_execution=external)(approval(type=kind)(fresh()))
    assert flags(above) == flags(below) == (not external, external, kind)


def test_approval_without_a_pause_requires_confirmation_in_both_orders() -> None:
    assert flags(approval(tool(fresh()))) == (True, False, "required")
    assert flags(tool(approval(fresh()))) == (True, False, "required")
    assert flags(tool()(approval()(fresh()))) == (True, False, "required")


def test_a_plain_function_with_approval_requires_confirmation() -> None:
    assert flags(tool_from(approval(fresh()))) == (True, False, "required")


def test_confirmation_alone_is_no_approval() -> None:
    assert flags(tool(requires_confirmation=True)(fresh())) == (True, False, None)


def test_approval_above_a_tool_leaves_that_tool_as_it_was() -> None:
    made = tool(fresh())
    marked = approval(made)
    assert marked is not made
    assert flags(made) == (False, False, None)
    assert (marked.name, marked.parameters, marked(3)) == (made.name, made.parameters, "paid 3")
    assert inspect.signature(marked) == inspect.signature(pay)


def test_approval_below_a_tool_leaves_the_function_callable() -> None:
    function = fresh()
    assert approval(function) is function
    assert function(3) == "paid 3"


def test_audit_needs_a_pause() -> None:
    line = "tool 'pay': @approval(type=\"audit\") is for a tool that pauses; add requires_confirmation=True"
    assert refusal(lambda: approval(type="audit")(tool(fresh()))) == line
    assert refusal(lambda: tool(approval(type="audit")(fresh()))) == line
    assert refusal(lambda: tool_from(approval(type="audit")(fresh()))) == line


@pytest.mark.parametrize("kind", ["require", "", None, True])
def test_another_type_is_refused(kind: ApprovalType) -> None:
    line = f'tool \'pay\': @approval has no type {kind!r}; use type="required" or type="audit"'
    assert refusal(lambda: approval(type=kind)(fresh())) == line
    assert refusal(lambda: approval(type=kind)(tool(fresh()))) == line


def test_approval_is_given_once() -> None:
    line = "tool 'pay': @approval is applied twice; keep one"
    assert refusal(lambda: approval(approval(fresh()))) == line
    assert refusal(lambda: approval(approval(tool(fresh())))) == line
    assert refusal(lambda: approval(tool(approval(fresh())))) == line


@pytest.mark.parametrize("target", [Tool, "audit", 3, len, lambda: 1])
def test_only_functions_and_tools_are_marked(target: Callable[..., object]) -> None:
    assert refusal(lambda: approval(target)).startswith("@approval: ")


def test_approval_does_not_smuggle_retries_past_the_gate() -> None:
    assert "runs at most once" in refusal(lambda: approval(tool(retries=1)(fresh())))
    assert "runs at most once" in refusal(lambda: tool(retries=1)(approval(fresh())))
    assert approval(tool(retries=1, idempotent=True)(fresh())).requires_confirmation


def test_a_message_names_the_line_of_the_function() -> None:
    line = inspect.getsourcelines(pay)[1]
    with pytest.raises(ConfigurationError, match=rf"^test_approval_decorator\.py:{line}: tool 'pay': "):
        approval(type="audit")(tool(pay))


# -- who, how many, until when ----------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)
OPTIONS: dict[str, object] = {
    "approvals": 2,
    "approvers": ["finance", "ann"],
    "expires_after": 4 * HOUR,
    "remind_every": HOUR,
    "escalate": [(2 * HOUR, ["ceo"])],
    "self_approval": True,
}
TERMS = ApprovalTerms(
    type="required",
    approvals=2,
    approvers=("finance", "ann"),
    expires_after=4 * HOUR,
    remind_every=HOUR,
    escalate=((2 * HOUR, ("ceo",)),),
    self_approval=True,
)


def with_options(**options: object) -> Callable[[object], Tool]:
    """`@approval` with options of which some are wrong."""
    return cast("Callable[..., Callable[[object], Tool]]", approval)(**options)


def test_terms_are_the_same_in_both_orders() -> None:
    assert with_options(**OPTIONS)(tool(fresh())).terms == TERMS
    assert tool_from(with_options(**OPTIONS)(fresh())).terms == TERMS


def test_terms_do_not_change_with_the_list_that_they_came_from() -> None:
    names = ["ann"]
    made = approval(approvers=names)(tool(fresh()))
    names.append("mallory")
    assert made.terms.approvers == ("ann",)


WRONG: list[tuple[dict[str, object], str]] = [
    ({"approvals": 0}, "approvals is 0; give a whole number from 1 to 10"),
    ({"approvals": True}, "approvals is True; give a whole number"),
    ({"approvals": 2.0}, "approvals is 2.0; give a whole number"),
    ({"approvers": "ann"}, "approvers is 'ann'; give a list of names"),
    ({"approvers": []}, "approvers is []; give a list of names"),
    ({"approvers": ["ann", " "]}, "approvers is ['ann', ' ']; give a list of names"),
    ({"approvers": [1]}, "approvers is [1]; give a list of names"),
    ({"expires_after": timedelta(0)}, "expires_after is datetime.timedelta(0); give a positive timedelta"),
    ({"expires_after": 60}, "expires_after is 60; give a positive timedelta"),
    ({"remind_every": -HOUR}, "give a positive timedelta"),
    ({"remind_every": "1h"}, "remind_every is '1h'; give a positive timedelta"),
    ({"escalate": ["ceo"]}, "escalate has 'ceo'; give pairs"),
    ({"escalate": [(HOUR, "ceo")]}, "give pairs such as"),
    ({"escalate": [(HOUR, [])]}, "give pairs such as"),
    ({"escalate": [(60, ["ceo"])]}, "give pairs such as"),
    ({"escalate": [(HOUR, ["ceo"], 1)]}, "give pairs such as"),
]


@pytest.mark.parametrize(("options", "problem"), WRONG)
def test_a_term_that_means_nothing_is_refused_in_one_line(options: dict[str, object], problem: str) -> None:
    lines = [
        refusal(lambda: with_options(**options)(fresh())),
        refusal(lambda: with_options(**options)(tool(fresh()))),
    ]
    for line in lines:
        assert line.startswith("tool 'pay': ")
        assert problem in line


@pytest.mark.parametrize("value", [5, None, HOUR])
def test_escalations_that_are_no_list_are_refused_in_one_line(value: object) -> None:
    assert "escalate" in refusal(lambda: with_options(escalate=value)(fresh()))


@pytest.mark.parametrize("kind", ["external", "input"])
def test_several_people_approve_and_one_hands_in_results_or_values(kind: str) -> None:
    make = tool(external_execution=kind == "external", requires_user_input=kind == "input")
    line = "approvals=2 is for a tool that is approved; one person hands in a result or fills in values"
    assert refusal(lambda: approval(approvals=2)(make(fresh()))) == f"tool 'pay': {line}"
    assert refusal(lambda: make(approval(approvals=2)(fresh()))) == f"tool 'pay': {line}"
