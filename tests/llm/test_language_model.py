"""A real language model: it asks for a gated tool, waits, is approved and finishes. It is too weak to choose a tool."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from assent import Agent, Budget, OpenAIChat
from assent.testing import Environment, check_replay
from tests.support.tools import pay, ran

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


def model(url: str, tokens: int) -> OpenAIChat:
    """The model; asked for a call of `pay` first, and then for anything. Its server has no names of models."""
    return OpenAIChat(
        "smollm2",
        base_url=url,
        tool_choice="pay",
        max_output_tokens=tokens,
        max_tokens_name="max_tokens",
        temperature=0,
        timeout=timedelta(minutes=2),
    )


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_with_a_gated_tool_waits_is_approved_and_finishes(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    answers = OpenAIChat(**{**vars(model(language_model, 128)), "stream": stream})
    agent = Agent(name="payer", model=answers, tools=[pay], instructions="You pay people.", max_turns=4)
    async with assent_environment.serve(agent) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        state = await run.until_paused(timeout=timedelta(minutes=4))
        [asked] = state.active_requirements
        assert (asked.tool, ran(run.id)) == ("pay", [])
        arguments = json.loads(asked.arguments) if isinstance(asked.arguments, str) else asked.arguments
        await run.approve(asked, by="carol")
        result = await run.result()
        assert result.status == "completed", result
        assert ran(run.id)[0] == f"pay({arguments['to']}, {arguments['amount']})"
        assert (await run.verify()).ok
        await check_replay(await run.history())
