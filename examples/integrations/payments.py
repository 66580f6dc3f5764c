"""What the agents here do: look up an invoice and pay it. Ordinary Temporal activities, the same for each framework.

`wire_transfer` is gated: the worker of `serving.py` runs it only through `transfer_if_approved`.
"""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio import activity

from assent.workflow import NotApprovedError, execute_gated_activity

INSTRUCTIONS: Final = "You pay invoices. Look an invoice up before you pay it."
MODEL: Final = os.environ.get("MODEL", "gpt-5-mini")
TIMEOUT: Final = timedelta(seconds=60)
GATED_TIMEOUT: Final = timedelta(seconds=10)
"""After it, a person is asked what came of a transfer that was not heard of again."""


@activity.defn
async def look_up_invoice(number: str) -> str:
    """Look an invoice up.

    Args:
        number: The number of the invoice.
    """
    return f"Invoice {number}: 500000 cents to DE02120300000000202051."


@activity.defn
async def wire_transfer(to: str, cents: int) -> str:
    """Send money. It cannot be taken back.

    Args:
        to: The IBAN of the receiver.
        cents: How much, in euro cents.
    """
    if ledger := os.environ.get("LEDGER"):
        with Path(ledger).open("a") as file:  # noqa: ASYNC230 - one short line
            print(f"{to} {cents}", file=file)
    await asyncio.sleep(float(os.environ.get("BANK_SECONDS", "0")))
    return f"sent {cents} cents to {to}"


async def transfer_if_approved(to: str, cents: int, requested_by: str) -> str:
    """Ask people, and then run `wire_transfer`: for a tool that is workflow code. The model is told a refusal."""
    try:
        return await execute_gated_activity(
            wire_transfer, [to, cents], requested_by=requested_by, start_to_close_timeout=GATED_TIMEOUT
        )
    except NotApprovedError as error:
        return error.message
