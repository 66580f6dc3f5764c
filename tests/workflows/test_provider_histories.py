"""What a model writes and its own provider refuses to read again: the run goes on, the record has the model's words."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import JsonValue

from assent import Agent, OpenAIChat
from assent.testing import Conversation, Environment, ModelServer, Reply, Step, call, calls, fails, says, thinks
from assent.testing._script import Failure
from assent.wire.conversation import tool_calls
from tests.support import tools
from tests.support.run_probes import content, model_turns, until
from tests.unit.activities.providers.provider_calls import Api, both

PAY = call("pay", to="A", amount=1)
Answerer = Callable[[web.Request], Awaitable[web.Response]]


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


MISTRAL = re.compile("[a-zA-Z0-9]{9}")


def like_mistral(seen: Conversation) -> Reply | Failure:
    """Refuse the ids of other providers, as Mistral's API does."""
    for call_id in seen.tool_outputs:
        if not MISTRAL.fullmatch(call_id):
            words = f"Tool call id was {call_id} but must be a-z, A-Z, 0-9, with a length of 9."
            return fails(400, body={"object": "error", "message": words, "code": "3280"}, times=None)
    return says("done") if len(seen.tool_outputs) > 1 else calls(call("look_up", key="a"))


def like_a_small_server(seen: Conversation) -> Reply | Failure:
    """Refuse an id that it made itself, as servers with Mistral's template do."""
    if any(len(call_id) != 9 for call_id in seen.tool_outputs):
        return fails(500, message="Tool call IDs should be alphanumeric strings with length 9!", times=None)
    return says("done") if len(seen.tool_outputs) > 1 else calls(call("look_up", key="a"))


LOOK = calls(call("look_up", key="a"))


@both
@pytest.mark.parametrize(
    ("identity", "later"),
    [("x" * 1_324, [LOOK, says("done")]), ("call_a", [like_mistral] * 2), ("call_a", [like_a_small_server] * 2)],
    ids=["too long", "mistral", "500"],
)
async def test_ids_of_calls_that_the_provider_does_not_take_cost_no_run(
    assent_environment: Environment, api: Api, identity: str, later: list[Step]
) -> None:
    agent = agent_of(assent_environment, api, calls(call("pay", to="A", amount=1), ids=[identity]), *later)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["pay(A, 1)", "look_up(a)"]
        [first, *_] = await model_turns(run)
        assert [each.call_id for each in tool_calls(first.items)] == [identity]
        assert (await run.verify()).ok
    # Refused once; of what is known by then, no id is sent as it was.
    asked = [each for each in assent_environment.models.requests if each.model == agent.model.id]
    assert sum(identity in json.dumps(each.body) for each in asked) == 1


