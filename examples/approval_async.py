"""Approval, async: a call that needs an approval pauses its run until a person approves it.

python examples/approval_async.py
"""

from __future__ import annotations

import asyncio

from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls
from examples.hackernews import agent
from examples.support import hacker_news, say, say_verified, soon, stage
from examples.support.scripts import tells_stories

SCRIPT: list[Step] = [calls(call("get_top_hackernews_stories", num_stories=2)), tells_stories]


async def main() -> None:
    """Start a run, find its approval, give it, and read the record."""
    async with hacker_news() as news, stage(agent, *SCRIPT) as client:
        say(f"Hacker News: {news}")

        say("\n1. alice asks the agent; the run pauses before it fetches anything.")
        run = await client.start("hackernews", "Fetch the top 2 stories of Hacker News.", requested_by="alice")
        state = await run.until_paused()
        assert state.is_paused
        assert [each.needs_confirmation for each in state.active_requirements] == [True]

        say("2. Exactly one approval is pending:")
        pending, total = await soon(
            lambda: client.get_approvals(status="pending", approval_type="required"), lambda found: found[1] > 0
        )
        assert total == 1
        approval = pending[0]
        assert (approval.run_id, approval.tool_name) == (run.id, "get_top_hackernews_stories")
        say(f"   {approval.short_id}  {approval.tool_name}({approval.arguments})  for {approval.requested_by}")

        say("3. async_user approves it.")
        resolved = await client.resolve_approval(approval.id, status="approved", resolved_by="async_user")
        assert resolved is not None
        assert (resolved.status, resolved.resolved_by) == ("approved", "async_user")
        again = await client.resolve_approval(approval.id, status="rejected", resolved_by="mallory")
        assert again is None, "the second decision has no effect"

        say("4. The run completes:")
        result = await run.result()
        assert result.content
        say(result.content)

        [record] = await client.audit(run.id)
        assert (record.status, record.resolved_by, record.execution) == ("approved", "async_user", "executed")
        say(f"5. On record: {record.status} by {record.resolved_by}, and {record.execution}.")
        await say_verified(client, run.id)

        count = await soon(client.get_pending_approval_count, lambda count: count == 0)
        assert count == 0
        say(f"   Approvals that are pending now: {count}")


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
