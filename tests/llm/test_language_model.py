"""A real language model: it asks for a gated tool, waits, is approved and finishes. It is too weak to choose a tool."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from assent import Agent, OpenAIChat
from assent.testing import Environment, check_replay
from tests.support.tools import pay, ran

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


def payer(url: str, *, tokens: int, stream: bool) -> Agent:
    """An agent whose model is made to call `pay` first; the server has one model, whatever its name."""
    model = OpenAIChat(
        "smollm2",
        base_url=url,
        tool_choice="pay",
        max_output_tokens=tokens,
        max_tokens_name="max_tokens",
        temperature=0,
        timeout=timedelta(minutes=2),
        stream=stream,
    )
    return Agent(name="payer", model=model, tools=[pay], instructions="You pay people.", max_turns=4)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_run_with_a_gated_tool_waits_is_approved_and_finishes(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    async with assent_environment.serve(payer(language_model, tokens=128, stream=stream)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        async with asyncio.timeout(300):
            [asked] = (await run.until_paused()).active_requirements
            assert (asked.tool, ran(run.id)) == ("pay", [])
            assert (await run.approve(asked, by="carol")).status == "approved"
            state = await run.until_paused()
        assert state.status == "completed"
        arguments = json.loads(asked.arguments)
        assert ran(run.id) == [f"pay({arguments['to']}, {arguments['amount']})"]
        assert (await run.verify()).ok
        await check_replay(await run.history())


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_is_cut_off_runs_nothing_and_ends_the_run_in_time(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    async with assent_environment.serve(payer(language_model, tokens=3, stream=stream)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        async with asyncio.timeout(300):
            state = await run.until_paused()
        assert state.turns <= 4
        assert (state.active_requirements, ran(run.id)) == ([], [])
        assert state.status in {"completed", "failed"}
        assert (await run.verify()).ok
