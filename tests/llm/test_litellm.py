"""LiteLLM's proxy between Assent and the scripted model: both APIs, streamed and whole."""

from __future__ import annotations

import uuid

import pytest
from pydantic import BaseModel

from assent import Agent, OpenAIChat, OpenAIResponses
from assent.testing import Environment, Step, call, calls, check_replay, says
from tests.llm.conftest import KEY
from tests.support.tools import look_up, pay, ran

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]
APIS = [OpenAIChat, OpenAIResponses]


class Receipt(BaseModel):
    """What an agent answers with."""

    paid: int


Api = type[OpenAIChat | OpenAIResponses]


def behind(running: Environment, proxy: str, api: Api, *steps: Step, stream: bool) -> OpenAIChat | OpenAIResponses:
    """A model that answers with *steps*, reached through the proxy."""
    name = f"llm-{uuid.uuid4().hex[:8]}"
    running.models.script(name, *steps)
    return api(f"scripted/{name}", base_url=proxy, api_key_env=KEY, stream=stream)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", APIS)
async def test_a_run_is_approved_and_finishes_through_the_proxy(
    assent_environment: Environment, proxy: str, api: Api, *, stream: bool
) -> None:
    wanted = calls(call("look_up", key="bob"), call("pay", to="bob", amount=500), text="I look and pay.")
    done: Step = lambda seen: says(f"done: {seen.last_output}")  # noqa: E731 - a step is a function
    model = behind(assent_environment, proxy, api, wanted, done, stream=stream)
    agent = Agent(name="payer", model=model, tools=[look_up, pay], instructions="You pay people.")
    async with assent_environment.serve(agent) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
        assert ran(run.id) == ["look_up(bob)"]
        await run.approve(asked, by="carol")
        result = await run.result()
        assert result.content == "done: paid 500 to bob"
        assert ran(run.id) == ["look_up(bob)", "pay(bob, 500)"]
        assert result.usage.input_tokens > 0
        assert (await run.verify()).ok
        await check_replay(await run.history())


@pytest.mark.parametrize("api", APIS)
async def test_a_typed_answer_comes_through_the_proxy(assent_environment: Environment, proxy: str, api: Api) -> None:
    model = behind(assent_environment, proxy, api, says('{"paid": 500}'), stream=True)
    agent = Agent(name="payer", model=model, output_type=Receipt)
    async with assent_environment.serve(agent) as client:
        run = await client.start("payer", "What did you pay?")
        assert (await run.result()).output == {"paid": 500}
