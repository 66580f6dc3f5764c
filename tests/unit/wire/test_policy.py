"""Rules on arguments and effects, as data: every operator, what cannot be compared, and the file they come from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from assent.wire.errors import ConfigurationError
from assent.wire.policy import (
    Condition,
    Judgement,
    PermissionPolicy,
    Rule,
    conditions_hold,
    policy_version,
    strictest_judgement,
)
from tests.unit.strategies import HOSTILE, json_values, texts

OPERATORS: list[dict[str, JsonValue]] = [
    {"equals": None},
    {"equals": 1},
    {"one_of": [1, "a", None]},
    {"matches": "a*"},
    {"above": 1},
    {"at_least": 1.5},
    {"below": 2},
    {"at_most": -1},
    {"above": 0, "at_most": 9},
]
POLICY = """
default = "allow"

[[rules]]
decision = "ask"
tool = "pay"
arguments = { amount = { above = 1000 }, "order.env" = "production" }
reason = "a large sum"

[[rules]]
decision = "deny"
effect = "destructive"
"""

finite = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = json_values.filter(lambda value: "nan" not in repr(value) and "inf" not in repr(value))
operators = st.sampled_from(OPERATORS)
decisions = st.sampled_from(["allow", "ask", "deny"])
rules = st.lists(
    st.builds(
        Rule,
        decision=decisions,
        tool=st.sampled_from(["*", "pay", "p*"]),
        arguments=st.none() | st.dictionaries(st.sampled_from(["a", "b", "a.b"]), operators, min_size=1, max_size=2),
        effect=st.none() | st.sampled_from(["read_only", "destructive"]),
        reason=st.none() | texts.filter(bool),
    ),
    max_size=3,
)
policies = st.builds(PermissionPolicy, rules=rules.map(tuple), default=decisions)


def holds(condition: JsonValue, value: JsonValue) -> bool:
    """Whether the condition, as it is written, holds of the value."""
    return Condition.model_validate(condition).holds(value)


def problem(text: str) -> str:
    """The one line with which a policy's TOML is refused."""
    with pytest.raises(ConfigurationError) as caught:
        PermissionPolicy.from_toml(text, where="policy.toml")
    line = str(caught.value)
    assert line.startswith("policy.toml: ")
    assert line.isprintable()
    return line


# -- operators --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("production", "production", True),
        ("production", "Production", False),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        ([1, 2], [1, 2], True),
        ([1, 2], [2, 1], False),
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (0, False, False),
        (1, 1.0, True),
        ("1", 1, False),
        ({"equals": {"b": 1, "a": 2}}, {"a": 2, "b": 1}, True),
        ({"equals": {"a": True}}, {"a": 1}, False),
        ({"one_of": ["a", 1]}, 1, True),
        ({"one_of": ["a", 1]}, True, False),
        ({"one_of": []}, "a", False),
        ({"one_of": [None]}, None, True),
        ({"matches": "*@example.com"}, "ann@example.com", True),
        ({"matches": "*@example.com"}, "ann@example.com.evil", False),
        ({"matches": "A*"}, "ann", False),
        ({"matches": "a?c"}, "a\nc", True),
        ({"above": 1000}, 1000, False),
        ({"above": 1000}, 1000.01, True),
        ({"at_least": 1000}, 1000, True),
        ({"at_least": 1000}, 999, False),
        ({"below": 0}, -1, True),
        ({"below": 0}, 0, False),
        ({"at_most": 0}, 0, True),
        ({"at_most": 0}, 1, False),
        ({"above": 1, "below": 3}, 2, True),
        ({"above": 1, "below": 3}, 3, False),
        ({"above": 1, "one_of": [0, 5]}, 0, False),
        ({"above": 1, "one_of": [0, 5]}, 5, True),
        ({"at_most": 9007199254740992}, 9007199254740993, False),
    ],
)
def test_each_operator_says_what_it_says(condition: JsonValue, value: JsonValue, expected: bool) -> None:
    assert holds(condition, value) == expected


@pytest.mark.parametrize("operator", ["above", "at_least", "below", "at_most"])
@pytest.mark.parametrize("value", ["1000", None, True, [1], {"a": 1}])
def test_what_is_no_number_is_not_compared_with_one(operator: str, value: JsonValue) -> None:
    with pytest.raises(TypeError, match="compared with a number, but is not one"):
        holds({operator: 1}, value)


@pytest.mark.parametrize("value", [1, None, True, ["a"], {}])
def test_what_is_no_text_is_not_compared_with_a_glob(value: JsonValue) -> None:
    with pytest.raises(TypeError, match="compared with a glob, but is not text"):
        holds({"matches": "*"}, value)


@given(finite, finite)
def test_the_four_comparisons_are_those_of_numbers(bound: float, value: float) -> None:
    found = [holds({name: bound}, value) for name in ("above", "at_least", "below", "at_most")]
    rounded = float(bound)
    assert found == [value > rounded, value >= rounded, value < rounded, value <= rounded]


