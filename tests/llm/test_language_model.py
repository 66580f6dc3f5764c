"""A real language model: it asks for a gated tool, waits, is approved and finishes. It is too weak to choose a tool."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from assent import Agent, OpenAIChat, RunHandle
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


async def decided(run: RunHandle, *, approve: bool) -> list[str]:
    """Approve or reject all that the run asks for until it ends; return the calls that were approved."""
    approved: list[str] = []
    async with asyncio.timeout(300):
        while (state := await run.until_paused()).status == "waiting":
            for asked in state.active_requirements:
                assert asked.tool == "pay"
                if approve:
                    await run.approve(asked, by="carol")
                    arguments = json.loads(asked.arguments)
                    approved.append(f"pay({arguments['to']}, {arguments['amount']})")
                else:
                    await run.reject(asked, by="carol", reason="We do not pay him.")
    # It may ask for as many turns as it has.
    assert state.status == "completed" or "max_turns" in str(state.error), state
    assert state.turns <= 4
    assert (await run.verify()).ok
    await check_replay(await run.history())
    return approved


@pytest.mark.parametrize("stream", [True, False])
async def test_what_it_asks_for_waits_runs_once_it_is_approved_and_the_run_ends(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    async with assent_environment.serve(payer(language_model, tokens=128, stream=stream)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        async with asyncio.timeout(300):
            assert (await run.until_paused()).status == "waiting"
        assert ran(run.id) == []
        approved = await decided(run, approve=True)
        assert len(approved) >= 1
        assert ran(run.id) == approved


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_is_cut_off_runs_nothing(
    assent_environment: Environment, language_model: str, *, stream: bool
) -> None:
    async with assent_environment.serve(payer(language_model, tokens=3, stream=stream)) as client:
        run = await client.start("payer", "Pay 500 cents to Bob.", requested_by="alice")
        await decided(run, approve=False)
        assert ran(run.id) == []
