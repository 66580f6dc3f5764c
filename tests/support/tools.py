"""Tools of the test agents, and a ledger of what really ran: one line a call, by run."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from assent import ToolContext, approval, tool

_lock = threading.Lock()
_ledger: dict[str, list[str]] = defaultdict(list)


def note(context: ToolContext, line: str) -> None:
    """Write down that a tool ran."""
    with _lock:
        _ledger[context.run_id].append(line)


def ran(run_id: str) -> list[str]:
    """What ran in a run, in order."""
    with _lock:
        return list(_ledger[run_id])


@tool
def look_up(context: ToolContext, key: str) -> str:
    """Look something up.

    Args:
        context: Hidden from the model.
        key: What to look up.
    """
    note(context, f"look_up({key})")
    return f"value of {key}"


@approval
@tool(requires_confirmation=True)
async def pay(context: ToolContext, to: str, amount: int) -> str:
    """Pay somebody.

    Args:
        context: Hidden from the model.
        to: Who gets it.
        amount: How much, in cents.
    """
    note(context, f"pay({to}, {amount})")
    return f"paid {amount} to {to}"


@tool(requires_confirmation=True)
def restart(context: ToolContext, service: str) -> str:
    """Restart a service."""
    note(context, f"restart({service})")
    return f"restarted {service}"


@approval
@tool(external_execution=True)
def ship(order: str) -> str:
    """Ship an order; done in the warehouse."""
    message = f"ship({order}) never runs here"
    raise AssertionError(message)


@tool
async def break_down(context: ToolContext, how: str) -> str:
    """Fail."""
    note(context, f"break_down({how})")
    raise ValueError(how)


ALL: list[Callable[..., object]] = [look_up, pay, restart, ship, break_down]
