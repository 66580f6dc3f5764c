"""A team: one agent asks another, whose calls people decide where they wait, and hands over to a third.

python examples/team.py
"""

from __future__ import annotations

import asyncio

from assent.runtime.connection import exit_cleanly
from assent.testing import Conversation, Reply, call, calls, says
from examples.accounts import USERS
from examples.help_desk import REFUNDS, agent
from examples.support import say, say_verified, stage


def model(seen: Conversation) -> Reply:
    """The three agents' model: which one is asked shows by the tools on offer."""
    if "delete_user_data" in seen.tools:
        done = seen.last_output
        return says(f"Done: {done}.") if done else calls(call("delete_user_data", user_id="user-42"))
    if "refund" in seen.tools:
        refunded = "refunded" in (seen.last_output or "")
        return (
            says(f"Deleted, and {seen.last_output}.") if refunded else calls(call("refund", order="order-7", cents=990))
        )
    asked = bool(seen.tool_outputs)
    return calls(call("transfer_to_billing")) if asked else calls(call("ask_accounts", input="Delete all of user-42."))


async def main() -> None:
    """Ask for two things, decide each where it waits, and read what the history says of both runs."""
    async with stage(agent, *[model] * 6) as client:
        say("\n1. alice asks the desk; the desk asks the agent `accounts`, in a child run.")
        wish = "Delete all data of user-42, and pay back her order-7: 990 cents."
        run = await client.start("desk", wish, requested_by="alice")
        state = await run.until_paused()
        [child] = state.children
        say(f"   {state.status}: nothing waits in {run.id}, and {child.agent} works for it in {child.run_id}")

        [waiting] = await run.pending()
        say(f"2. The parent run shows what waits in its child: {' > '.join(waiting.path)}: {waiting.tool_name}")
        assert (waiting.run_id, waiting.path) == (child.run_id, ["desk", "accounts"])
        below = client.get_run(waiting.run_id)

        say("3. The parent run cannot decide for its child, and alice cannot approve in either.")
        for name in ("alice", "bob"):
            await run.send("approve", {"id": waiting.id, "by": name})
        own = await below.approve(waiting, by="alice", check=False)
        assert own.status == "refused"
        assert "user-42" in USERS
        say(f"   {own.status}: {own.detail}")

        say("4. bob approves it where it waits; the desk has its answer, and hands over to `billing`.")
        await below.approve(waiting, by="bob", reason="erasure request 4711")
        state = await run.until_paused()
        assert "user-42" not in USERS
        assert state.agent == "billing"
        [requirement] = state.active_requirements
        say(f"   {state.agent} waits: {requirement.short_id}  {requirement.tool_name}({requirement.arguments})")

        await run.approve(requirement, by="carol")
        result = await run.result()
        assert REFUNDS == ["order-7"]
        say(f"5. The run completes: {result.content}")
        say(f"   {result.usage.requests} model calls, including the child run's")
        await say_verified(client, run.id, waiting.run_id)


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
