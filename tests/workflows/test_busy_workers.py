"""A worker whose threads or event loop are held by tools: what never started runs later, and the log names the tool."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest

import assent.activities.activities
import assent.activities.run_tool
from assent import Agent, AgentClient, RunHandle, ToolContext, tool
from assent.client.progress import describe_progress, progress_of
from assent.core import message_handling
from assent.core.events import MessageReceived
from assent.core.run_state import Run, Step
from assent.runtime.connection import connect
from assent.testing import Environment, call, calls
from assent.views.facts import not_started
from tests.support.run_probes import content, executed, told, until
from tests.support.tools import note, ran
from tests.support.visibility import soon

_over = threading.Event()


@contextmanager
def held() -> Generator[None]:
    """Tools hang until the block ends."""
    _over.clear()
    try:
        yield
    finally:
        _over.set()


@tool
def hang() -> str:
    """Hang, in a thread."""
    _over.wait(60)
    return "over"


@tool(requires_confirmation=True, timeout=timedelta(seconds=6))
def pay(context: ToolContext) -> str:
    """Pay."""
    note(context, "paid")
    return "paid"


@tool(requires_confirmation=True, name="hang")
def hang_decided() -> str:
    """Hang, in a thread."""
    _over.wait(60)
    return "over"


async def test_tools_without_a_gate_do_not_hold_up_what_was_approved(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.activities, "THREADS", 4)
    hung = Agent(name="hung", model=assent_environment.responses(calls(*[call("hang")] * 6), told), tools=[hang])
    ops = Agent(name="ops", model=assent_environment.responses(calls(call("pay")), told), tools=[pay])
    async with assent_environment.serve(hung, ops) as client:
        with held():
            first = await client.start("hung", "Go.")
            await asyncio.sleep(1)
            run = await client.start("ops", "Go.")
            await run.approve((await run.until_paused()).active_requirements[0], by="bob")
            assert await content(run) == '["paid"]'
        await first.cancel()


async def not_started_in(run: RunHandle) -> list[str]:
    fold = await run.fold()
    return not_started(fold) if fold else []


async def test_an_approved_call_that_found_no_thread_is_run_later(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assent.activities.activities, "THREADS", 2)
    monkeypatch.setattr(assent.activities.run_tool, "START_WAIT", 1.0)
    model = assent_environment.responses(calls(call("hang"), call("hang")), told)
    hung = Agent(name="hung", model=model, tools=[hang_decided])
    ops = Agent(name="ops", model=assent_environment.responses(calls(call("pay")), told), tools=[pay])
    async with assent_environment.serve(hung, ops) as client:
        with held():
            first = await client.start("hung", "Go.")
            for requirement in (await first.until_paused()).active_requirements:
                await first.approve(requirement, by="bob")
            await asyncio.sleep(1)
            run = await client.start("ops", "Go.")
            await run.approve((await run.until_paused()).active_requirements[0], by="bob")
            await asyncio.sleep(7)  # longer than its timeout
            [waiting] = (await run.state()).requirements
            assert (waiting.status, waiting.execution) in {("approved", "running"), ("approved", None)}
            [shown] = await soon(lambda: not_started_in(run), bool)
            assert shown.startswith("pay has not started; it is tried again at ")
            assert ran(run.id) == []
        assert await content(run) == '["paid"]'
        assert ran(run.id) == ["paid"]
        await first.result()


@tool(requires_confirmation=True)
async def block() -> str:
    """Block the loop."""
    time.sleep(4)  # noqa: ASYNC251 - what must not be done
    return "blocked"


async def test_a_tool_that_blocks_the_loop_is_named_in_the_log_and_in_show(
    assent_environment: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    model = assent_environment.responses(calls(call("block"), call("hang")), told)
    agent = Agent(name="ops", model=model, tools=[block, hang])
    shown = list[str]()

    async def look(run_id: str) -> None:
        run = AgentClient(await connect(assent_environment.server.address)).get_run(run_id)
        while not shown or not shown[-1].startswith("over"):
            shown.extend(describe_progress(await progress_of(run)))
            await asyncio.sleep(0.2)
            shown.extend(["over"] * _over.is_set())

    with caplog.at_level(logging.WARNING), held():
        async with assent_environment.serve(agent) as client:
            run = await client.start("ops", "Go.")
            [waiting] = (await until(run, lambda state: bool(state.active_requirements))).active_requirements
            looking = asyncio.create_task(asyncio.to_thread(asyncio.run, look(run.id)))
            await run.approve(waiting, by="bob")
            await until(run, lambda state: executed(state, "block"))
            await asyncio.sleep(1)
            [line] = describe_progress(await progress_of(run))
            assert line.startswith("hang runs since ")
            _over.set()
            await looking
            await content(run)
    said = [each.getMessage() for each in caplog.records if each.name == "assent.activities.loop_watch"]
    assert len(said) == 2
    assert "the async tool 'block' blocks the event loop for more than 2 s" in said[0]
    assert "time.sleep(4)" in said[0]
    assert "the async tool 'block' blocked it for " in said[1]
    why = "; the async tool 'block' has blocked the event loop of its worker since "
    assert {each.split(" since ")[0] for each in shown if why in each} == {"block runs", "hang runs"}


async def test_a_run_survives_a_workflow_task_that_the_sdk_gives_up(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds, as on a very busy machine. The thread of the task still runs, and must not meet the next."""
    agent = Agent(name="ops", model=assent_environment.responses(calls(*[call("pay")] * 30), told), tools=[pay])
    decide, decided = message_handling.message_received, list[float]()

    def slow(run: Run, event: MessageReceived) -> Step:
        decided.append(time.monotonic())
        if len(decided) == 10:
            time.sleep(2.6)
        return decide(run, event)

    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        waiting = (await run.until_paused()).active_requirements
    for requirement in waiting:
        await run.send("approve", {"id": requirement.id, "by": "bob"})
    monkeypatch.setattr(message_handling, "message_received", slow)
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        assert await content(run) == str(["paid"] * 30).replace("'", '"')
    assert len(decided) > 30  # The task was done again.
    assert len(ran(run.id)) == 30
