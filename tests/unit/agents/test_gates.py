"""The gate of one call: what the tool's own flags, its function, the policies and the groups make of it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.agents.approval_decorator import approval
from assent.agents.gates import APPROVERS, Groups
from assent.agents.tool import Confirmation, GateContext, Tool
from assent.agents.tool_decorator import tool
from assent.wire.errors import ConfigurationError
from assent.wire.limits import REASON_LIMIT
from assent.wire.policy import Condition, Decision, PermissionPolicy, Rule
from assent.wire.protocol import Gate
from tests.unit.strategies import HOSTILE, TOOLS, deploy, gate_of, look, pay, transfer, written_arguments

HOUR = timedelta(hours=1)
Asked = Callable[[dict[str, Any]], object] | Callable[[dict[str, Any], GateContext], object]
Looked = Mapping[str, object] | Callable[[str], object] | Callable[[str, GateContext], object] | None
STRICTNESS = {"allow": 0, "ask": 1, "external": 1, "input": 1, "deny": 2, "invalid": 3}
DECISIONS: tuple[Decision, ...] = ("allow", "ask", "deny")
POLICIES = st.none() | st.builds(
    PermissionPolicy,
    rules=st.lists(
        st.builds(
            Rule,
            decision=st.sampled_from(DECISIONS),
            tool=st.sampled_from(["*", "pay", "l*", "deploy"]),
            arguments=st.none() | st.fixed_dictionaries({"amount": st.just(Condition(above=10))}),
            effect=st.none() | st.just("destructive"),
        ),
        max_size=3,
    ).map(tuple),
    default=st.sampled_from(DECISIONS),
)


def gated(confirmation: Asked) -> Tool:
    """A tool whose gate is this function."""

    @tool(requires_confirmation=cast("Confirmation", confirmation))
    def give(to: str = "nobody", amount: int = 5) -> str:
        """Give something."""
        return f"{to} {amount}"

    return give


def with_terms(**terms: Any) -> Tool:
    """A tool with these terms of `@approval`."""

    @approval(**terms)
    @tool(requires_confirmation=True)
    def give(to: str = "") -> str:
        """Give something."""
        return to

    return give


def raising(error: BaseException) -> Callable[..., bool]:
    """A function of one argument that raises."""

    def gate(_: object) -> bool:
        raise error

    return gate


def nobody(_: str) -> list[str]:
    """Groups that are all empty."""
    return []


class Unspeakable(Exception):  # noqa: N818
    """An error whose own words raise."""

    def __str__(self) -> str:
        """Raise."""
        raise RuntimeError


# -- functions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "verdict"), [(5, "allow"), (6, "ask")])
def test_a_function_of_the_arguments_says_whether_a_call_needs_a_person(amount: int, verdict: str) -> None:
    give = gated(lambda arguments: arguments["amount"] > 5)
    assert gate_of(give, raw=f'{{"amount": {amount}}}').verdict == verdict


def test_a_function_sees_the_defaults_and_python_values_and_cannot_change_what_runs() -> None:
    seen: list[dict[str, object]] = []

    def gate(arguments: dict[str, object]) -> bool:
        seen.append(dict(arguments))
        arguments.clear()
        return False

    assert gate_of(gated(gate), raw='{"to": "A"}').verdict == "allow"
    assert seen == [{"to": "A", "amount": 5}]


def test_a_function_of_two_gets_the_context_too() -> None:
    seen: list[GateContext] = []

    def gate(arguments: dict[str, object], context: GateContext) -> bool:
        seen.append(context)
        return context.requested_by == "alice"

    assert gate_of(gated(gate)).verdict == "ask"
    assert (seen[0].run_id, seen[0].call_id, seen[0].tool, seen[0].agent) == ("run-1", "c0", "give", "a")


@pytest.mark.parametrize("text", ["no amount", "\x1b[2J", "two\nlines", "x" * 5_000])
def test_a_function_that_raises_means_ask_and_its_error_is_shown_on_one_line(text: str) -> None:
    gate = gate_of(gated(raising(KeyError(text))))
    assert gate.verdict == "ask"
    assert (gate.reason or "").startswith("requires_confirmation raised KeyError: ")
    assert (gate.reason or "").isprintable()
    assert len(gate.reason or "") < 2 * REASON_LIMIT


def test_an_error_whose_own_words_raise_means_ask() -> None:
    assert gate_of(gated(raising(Unspeakable()))).reason == "requires_confirmation raised Unspeakable"


@pytest.mark.parametrize("answer", [None, 0, 1, "", "no", [], object()])
def test_an_answer_that_is_no_boolean_means_ask(answer: object) -> None:
    gate = gate_of(gated(lambda _: answer))
    assert gate.verdict == "ask"
    assert "which is no boolean" in (gate.reason or "")


def test_a_gate_that_could_not_be_worked_out_says_so_and_one_that_asks_does_not() -> None:
    broken = PermissionPolicy(rules=(Rule(decision="allow", arguments={"to": Condition(above=1)}),))
    assert gate_of(gated(raising(KeyError()))).failed
    assert gate_of(gated(lambda _: None)).failed
    assert gate_of(look, broken, raw='{"to": "A"}').failed
    assert gate_of(with_terms(approvers=["finance"]), groups=cast("Groups", raising(OSError()))).failed
    for gate in (gate_of(gated(lambda _: True)), gate_of(look, PermissionPolicy()), gate_of(pay)):
        assert (gate.verdict, gate.failed) == ("ask", False)


def test_an_allowing_function_does_not_loosen_a_policy_and_an_allowing_policy_not_a_function() -> None:
    never, always = gated(lambda _: False), gated(lambda _: True)
    assert gate_of(never, PermissionPolicy.of(ask=["*"])).verdict == "ask"
    assert gate_of(never, PermissionPolicy.of(deny=["*"])).verdict == "deny"
    assert gate_of(always, PermissionPolicy.of(allow=["*"])).verdict == "ask"


def test_functions_are_not_asked_where_only_data_is() -> None:
    assert gate_of(gated(raising(AssertionError())), functions=False).verdict == "allow"
    assert gate_of(pay, functions=False).verdict == "ask"
    give = with_terms(approvers=["finance"])
    assert gate_of(give, groups=cast("Groups", raising(AssertionError())), functions=False).approvers is None


def test_a_function_is_not_asked_about_a_denied_or_invalid_call() -> None:
    give = gated(raising(AssertionError()))
    assert gate_of(give, PermissionPolicy.of(deny=["*"])).verdict == "deny"
    assert gate_of(give, raw='{"amount": "much"}').verdict == "invalid"


# -- policies ---------------------------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(TOOLS)), POLICIES, POLICIES, written_arguments)
def test_the_policy_of_a_run_can_only_tighten(
    name: str, agents: PermissionPolicy | None, runs: PermissionPolicy | None, raw: str
) -> None:
    alone, both = gate_of(TOOLS[name], agents, raw=raw), gate_of(TOOLS[name], agents, runs, raw=raw)
    assert STRICTNESS[both.verdict] >= STRICTNESS[alone.verdict] or both.verdict == "deny"
    if both.verdict == "allow":
        assert alone.verdict == gate_of(TOOLS[name], runs, raw=raw).verdict == "allow"


@given(st.sampled_from(sorted(TOOLS)), POLICIES, POLICIES, st.text(max_size=20) | written_arguments)
def test_two_policies_are_asked_in_any_order(
    name: str, one: PermissionPolicy | None, other: PermissionPolicy | None, raw: str
) -> None:
    assert gate_of(TOOLS[name], one, other, raw=raw).verdict == gate_of(TOOLS[name], other, one, raw=raw).verdict


def test_rules_judge_the_defaults_of_what_the_model_left_out() -> None:
    policy = PermissionPolicy(rules=(Rule(decision="deny", arguments={"amount": Condition(equals=0)}),))
    assert gate_of(look, policy).verdict == "deny"
    assert gate_of(look, policy, raw='{"amount": 1}').verdict == "ask"


def test_rules_do_not_judge_what_a_person_has_yet_to_fill_in() -> None:
    policy = PermissionPolicy(rules=(Rule(decision="deny", arguments={"amount": Condition(at_least=0)}),))
    assert gate_of(transfer, policy).verdict == "input"


def test_the_reason_of_a_rule_is_told_to_the_model_or_shown_to_who_decides() -> None:
    policy = PermissionPolicy(
        rules=(Rule(decision="deny", tool="pay", reason="freeze"), Rule(decision="ask", reason="audit week"))
    )
    assert gate_of(pay, policy).reason == "the policy does not permit the tool 'pay': freeze"
    assert gate_of(look, policy).reason == "audit week"


def test_a_rule_that_cannot_be_evaluated_asks_and_says_so() -> None:
    policy = PermissionPolicy(rules=(Rule(decision="allow", arguments={"to": Condition(above=1)}),), default="allow")
    gate = gate_of(look, policy, raw='{"to": "A"}')
    assert gate.verdict == "ask"
    assert "rule 1 of the policy cannot be evaluated: argument 'to'" in (gate.reason or "")


def test_effects_are_judged_and_loosen_nothing_by_themselves() -> None:
    @tool(requires_confirmation=True, read_only=True)
    def peek() -> str:
        """Peek."""
        return ""

    policy = PermissionPolicy(rules=(Rule(decision="deny", effect="read_only"),), default="allow")
    assert gate_of(peek).verdict == "ask"
    assert gate_of(peek, policy).verdict == "deny"
    assert gate_of(pay, policy).verdict == "ask"


@pytest.mark.parametrize("raw", ["", "{", "[]", '{"to": 1}', '{"to": "a", "to": "b"}', '{"amount": 1e999}', *HOSTILE])
def test_whatever_a_model_writes_gets_a_gate(raw: str) -> None:
    for each in (look, pay, deploy, transfer):
        assert gate_of(each, PermissionPolicy(default="allow"), raw=raw).verdict in STRICTNESS


# -- terms ------------------------------------------------------------------------------------------------------------


def test_a_gate_carries_the_terms_of_its_tool() -> None:
    give = with_terms(
        approvals=2,
        approvers=["ann", "bob", "ann"],
        expires_after=4 * HOUR,
        remind_every=HOUR,
        escalate=[(3 * HOUR, ["ceo"]), (2 * HOUR, ["cfo"])],
        self_approval=True,
    )
    gate = gate_of(give)
    assert (gate.needed, gate.approvers, gate.approval_type) == (2, ["ann", "bob"], "required")
    assert (gate.expires_after, gate.remind_every, gate.self_approval) == (14_400.0, 3_600.0, True)
    assert [(step.after, step.approvers) for step in gate.escalations] == [(7_200.0, ["cfo"]), (10_800.0, ["ceo"])]


def test_what_is_the_default_is_left_out_of_histories() -> None:
    assert gate_of(look).model_dump(exclude_unset=True) == {"verdict": "allow", "at_most_once": True}
    gate = gate_of(pay)
    assert gate.model_dump(exclude_unset=True, exclude_none=True) == {
        "verdict": "ask",
        "at_most_once": True,
        "binding": gate.binding,
        "read_as": {"to": "", "amount": 0},
    }


def test_a_call_that_a_policy_asks_about_has_the_terms_of_its_tool() -> None:
    @approval(approvals=3)
    @tool(requires_confirmation=lambda _: False)
    def give() -> str:
        """Give."""
        return ""

    assert gate_of(give).needed == 1
    assert gate_of(give, PermissionPolicy.of(ask=["*"])).needed == 3


def test_a_gate_says_what_a_person_fills_in_and_what_is_checked() -> None:
    gate = gate_of(transfer)
    assert [(each.name, each.type, each.required) for each in gate.fields] == [("amount", {"type": "integer"}, True)]
    assert gate_of(deploy).checked
    assert not gate_of(pay).checked


def test_the_asker_may_answer_a_plain_question_and_no_more() -> None:
    assert gate_of(transfer).self_approval
    assert not gate_of(transfer, PermissionPolicy.of(ask=["*"])).self_approval
    assert not gate_of(approval(transfer)).self_approval
    assert not gate_of(pay).self_approval
    assert not gate_of(deploy).self_approval
    assert gate_of(with_terms(self_approval=True)).self_approval


def test_a_tool_that_ends_the_run_says_so_in_every_gate() -> None:
    @tool(stop_after_tool_call=True)
    def finish() -> str:
        """Finish."""
        return "end"

    assert gate_of(finish).stop
    assert gate_of(finish, PermissionPolicy.of(ask=["*"])).stop


# -- groups -----------------------------------------------------------------------------------------------------------


def approvers(names: Sequence[str], groups: Looked) -> tuple[list[str] | None, str]:
    """Who may approve, and what is said about it."""
    gate: Gate = gate_of(with_terms(approvers=list(names)), groups=cast("Groups | None", groups))
    return gate.approvers, gate.reason or ""


def test_without_groups_names_are_people() -> None:
    assert approvers(["finance", "ann"], None) == (["finance", "ann"], "")
    assert gate_of(pay).approvers is None


def test_a_mapping_resolves_groups_and_what_is_no_group_is_a_person() -> None:
    assert approvers(["finance", "ann"], {"finance": ["bob", "ann"]}) == (["bob", "ann"], "")


def test_a_function_resolves_groups_and_gets_the_context_if_it_takes_two() -> None:
    def of_two(name: str, context: GateContext) -> list[str] | None:
        return [f"{name}-{context.requested_by}"] if name == "finance" else None

    assert approvers(["finance", "ann"], lambda name: ["bob"] if name == "finance" else None) == (["bob", "ann"], "")
    assert approvers(["finance", "ann"], of_two) == (["finance-alice", "ann"], "")


@pytest.mark.parametrize("members", ["bob", [1], ["x" * 201], 5, {"bob": 1}, [None]])
def test_members_that_are_no_list_of_names_make_no_approvers(members: object) -> None:
    found, reason = approvers(["finance"], lambda _: members)
    assert found == []
    assert "the group 'finance' cannot be looked up: ValidationError" in reason
    assert "no one can approve this: finance has no members" in reason


def test_groups_that_raise_make_no_approvers_and_say_so_on_one_line() -> None:
    found, reason = approvers(["finance"], raising(OSError("the directory\nis down")))
    assert found == []
    assert "the group 'finance' cannot be looked up: OSError: the directory\\nis down" in reason
    found, reason = approvers(["finance", "ann"], {"finance": "bob"})
    assert found == ["ann"]
    assert "cannot be looked up" in reason


@pytest.mark.parametrize("groups", [{"finance": []}, {"finance": ()}, nobody])
def test_an_empty_group_is_nobody_and_never_anybody(groups: Looked) -> None:
    assert approvers(["finance"], groups) == ([], "no one can approve this: finance has no members")


def test_more_people_than_fit_are_cut_and_that_is_said() -> None:
    found, reason = approvers(["all"], {"all": [f"person {number}" for number in range(APPROVERS + 3)]})
    assert found == [f"person {number}" for number in range(APPROVERS)]
    assert reason == f"only the first {APPROVERS} of {APPROVERS + 3} approvers are taken"


def test_escalations_resolve_groups_too() -> None:
    give = with_terms(approvers=["ann"], escalate=[(HOUR, ["board"]), (2 * HOUR, ["empty"])])
    gate = gate_of(give, groups={"board": ["ceo", "cfo"], "empty": []})
    assert [step.approvers for step in gate.escalations] == [["ceo", "cfo"], []]
    assert gate.approvers == ["ann"]
    assert "no one can approve this: empty has no members" in (gate.reason or "")


def test_a_group_named_in_vain_does_not_change_a_call_that_needs_nobody() -> None:
    @approval(approvers=["finance"])
    @tool(requires_confirmation=lambda _: False)
    def give() -> str:
        """Give."""
        return ""

    assert gate_of(give, groups=cast("Groups", raising(AssertionError()))).model_dump(exclude_unset=True) == {
        "verdict": "allow",
        "at_most_once": True,
    }


# -- proof ------------------------------------------------------------------------------------------------------------


def test_the_strictest_proof_that_anything_asks_for_is_asked_for() -> None:
    service = Rule(decision="ask", tool="give", require_proof="service")
    person = Rule(decision="ask", tool="give", require_proof="person")
    plain, proven = with_terms(), with_terms(proof="service")
    assert gate_of(plain).proof is None
    assert gate_of(proven).proof == "service"
    assert gate_of(plain, PermissionPolicy(rules=(service,))).proof == "service"
    assert gate_of(plain, PermissionPolicy(rules=(service,)), PermissionPolicy(rules=(person,))).proof == "person"
    assert gate_of(proven, PermissionPolicy(rules=(person,))).proof == "person"
    # Also where another policy decides.
    assert gate_of(plain, PermissionPolicy(rules=(person,)), PermissionPolicy.of(ask=["*"])).proof == "person"


@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_rule_that_asks_nobody_can_ask_for_no_proof(decision: Decision) -> None:
    with pytest.raises(ConfigurationError, match="require_proof goes with the decision ask"):
        Rule(decision=decision, require_proof="person")
    with pytest.raises(ConfigurationError, match=r"rules\.0.*require_proof goes with the decision ask"):
        PermissionPolicy.from_toml(f'[[rules]]\ndecision = "{decision}"\nrequire_proof = "person"\n')
