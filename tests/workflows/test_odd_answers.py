"""Answers that are none, in whole runs: nothing of them runs, and the model is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
from pydantic import JsonValue
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.converter import DataConverter
from temporalio.worker import Worker

from assent import Agent, AgentClient, Budget, RunFailedError, ToolContext, tool
from assent.activities.call_model import EMPTY, ModelCalls
from assent.activities.model_attempts import ANSWERS_LIMIT, SAME_FAILURE_LIMIT
from assent.core.budget_rules import UNCOUNTED_CALLS
from assent.testing import Environment, Step, alters, call, calls, fails, says
from assent.worker import AssentPlugin
from assent.workflows import activity_options
from tests.support import tools
from tests.support.encrypting_codec import Encrypting
from tests.support.run_probes import content
from tests.support.visibility import soon
from tests.unit.activities.providers.provider_calls import Api, both


def broken_off(body: dict[str, JsonValue]) -> None:
    choices = body["choices"]
    assert isinstance(choices, list)
    assert isinstance(choices[0], dict)
    choices[0]["finish_reason"] = "malformed_function_call"


@pytest.mark.parametrize("times", [1, 2])
async def test_no_call_of_an_answer_that_was_broken_off_runs(assent_environment: Environment, times: int) -> None:
    looks = calls(call("look_up", key="a"))
    model = assent_environment.chat(alters(broken_off, times=times), looks, says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["look_up(a)"]
    assert len([each for each in assent_environment.models.requests if each.model == model.id]) == times + 2
    assert (await run.verify()).ok


@tool
def look_around(context: ToolContext, where: str = "everywhere") -> str:
    """Look around."""
    tools.note(context, f"look_around({where})")
    return "seen"


@both
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_a_call_whose_arguments_were_not_yet_written_does_not_run(
    assent_environment: Environment, api: Api, reason: str, *, stream: bool
) -> None:
    """The answer ended before them. As no arguments they would be the defaults."""

    def ended(body: dict[str, JsonValue]) -> None:
        if api == "chat":
            choices = body["choices"]
            assert isinstance(choices, list)
            assert isinstance(choices[0], dict)
            choices[0]["finish_reason"] = reason
        else:
            body |= {"status": "incomplete", "incomplete_details": {"reason": reason}}

    make = assent_environment.chat if api == "chat" else assent_environment.responses
    looks = calls(call("look_around", where="here"), call("look_around", raw=""))
    model = replace(
        make(alters(ended), looks, alters(ended), calls(call("look_around", raw="")), says("x")), stream=stream
    )
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[look_around])) as client:
        run = await client.start("ops", "Go.")
        expected = "cut off" if reason == "length" else "content filter"
        assert expected in await content(run)
        assert tools.ran(run.id) == ["look_around(here)"]
        assert (await run.verify()).ok


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("tool_ran", [False, True])
async def test_answers_that_cannot_be_used_are_few_and_counted(
    assent_environment: Environment, api: str, *, tool_ran: bool
) -> None:
    def unreadable(body: dict[str, JsonValue]) -> None:
        body["choices" if api == "chat" else "output"] = None

    steps: list[Step] = [calls(call("pay", to="A", amount=1))] if tool_ran else []
    make = assent_environment.chat if api == "chat" else assent_environment.responses
    model = replace(make(*steps, alters(unreadable), says("never")), stream=False)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        for requirement in (await run.until_paused()).active_requirements if tool_ran else []:
            await run.approve(requirement, by="bob")
        with pytest.raises(RunFailedError, match="asked 5 times") as failed:
            await asyncio.wait_for(run.result(), 60)
        assert failed.value.kind == "UnreadableAnswer"
        state = await run.state()
    before = int(tool_ran)
    asked = [each for each in assent_environment.models.requests if each.model == model.id]
    assert len(asked) == ANSWERS_LIMIT + before
    assert state.usage.requests == ANSWERS_LIMIT + before
    assert state.usage.input_tokens > 0
    assert tools.ran(run.id) == ["pay(A, 1)"] * before
    verification = await run.verify()
    assert verification.ok, verification
    assert (await run.audit()).turns[-1].usage.requests == ANSWERS_LIMIT


def uncounted(body: dict[str, JsonValue]) -> None:
    del body["usage"]


@pytest.mark.parametrize("on_reached", ["ask", "end"])
async def test_a_budget_of_tokens_holds_where_the_provider_counts_none(
    assent_environment: Environment, on_reached: Literal["ask", "end"]
) -> None:
    looks = [calls(call("look_up", key=str(number))) for number in range(UNCOUNTED_CALLS + 3)]
    script = [each for look in looks for each in (alters(uncounted, times=None), look)]
    model = replace(assent_environment.chat(*script, says("never")), stream=False)
    budget = Budget(max_tokens=100_000, on_reached=on_reached)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL, budget=budget)) as client:
        run = await client.start("ops", "Go.")
        if on_reached == "ask":
            [waiting] = (await run.until_paused()).active_requirements
            assert await asked_of(assent_environment, model.id) == 1
            assert "tokens 0 of 100,000; its provider counts no tokens" in str(waiting.note)
            await run.approve(waiting, by="bob")
            [waiting] = (await run.until_paused()).active_requirements
            limit = 1 + UNCOUNTED_CALLS
            assert await asked_of(assent_environment, model.id) == limit
            assert waiting.tool_args == {
                "max_model_calls": {"limit": limit, "used": limit, "extend_by": UNCOUNTED_CALLS}
            }
            await run.reject(waiting, by="bob", reason="no more")
        with pytest.raises(RunFailedError, match="no more" if on_reached == "ask" else "counts no tokens") as failed:
            await run.result()
        assert failed.value.kind == "BudgetExhausted"
        assert (await run.state()).usage.requests == (1 + UNCOUNTED_CALLS if on_reached == "ask" else 1)
        assert (await run.verify()).ok


async def test_calls_count_where_the_provider_counts_no_tokens(assent_environment: Environment) -> None:
    script = [each for key in "ab" for each in (alters(uncounted), calls(call("look_up", key=key)))]
    model = replace(assent_environment.chat(*script, says("done")), stream=False)
    budget = Budget(max_tokens=100_000, max_model_calls=2)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL, budget=budget)) as client:
        run = await client.start("ops", "Go.")
        [waiting] = (await run.until_paused()).active_requirements
        assert waiting.tool_args == {"max_model_calls": {"limit": 2, "used": 2, "extend_by": 2}}
        await run.cancel()


async def test_a_failure_that_is_the_same_each_time_ends_the_run(assent_environment: Environment) -> None:
    model = assent_environment.chat(fails(500, message="Cannot.", retry_after=0.01, times=None))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        with pytest.raises(RunFailedError, match=f"Cannot. It came {SAME_FAILURE_LIMIT} times in a row") as failed:
            await asyncio.wait_for(run.result(), 90)
        assert failed.value.kind == "ProviderUnavailable"
        state = await run.state()
        assert f"{SAME_FAILURE_LIMIT} times in a row" in str(state.error)
        assert (state.usage.requests, state.usage.failed) == (0, SAME_FAILURE_LIMIT)
    assert await asked_of(assent_environment, model.id) == SAME_FAILURE_LIMIT
    assert (await run.verify()).ok


async def test_what_was_paid_before_an_answer_counts_with_it_also_on_another_worker(
    assent_environment: Environment,
) -> None:
    model = assent_environment.chat(alters(broken_off, times=3), says("done"))
    agent = Agent(name="ops", model=model, budget=Budget(max_model_calls=50))
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        await soon(lambda: asked_of(assent_environment, model.id), lambda found: found >= 2)
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        assert await content(run) == "done"
        assert (await run.state()).usage.requests == 4
    assert (await run.verify()).ok


class Choosy(Encrypting):
    """A codec that cannot encode the answer of the model."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if any(b"POISON" in payload.data and b'"items"' in payload.data for payload in payloads):
            message = "too many letters"
            raise ValueError(message)
        return await super().encode(payloads)


