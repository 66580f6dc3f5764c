"""Tools that time out or raise: how often they are started, what is said of them, and where their traceback is."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import pytest

from assent import Agent, RunContext, Tool, ToolContext, approval, tool
from assent.testing import Approved, Environment, Rejected, call, calls, drive
from tests.support.run_probes import content, told
from tests.support.tools import note, ran
from tests.support.visibility import soon

SECOND = timedelta(seconds=1)
OVERRUN = "it passed its timeout of 1 s: it may still be running, and may or may not have taken effect"


@tool(timeout=SECOND)
async def send_email(context: ToolContext, to: str) -> str:
    """Send an email, slowly."""
    note(context, "sent")
    await asyncio.sleep(5)
    return "sent"


@tool(timeout=SECOND, name="send_email")
def send_email_in_thread(context: ToolContext, to: str) -> str:
    """Send an email, slowly, in a thread."""
    note(context, "sent")
    time.sleep(3)
    return "sent"


def send_twice(context: ToolContext, to: str) -> str:
    """Send an email; the first attempt is slow."""
    note(context, "sent")
    if context.attempt == 1:
        time.sleep(3)
    return "sent"


@tool(timeout=SECOND, requires_confirmation=True)
def pay(context: ToolContext, to: str) -> str:
    """Pay, slowly, in a thread."""
    note(context, "paid")
    time.sleep(3)
    return "paid"


@pytest.mark.parametrize("given", [send_email, send_email_in_thread], ids=["async", "sync"])
async def test_a_tool_that_times_out_is_run_once(assent_environment: Environment, given: Tool) -> None:
    model = assent_environment.responses(calls(call("send_email", to="ann")), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[given])) as client:
        run = await client.start("ops", "Go.")
        assert await content(run) == f'["Error: {OVERRUN}"]'
        await asyncio.sleep(2)  # a second attempt would come after one second
        assert ran(run.id) == ["sent"]


@pytest.mark.parametrize(
    "given",
    [
        tool(timeout=SECOND, idempotent=True, name="send_email")(send_twice),
        tool(timeout=SECOND, retries=1, name="send_email")(send_twice),
    ],
    ids=["idempotent", "retries"],
)
async def test_a_tool_that_may_be_repeated_is_run_again_after_a_timeout(
    assent_environment: Environment, given: Tool
) -> None:
    model = assent_environment.responses(calls(call("send_email", to="ann")), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[given])) as client:
        run = await client.start("ops", "Go.")
        assert await content(run) == '["sent"]'
        assert ran(run.id) == ["sent", "sent"]


async def test_the_outcome_of_a_gated_tool_that_times_out_says_that_it_may_still_run(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(calls(call("pay", to="ann")), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[pay])) as client:
        run = await client.start("ops", "Go.")
        await run.approve((await run.until_paused()).active_requirements[0], by="bob")
        [outcome] = (await run.until_paused()).active_requirements
        assert (outcome.kind, outcome.note) == ("outcome", f"{OVERRUN}; to run it again may do it twice")
        await drive(run, lambda _: Rejected("unknown"))
        assert ran(run.id) == ["paid"]


@tool
def divide(by: int) -> float:
    """Divide, in a thread."""
    return 1 / by


@tool(name="divide", requires_confirmation=True)
async def divide_in_loop(by: int) -> float:
    """Divide, in the loop."""
    return 1 / by


@pytest.mark.parametrize("given", [divide, divide_in_loop], ids=["sync", "gated-async"])
async def test_the_traceback_of_a_tool_is_in_the_log_of_its_worker(
    assent_environment: Environment, given: Tool, caplog: pytest.LogCaptureFixture
) -> None:
    model = assent_environment.responses(calls(call("divide", by=0)), told)
    with caplog.at_level(logging.WARNING):
        async with assent_environment.serve(Agent(name="ops", model=model, tools=[given])) as client:
            run = await client.start("ops", "Go.")
            state = await drive(run, lambda _: Approved(), by="bob")
    assert state.content == '["Error: ZeroDivisionError: division by zero"]'
    [record] = [each for each in caplog.records if each.name == "assent.activities.run_tool"]
    assert "ZeroDivisionError" in record.getMessage()
    [call_id] = [each.call_id for each in state.requirements] or ["call_"]
    assert f"tool 'divide' of agent 'ops' failed: run {run.id}, call {call_id}" in record.getMessage()
    assert "return 1 / by" in caplog.text


def gate_raises(_: dict[str, object]) -> bool:
    """Fail."""
    raise LookupError("the ledger \ud83d is away")


def group_raises(_: str) -> list[str]:
    """Fail."""
    raise LookupError("the directory is away")


def instructions_raise(_: RunContext) -> str:
    """Fail."""
    raise LookupError("the handbook is away")


@approval(approvers=["finance"])
@tool(name="transfer", requires_confirmation=True)
def transfer_by_finance() -> str:
    """Transfer."""
    return "transferred"


@tool(name="transfer", requires_confirmation=gate_raises)
def transfer() -> str:
    """Transfer."""
    return "transferred"


@pytest.mark.parametrize("what", ["gate", "group", "instructions"])
async def test_the_traceback_of_a_users_function_is_in_the_log_of_its_worker(
    assent_environment: Environment, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = assent_environment.responses(calls(call("transfer")), told)
    agent = Agent(
        name="ops",
        model=model,
        tools=[transfer if what == "gate" else transfer_by_finance],
        groups=group_raises,
        instructions=instructions_raise if what == "instructions" else None,
    )
    raised = {"gate": "gate_raises", "group": "group_raises", "instructions": "instructions_raise"}[what]

    async def logged() -> list[str]:
        return [each.getMessage() for each in caplog.records if f"in {raised}" in each.getMessage()]

    with caplog.at_level(logging.WARNING):
        async with assent_environment.serve(agent) as client:
            run = await client.start("ops", "Go.")
            [message, *_] = await soon(logged)
            await run.cancel()
    assert "of agent 'ops' failed" in message
    assert f"run {run.id}" in message
    assert "LookupError: the " in message
    assert message.encode()
