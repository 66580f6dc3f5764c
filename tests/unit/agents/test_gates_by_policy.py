"""Who may run what: the strictest of the tool's own flags and the policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from assent.agents.approval_decorator import approval
from assent.agents.tool import Tool
from assent.agents.tool_decorator import tool
from assent.wire.policy import NO_POLICY_VERSION, Decision, PermissionPolicy, Rule, policy_version
from assent.wire.protocol import Verdict
from tests.unit.strategies import deploy, gate_of, look, pay

DECISIONS: tuple[Decision, ...] = ("allow", "ask", "deny")
decisions = st.sampled_from(DECISIONS)
rules = st.lists(st.builds(Rule, decision=decisions, tool=st.sampled_from(["*", "pay", "l*", "p?y", "x"])), max_size=4)


def verdict(tool: Tool | None, policy: PermissionPolicy | None, arguments: str = "{}") -> Verdict:
    """The verdict on a call of *tool*."""
    return gate_of(tool, policy, raw=arguments).verdict


def test_without_a_policy_the_tools_own_flags_decide() -> None:
    assert [verdict(each, None) for each in (look, pay, deploy)] == ["allow", "ask", "external"]


def test_an_unknown_tool_is_denied_whatever_the_policy_says() -> None:
    for policy in (None, PermissionPolicy.of(allow=["*"]), PermissionPolicy(default="allow")):
        gate = gate_of(None, policy)
        assert (gate.verdict, gate.reason) == ("deny", "there is no tool named 'ghost'")


def test_deny_beats_everything() -> None:
    policy = PermissionPolicy.of(allow=["*"], ask=["*"], deny=["*"])
    assert [verdict(each, policy) for each in (look, pay, deploy)] == ["deny"] * 3
    gate = gate_of(pay, policy, raw="not json")
    assert gate.verdict == "deny", "a denied tool tells nothing about its arguments"


@given(rules, decisions)
def test_a_policy_cannot_loosen_a_tools_flag(given_rules: list[Rule], default: Decision) -> None:
    policy = PermissionPolicy(rules=tuple(given_rules), default=default)
    assert verdict(pay, policy) in {"ask", "deny"}
    assert verdict(deploy, policy) in {"external", "deny"}
    assert verdict(look, policy) == policy.judge("look").decision


@given(rules, decisions)
def test_the_first_rule_that_matches_decides(given_rules: list[Rule], default: Decision) -> None:
    policy = PermissionPolicy(rules=tuple(given_rules), default=default)
    matching = [rule.decision for rule in given_rules if rule.matches("pay")]
    assert policy.judge("pay").decision == (matching[0] if matching else default)


def test_a_policy_without_an_opinion_asks() -> None:
    assert verdict(look, PermissionPolicy()) == "ask"
    assert verdict(look, PermissionPolicy.of(allow=["other"])) == "ask"


@pytest.mark.parametrize("default", DECISIONS)
def test_the_default_may_be_set(default: Decision) -> None:
    assert verdict(look, PermissionPolicy(default=default)) == default


def test_lists_of_globs_put_the_strict_ones_first() -> None:
    policy = PermissionPolicy.of(allow=["get_*"], ask=["get_secret"], deny=["get_all"])
    assert [policy.judge(name).decision for name in ("get_x", "get_secret", "get_all", "put")] == [
        "allow",
        "ask",
        "deny",
        "ask",
    ]


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("pay", "pay", True),
        ("pay", "Pay", False),
        ("pay", "pay2", False),
        ("pay", "xpay", False),
        ("p?y", "pay", True),
        ("p[ab]y", "pby", True),
        ("*", "anything", True),
        ("pay*", "pay\n_all", True),
    ],
)
def test_globs_match_the_whole_name_in_its_case(glob: str, name: str, matches: bool) -> None:
    assert Rule(decision="deny", tool=glob).matches(name) == matches


def test_invalid_arguments_are_refused_before_anybody_is_asked() -> None:
    gate = gate_of(pay, None, raw='{"amount": "much"}')
    assert gate.verdict == "invalid"
    assert "amount" in (gate.reason or "")
    assert verdict(look, None, '{"to": "a", "to": "b"}') == "invalid"


@pytest.mark.parametrize(
    "fields",
    [{"decision": "maybe", "tool": "x"}, {"decision": "ask", "tool": ""}, {"decision": "ask", "tool": "x", "a": 1}],
)
def test_a_rule_that_means_nothing_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(fields)


def test_a_policy_with_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        PermissionPolicy.model_validate({"rule": []})


@given(rules, decisions, rules, decisions)
def test_two_policies_have_one_version_only_if_they_are_one(
    one: list[Rule], one_default: Decision, other: list[Rule], other_default: Decision
) -> None:
    first = PermissionPolicy(rules=tuple(one), default=one_default)
    second = PermissionPolicy(rules=tuple(other), default=other_default)
    assert (first.version == second.version) == (first == second)


def test_no_policy_has_a_version_of_its_own() -> None:
    assert policy_version(None) == NO_POLICY_VERSION != policy_version(PermissionPolicy())


def test_a_gate_says_whether_the_tool_may_run_twice() -> None:
    @tool(requires_confirmation=True, idempotent=True)
    def put(value: str = "") -> str:
        """Put a value."""
        return value

    assert gate_of(pay, None).at_most_once
    assert not gate_of(put, None).at_most_once
    assert gate_of(look, None).at_most_once
    assert not gate_of(tool(retries=1)(look.function), None).at_most_once
    assert not gate_of(tool(idempotent=True)(look.function), None).at_most_once
    assert gate_of(look, PermissionPolicy.of(ask=["*"])).at_most_once


def test_a_gate_says_what_the_records_call_it() -> None:
    @approval
    @tool(requires_confirmation=True)
    def drop(table: str = "") -> str:
        """Drop a table."""
        return table

    assert gate_of(drop, None).approval_type == "required"
    assert gate_of(pay, None).approval_type is None