@pytest.mark.parametrize("stream", [True, False])
async def test_answers_that_the_codec_cannot_encode_are_few_and_counted(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    monkeypatch.setattr(activity_options, "_MODEL_RETRY", RetryPolicy(initial_interval=timedelta(milliseconds=600)))
    model = replace(assent_environment.chat(says("POISON")), stream=stream)
    converter = replace(DataConverter.default, payload_codec=Choosy())
    client = await Client.connect(assent_environment.server.address, data_converter=converter)
    queue = f"choosy-{stream}-{model.id}"
    async with Worker(client, task_queue=queue, plugins=[AssentPlugin([Agent(name="ops", model=model)])]):
        run = await AgentClient(client, task_queue=queue).start("ops", "Go.")
        with pytest.raises(RunFailedError, match="asked 5 times"):
            await asyncio.wait_for(run.result(), 60)
        assert (await run.state()).usage.requests == ANSWERS_LIMIT
    assert await asked_of(assent_environment, model.id) == ANSWERS_LIMIT


class Closed(Encrypting):
    """A codec whose key activities cannot have for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.closed, self.refused = True, 0

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if self.closed and activity.in_activity():
            self.refused += 1
            message = "the key cannot be had"
            raise ValueError(message)
        return await super().encode(payloads)


async def test_no_answer_is_paid_for_while_the_codec_encodes_nothing(assent_environment: Environment) -> None:
    model = assent_environment.chat(says("done"))
    codec = Closed()
    converter = replace(DataConverter.default, payload_codec=codec)
    temporal = await Client.connect(assent_environment.server.address, data_converter=converter)
    client = AgentClient(temporal, task_queue=f"closed-{model.id}")
    async with Worker(temporal, task_queue=client.task_queue, plugins=[AssentPlugin([Agent(name="ops", model=model)])]):
        run = await client.start("ops", "Go.")
        async with asyncio.timeout(60):
            while codec.refused < 2:  # noqa: ASYNC110 - the worker's attempts count it
                await asyncio.sleep(0.05)
        assert await asked_of(assent_environment, model.id) == 0
        codec.closed = False
        assert (await asyncio.wait_for(run.result(), 60)).content == "done"
    assert await asked_of(assent_environment, model.id) == 1


async def test_answers_that_a_fault_of_ours_loses_are_few_and_counted(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bounded(*_: object) -> None:
        message = "a fault"
        raise RuntimeError(message)

    monkeypatch.setattr(ModelCalls, "_bounded", bounded)
    monkeypatch.setattr(activity_options, "_MODEL_RETRY", RetryPolicy(initial_interval=timedelta(milliseconds=50)))
    model = assent_environment.chat(says("lost"))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        with pytest.raises(RunFailedError, match="RuntimeError: a fault"):
            await asyncio.wait_for(run.result(), 60)
        assert (await run.state()).usage.requests == ANSWERS_LIMIT
    assert await asked_of(assent_environment, model.id) == ANSWERS_LIMIT


async def asked_of(environment: Environment, model: str) -> int:
    return len([each for each in environment.models.requests if each.model == model])


def empties(api: str) -> list[Callable[[dict[str, JsonValue]], None]]:
    """Answers that say nothing, as servers give them."""

    def message(**fields: JsonValue) -> Callable[[dict[str, JsonValue]], None]:
        def change(body: dict[str, JsonValue]) -> None:
            entries = body["choices" if api == "chat" else "output"]
            assert isinstance(entries, list)
            assert isinstance(entries[0], dict)
            entries[0] |= {"message": fields} if api == "chat" else fields

        return change

    def nothing(body: dict[str, JsonValue]) -> None:
        body["output"] = []

    if api == "chat":
        return [message(content=None), message(content=""), message(), message(content=[]), message(content=" \u200b")]
    blank: JsonValue = [{"type": "output_text", "text": " "}]
    return [nothing, message(content=[]), message(content=blank), message(content=""), message(type="reasoning")]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_an_empty_answer_is_asked_for_again_once(assent_environment: Environment, api: str) -> None:
    make = assent_environment.chat if api == "chat" else assent_environment.responses
    agents: list[Agent] = []
    for shape, change in enumerate(empties(api)):
        for again in (False, True)[: 2 if shape == 0 else 1]:
            empty = alters(change)
            steps: list[Step] = [calls(call("pay", to="A", amount=1)), empty, says("x"), *([empty] if again else [])]
            model = replace(make(*steps, says("paid")), stream=False)
            agents.append(Agent(name=f"{'empty' if again else 'paid'}-{shape}", model=model, tools=tools.ALL))
    async with assent_environment.serve(*agents) as client:

        async def one(agent: Agent) -> None:
            run = await client.start(agent.name, "Go.")
            [requirement] = (await run.until_paused()).active_requirements
            await run.approve(requirement, by="bob")
            assert await content(run) == ("paid" if agent.name.startswith("paid") else EMPTY), agent.name
            state = await run.state()
            assert (state.turns, state.usage.requests, tools.ran(run.id)) == (3, 3, ["pay(A, 1)"])
            assert (await run.verify()).ok

        await asyncio.gather(*map(one, agents))
