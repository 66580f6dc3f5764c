"""Agents that work for agents: the rules, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from assent.agents.agent import Agent
from assent.agents.models import OpenAIResponses
from assent.agents.tool_decorator import tool
from assent.core.continue_as_new import carry, restore
from assent.core.events import AgentAnswered, AgentStarted, Fail, Failure, StartAgent, Started
from assent.core.run_state import Run, state_of
from assent.core.sub_agents import MAX_DEPTH, child_run_id
from assent.core.tool_calls import read_outcome
from assent.wire.budget import Budget
from assent.wire.limits import ANSWER_LIMIT
from assent.wire.policy import Decision, PermissionPolicy, Rule, combined, strictest_judgement
from assent.wire.protocol import Execution, ParentRun, RunResult, Usage
from tests.unit.agents.test_gates_by_policy import decisions, rules
from tests.unit.strategies import ASK, NOW, RUN_ID, TO_B, Play, gate_of, playing, turn_of

MODEL: Final = OpenAIResponses(id="m")
POLICY: Final = PermissionPolicy.of(deny=["drop"])
USED: Final = Usage(requests=3, input_tokens=10, output_tokens=5, cost=0.5)


@tool
def look() -> str:
    """Look."""
    return "seen"


def policy_of(found: list[Rule], default: Decision) -> PermissionPolicy:
    """A policy of these rules."""
    return PermissionPolicy(rules=tuple(found), default=default)


policies = st.builds(policy_of, rules, decisions)


def asking(number: int = 1, **request: JsonValue) -> Play:
    """A run whose calls, so many, all ask the agent `b`."""
    play = Play()
    play.start(**request)
    play.model(turn_of(*[TO_B] * number))
    for position in range(number):
        play.comes(position, {"delegation": {"agent": "b", "input": f"do {position}", "policy": POLICY}})
    return play


def starts(play: Play) -> list[StartAgent]:
    """The runs that were begun."""
    return [command for command in play.commands if isinstance(command, StartAgent)]


def begun(play: Play, position: int = 0) -> str:
    """The id of the run that answers the call at *position*, once it has begun."""
    child = f"{RUN_ID}.b-{position}"
    play.tell(AgentStarted(play.at, f"c{position}", child))
    return child


def answered(play: Play, child: str, answer: RunResult | Failure, usage: Usage = USED) -> None:
    """The run below is over."""
    play.tell(AgentAnswered(play.at, child, answer, usage))


def test_a_call_of_an_agent_begins_a_run_of_it() -> None:
    play = asking(requested_by="alice", policy=PermissionPolicy.of(ask=["x"], default="allow").model_dump(mode="json"))
    (command,) = starts(play)
    assert command.request.model_dump(exclude_unset=True) == {
        "agent": "b",
        "input": "do 0",
        "requested_by": "alice",
        "policy": POLICY.model_dump(exclude_unset=True),
        "parents": [{"run_id": RUN_ID, "agent": "a", "tool": "pay", "call_id": "c0"}],
    }
    assert play.run.status == "running"
    assert not play.told, "nothing is answered yet"


def test_the_model_is_told_what_the_run_below_answered() -> None:
    play = asking()
    child = begun(play)
    assert [each.run_id for each in state_of(play.run).children] == [child]
    answered(play, child, RunResult(content="written"))
    assert play.told == ["written"]
    assert play.run.usage == USED
    assert len(play.asked) == 2
    assert not state_of(play.run).children


def test_a_long_answer_is_cut_and_says_so() -> None:
    play = asking()
    answered(play, begun(play), RunResult(content="é" * ANSWER_LIMIT))
    (told,) = play.told
    assert len(told.encode()) < ANSWER_LIMIT + 100
    assert told.endswith(f"of {2 * ANSWER_LIMIT} bytes]")


def test_a_run_below_that_gave_no_answer_is_told_as_an_error() -> None:
    play = asking()
    answered(play, begun(play), Failure("BadRequest", "no"))
    assert play.told == ["Error: agent 'b' gave no answer: BadRequest: no"]
    assert play.run.usage == USED, "what it used, it used"


@pytest.mark.parametrize("child", [f"{RUN_ID}.b-9", ""])
def test_an_answer_of_a_run_that_was_not_begun_changes_nothing(child: str) -> None:
    play = asking()
    begun(play)
    before = play.run
    answered(play, child, RunResult(content="forged"))
    assert play.run == before


def test_an_answer_counts_once() -> None:
    play = asking(2)
    first = begun(play)
    begun(play, 1)
    answered(play, first, RunResult(content="one"))
    before = play.run
    answered(play, first, RunResult(content="two"))
    assert play.run == before


def test_a_run_that_has_ended_takes_no_answer() -> None:
    play = asking()
    child = begun(play)
    play.cancel()
    before = play.run
    answered(play, child, RunResult(content="late"))
    assert play.run == before
    assert not state_of(play.run).children


def test_agents_work_for_each_other_only_so_deep() -> None:
    parents = [ParentRun(run_id=f"r{n}", agent="a", tool="t", call_id="c") for n in range(MAX_DEPTH - 1)]
    play = Play()
    request = {"agent": "a", "input": "go", "parents": [each.model_dump() for each in parents]}
    above = Execution(run_id=parents[-1].run_id, execution_id="e")
    play.tell(Started(play.at, RUN_ID, "r1", "r1", (request,), parent=above))
    play.model(turn_of(TO_B))
    play.comes(0, {"delegation": {"agent": "b", "input": "go"}})
    assert not starts(play)
    assert play.told == [
        f"Not run: agents may call each other {MAX_DEPTH} deep, and this one is the last; answer with what you have"
    ]


def test_an_agent_is_not_asked_nothing() -> None:
    play = playing(TO_B)
    play.comes(0, {"delegation": {"agent": "b", "input": " \n"}})
    assert play.told == ["Not run: the input is empty; say what the agent is to do"]


@pytest.mark.parametrize("parent", [None, Execution(run_id="another", execution_id="e")])
def test_a_claim_to_work_for_a_run_that_did_not_begin_it_fails(parent: Execution | None) -> None:
    play = Play()
    claim = {"run_id": "r9", "agent": "a", "tool": "t", "call_id": "c"}
    play.tell(Started(NOW, RUN_ID, "r1", "r1", ({"agent": "a", "input": "go", "parents": [claim]},), parent=parent))
    (last,) = play.commands
    assert isinstance(last, Fail)
    assert last.failure.message == "AgentRun: parents: run 'r9' did not start this one; leave parents out"


def test_a_run_that_another_workflow_began_need_not_say_so() -> None:
    play = Play()
    above = Execution(run_id="theirs", execution_id="e")
    play.tell(Started(NOW, RUN_ID, "r1", "r1", ({"agent": "a", "input": "go"},), parent=above))
    assert play.run.status == "running"
    assert play.run.parent is None


def test_what_is_left_of_the_budget_is_the_budget_below() -> None:
    play = Play()
    play.start(budget=Budget(max_model_calls=5, max_time=timedelta(seconds=60.0), max_tokens=1).model_dump())
    turn = turn_of(TO_B)
    play.model(turn.model_copy(update={"usage": Usage(requests=2, input_tokens=7)}))
    play.comes(0, {"delegation": {"agent": "b", "input": "go"}})
    (command,) = starts(play)
    assert command.request.budget == Budget(max_model_calls=3, max_time=timedelta(seconds=58.0), max_tokens=1)


def test_agents_asked_side_by_side_share_what_is_left_of_the_budget() -> None:
    budget = Budget(max_model_calls=10, max_tokens=1_000, max_time=timedelta(seconds=60))
    play = asking(3, budget=budget.model_dump(mode="json"))
    given = [each.request.budget for each in starts(play)]
    shares = [each for each in given if each is not None]
    assert len(shares) == 3
    assert sum(each.max_model_calls or 0 for each in shares) <= 10
    assert [each.max_tokens for each in shares] == [333, 333, 334]
    seconds = [each.max_time.total_seconds() for each in shares if each.max_time is not None]
    assert seconds == [58, 57, 56], "time is not shared: they run side by side"


def test_a_call_of_an_agent_that_is_approved_later_gets_what_the_others_left() -> None:
    play = Play()
    play.start(budget=Budget(max_tokens=1_000).model_dump(mode="json"))
    play.model(turn_of(TO_B, TO_B.model_copy(update={"verdict": "ask"})))
    play.comes(0, {"delegation": {"agent": "b", "input": "do 0"}})
    answered(play, begun(play), RunResult(content="done"), Usage(requests=1, input_tokens=100))
    play.approve()
    play.comes(1, {"delegation": {"agent": "b", "input": "do 1"}})
    given = [each.request.budget for each in starts(play)]
    assert given == [Budget(max_tokens=500), Budget(max_tokens=900)]


def test_a_long_id_stays_within_what_the_server_takes() -> None:
    child = child_run_id(Run(id="ü" * 500), "a" * 100, "n" * 32)
    assert len(child.encode()) < 1_000
    assert child_run_id(Run(id="short"), "b", "0123456789abcdef") == "short.b-0123456789ab"


def test_a_run_with_a_run_below_is_carried_whole() -> None:
    play = asking()
    begun(play)
    carried = carry(play.run).model_dump(mode="json")
    restored = restore((carried,))
    assert restored == play.run


@pytest.mark.parametrize(
    "result",
    [
        {"delegation": {"agent": "b"}},
        {"delegation": {"agent": "b", "input": "x"}, "output": "y"},
        {"handoff": {"agent": "b"}},
        {"output": "x", "handoff": {"agent": ""}},
        {"output": "x", "handoff": {"agent": "b" * 101}},
        {"delegation": {"agent": "b" * 101, "input": "x"}},
        {"output": "x", "handoff": {}},
    ],
)
def test_what_somebody_put_in_by_hand_begins_and_hands_over_nothing(result: object) -> None:
    outcome = read_outcome(result)
    assert (outcome.delegation, outcome.handoff) == (None, None)
    assert outcome.error is not None


@pytest.mark.parametrize(
    "outcome",
    [{"delegation": {"agent": "b", "input": "go"}}, {"output": "over", "handoff": {"agent": "b"}}],
    ids=["asked", "handed over"],
)
def test_what_was_approved_of_one_agent_is_not_done_by_another(outcome: dict[str, object]) -> None:
    """The tool leads elsewhere by now: what the gate said is what was decided about."""
    for agent, refused in (("c", True), ("b", False)):
        play = playing(ASK.model_copy(update={"agent": agent}))
        play.approve()
        play.comes(0, outcome)
        assert (play.requirement.execution == "refused") == refused
        assert (play.run.handoff is None and not starts(play)) or not refused
        if refused:
            assert play.told == ["Not run: the call was for agent 'c', and now leads to agent 'b'"]


def test_a_gate_names_the_agent_that_a_call_is_for() -> None:
    low = Agent(name="low", model=MODEL)
    asking_low, over = (
        low.as_tool(requires_confirmation=True),
        Agent(name="a", model=MODEL, handoffs=[low]).all_tools[0],
    )
    assert gate_of(asking_low, raw='{"input": "x"}').agent == gate_of(over).agent == "low"
    assert gate_of(look).agent is None


# -- handing over -----------------------------------------------------------------------------------------------------


def test_a_handoff_counts_from_the_next_turn() -> None:
    play = playing(TO_B, ASK)
    play.comes(0, {"output": "over", "handoff": {"agent": "b", "policy": POLICY}})
    assert play.run.call_context.agent == "a"
    play.approve()
    play.tool(1, "done")
    assert (play.run.call_context.agent, play.run.call_context.policy, play.run.handoff) == ("b", POLICY, None)
    assert [command.input.agent for command in play.ran] == ["a", "a"]
    last = play.asked[-1].input
    assert (last.agent, last.policy) == ("b", POLICY)
    assert play.told == ["over", "done"]
    assert state_of(play.run).agent == "b"


def test_the_first_of_two_handoffs_counts() -> None:
    play = playing(*(TO_B.model_copy(update={"agent": each}) for each in ("one", "two")))
    play.comes(1, {"output": "two", "handoff": {"agent": "two"}})
    play.comes(0, {"output": "one", "handoff": {"agent": "one"}})
    assert play.run.call_context.agent == "two"


def test_a_handoff_without_a_policy_ends_no_ceiling_that_there_was_none_of() -> None:
    play = playing(TO_B)
    play.comes(0, {"output": "over", "handoff": {"agent": "b"}})
    assert play.run.call_context.policy is None


def test_grants_end_with_a_handoff() -> None:
    play = playing(ASK, TO_B)
    play.approve(remember={"uses": 5})
    play.tool(0, "done")
    play.comes(1, {"output": "over", "handoff": {"agent": "b"}})
    (grant,) = play.run.grants
    assert not grant.is_active(play.at)
    assert (grant.revoked_by, grant.reason) == (None, "the conversation was handed over to b")


# -- policies ---------------------------------------------------------------------------------------------------------


@given(st.lists(policies, max_size=4))
def test_combined_policies_judge_as_the_strictest_of_them(given_policies: Sequence[PermissionPolicy]) -> None:
    both = combined(*given_policies)
    for name in ("pay", "look", "x"):
        alone = strictest_judgement(*(policy.judge(name) for policy in given_policies)).decision
        assert (both.judge(name).decision if both is not None else "allow") == alone


@given(policies, policies, policies)
def test_combining_again_adds_nothing(one: PermissionPolicy, two: PermissionPolicy, three: PermissionPolicy) -> None:
    """A conversation that is handed to and fro is not bounded by ever longer policies."""
    once = combined(combined(one, two), three)
    assert combined(once, one, combined(two, three), once) == once
    assert combined(combined(one, combined(two, three))) == once


@given(policies, policies)
def test_a_combined_policy_survives_its_way_through_json(one: PermissionPolicy, two: PermissionPolicy) -> None:
    both = combined(one, two)
    assert both is not None
    again = PermissionPolicy.model_validate_json(both.model_dump_json())
    assert (again, again.version) == (both, both.version)


def test_a_policy_keeps_its_version_when_it_combines_nothing() -> None:
    policy = PermissionPolicy(rules=(Rule(decision="deny", tool="x"),))
    assert combined(policy, None, policy) == policy
    assert policy.version == PermissionPolicy.model_validate(policy.model_dump() | {"also": []}).version
    assert combined(None) is None
