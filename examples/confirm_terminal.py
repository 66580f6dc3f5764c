"""Confirm at the terminal: the program that starts a run asks y or n, for sync and async tools alike.

    python examples/confirm_terminal.py

Without a terminal it decides by itself: it lets the cache be cleared, and nothing be restarted.
"""

from __future__ import annotations

import asyncio

from assent import Approval, RunHandle, RunState
from assent.cli.terminal import can_ask, follow
from assent.runtime.connection import exit_cleanly
from assent.testing import Approved, Rejected, Step, call, calls, drive, says
from examples.operations import agent
from examples.support import say, say_verified, stage

SCRIPT: list[Step] = [
    calls(call("restart_service", service="web"), call("clear_cache", service="web")),
    lambda seen: says("\n".join(seen.tool_outputs.values())),
]


async def main() -> None:
    """Start a run, let a person decide its calls, and check that what ran is what was approved."""
    async with stage(agent, *SCRIPT) as client:
        run = await client.start("operations", "Restart web, and clear its cache.", requested_by="alice")
        if can_ask():
            say("\nYou are bob, and alice's agent asks you:")
            state = await follow(run, approver="bob", ask=True)
        else:
            say("\nThere is no terminal to ask at, so this program decides by itself, as bob:")
            state = await decide_by_itself(run)
        assert state.status == "completed"
        assert state.content
        say(f"\nThe answer:\n{state.content}\n")

        records = await client.audit(run.id)
        assert records
        for record in records:
            assert record.approval_type is None, "no @approval, so it is on no approver's list"
            assert record.resolved_by == "bob"
            assert record.execution == ("executed" if record.status == "approved" else None)
            say(f"{record.tool_name}: {record.status} by {record.resolved_by}, {record.execution or 'not run'}")
        await say_verified(client, run.id)


async def decide_by_itself(run: RunHandle) -> RunState:
    """Approve the calls of `clear_cache`, and reject all others."""

    def rule(requirement: Approval) -> Approved | Rejected:
        ruling = Approved() if requirement.tool_name == "clear_cache" else Rejected("not during business hours")
        say(f"   {requirement.tool_name}({requirement.arguments})? {'y' if isinstance(ruling, Approved) else 'n'}")
        return ruling

    return await drive(run, rule, by="bob")


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
