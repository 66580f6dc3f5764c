"""What the agents here do: look up an invoice and pay it. Ordinary Temporal activities, the same for each framework."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio import activity

INSTRUCTIONS: Final = "You pay invoices. Look an invoice up before you pay it."
MODEL: Final = os.environ.get("MODEL", "gpt-5-mini")
TIMEOUT: Final = timedelta(seconds=60)


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
    return f"sent {cents} cents to {to}"
