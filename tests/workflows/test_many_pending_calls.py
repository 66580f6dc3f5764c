"""Many calls of one turn that wait: what each decision adds to the history does not depend on how many others wait."""

from __future__ import annotations

import asyncio
import json

from assent import Agent, AgentClient, Remember, RunHandle
from assent.testing import Environment, call, calls, says
from tests.support import tools


async def bytes_of(run: RunHandle) -> int:
    """The size of the history of a run that has one execution."""
    return sum(event.ByteSize() for event in (await run.history()).events)


async def decided(client: AgentClient, agent: str, number: int) -> int:
    """Approve each of so many pending calls by itself, and return the bytes of the run's history at its end."""
    run = await client.start(agent, "Go.")
    state = await run.until_paused()
    assert len(state.active_requirements) == number
    for requirement in state.active_requirements:
        await run.approve(requirement, by="bob")
    await run.result()
    assert len(tools.ran(run.id)) == number
    return await bytes_of(run)


async def test_the_history_grows_by_the_same_for_each_decision(assent_environment: Environment) -> None:
    def agent(name: str, number: int) -> Agent:
        asked = calls(*[call("pay", to=f"shop {index}", amount=index) for index in range(number)])
        return Agent(name=name, model=assent_environment.responses(asked, says("done")), tools=tools.ALL)

    async with assent_environment.serve(agent("few", 5), agent("many", 40)) as client:
        few, many = await asyncio.gather(decided(client, "few", 5), decided(client, "many", 40))
    assert many < 8 * few * 1.1


async def test_the_query_answers_with_little_where_the_decided_calls_are_large(
    assent_environment: Environment,
) -> None:
    letters = calls(*[call("pay", to="x" * 40_000, amount=1)] * 20)
    turns = [letters] * 3 + [calls(call("pay", to="bob", amount=7)), says("done")]
    agent = Agent(name="long", model=assent_environment.responses(*turns), tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("long", "Go.")
        remembered = Remember.model_validate({"uses": 60, "arguments": {"amount": 1}})
        while (waiting := (await run.until_paused()).active_requirements[0]).tool_args["amount"] == 1:
            await run.approve(waiting, by="bob", remember=remembered)
        answer = await client.temporal.get_workflow_handle(run.id).query("state")
        pending = [each["arguments"] for each in answer["requirements"] if each["status"] == "pending"]
        assert pending == [waiting.arguments]
        assert len(json.dumps(answer)) < 300_000
        assert len((await run.state()).model_dump_json()) > 900_000, "the history has all"
        await run.approve(waiting, by="bob")
        assert (await run.result()).content == "done"


async def test_a_decided_call_leaves_the_inbox_and_the_others_stay(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(*[call("pay", to=name, amount=1) for name in "abc"]), says("done"))
    async with assent_environment.serve(Agent(name="three", model=model, tools=tools.ALL)) as client:
        run = await client.start("three", "Go.")
        first, second, third = (await run.until_paused()).active_requirements
        await run.reject(second, by="bob", reason="no")
        memo = await (await run.description()).memo()
        assert [memo[name]["id"] for name in sorted(memo) if name.startswith("assent_pending_")] == [first.id, third.id]
        for requirement in (first, third):
            await run.approve(requirement, by="bob")
        await run.result()
        memo = await (await run.description()).memo()
        assert not [name for name in memo if name.startswith("assent_pending_")]
