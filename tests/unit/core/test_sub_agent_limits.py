"""What bounds an agent that works for others: the policies of all above it together, and what it may be asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from assent.agents.agent import Agent
from assent.agents.models import OpenAIResponses
from assent.core.events import CallModel, StartAgent
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.messages import read_request
from assent.wire.policy import DEPTH, Decision, PermissionPolicy, Rule, combined, strictest_judgement
from tests.unit.agents.test_gates_by_policy import decisions, rules
from tests.unit.strategies import TO_B, Play, turn_of

pytestmark = pytest.mark.slow

UNREADABLE = PermissionPolicy(
    rules=(Rule.model_validate({"decision": "deny", "tool": "pay", "arguments": {"amount": {"above": 10}}}),),
    default="allow",
)
"""Cannot be asked about an amount that is no number."""


def nested(depth: int) -> PermissionPolicy:
    """A policy in another, so many deep."""
    policy = PermissionPolicy.of(deny=["drop"], default="allow")
    for _ in range(depth):
        policy = PermissionPolicy(default="allow", rules=policy.rules, also=(policy,))
    return policy


def policy_of(found: list[Rule], default: Decision, also: list[PermissionPolicy]) -> PermissionPolicy:
    return PermissionPolicy(rules=tuple(found), default=default, also=tuple(also))


plain = st.builds(policy_of, rules, decisions, st.just([]))
policies = st.builds(policy_of, rules, decisions, st.lists(st.builds(policy_of, rules, decisions, st.lists(plain))))


@pytest.mark.parametrize("others", [(PermissionPolicy(default="ask"), UNREADABLE), (UNREADABLE, PermissionPolicy())])
def test_a_rule_that_cannot_be_asked_is_not_hidden_by_another_policy_that_asks(
    others: tuple[PermissionPolicy, PermissionPolicy],
) -> None:
    """What was remembered covers no call of which a policy above has no opinion, but an error."""
    both = combined(*others)
    assert both is not None
    for judged in (
        both.judge("pay", {"amount": "1000"}),
        strictest_judgement(*(each.judge("pay", {"amount": "1000"}) for each in others)),
    ):
        assert (judged.decision, judged.failed) == ("ask", True)
        assert "cannot be evaluated" in (judged.reason or "")


@given(policies, policies)
def test_policies_that_are_combined_stand_side_by_side_and_decide_as_they_did(
    one: PermissionPolicy, other: PermissionPolicy
) -> None:
    both = combined(one, other)
    assert both is not None
    assert not any(each.also for each in both.also), "however often agents ask each other, nothing gets deeper"
    decided = both.judge("t", {"a": 1})
    expected = strictest_judgement(one.judge("t", {"a": 1}), other.judge("t", {"a": 1}))
    assert (decided.decision, decided.failed) == (expected.decision, expected.failed)
    assert combined(both, one) == both


def test_policies_are_nested_only_so_deep() -> None:
    """What is nested deeper can be read and not written, or the other way around."""
    deepest = nested(DEPTH)
    assert PermissionPolicy.model_validate_json(deepest.model_dump_json()) == deepest
    with pytest.raises(ConfigurationError, match=r"nested in `also` more than 10 deep; list them side by side"):
        nested(DEPTH + 1)
    for depth in (DEPTH + 1, 60, 150, 400):
        policy: dict[str, JsonValue] = {}
        for _ in range(depth):
            policy = {"also": [policy]}
        with pytest.raises(MessageError, match="AgentRun: policy"):
            read_request(({"agent": "a", "input": "Go.", "policy": policy},))


@pytest.mark.parametrize(
    ("delegation", "told"),
    [
        ({"agent": "-b"}, "no agent can be named '-b'"),
        ({"agent": "b\n\x00"}, r"no agent can be named 'b\n\x00'"),
        ({"agent": "b", "task_queue": ""}, "no task queue can be named ''"),
        ({"agent": "b", "task_queue": "q" * 2_000}, "no task queue can be named 'qqq"),
        ({"agent": "b", "task_queue": "/_sys/q"}, "no task queue can be named '/_sys/q'"),
    ],
)
def test_what_the_server_would_take_no_run_of_is_refused(delegation: dict[str, JsonValue], told: str) -> None:
    """Somebody may have completed the activity by hand; the command would fail the workflow task for ever."""
    play = Play()
    play.start()
    play.model(turn_of(TO_B.model_copy(update={"agent": delegation["agent"]})))
    play.comes(0, {"delegation": {"input": "Go.", **delegation}})
    assert not any(isinstance(command, StartAgent) for command in play.commands)
    assert isinstance(play.commands[-1], CallModel)
    assert str(play.run.conversation.items[-1]["output"]).startswith(f"Not run: {told}")


@pytest.mark.parametrize("queue", ["", "q" * 201, "/_sys/q", "a b"])
def test_an_agent_is_served_on_what_can_be_a_task_queue(queue: str) -> None:
    agent = Agent(name="a", model=OpenAIResponses(id="m"))
    with pytest.raises(ConfigurationError, match="agent 'a': task_queue is"):
        agent.as_tool(task_queue=queue)
