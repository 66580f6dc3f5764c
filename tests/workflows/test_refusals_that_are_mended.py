"""A provider that refuses what an operator mends (a key, a model, a bill) costs no run, however it says so."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import JsonValue

from assent import Agent
from assent.client.progress import progress_of
from assent.testing import Environment, call, calls, fails, says
from tests.support import tools
from tests.support.run_probes import content
from tests.support.visibility import soon

UNKNOWN: JsonValue = {"error": {"message": "Invalid model name passed in model=gpt-9", "code": "400"}}
NO_DATABASE: JsonValue = {"error": {"message": "No connected db.", "type": "no_db_connection", "code": "400"}}
UNHEARD: JsonValue = {"error": {"message": "The moon is in the wrong phase.", "code": "400"}}
NO_KEY: JsonValue = [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]


@pytest.mark.parametrize("api", ["responses", "chat"])
@pytest.mark.parametrize("body", [UNKNOWN, NO_DATABASE, NO_KEY, UNHEARD])
async def test_a_run_survives_until_it_is_mended(assent_environment: Environment, api: str, body: JsonValue) -> None:
    make = assent_environment.chat if api == "chat" else assent_environment.responses
    model = make(calls(call("pay", to="A", amount=1)), fails(400, body=body, retry_after=0.2, times=2), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [waiting] = (await run.until_paused()).active_requirements
        await run.approve(waiting, by="bob")
        assert await content(run) == "done"
        assert tools.ran(run.id) == ["pay(A, 1)"]
        usage = (await run.state()).usage
        assert (usage.requests, usage.failed) == (2, 2)
        assert (await run.verify()).ok


async def test_the_reason_is_shown_while_it_waits(assent_environment: Environment) -> None:
    model = assent_environment.chat(fails(400, body=UNKNOWN, times=None))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")

        async def failures() -> list[str]:
            return [each.failure for each in (await progress_of(run)).activities if each.failure]

        [failure] = await asyncio.wait_for(soon(failures, bool), 30)
        assert failure.startswith("ModelNotFound: Invalid model name passed in")
        await run.cancel()
