"""Whether a call may run, asked again at the moment it runs."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.agents.approval_decorator import approval
from assent.agents.authorization import refusal
from assent.agents.gates import Gatekeeper
from assent.agents.tool import Tool
from assent.agents.tool_decorator import tool
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import Gate, ToolCallInput
from tests.unit.strategies import (
    NOW,
    RUN_ID,
    TOOLS,
    approved_call,
    authorization_of,
    gates_of,
    written_arguments,
)

RAW = '{"to": "A", "amount": 1}'
DIGEST_DIFFERS = "the call is not the one that was approved: its digest differs"


def refused(
    call: ToolCallInput,
    *,
    tool: Tool = TOOLS["pay"],
    policy: PermissionPolicy | None = None,
    run_id: str = RUN_ID,
    now: datetime = NOW,
) -> str | None:
    """Why the call may not run."""
    found = refusal(tool, call, Gatekeeper((policy,)), run_id=run_id, now=now)
    return None if found is None else found.reason


def changed(call: ToolCallInput, **fields: object) -> ToolCallInput:
    """The call with another authorization."""
    return call.model_copy(update={"authorization": authorization_of(call).model_copy(update=fields)})


@given(gates_of("ask").map(lambda gate: gate.model_copy(update={"approvers": None})), written_arguments)
def test_what_was_approved_may_run(gate: Gate, arguments: str) -> None:
    assert refused(approved_call(arguments, gate)) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"to": "B", "amount": 1}',
        '{"to": "A", "amount": 2}',
        '{"to":"A", "amount": 1}',
        '{"to": "A", "amount": 1} ',
        '{"amount": 1, "to": "A"}',
        '{"to": "\\u0041", "amount": 1}',
        '{"to": "A", "amount": 1.0}',
        "{}",
    ],
)
def test_one_changed_byte_is_refused_at_the_activity(arguments: str) -> None:
    call = approved_call(RAW).model_copy(update={"arguments": arguments})
    assert refused(call) == DIGEST_DIFFERS


@given(st.integers(0, len(RAW) - 1), st.characters(codec="utf-8"))
def test_any_changed_character_is_refused_at_the_activity(position: int, character: str) -> None:
    arguments = RAW[:position] + character + RAW[position + 1 :]
    call = approved_call(RAW).model_copy(update={"arguments": arguments})
    assert (refused(call) is None) == (arguments == RAW)


@pytest.mark.parametrize(
    "fields",
    [
        {"nonce": "other"},
        {"policy_version": "other"},
        {"needed": 0},
        {"expires_at": NOW + timedelta(days=1)},
        {"requirement_id": "0" * 64},
        {"requirement_id": ""},
    ],
)
def test_an_authorization_with_another_part_is_refused(fields: dict[str, object]) -> None:
    assert refused(changed(approved_call(RAW), **fields)) == DIGEST_DIFFERS


def test_an_approval_in_another_run_is_refused() -> None:
    assert refused(approved_call(RAW), run_id="run-2") == DIGEST_DIFFERS


def test_an_approval_of_another_call_is_refused() -> None:
    assert refused(approved_call(RAW).model_copy(update={"call_id": "c9"})) == DIGEST_DIFFERS


def test_an_approval_of_another_tool_is_refused() -> None:
    @tool(requires_confirmation=True)
    def refund(to: str = "", amount: int = 0) -> str:
        """Give it back."""
        return f"{to} {amount}"

    assert refused(approved_call(RAW), tool=refund) == DIGEST_DIFFERS


def test_an_expired_approval_is_refused() -> None:
    call = approved_call(RAW, Gate(verdict="ask", expires_after=3_600))
    deadline = authorization_of(call).expires_at
    assert deadline is not None
    assert refused(call, now=deadline - timedelta(microseconds=1)) is None
    assert refused(call, now=deadline) == "the approval has expired"


@pytest.mark.parametrize(
    ("approved_by", "why"),
    [([], "the call has 0 of 2 approvals"), (["bob"], "the call has 1 of 2 approvals"), (["bob", "carol"], None)],
)
def test_too_few_approvals_are_refused(approved_by: list[str], why: str | None) -> None:
    call = approved_call(RAW, Gate(verdict="ask", needed=2))
    assert refused(changed(call, approved_by=approved_by)) == why


def test_a_tool_that_needs_approval_does_not_run_without() -> None:
    call = approved_call(RAW).model_copy(update={"authorization": None})
    assert refused(call) == "the tool now needs an approval"


def test_a_stricter_policy_holds_for_calls_that_were_allowed_or_approved_before() -> None:
    allowed = approved_call(RAW).model_copy(update={"authorization": None})
    assert refused(allowed, tool=TOOLS["look"]) is None
    assert "needs an approval" in (refused(allowed, tool=TOOLS["look"], policy=PermissionPolicy.of(ask=["*"])) or "")
    for each in (allowed, approved_call(RAW)):
        why = refused(each, policy=PermissionPolicy.of(deny=["pay"]))
        assert why == "the policy does not permit the tool 'pay'"


def test_a_looser_policy_does_not_stop_an_approved_call() -> None:
    assert refused(approved_call(RAW), policy=PermissionPolicy.of(allow=["*"])) is None


def test_a_tool_that_became_external_is_not_run_here() -> None:
    @tool(name="pay", external_execution=True)
    def pay_outside(to: str = "", amount: int = 0) -> str:
        """Pay, elsewhere."""
        return f"{to} {amount}"

    assert refused(approved_call(RAW), tool=pay_outside) == "the tool is now carried out elsewhere"


def test_a_tool_whose_arguments_changed_is_not_run_with_the_old_ones() -> None:
    @tool(name="pay", requires_confirmation=True)
    def pay_iban(iban: str) -> str:
        """Pay to an account."""
        return iban

    assert "iban" in (refused(approved_call(RAW), tool=pay_iban) or "")


def test_what_takes_more_today_goes_back_to_a_person_under_todays_gate() -> None:
    allowed = approved_call(RAW).model_copy(update={"authorization": None})
    keeper = Gatekeeper((PermissionPolicy.of(ask=["*"]),))
    found = refusal(TOOLS["look"], allowed, keeper, run_id=RUN_ID, now=NOW)
    assert found is not None
    assert found.gate is not None
    assert found.gate.verdict == "ask"


def test_what_is_denied_or_changed_goes_back_to_nobody() -> None:
    denied = Gatekeeper((PermissionPolicy.of(deny=["*"]),))
    other = changed(approved_call(RAW), nonce="other")
    for call, keeper in ((approved_call(RAW), denied), (other, Gatekeeper())):
        found = refusal(TOOLS["pay"], call, keeper, run_id=RUN_ID, now=NOW)
        assert found is not None
        assert found.gate is None


def test_an_approval_of_somebody_who_may_not_decide_today_does_not_count() -> None:
    named = approval(approvers=["carol"])(TOOLS["pay"])
    call = approved_call(RAW)
    assert refused(changed(call, approved_by=["bob"]), tool=named) is not None
    assert refused(changed(call, approved_by=["ＣＡＲＯＬ"]), tool=named) is None