async def test_another_model_reads_no_reasoning_of_the_one_before(assent_environment: Environment) -> None:
    first = assent_environment.responses(thinks("Hm."), calls(PAY), says("never"))
    second = assent_environment.responses(says("never"), thinks(), calls(call("look_up", key="a")), says("done"))
    other = assent_environment.responses(thinks(), calls(call("look_up", key="b")), says("other"))
    async with assent_environment.serve(Agent(name="ops", model=first, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    agents = [Agent(name="ops", model=second, tools=tools.ALL), Agent(name="other", model=other, tools=tools.ALL)]
    async with assent_environment.serve(*agents, task_queue=client.task_queue) as client:
        await run.approve(requirement, by="bob")
        assert await content(run) == "done"
        assert await content(await client.start("other", "Go.")) == "other"
    assert tools.ran(run.id) == ["pay(A, 1)", "look_up(a)"]
    asked = [each.body for each in assent_environment.models.requests if each.model == second.id]
    # Refused once, asked again, and known from then on; its own reasoning it gets back.
    assert [reasoning_in(body) for body in asked] == [1, 0, 1]
    assert all("include" in body for body in asked)
    assert (await run.verify()).ok


def reasoning_in(body: dict[str, JsonValue]) -> int:
    given = body["input"]
    assert isinstance(given, list)
    return sum(isinstance(item, dict) and item.get("type") == "reasoning" for item in given)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_a_provider_wants_back_it_gets_back_after_an_approval(
    assent_environment: Environment, *, stream: bool
) -> None:
    look = calls(call("look_up", key="a"))
    scripted = assent_environment.chat(thinks(sealed=True), calls(PAY), thinks(sealed=True), look, says("done"))
    agent = Agent(name="ops", model=replace(scripted, stream=stream), tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    async with assent_environment.serve(agent, task_queue=client.task_queue, prefix_cache=0):
        await run.approve(requirement, by="bob")
        assert await content(run) == "done"
    assert len([each for each in assent_environment.models.requests if each.model == scripted.id]) == 3
    assert (await run.verify()).ok


async def test_another_provider_gets_nothing_that_is_not_its_own(assent_environment: Environment) -> None:
    async with ModelServer() as elsewhere:
        first = assent_environment.chat(thinks(sealed=True), calls(PAY), says("never"))
        agent = Agent(name="ops", model=first, tools=tools.ALL)
        async with assent_environment.serve(agent) as client:
            run = await client.start("ops", "Go.")
            [requirement] = (await run.until_paused()).active_requirements
        elsewhere.script("plain", lambda _: says("done"))
        moved = replace(agent, model=OpenAIChat("plain", base_url=elsewhere.url))
        async with assent_environment.serve(moved, task_queue=client.task_queue):
            await run.approve(requirement, by="bob")
            await until(run, lambda _: bool(elsewhere.requests))
            await run.cancel()  # This provider refuses the history; it would be asked again once a minute.
    sent = json.dumps([each.body for each in elsewhere.requests])
    assert elsewhere.requests
    assert "sealed" not in sent
    assert "opaque" not in sent


async def take_over(environment: Environment, model: OpenAIChat, answer: Answerer) -> None:
    """Have another *model*, for which a server gives each *answer*, take over a run while its gated call waits."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    before = Agent(name="ops", model=environment.chat(calls(PAY)), tools=tools.ALL)
    async with environment.serve(before) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    async with TestServer(app) as server:
        after = replace(before, model=replace(model, base_url=str(server.make_url("/v1"))))
        async with environment.serve(after, task_queue=client.task_queue):
            await run.approve(requirement, by="bob")
            assert await content(run) == "done"
            assert tools.ran(run.id) == ["pay(A, 1)", "look_up(a)"]
            assert (await run.verify()).ok


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_wants_reasoning_of_every_message_gets_some_where_none_was_given(
    assent_environment: Environment, *, stream: bool
) -> None:
    """DeepSeek's thinking mode refuses messages of other models, and of its own turns without a thought."""
    wanted = "The `reasoning_content` in the thinking mode must be passed back to the API."

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body)
        given = [each.get("reasoning_content") for each in body["messages"] if each["role"] == "assistant"]
        if not all(given) or len(set(given)) < len(given):
            return web.json_response({"error": {"message": wanted, "type": "invalid_request_error"}}, status=400)
        call = {
            "id": f"c{len(given)}",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"key": "a"}'},
        }
        message = {"content": "done"} if len(given) > 1 else {"content": None, "tool_calls": [call]}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    asked: list[dict[str, JsonValue]] = []
    await take_over(assent_environment, OpenAIChat("deepseek", stream=stream), answer)
    assert len(asked) == 3, "refused once, and known from then on"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_model_that_wants_each_call_signed_takes_the_calls_of_another_model(
    assent_environment: Environment, *, stream: bool
) -> None:
    """Gemini refuses calls of other models, unless their signature says so (docker-agent#2155, pi#1829)."""
    skipped = "skip_thought_signature_validator"

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        turns = [each["tool_calls"] for each in body["messages"] if each.get("tool_calls")]
        signatures: list[str | None] = [
            each[0].get("extra_content", {}).get("google", {}).get("thought_signature") for each in turns
        ]
        asked.append(signatures)
        if signatures != [skipped, "mine"][: len(turns)]:
            message = "Function call is missing a thought_signature in functionCall parts. This is required."
            return web.json_response([{"error": {"code": 400, "message": message}}], status=400)
        own = {
            "id": "c1",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"key": "a"}'},
            "extra_content": {"google": {"thought_signature": "mine"}},
        }
        reply = {"content": "done"} if len(turns) > 1 else {"content": None, "tool_calls": [own]}
        return web.json_response({"choices": [{"message": reply, "finish_reason": "stop"}]})

    asked: list[list[str | None]] = []
    await take_over(assent_environment, OpenAIChat("gemini", stream=stream), answer)
    assert asked == [[None], [skipped], [skipped, "mine"]]
