"""Handing a conversation over to another agent, on the real server: the run stays, and who answers in it changes."""

from __future__ import annotations

import pytest
from temporalio.common import SearchAttributeKey

from assent import Agent, ConfigurationError, PermissionPolicy, Remember
from assent.agents.agent import with_their_agents
from assent.testing import Conversation, Environment, Reply, call, calls, says
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import live, replay

TO_BILLING = calls(call("transfer_to_billing"))
AGENT = SearchAttributeKey.for_keyword("AssentAgent")


def billing(running: Environment, *, policy: PermissionPolicy | None = None) -> Agent:
    """An agent that pays, and then repeats what it saw."""

    def ends(seen: Conversation) -> Reply:
        return says(f"{seen.instructions}: {' | '.join(seen.user)} | {seen.last_output}")

    # Its model sees the whole conversation, hence its script counts the answers of the agent before it.
    model = running.responses(says("never"), calls(call("pay", to="shop", amount=5)), ends)
    return Agent(name="billing", model=model, instructions="I bill", tools=[tools.pay], policy=policy)


async def test_the_conversation_goes_on_with_another_agent(assent_environment: Environment) -> None:
    to = billing(assent_environment)
    front = Agent(name="front", model=assent_environment.responses(TO_BILLING), handoffs=[to])
    async with assent_environment.serve(front) as client:
        run = await client.start("front", "Pay the shop.", requested_by="alice")
        state = await run.until_paused()
        assert (state.agent, [each.tool for each in state.active_requirements]) == ("billing", ["pay"])
        assert state == await live(client, run)
        assert (await run.description()).typed_search_attributes[AGENT] == "billing"
        page = await soon(
            lambda: client.pending(agent="billing"), lambda page: run.id in {each.run_id for each in page}
        )
        assert run.id in {each.run_id for each in page}
        await run.approve(state.active_requirements[0], by="bob")
        result = await run.result()
        assert result.content == "I bill: Pay the shop. | paid 5 to shop"
        assert await run.state() == await live(client, run)
        await replay(client, run)


async def test_a_conversation_stays_with_the_agent_that_took_it_over(assent_environment: Environment) -> None:
    def answers(seen: Conversation) -> Reply:
        return says(f"{seen.instructions} {len(seen.user)}")

    model = assent_environment.responses
    second = Agent(name="second", model=model(says("never"), answers, answers), instructions="two")
    first = Agent(name="first", model=model(calls(call("transfer_to_second"))), instructions="one", handoffs=[second])
    async with assent_environment.serve(first, continue_after=5) as client:
        run = await client.start("first", "Hello.", requested_by="alice", conversation=True)
        assert (await run.until_paused()).content == "two 1"
        assert (await run.send_and_wait("More.", by="alice")).content == "two 2"
        assert (await run.state()).agent == "second"
        await run.close(by="alice")
        await run.result()
        assert await replay(client, run) > 1


async def test_the_policy_of_the_agent_before_is_the_ceiling(assent_environment: Environment) -> None:
    to = billing(assent_environment, policy=PermissionPolicy.of(allow=["*"]))
    policy = PermissionPolicy.of(deny=["pay"], allow=["transfer_to_*"])
    front = Agent(name="front", model=assent_environment.responses(TO_BILLING), handoffs=[to], policy=policy)
    async with assent_environment.serve(front) as client:
        run = await client.start("front", "Pay.", requested_by="alice")
        assert "Denied: the policy does not permit the tool 'pay'" in (await run.result()).content
        assert tools.ran(run.id) == []


async def test_what_was_approved_of_the_agent_before_ends_with_it(assent_environment: Environment) -> None:
    pays = calls(call("pay", to="shop", amount=5))
    again = assent_environment.responses(says("never"), says("never"), pays, says("Paid."))
    to = Agent(name="billing", model=again, tools=[tools.pay])
    model = assent_environment.responses(pays, TO_BILLING)
    front = Agent(name="front", model=model, tools=[tools.pay], handoffs=[to])
    async with assent_environment.serve(front) as client:
        run = await client.start("front", "Pay.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob", remember=Remember(uses=9))
        state = await run.until_paused()
        [second] = state.active_requirements
        assert (second.tool, state.agent) == ("pay", "billing")
        assert [each.reason for each in state.grants] == ["the conversation was handed over to billing"]
        await run.reject(second, by="bob", reason="no")
        assert (await run.result()).content == "Paid."
        assert tools.ran(run.id) == ["pay(shop, 5)"]


async def test_calls_of_the_turn_that_hands_over_are_still_those_of_the_agent_before(
    assent_environment: Environment,
) -> None:
    """They wait as long as they take; the first of two handoffs is the one that counts."""
    one = Agent(name="one", model=assent_environment.responses(says("never"), says("One.")))
    two = Agent(name="two", model=assent_environment.responses(says("never"), says("Two.")))
    turn = calls(call("transfer_to_one"), call("transfer_to_two"), call("restart", service="web"))
    front = Agent(name="front", model=assent_environment.responses(turn), tools=[tools.restart], handoffs=[one, two])
    async with assent_environment.serve(front) as client:
        run = await client.start("front", "Go.", requested_by="alice")
        state = await run.until_paused()
        assert state.agent == "front"
        await run.approve(state.active_requirements[0], by="bob")
        assert (await run.result()).content in {"One.", "Two."}
        assert tools.ran(run.id) == ["restart(web)"]
        assert (await run.state()).agent in {"one", "two"}
        await replay(client, run)


async def test_agents_may_hand_over_to_each_other_by_name(assent_environment: Environment) -> None:
    model = assent_environment.responses
    pong = Agent(name="pong", model=model(says("-"), calls(call("transfer_to_ping"))), handoffs=["ping"])
    ping = Agent(name="ping", model=model(calls(call("transfer_to_pong")), says("-"), says("Back.")), handoffs=[pong])
    async with assent_environment.serve(ping) as client:
        run = await client.start("ping", "Go.", requested_by="alice")
        assert (await run.result()).content == "Back."
        assert (await run.state()).agent == "ping"


def test_a_handoff_to_nobody_is_refused_before_anything_is_served(assent_environment: Environment) -> None:
    lost = Agent(name="lost", model=assent_environment.responses(says("?")), handoffs=["nobody"])
    with pytest.raises(ConfigurationError, match=r"agent 'lost': handoffs names 'nobody'; serve that agent with it"):
        with_their_agents([lost])
