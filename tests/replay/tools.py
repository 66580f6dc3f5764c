"""The tools of the recorded histories that people decide about in every way there is.

Runs in histories never call them again, so they may change; the names may not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from assent import approval, ask_user, tool

SOON = timedelta(milliseconds=400)


@approval(approvals=2, approvers=["finance"], remind_every=SOON / 2, escalate=[(SOON, ["carol"])])
@tool
def wire_money(to: str, amount: int) -> str:
    """Send money."""
    return f"sent {amount} to {to}"


@approval(expires_after=SOON)
@tool
def delete_backup(name: str) -> str:
    """Delete a backup."""
    return f"deleted {name}"


@tool(requires_confirmation=lambda arguments: arguments["percent"] > 10)
def give_discount(percent: int) -> str:
    """Give a discount."""
    return f"gave {percent} percent"


@approval(approvals=2)
@tool(name="give_discount")
def give_discount_with_two(percent: int) -> str:
    """Give a discount."""
    return f"gave {percent} percent"


@tool(requires_confirmation=True, timeout=timedelta(seconds=1))
async def print_label(order: str) -> str:
    """Print a label, on a printer that never answers the first time."""
    await asyncio.sleep(3_600)
    return order


@tool(requires_user_input=True, user_input_fields=["seat"])
def book(flight: str, seat: str) -> str:
    """Book a flight."""
    return f"booked {seat} on {flight}"


@tool(external_execution=True)
def weigh(parcel: str) -> float:
    """Weigh a parcel, in kilograms; done at the counter."""
    raise NotImplementedError(parcel)


@tool(requires_confirmation=True, stop_after_tool_call=True)
def close_ticket(number: int) -> str:
    """Close a ticket, which is all there was to do."""
    return f"closed {number}"


ALL: list[Callable[..., object]] = [
    wire_money,
    delete_backup,
    give_discount,
    print_label,
    book,
    weigh,
    close_ticket,
    ask_user,
]
GROUPS = {"finance": ["ann", "bob"]}
