"""Audit approval: a pending call has no record; a decided one has who, when, why and the result.

python examples/audit_approval.py
"""

from __future__ import annotations

import asyncio

from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls, says
from examples.accounts import USERS, agent
from examples.support import say, say_verified, stage

SCRIPT: list[Step] = [
    calls(call("delete_user_data", user_id="user-42")),
    lambda seen: says(f"It is done: {seen.last_output}."),
]


async def main() -> None:
    """Start a run, see that there is no record yet, approve, and read the record."""
    async with stage(agent, *SCRIPT) as client:
        say("\n1. alice asks for a deletion; the run pauses, and the data is still there.")
        run = await client.start("accounts", "Delete all data of user-42; she asked for it.", requested_by="alice")
        state = await run.until_paused()
        [requirement] = state.active_requirements
        assert requirement.needs_confirmation
        assert "user-42" in USERS
        say(f"   waits: {requirement.short_id}  {requirement.tool_name}({requirement.arguments})")

        approvals, total = await client.get_approvals(run_id=run.id)
        assert (approvals, total) == ([], 0)
        say(f"2. Approval records of this run: {total}. This tool's are for the audit, and nothing is decided.")

        say("3. bob approves, and says why.")
        decision = await run.approve(requirement, by="bob", reason="erasure request 4711")
        assert decision.status == "approved"
        result = await run.result()
        assert "user-42" not in USERS
        say(f"4. The run completes: {result.content}")

        [record], total = await client.get_approvals(run_id=run.id)
        assert total == 1
        assert (record.approval_type, record.status) == ("audit", "approved")
        assert (record.resolved_by, record.reason) == ("bob", "erasure request 4711")
        assert record.resolved_at is not None
        assert record.resolved_at >= record.created_at
        assert (record.execution, record.result) == ("executed", "deleted of user-42: profile, 3 orders")
        say("5. Exactly one record, read from the run's history:")
        say(f"   type    {record.approval_type}\n   status  {record.status}")
        say(f"   what    {record.tool_name}({record.arguments}), asked for by {record.requested_by}")
        say(f"   who     {record.resolved_by}\n   when    {record.resolved_at:%Y-%m-%d %H:%M:%S} UTC")
        say(f"   why     {record.reason}\n   result  {record.execution}: {record.result}")
        await say_verified(client, run.id)


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
