"""Agents that a real worker process serves. What their tools did is written to the file that `LEDGER` names."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue

from assent import Agent, OpenAIResponses, approval, tool
from assent.workflows import activity_options


def note(line: str) -> None:
    """Write down that a tool began or ended; one write, so that lines of several processes do not mix."""
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{line}\n")


@approval
@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    note(f"paid {to}")
    return f"paid {to}"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=timedelta(seconds=1))
async def pay_slowly(to: str) -> str:
    """Pay somebody, slowly, unless there is a file `quick` beside the ledger."""
    note(f"begins to pay {to}")
    if not Path(os.environ["LEDGER"]).with_name("quick").exists():
        await asyncio.sleep(60)
    note(f"paid {to}")
    return f"paid {to}"


@tool(heartbeat_timeout=timedelta(seconds=1), idempotent=True)
async def count() -> str:
    """Count for a second."""
    note("counts")
    await asyncio.sleep(1)
    note("counted")
    return "counted"


def gate(arguments: dict[str, JsonValue]) -> bool:
    """A gate in which two workers die, as for want of memory."""
    note(f"gate of {arguments}")
    if Path(os.environ["LEDGER"]).read_text().count("gate") <= 2:
        os._exit(1)
    return False


@tool(requires_confirmation=gate)
def withdraw(amount: int) -> str:
    """Withdraw money."""
    return f"withdrew {amount}"


@tool(heartbeat_timeout=timedelta(seconds=1))
async def send_email() -> str:
    """Send an email, slowly."""
    note("sends")
    await asyncio.sleep(60)
    return "sent"


payer = Agent(name="payer", model=OpenAIResponses(id="e2e"), tools=[pay, pay_slowly, count, send_email])
banker = Agent(name="banker", model=OpenAIResponses(id="banker", stream=False), tools=[withdraw])
if seconds := os.environ.get("MODEL_HEARTBEAT"):
    setattr(activity_options, "HEARTBEAT", timedelta(seconds=int(seconds)))  # noqa: B010 - it is final for all but tests
