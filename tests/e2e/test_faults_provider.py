"""The network to the provider is cut, refused, silent or in mid-answer: the run goes on once it is back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from assent import Agent, OpenAIChat, OpenAIResponses, RunHandle, ToolContext, tool
from assent.testing import Environment, ModelServer, call, calls, says
from tests.e2e.tcp_proxy import Line, proxy
from tests.support.run_probes import PATIENCE, calls_of, content

_STOP: dict[str, asyncio.Event] = {}
_ran: list[str] = []


@tool
async def tell(context: ToolContext, line: str) -> str:
    """Say that it ran, and end once the line is cut."""
    _ran.append(context.run_id)
    await _STOP[line].wait()
    return "told"


async def tried_again(run: RunHandle, failure: str) -> None:
    """Wait until the model call of a run has failed so, and is to be tried again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            pending = (await run.description()).raw_description.pending_activities
            if any(each.last_failure.application_failure_info.type == failure for each in pending):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("line", "failure"),
    [("refused", "ProviderUnavailable"), ("silent", "ProviderTimeout"), ("half", "ProviderUnavailable")],
)
async def test_a_run_goes_on_once_its_provider_can_be_reached_again(
    assent_environment: Environment, line: Line, failure: str
) -> None:
    """The line to the provider is cut during a tool: the model call is tried until it is back, the tool is not."""
    _STOP[line] = asyncio.Event()
    answer = "the words of an answer " * 20
    async with ModelServer() as models, proxy(int(models.url.split(":")[2].removesuffix("/v1"))) as way:
        url, way.half = f"http://127.0.0.1:{way.port}/v1", 600
        models.script("faulty", calls(call("tell", line=line)), says(answer))
        agents = [
            Agent(
                name="streamed",
                model=OpenAIResponses(id="faulty", base_url=url, timeout=timedelta(seconds=1)),
                tools=[tell],
            ),
            Agent(name="chat", model=OpenAIChat(id="faulty", base_url=url, timeout=timedelta(seconds=1)), tools=[tell]),
            Agent(
                name="whole",
                model=OpenAIChat(id="faulty", base_url=url, timeout=timedelta(seconds=1), stream=False),
                tools=[tell],
            ),
        ]
        async with assent_environment.serve(*agents) as client:
            runs = [await client.start(agent.name, "Go.", requested_by="alice") for agent in agents]
            async with asyncio.timeout(PATIENCE):
                while not {run.id for run in runs} <= set(_ran):  # noqa: ASYNC110 - the tools write it
                    await asyncio.sleep(0.02)
            await way.becomes(line)
            _STOP[line].set()
            await asyncio.gather(*(tried_again(run, failure) for run in runs))
            await way.becomes("open")
            assert [await content(run) for run in runs] == [answer] * len(runs)
        for run in runs:
            assert _ran.count(run.id) == 1
            assert len(calls_of(await run.history(), "tell")) == 1
            verification = await run.verify()
            assert verification.ok, verification
