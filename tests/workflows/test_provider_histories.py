"""What a model writes and its own provider refuses to read again: the run goes on, the record has the model's words."""

from __future__ import annotations

from assent import Agent
from assent.testing import Environment, Step, call, calls, says
from assent.wire.conversation import tool_calls
from tests.support import tools
from tests.support.run_probes import content, model_turns
from tests.unit.activities.providers.provider_calls import Api, both

PAY = call("pay", to="A", amount=1)


def agent_of(environment: Environment, api: Api, *steps: Step) -> Agent:
    model = environment.responses if api == "responses" else environment.chat
    return Agent(name="ops", model=model(*steps), tools=tools.ALL)


NAMES = ["multi_tool_use.parallel", "look<|channel|>x", "a" * 80, "заплатить", "", " pay", "pay\n", "functions.pay:0"]
BROKEN = [
    *('{"x": ', '{"key": "cut of', "[1]", '"text"', "null", "7", '{"x": NaN}', '{"x": 1}{"x": 1}', "[" * 5000, "", " "),
    *('{"key": "\\ud83d"}', '{"key": 1, "key": 2}', f'{{"key": {"9" * 5000}}}', "\ufeff{}", '{"key": "a\tb"}'),
]


@both
async def test_names_that_no_tool_may_have_cost_an_answer_and_not_the_run(
    assent_environment: Environment, api: Api
) -> None:
    agent = agent_of(assent_environment, api, calls(PAY, *(call(name, x=1) for name in NAMES)), says("done"))
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["pay(A, 1)"]
        [first, _] = await model_turns(run)
        assert [each.tool for each in tool_calls(first.items)] == ["pay", *NAMES]
    assert (await run.verify()).ok


@both
async def test_arguments_that_are_no_object_cost_an_answer_and_not_the_run(
    assent_environment: Environment, api: Api
) -> None:
    broken = calls(PAY, *(call("look_up", raw=raw) for raw in BROKEN))
    async with assent_environment.serve(agent_of(assent_environment, api, broken, says("done"))) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["pay(A, 1)"]
        [first, _] = await model_turns(run)
        assert [each.arguments for each in tool_calls(first.items)][1:] == BROKEN
    assert (await run.verify()).ok