@given(values)
def test_every_json_value_equals_itself_and_is_one_of_itself(value: JsonValue) -> None:
    assert holds({"equals": value}, value)
    assert holds({"one_of": [value]}, value)


@pytest.mark.parametrize(
    "condition", [{}, {"equal": 1}, {"above": "x"}, {"above": float("nan")}, {"matches": 1}, {"one_of": "abc"}]
)
def test_a_condition_that_means_nothing_is_refused(condition: JsonValue) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate(condition)


@pytest.mark.parametrize("operator", ["one_of", "matches", "above", "at_least", "below", "at_most"])
def test_an_operator_without_a_value_is_no_condition_that_always_holds(operator: str) -> None:
    with pytest.raises(ValidationError):
        Condition.model_validate({operator: None})


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", True),
        ("order.amount", True),
        ("order.lines.first", True),
        ("dotted.other", True),
        ("order", False),
        ("order.", False),
        (".order", False),
        ("order.missing", False),
        ("missing", False),
        ("a.b", False),
        ("list.0", False),
        ("", False),
    ],
)
def test_a_dotted_name_leads_into_objects(name: str, expected: bool) -> None:
    arguments: dict[str, object] = {
        "a": 1,
        "order": {"amount": 1, "lines": {"first": 1}},
        "dotted.name": 1,
        "dotted": {"name": {"deep": 1}, "other": 1},
        "list": [1],
    }
    assert conditions_hold({name: Condition(equals=1)}, arguments) == expected


@pytest.mark.parametrize("name", ["dotted.name", "dotted.name.deep", "order.dotted.name"])
def test_a_key_with_a_dot_cannot_hide_what_a_condition_means(name: str) -> None:
    inside = {"dotted.name": 1, "dotted": {"name": 999_999}}
    with pytest.raises(TypeError, match="fits more than one value"):
        conditions_hold({name: Condition(above=1000)}, {**inside, "order": inside})


def test_all_conditions_must_hold_and_an_absent_argument_satisfies_none() -> None:
    both = {"a": Condition(above=1), "b": Condition(equals=None)}
    assert conditions_hold(both, {"a": 2, "b": None})
    assert not conditions_hold(both, {"a": 2})
    assert not conditions_hold(both, {"a": 0, "b": None})
    assert conditions_hold({}, {})


# -- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_on_arguments_has_no_opinion_without_them() -> None:
    rule = Rule(decision="deny", arguments={"a": Condition(equals=1)})
    assert not rule.matches("pay")
    assert rule.matches("pay", {"a": 1})


def test_a_rule_on_an_effect_takes_a_tool_that_declares_it() -> None:
    policy = PermissionPolicy(
        rules=(Rule(decision="allow", effect="read_only"), Rule(decision="deny", effect="destructive")), default="ask"
    )
    assert policy.judge("t", {}, {"read_only"}) == Judgement("allow")
    assert policy.judge("t", {}, {"destructive"}) == Judgement("deny")
    assert policy.judge("t", {}) == Judgement("ask")


def test_a_rule_on_the_context_is_about_that_of_the_run_and_about_no_argument() -> None:
    policy = PermissionPolicy.from_toml("""
        default = "allow"
        [[rules]]
        decision = "deny"
        context.tenant = "acme"
        context."order.cents".above = 5
    """)
    denied = {"tenant": "acme", "order": {"cents": 6}}
    assert policy.judge("t", {}, context=denied) == policy.judge("t", None, context=denied) == Judgement("deny")
    for context in (None, {}, {"tenant": "acme"}, {"tenant": "acme", "order": {"cents": 5}}):
        assert policy.judge("t", {"context": denied, **denied}, context=context) == Judgement("allow")
    unclear = policy.judge("t", {}, context={"tenant": "acme", "order": {"cents": "much"}})
    assert (unclear.decision, unclear.failed) == ("ask", True)
    assert "context 'order.cents': it is compared with a number" in str(unclear.reason)


def test_a_rule_that_cannot_be_evaluated_means_ask_and_says_which_and_why() -> None:
    policy = PermissionPolicy(
        rules=(Rule(decision="allow", tool="x"), Rule(decision="deny", arguments={"a": Condition(above=1)})),
        default="allow",
    )
    told = (
        "rule 2 of the policy cannot be evaluated: argument 'a': it is compared with a number, but is not one: 'much'"
    )
    assert policy.judge("pay", {"a": "much"}) == Judgement("ask", told, failed=True)


@given(policies, st.dictionaries(st.sampled_from(["a", "b"]), values), st.sets(st.sampled_from(["read_only"])))
def test_no_arguments_make_a_policy_raise(
    policy: PermissionPolicy, arguments: dict[str, JsonValue], effects: set[str]
) -> None:
    judged = policy.judge("pay", dict(arguments), effects)
    assert judged.decision in {policy.default, "ask", *(rule.decision for rule in policy.rules)}


