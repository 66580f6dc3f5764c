"""What can be sent to decide a requirement, as operators see it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, JsonValue

from assent.agents.tool_decorator import tool
from assent.views.commands import Choice, assent_command, audit_command, choices, show_command, talking_commands
from assent.views.facts import facts_of
from assent.wire.limits import RESULT_SCHEMA_LIMIT
from assent.wire.protocol import Gate
from assent.wire.text import plain
from tests.unit.strategies import gate_of, playing


class Parcel(BaseModel):
    """One parcel."""

    grams: int
    fragile: bool


class Shipped(BaseModel):
    """What a carrier says."""

    tracking: str
    parcels: list[Parcel]
    note: str = ""


class Tree(BaseModel):
    """A type that contains itself."""

    left: Tree
    right: Tree | None = None


def external_gate(returned: Any) -> Gate:
    """The gate of a tool that is executed elsewhere and returns this type."""

    def ship(order: str) -> object:
        """Ship an order."""
        raise NotImplementedError

    ship.__annotations__["return"] = returned
    return gate_of(tool(external_execution=True)(ship), raw='{"order": "4711"}')


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (Shipped, {"tracking": "TEXT", "parcels": [{"grams": "INTEGER", "fragile": "TRUE OR FALSE"}]}),
        (list[int], ["INTEGER"]),
        (int | None, "INTEGER"),
        (Parcel | None, {"grams": "INTEGER", "fragile": "TRUE OR FALSE"}),
        (Parcel | str, {"grams": "INTEGER", "fragile": "TRUE OR FALSE"}),
        (tuple[int, list[bool]], ["INTEGER", ["TRUE OR FALSE"]]),
        (list[Any], ["VALUE"]),
        (Decimal, "NUMBER"),
        (bool, "TRUE OR FALSE"),
        (Any, "THE RESULT"),
        (Tree, {"left": {"left": {"left": {"OBJECT": ""}}}}),
    ],
)
def test_the_result_to_send_has_the_shape_that_the_tool_returns(returned: Any, output: JsonValue) -> None:
    result, reject = choices("external", external_gate(returned).fields)
    assert result.body == {"output": output}
    assert reject.signal == "reject"


def test_an_approver_reads_what_the_result_must_be() -> None:
    requirement = playing(external_gate(Shipped)).requirement
    facts = list(facts_of(requirement, [requirement], None))
    said = [fact.lead + plain(fact.words) for fact in facts if fact.label == "field"]
    assert said == ["Result to send: output, an object with tracking, parcels, note"]


def test_a_schema_that_is_too_long_for_a_gate_is_left_out_and_the_result_still_checked() -> None:
    class Long(Shipped):
        __doc__ = "x" * RESULT_SCHEMA_LIMIT

    gate = external_gate(Long)
    assert (gate.checked, gate.fields) == (True, [])


def test_a_run_whose_id_looks_like_an_option_is_named_after_all_options() -> None:
    assert show_command("assent", "--json") == "assent show -- --json"
    assert audit_command("assent", "-v 1") == "assent audit -- '-v 1'"
    decide = assent_command("assent", "--by", "0a1b", Choice("reject", "reject", {"reason": "WHY"}))
    assert decide == "assent reject --by YOUR_NAME --reason WHY -- --by 0a1b"
    assert dict(talking_commands("assent", "-x", "bob"))["continue"] == "assent send-message --by bob -- -x TEXT"
