"""What people write wrong in Python is refused in one line: where, what it is about, what is wrong, what to do."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol, cast

import pytest

from assent import (
    Agent,
    Budget,
    Condition,
    ConfigurationError,
    OpenAIChat,
    OpenAIResponses,
    PermissionPolicy,
    Rule,
    Webhook,
    approval,
    tool,
)
from assent.wire.budget import Price
from assent.wire.declarations import unknown_name

MODEL = OpenAIResponses("gpt-5-mini")


def look_up(key: str) -> str:
    """Look up a key."""
    return key


def wrong(make: Callable[..., object], *args: object, **options: object) -> str:
    """Return what is said of wrong options: one line that begins with this file and a line of it."""
    with pytest.raises(ConfigurationError) as caught:
        make(*args, **options)
    [line] = str(caught.value).splitlines()
    where, told = line.split(": ", 1)
    assert re.fullmatch(r"test_declarations\.py:\d+", where), line
    assert len(line) < 350
    return told


def agent(**options: object) -> Agent:
    """Make an agent of options of any type."""
    given: dict[str, Any] = {"name": "a", "model": MODEL, **options}
    return Agent(**given)


# -- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OpenAIResponses, OpenAIChat])
def test_the_id_of_a_model_needs_no_name(kind: type[OpenAIResponses | OpenAIChat]) -> None:
    assert kind("gpt-5-mini", timeout=timedelta(seconds=5)) == kind(id="gpt-5-mini", timeout=timedelta(seconds=5))
    assert pickle.loads(pickle.dumps(kind("m"))) == kind("m")  # noqa: S301 - of our own making


def test_text_for_a_model_is_answered_with_what_to_write() -> None:
    told = "agent 'a': model is 'gpt-5'; write OpenAIResponses('gpt-5'), or OpenAIChat('gpt-5', base_url=…)"
    assert wrong(agent, model="gpt-5") == told


@pytest.mark.parametrize("model", [..., None, 5, OpenAIResponses, {"id": "m"}, object()])
def test_anything_but_a_model_for_a_model_is_refused(model: object) -> None:
    told = wrong(agent, model=model)
    assert told.startswith("agent 'a': model is ")
    assert told.endswith('; write OpenAIResponses("gpt-5-mini"), or OpenAIChat("…", base_url=…)')


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"id": 5}, "id: it should be a valid string"),
        ({"id": ""}, "id: string should have at least 1 character"),
        ({"id": "m", "baseurl": "http://x"}, "there is no option 'baseurl'; did you mean base_url?"),
        ({"id": "m", "temperature": "hot"}, "temperature: it should be a valid number"),
        ({"id": "m", "timeout": -1}, "timeout: it should be greater than 0"),
        ({"id": "m", "reasoning_effort": "max"}, "reasoning_effort: it should be 'none', 'minimal'"),
        ({"id": "m", "base_url": "localhost:8000"}, "base_url: must begin with http:// or https:// and a host"),
    ],
)
def test_wrong_options_of_a_model_are_refused(options: Mapping[str, object], told: str) -> None:
    for kind in (OpenAIResponses, OpenAIChat):
        assert wrong(kind, **options).startswith(f"{kind.__name__}: {told}")


def test_a_model_without_an_id_is_refused() -> None:
    for kind in (OpenAIResponses, OpenAIChat):
        # Pydantic says it in one way or the other, by its version.
        assert wrong(kind).startswith((f"{kind.__name__}: missing a required argument: 'id'", f"{kind.__name__}: id: "))


def test_more_than_the_id_goes_by_name() -> None:
    assert wrong(OpenAIChat, "m", "http://x") == "OpenAIChat: too many positional arguments; give them by name"


@pytest.mark.parametrize("key", ["sk-hunter2", "a hunter2", "", "hunter2=x"])
def test_a_key_in_the_place_of_its_variable_is_refused_and_not_repeated(key: str) -> None:
    told = wrong(OpenAIResponses, "m", api_key_env=key)
    assert "must be the name of an environment variable of the worker, never the key itself" in told
    assert "hunter2" not in told


# -- agents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": None}, "agent None: name is None; give text"),
        ({"name": 3}, "agent 3: name is 3; give text"),
        ({"name": "a b"}, "agent 'a b': a name is up to 100 letters"),
        ({"instructions": ["be", "brief"]}, "agent 'a': instructions is ['be', 'brief']; give text"),
        ({"description": 3}, "agent 'a': description is 3; give text"),
        ({"tools": look_up}, "agent 'a': tools is <function look_up"),
        ({"tools": "look_up"}, "agent 'a': tools is 'look_up'; give a list of functions"),
        ({"tools": None}, "agent 'a': tools is None; give a list of functions"),
        ({"tools": {"type": "web_search"}}, "agent 'a': tools is {'type': 'web_search'}; give a list of functions"),
        ({"tools": (each for each in [look_up])}, "agent 'a': tools is <generator object"),
        ({"tools": ["look_up"]}, "agent 'a': tools has 'look_up'; give functions, or what @tool makes of them"),
        ({"tools": [agent(name="b")]}, "agent 'a': tools has the agent 'b'; give its as_tool(), or handoffs=[…]"),
        ({"handoffs": agent(name="b")}, "agent 'a': handoffs is Agent(name='b'"),
        ({"handoffs": "b"}, "agent 'a': handoffs is 'b'; give a list of agents, or of names of agents"),
        ({"handoffs": [3]}, "agent 'a': handoffs has 3; give agents, or names of agents"),
        ({"policy": "p.toml"}, "agent 'a': policy is 'p.toml'; give a PermissionPolicy, e.g. PermissionPolicy.from"),
        ({"policy": {}}, "agent 'a': policy is {}; give a PermissionPolicy"),
        ({"output_type": "Report"}, "agent 'a': output_type is 'Report'; give the type itself, not its name"),
        ({"output_type": {"type": "object"}}, "agent 'a': output_type is {'type': 'object'}, which has no JSON schema"),
        ({"output_type": print}, "agent 'a': output_type is <built-in function print>, which has no JSON schema; use"),
        ({"output_type": socket.socket}, "agent 'a': output_type is <class 'socket.socket'>, which has no JSON schema"),
        ({"max_turns": "3"}, "agent 'a': max_turns is '3'; give a whole number"),
        ({"max_turns": 2.5}, "agent 'a': max_turns is 2.5; give a whole number"),
        ({"max_turns": True}, "agent 'a': max_turns is True; give a whole number"),
        ({"max_turns": 0}, "agent 'a': max_turns is 0; it must be at least 1"),
        ({"max_tool_calls": "x"}, "agent 'a': max_tool_calls is 'x'; give a whole number"),
        ({"max_tool_calls": -1}, "agent 'a': max_tool_calls is -1; it must be 0 or more"),
        ({"max_context_tokens": "x"}, "agent 'a': max_context_tokens is 'x'; give a whole number"),
        ({"max_context_tokens": 5}, "agent 'a': max_context_tokens is 5; it must be at least"),
        ({"groups": ["ann"]}, "agent 'a': groups is ['ann']; give a mapping, or a function of a group's name"),
        ({"groups": {"finance": "ann"}}, "agent 'a': groups has 'finance': 'ann'; give lists of names, e.g."),
        ({"groups": {"finance": [3]}}, "agent 'a': groups has 'finance': [3]; give lists of names, e.g."),
        ({"budget": {"max_tokens": 1}}, "agent 'a': budget is {'max_tokens': 1}; give a Budget, e.g. Budget(max_tok"),
        ({"budget": 100}, "agent 'a': budget is 100; give a Budget, e.g. Budget(max_tokens=100_000)"),
        ({"budget": Budget()}, "agent 'a': its budget has no limit: give it one of max_tokens, "),
        ({"model_task_queue": 3}, "agent 'a': model_task_queue is 3; give text"),
        ({"model_task_queue": " "}, "agent 'a': model_task_queue is ' '; take up to 200 characters"),
        ({"tool": [look_up]}, "Agent: there is no option 'tool'; did you mean tools?"),
        ({"instruction": "Go."}, "Agent: there is no option 'instruction'; did you mean instructions?"),
        ({"zzz": 1}, "Agent: there is no option 'zzz'; there are: name, model, instructions, tools, policy, "),
    ],
)
def test_wrong_options_of_an_agent_are_refused(options: Mapping[str, object], told: str) -> None:
    assert wrong(agent, **options).startswith(told)


def test_an_agent_without_a_model_or_names_for_its_options_is_refused() -> None:
    assert wrong(Agent, name="a") == "Agent: missing a required argument: 'model'"
    assert wrong(Agent, "a", MODEL) == "Agent: too many positional arguments; give them by name"


def test_an_agent_is_copied_and_replaced_as_any_dataclass() -> None:
    made = agent(tools=[look_up])
    assert copy.copy(made) == made
    assert dataclasses.replace(made, name="b").name == "b"
    assert wrong(dataclasses.replace, made, max_turns=0) == "agent 'a': max_turns is 0; it must be at least 1"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": 3}, "agent 'a': 3 is not a valid tool name: a name is 1 to 64 ASCII letters"),
        ({"name": "call_model"}, "agent 'a': 'call_model' is not a valid tool name: "),
        ({"description": 3}, "agent 'a': description is 3; give text"),
        ({"requires_confirmation": "yes"}, "agent 'a': requires_confirmation is 'yes'; give a boolean, or a function"),
        ({"task_queue": 3}, "agent 'a': task_queue is 3; take up to 200 characters"),
    ],
)
def test_wrong_options_of_an_agent_as_a_tool_are_refused(options: Mapping[str, object], told: str) -> None:
    assert wrong(agent().as_tool, **options).startswith(told)


# -- tools and approvals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"require_confirmation": True}, "there is no option 'require_confirmation'; did you mean requires_confirmat"),
        ({"zzz": 1}, "there is no option 'zzz'; there are: name, description, requires_confirmation, "),
        ({"name": 3}, "a name is 1 to 64 ASCII letters"),
        ({"description": 3}, "description is 3; give text"),
        ({"idempotent": "no"}, "idempotent is 'no'; give True or False"),
        ({"external_execution": 1}, "external_execution is 1; give True or False"),
        ({"requires_confirmation": "no"}, "requires_confirmation is 'no'; give a boolean, or a function"),
        ({"user_input_fields": "key"}, "user_input_fields is 'key'; give a list of names of parameters"),
        ({"user_input_fields": 3}, "user_input_fields is 3; give a list of names of parameters"),
        ({"timeout": 30}, "timeout is 30; give a positive timedelta"),
        ({"retries": "3"}, "retries is '3'; give a whole number, 0 or more"),
        ({"task_queue": 3}, "task_queue is 3; give text"),
    ],
)
def test_wrong_options_of_a_tool_are_refused_where_its_function_is(options: dict[str, Any], told: str) -> None:
    line = look_up.__code__.co_firstlineno
    with pytest.raises(ConfigurationError) as caught:
        tool(**options)(look_up)
    [said] = str(caught.value).splitlines()
    name = options.get("name", "look_up")
    assert said.startswith(f"test_declarations.py:{line}: tool {name!r}: {told}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tpye": "audit"}, "there is no option 'tpye'; did you mean type?"),
        ({"approver": ["ann"]}, "there is no option 'approver'; did you mean approvers?"),
        ({"self_approval": "no"}, "self_approval is 'no'; give True or False"),
    ],
)
def test_wrong_options_of_an_approval_are_refused_where_its_function_is(options: dict[str, Any], told: str) -> None:
    for target in (look_up, tool(look_up)):
        assert wrong(approval(**options), target) == f"tool 'look_up': {told}"
    line = look_up.__code__.co_firstlineno
    with pytest.raises(ConfigurationError, match=rf"^test_declarations\.py:{line}: "):
        approval(**options)(look_up)


class Plain:
    """Nothing that JSON can carry."""


class Proto(Protocol):
    """What others are like."""

    def go(self) -> None:
        """Go."""


@pytest.mark.parametrize(
    "hint",
    [
        io.StringIO, threading.Thread, threading.Lock, Plain, list[Plain], dict[str, Plain], Plain | None, Proto, type,
        tuple[Plain, ...], Callable[[int], int], Iterator[int], ValueError, Literal[cast("Any", Plain)], 3,
    ],
)  # fmt: skip
def test_a_parameter_of_a_type_that_json_cannot_carry_is_refused_in_few_words(hint: object) -> None:
    def act(x: object) -> str:
        """Act."""
        return str(x)

    act.__annotations__["x"] = hint
    told = wrong(tool, act)
    assert told.startswith("tool 'act': 'x' is annotated ")
    assert ", which has no JSON schema" in told
    assert told.endswith("; use a type that JSON can carry, e.g. str, a pydantic model or a dataclass")
    assert "pydantic-core" not in told
    assert "arbitrary_types_allowed" not in told


# -- budgets, policies, webhooks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (Budget, {"max_tokens": -1}, "max_tokens is -1; it should be greater than or equal to 1"),
        (Budget, {"max_tokens": 0}, "max_tokens is 0; it should be greater than or equal to 1"),
        (Budget, {"max_tokens": "many"}, "max_tokens is 'many'; it should be a valid integer"),
        (Budget, {"max_cost": -0.5}, "max_cost is -0.5; it should be greater than 0"),
        (Budget, {"max_cost": float("nan")}, "max_cost is nan; it should be a finite number"),
        (Budget, {"max_token": 5, "max_cost": 1}, "there is no option 'max_token'; did you mean max_tokens?"),
        (Budget, {"max_tokens": 5, "on_reached": "stop"}, "on_reached is 'stop'; it should be 'ask' or 'end'"),
        (Budget, {"max_tokens": 5, "approvers": "ann"}, "approvers is 'ann'; it should be a valid tuple"),
        (Price, {"input": 1}, "missing a required argument: 'output'"),
        (Rule, {"decision": "maybe"}, "decision is 'maybe'; it should be 'allow', 'ask' or 'deny'"),
        (Rule, {"decision": "ask", "tools": "x"}, "there is no option 'tools'; did you mean tool?"),
        (Rule, {"decision": "ask", "arguments": {"a": {"abov": 1}}}, "arguments.a.abov is 1; extra inputs are not"),
        (Condition, {"above": "x"}, "above is 'x'; it should be a valid number"),
        (Condition, {}, "a condition is empty; give equals, one_of"),
        (PermissionPolicy, {"rules": ["x"]}, "rules.0 is 'x'; it should be a valid dictionary or instance of Rule"),
        (PermissionPolicy, {"rule": []}, "there is no option 'rule'; did you mean rules?"),
        (Webhook, {"url": "x", "secret_env": "S"}, "url: must begin with http:// or https:// and a host"),
        (Webhook, {"url": "http://a.test", "secret": "whsec_x"}, "there is no option 'secret'; did you mean secret_"),
    ],
)
def test_wrong_fields_are_refused(kind: type[object], options: Mapping[str, object], told: str) -> None:
    assert wrong(kind, **options).startswith(f"{kind.__name__}: {told}")


@pytest.mark.parametrize("decision", ["allow", "ask", "deny"])
def test_text_for_a_list_of_globs_is_refused_as_each_letter_would_be_one(decision: str) -> None:
    given: dict[str, Any] = {decision: "get_*"}
    assert wrong(PermissionPolicy.of, **given) == f"PermissionPolicy.of: {decision} is 'get_*'; give a list: ['get_*']"


def test_what_is_read_from_outside_still_says_all_that_is_wrong() -> None:
    budget = Budget.model_validate({"max_tokens": 5, "of another version": 1})
    assert budget == Budget(max_tokens=5)
    with pytest.raises(ConfigurationError, match=r"^policy: rules\.0\.decision: .*; rules\.1\.tool: "):
        PermissionPolicy.from_toml('[[rules]]\ndecision = "x"\n[[rules]]\ndecision = "ask"\ntool = 3')


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("approver", ["approvers", "type"], "did you mean approvers?"),
        ("xyz", ["approvers", "type"], "there are: approvers, type"),
    ],
)
def test_a_name_that_is_meant_is_proposed_where_one_is_close(name: str, known: Sequence[str], told: str) -> None:
    assert unknown_name(name, known) == told