@given(st.lists(st.builds(Judgement, decisions, st.none() | texts), max_size=4))
def test_the_strictest_of_several_judgements_holds_and_the_first_of_equals(judged: list[Judgement]) -> None:
    order = ("deny", "ask", "allow")
    expected = min(judged, key=lambda each: order.index(each.decision)) if judged else Judgement("allow")
    assert strictest_judgement(*judged) == expected


# -- files and versions -----------------------------------------------------------------------------------------------


def test_a_policy_is_read_from_toml(tmp_path: Path) -> None:
    policy = PermissionPolicy(
        rules=(
            Rule(
                decision="ask",
                tool="pay",
                arguments={"amount": Condition(above=1000), "order.env": Condition(equals="production")},
                reason="a large sum",
            ),
            Rule(decision="deny", effect="destructive"),
        ),
        default="allow",
    )
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    assert PermissionPolicy.from_toml(POLICY) == PermissionPolicy.from_file(file) == policy
    assert PermissionPolicy.from_toml(POLICY).version == policy.version
    assert PermissionPolicy.from_toml("") == PermissionPolicy()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rules = 1", "rules: Input should be"),
        ("rule = []", "rule: Extra inputs are not permitted"),
        ("default = 'maybe'", "default: Input should be 'allow', 'ask' or 'deny'"),
        ("[[rules]]\ntool = 'x'", "rules.0.decision: Field required"),
        ("[[rules]]\ndecision = 'ask'\ntool = ''", "rules.0.tool: "),
        ("[[rules]]\ndecision = 'ask'\narguments = {}", "rules.0.arguments: "),
        ("[[rules]]\ndecision = 'ask'\narguments = {a = {}}", "rules.0.arguments.a: Value error, a condition is empty"),
        ("[[rules]]\ndecision = 'ask'\narguments = {a = {over = 1}}", "rules.0.arguments.a.over: Extra inputs"),
        ("[[rules]]\ndecision = 'ask'\narguments = {a = {above = nan}}", "rules.0.arguments.a.above: "),
        ("[[rules]]\ndecision = 'ask'\neffect = 'big'", "rules.0.effect: Input should be"),
        ("not toml", "not TOML: "),
        ("a = 1\na = 2", "not TOML: "),
        ("[[rules]]\n" * 2, "rules.1.decision"),
    ],
)
def test_a_file_that_is_no_policy_yields_one_line_that_says_where(text: str, found: str) -> None:
    assert found in problem(text)


@given(st.text(max_size=40) | st.sampled_from(HOSTILE))
def test_any_text_is_a_policy_or_one_line(text: str) -> None:
    try:
        PermissionPolicy.from_toml(text)
    except ConfigurationError as error:
        assert str(error).isprintable()  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "why"), [(b"\xff\xfe", "'utf-8' codec can't decode [^\n]+"), (None, "No such file or directory")]
)
def test_a_file_that_cannot_be_read_yields_one_line(content: bytes | None, why: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"policy\.toml: the policy cannot be read: {why}$"):
        PermissionPolicy.from_file(file)


@given(policies)
def test_a_policy_survives_as_json_with_its_version(policy: PermissionPolicy) -> None:
    again = PermissionPolicy.model_validate_json(policy.model_dump_json())
    assert again == policy
    assert again.version == policy.version
    assert [rule.model_dump() for rule in again.rules] == [rule.model_dump() for rule in policy.rules]


def test_null_is_a_condition_and_stays_one() -> None:
    rule = Rule(decision="deny", arguments={"account": Condition(equals=None)})
    again = Rule.model_validate_json(rule.model_dump_json())
    assert again.model_dump()["arguments"] == {"account": {"equals": None}}
    assert again.matches("pay", {"account": None})
    assert not again.matches("pay", {"account": "1"})
    assert not again.matches("pay", {})


def test_what_a_rule_leaves_out_does_not_enter_its_version() -> None:
    # A version is stored with each turn: it stays as it is when rules learn to say more.
    rules: list[dict[str, JsonValue]] = [{"tool": "a", "decision": "allow"}, {"tool": "*", "decision": "ask"}]
    short = PermissionPolicy.model_validate({"rules": rules, "default": "deny"})
    assert (
        short.version
        == PermissionPolicy.of(allow=["a"], ask=["*"], default="deny")
        .model_copy(update={"rules": tuple(Rule.model_validate(rule) for rule in rules)})
        .version
    )
    assert Rule(decision="ask").model_dump() == {"decision": "ask"}
    assert PermissionPolicy(rules=(Rule(decision="ask"),)).version == PermissionPolicy.of(ask=["*"]).version


def test_two_policies_have_a_version_together_and_one_has_its_own() -> None:
    one, other = PermissionPolicy.of(ask=["a"]), PermissionPolicy.of(ask=["b"])
    assert policy_version(one, None) == policy_version(None, one) == one.version
    assert len({one.version, other.version, policy_version(one, other), policy_version(other, one)}) == 4
