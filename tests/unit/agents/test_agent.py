"""Agents as tools of other agents, and many that work at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.agents.agent import Agent, with_their_agents
from assent.core.events import AgentStarted, Complete, Failure
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import RunResult
from tests.unit.core.test_sub_agents import MODEL, answered, starts
from tests.unit.strategies import NOW, RUN_ID, TO_B, playing

# -- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_as_a_tool_is_a_tool_as_any_other() -> None:
    made = Agent(name="my.writer", model=MODEL, description="Writes.").as_tool()
    assert (made.name, made.description, made.idempotent) == ("ask_my_writer", "Writes.", True)
    assert made.parameters["required"] == ["input"]
    named = Agent(name="w", model=MODEL).as_tool(name="draft", description="Drafts.", requires_confirmation=True)
    assert (named.name, named.description, named.requires_confirmation) == ("draft", "Drafts.", True)


def test_a_worker_serves_the_agents_that_its_agents_ask() -> None:
    low = Agent(name="low", model=MODEL)
    middle = Agent(name="middle", model=MODEL, tools=[low.as_tool()])
    elsewhere = Agent(name="elsewhere", model=MODEL)
    tools = [middle.as_tool(), elsewhere.as_tool(task_queue="theirs")]
    top = Agent(name="top", model=MODEL, tools=tools, handoffs=[low])
    assert [each.name for each in with_their_agents([top, low])] == ["top", "low", "middle"]


def test_agents_that_ask_have_a_version_of_their_own_and_others_keep_theirs() -> None:
    low = Agent(name="low", model=MODEL)
    asks = [Agent(name="a", model=MODEL, tools=[each]).version for each in (low.as_tool(), low.as_tool(task_queue="q"))]
    assert len({*asks, Agent(name="a", model=MODEL).version}) == 3
    assert Agent(name="a", model=MODEL, description="x").version == Agent(name="a", model=MODEL).version


def test_a_name_too_long_for_a_tool_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match=r"^[^\n]*a name is 1 to 64 ASCII letters[^\n]*$"):
        Agent(name="n" * 80, model=MODEL).as_tool()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tools": [Agent(name="low", model=MODEL)]}, r"tools has the agent 'low'; give its as_tool\(\), or handoffs"),
        (
            {"handoffs": [Agent(name="low", model=MODEL).as_tool()]},
            "handoffs has <Tool 'ask_low'.*; give agents",
        ),
        ({"handoffs": ["a"]}, "handoffs has the agent itself; leave it out"),
        ({"handoffs": ["b", "b"]}, "two tools are named 'transfer_to_b'"),
    ],
)
def test_what_others_take_for_a_tool_or_a_handoff_is_refused_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^test_agent.py:\d+: agent 'a': {told}[^\n]*$"):
        Agent(name="a", model=MODEL, **given)


def test_a_name_that_is_no_tools_is_refused_where_it_was_given() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"^test_agent.py:\d+: agent 'low': 'ask it' is not a valid tool name: .*as_tool\(name=…\)$",
    ):
        Agent(name="low", model=MODEL).as_tool(name="ask it")


# -- everything at once -----------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.sampled_from(["delegate", "output", "start", "answer", "fail", "wait"]), st.integers(0, 2))
)


@given(steps)
def test_a_turn_ends_once_every_agent_has_answered_and_none_is_asked_twice(found: list[tuple[str, int]]) -> None:
    play = playing(TO_B, TO_B, TO_B)
    for what, position in found:
        child = f"{RUN_ID}.b-{position}"
        match what:
            case "delegate":
                play.comes(position, {"delegation": {"agent": "b", "input": "go"}})
            case "output":
                play.tool(position, "done")
            case "start":
                play.tell(AgentStarted(play.at, f"c{position}", child))
            case "answer":
                answered(play, child, RunResult(content="x"))
            case "fail":
                answered(play, child, Failure("F", "f"))
            case _:
                play.wait(seconds=1)
        open_calls = [call for call in play.run.calls if call.answer is None]
        assert (len(play.asked) == 2) == (not open_calls)
    calls = [command.request.parents[-1].call_id for command in starts(play)]
    assert len(calls) == len(set(calls))
    assert not any(isinstance(command, Complete) for command in play.commands)
    assert play.at >= NOW + timedelta(seconds=len(found))
