"""A real language model: it asks for a gated tool, waits, is approved and finishes. It is too weak to choose a tool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from assent import Agent, OpenAIChat, ToolContext, tool
from assent.testing import Environment, check_replay
from tests.support.tools import note, pay, ran

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


@tool(requires_confirmation=True, stop_after_tool_call=True)
async def settle(context: ToolContext, to: str, cents: int) -> str:
    """Pay what is owed to somebody, and end.

    Args:
        context: Hidden from the model.
        to: Who gets it.
        cents: How much.
    """
    note(context, f"settle({to}, {cents})")
    return f"settled {cents} with {to}"


def payer(url: str, use: Callable[..., object], *, tokens: int, stream: bool) -> Agent:
    """An agent whose model is made to call this tool first; the server has one model, whatever its name."""
    model = OpenAIChat(
        "smollm2",
        base_url=url,
        tool_choice=use.__name__,
        max_output_tokens=tokens,
        max_tokens_name="max_tokens",
        temperature=0,
        timeout=timedelta(minutes=2),
        stream=stream,
    )
    return Agent(name="payer", model=model, tools=[use], instructions="You pay people.", max_turns=4)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_gated_call_waits_is_approved_and_the_run_finishes(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    async with assent_environment.serve(payer(language_model, settle, tokens=128, stream=stream)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        async with asyncio.timeout(300):
            [asked] = (await run.until_paused()).active_requirements
            assert (asked.tool, ran(run.id)) == ("settle", [])
            await run.approve(asked, by="carol")
            result = await run.result()
        arguments = json.loads(asked.arguments)
        assert ran(run.id) == [f"settle({arguments['to']}, {arguments['cents']})"]
        assert result.content == f"settled {arguments['cents']} with {arguments['to']}"
        assert (await run.verify()).ok
        await check_replay(await run.history())


@pytest.mark.parametrize("tokens", [3, 128])
async def test_one_that_asks_again_and_again_or_breaks_off_runs_nothing_unasked_and_comes_to_an_end(
    assent_environment: Environment, language_model: str, tokens: int
) -> None:
    async with assent_environment.serve(payer(language_model, pay, tokens=tokens, stream=False)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        async with asyncio.timeout(300):
            while (state := await run.until_paused()).status == "waiting":
                for asked in state.active_requirements:
                    await run.reject(asked, by="carol", reason="We do not pay him.")
        # As many turns as it has; it never learns.
        assert state.status == "completed" or "MaxTurnsExceeded" in str(state.error), state
        assert (state.turns <= 4, ran(run.id)) == (True, [])
        assert (await run.verify()).ok
        await check_replay(await run.history())
