"""Budgets on the real server: asked for, decided, kept across workers and executions, and on record."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, AgentClient, Budget, ConfigurationError, RunFailedError, RunHandle
from assent.runtime.connection import connect
from assent.runtime.settings import Settings
from assent.testing import Environment, call, calls, hangs, says
from assent.wire.budget import Price
from assent.worker import serving
from tests.support import tools
from tests.support.visibility import soon

LOOKS = [calls(call("look_up", key=key)) for key in "abc"]


def looking(environment: Environment, budget: Budget, name: str = "ops") -> Agent:
    """An agent that looks three things up, and answers."""
    return Agent(name=name, model=environment.responses(*LOOKS, says("done")), tools=tools.ALL, budget=budget)


async def test_a_run_asks_for_more_and_goes_on_once_somebody_gives_it(assent_environment: Environment) -> None:
    agent = looking(assent_environment, Budget(max_model_calls=2), "thrifty")
    async with assent_environment.serve(agent) as client:
        run = await client.start("thrifty", "Go.", requested_by="alice")
        state = await run.until_paused()
        [requirement] = state.active_requirements
        assert (requirement.kind, requirement.tool_name) == ("budget", "extend_budget")
        assert requirement.tool_args == {"max_model_calls": {"limit": 2, "used": 2, "extend_by": 2}}
        waiting = await soon(lambda: client.pending(agent="thrifty"), bool)
        assert [each.kind for each in waiting] == ["budget"]
        assert (await run.approve(requirement, by="alice", check=False)).status == "refused"
        assert (await run.approve(requirement, by="bob", reason="worth it")).status == "approved"
        assert (await run.result()).content == "done"
    verification = await run.verify()
    assert verification.ok, verification
    [record] = await run.audit()
    assert (record.kind, record.status, record.resolved_by, record.reason) == ("budget", "approved", "bob", "worth it")
    assert (await run.state()).budget == Budget(max_model_calls=4)


@pytest.mark.parametrize("function", [False, True])
async def test_a_group_of_the_agents_may_extend_it(assent_environment: Environment, function: bool) -> None:
    members = {"finance": ["bob"]}

    def people_in(group: str) -> list[str] | None:
        return members.get(group)

    agent = Agent(
        name="thrifty",
        model=assent_environment.responses(*LOOKS, says("done")),
        tools=tools.ALL,
        budget=Budget(max_model_calls=2, approvers=("finance", "dan")),
        groups=people_in if function else members,
    )
    async with assent_environment.serve(agent) as client:
        run = await client.start("thrifty", "Go.", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        assert requirement.approvers == ["bob", "dan"]
        assert (await run.approve(requirement, by="carol", check=False)).status == "refused"
        assert (await run.approve(requirement, by="bob")).status == "approved"
        await run.result()


async def test_a_rejection_ends_the_run(assent_environment: Environment) -> None:
    async with assent_environment.serve(looking(assent_environment, Budget(max_tokens=1))) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.reject(requirement, by="bob", reason="enough")
        with pytest.raises(RunFailedError, match="gave no more: enough") as failed:
            await run.result()
        assert failed.value.kind == "BudgetExhausted"
    assert (await run.verify()).ok


async def test_cost_is_counted_by_the_workers_prices_and_ends_the_run_if_so_wished(
    assent_environment: Environment,
) -> None:
    agent = looking(assent_environment, Budget(max_cost=0.000001, on_reached="end"))
    prices = {agent.model.id: Price(input=1, output=2)}
    async with assent_environment.serve(agent, prices=prices) as client:
        run = await client.start("ops", "Go.")
        with pytest.raises(RunFailedError, match=r"the run has used its budget: cost 0\.\d+ of 0\.000001"):
            await run.result()
        usage = (await run.state()).usage
        assert usage.cost == pytest.approx((usage.input_tokens + 2 * usage.output_tokens) / 1e6)


async def test_a_worker_without_the_price_does_not_start(assent_environment: Environment) -> None:
    agent = looking(assent_environment, Budget(max_cost=1))
    with pytest.raises(ConfigurationError, match="there is no price of model"):
        async with assent_environment.serve(agent):
            pass


async def test_time_that_is_over_asks_while_a_call_waits(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="A", amount=1)), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL, budget=Budget(max_time=timedelta(seconds=0.5)))
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await soon(run.state, lambda state: len(state.active_requirements) == 2)
        payment, _ = state.active_requirements
        await run.approve(payment, by="bob")
        state = await soon(run.state, lambda state: state.is_paused)
        assert [(each.kind, each.execution) for each in state.requirements] == [
            ("confirmation", "executed"), ("budget", None),
        ]  # fmt: skip
        while not (await run.state()).is_finished:
            waiting = (await run.until_paused()).active_requirements
            for each in waiting:
                await run.approve(each, by="bob")
        assert (await run.result()).content == "done"
    assert (await run.verify()).ok


async def test_a_run_can_be_started_with_a_smaller_budget(assent_environment: Environment) -> None:
    async with assent_environment.serve(looking(assent_environment, Budget(max_model_calls=100))) as client:
        run = await client.start("ops", "Go.", budget=Budget(max_model_calls=1, on_reached="end"))
        with pytest.raises(RunFailedError, match="model calls 1 of 1"):
            await run.result()


async def test_a_conversation_has_one_budget_for_all_its_answers(assent_environment: Environment) -> None:
    answers = [says(f"Answer {number}.") for number in (1, 2, 3)]
    agent = Agent(name="ops", model=assent_environment.responses(*answers), budget=Budget(max_model_calls=2))
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", requested_by="alice", conversation=True)
        assert (await run.until_paused()).content == "Answer 1."
        assert (await run.send_and_wait("More.", by="alice")).content == "Answer 2."
        state = await run.send_and_wait("And more.", by="alice")
        [requirement] = state.active_requirements
        assert requirement.tool_args == {"max_model_calls": {"limit": 2, "used": 2, "extend_by": 2}}
        assert state.status == "waiting"
        await run.approve(requirement, by="bob")
        assert (await run.until_paused()).content == "Answer 3."
        await run.close(by="alice")
    assert (await run.verify()).ok


async def timers(run: RunHandle) -> int:
    events = (await run.history()).events
    return sum(each.event_type == EventType.EVENT_TYPE_TIMER_STARTED for each in events)


async def test_a_run_that_ends_in_the_moment_in_which_its_time_is_over_can_be_read(
    assent_environment: Environment,
) -> None:
    # The first answer takes seconds where it is the first of its process: it imports what asks a provider.
    model = assent_environment.responses(LOOKS[0], hangs(7), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL, budget=Budget(max_time=timedelta(seconds=6)))
    connection, settings = await connect(assent_environment.server.address), Settings(task_queue=f"{uuid.uuid4()}")
    run = assent_environment.client(settings.task_queue).get_run("both-at-once")
    async with serving(connection, [agent], settings, grace=timedelta(seconds=15)):
        await assent_environment.client(settings.task_queue).start("ops", "Go.", id=run.id)
        await soon(run.state, lambda state: state.turns == 2)
    # The answer came while the worker was on its way out, and the time was over: the next is told of both at once.
    async with serving(connection, [agent], settings):
        assert (await run.result()).content == "done"
    [record] = await run.audit()
    assert (record.kind, record.status) == ("budget", "cancelled")
    assert (await run.verify()).ok


async def test_time_that_is_over_costs_no_timer_besides(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="A", amount=1)), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL, budget=Budget(max_time=timedelta(seconds=0.3)))
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await soon(run.state, lambda state: len(state.active_requirements) == 2)
        await asyncio.sleep(0.1)
        assert await timers(run) == 1
        await run.cancel()


async def test_a_cost_that_no_worker_counts_fails_the_run(assent_environment: Environment) -> None:
    agent = Agent(name="ops", model=assent_environment.responses(*LOOKS, says("done")), tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.", budget=Budget(max_cost=1))
        with pytest.raises(RunFailedError, match="no price of its model") as failed:
            await run.result()
        assert failed.value.kind == "NoPrice"


async def again(environment: Environment, agent: Agent, before: AgentClient) -> None:
    """Another worker that remembers nothing, which ends as soon as the run does."""
    async with environment.serve(agent, task_queue=before.task_queue, prefix_cache=0, cached_runs=0) as client:
        run = client.get_run("thrifty-run")
        [requirement] = (await run.until_paused()).active_requirements
        # Not `approve`: the server may try the first worker for as long as that waits for an answer.
        await run.send("approve", {"id": requirement.id, "by": "bob"})
        assert (await run.result()).content == "done"


async def test_what_waits_for_its_budget_survives_its_worker_and_its_execution(assent_environment: Environment) -> None:
    agent = looking(assent_environment, Budget(max_model_calls=3))
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start("ops", "Go.", id="thrifty-run")
        before = (await run.until_paused()).active_requirements
    await again(assent_environment, agent, client)
    [record] = await run.audit()
    assert [record.id] == [each.id for each in before]
    verification = await run.verify()
    assert verification.ok, verification
    assert len((await run.audit()).run.executions) > 1
