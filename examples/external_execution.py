"""External execution: another system makes the call, and submits its result with a signal.

python examples/external_execution.py
"""

from __future__ import annotations

import asyncio

from assent.runtime.connection import exit_cleanly
from assent.testing import Step, call, calls, says
from examples.deployments import agent
from examples.support import address_of, say, say_verified, signal_by_hand, soon, stage

SCRIPT: list[Step] = [
    calls(call("deploy_to_production", service="web", version="1.4.2")),
    lambda seen: says(f"The result of the deployment: {seen.last_output}"),
]


async def main() -> None:
    """Start a run, find what it waits for, send the result as an operator would, and read the record."""
    async with stage(agent, *SCRIPT) as client:
        say("\n1. alice asks for a deployment; the run waits for its result.")
        run = await client.start("deployer", "Deploy version 1.4.2 of web to production.", requested_by="alice")
        state = await run.until_paused()
        assert [each.needs_external_execution for each in state.active_requirements] == [True]

        [record], total = await soon(lambda: client.get_approvals(status="pending"), lambda found: found[1] > 0)
        assert total == 1
        assert (record.approval_type, record.run_id, record.agent) == ("required", run.id, "deployer")
        assert (record.context.turn, bool(record.context.call_id)) == (1, True)
        say("2. The pending record has what to deploy, and for whom:")
        say(f"   type     {record.approval_type}\n   what     {record.tool_name}({record.arguments})")
        say(f"   run      {record.run_id}\n   source   agent {record.agent}, asked by {record.requested_by}")
        say(f"   context  turn {record.context.turn}, call {record.context.call_id}")

        say("3. test_user deploys it, and hands the result in from a terminal:")
        body = {"id": record.short_id, "by": "test_user", "output": "web 1.4.2 is live in 3 regions"}
        command = await signal_by_hand(run.id, "submit_result", body, address=address_of(client))
        say(f"   $ {command}")

        result = await run.result()
        assert result.content
        say(f"4. The run completes: {result.content}")

        [record] = await client.audit(run.id)
        assert (record.status, record.resolved_by) == ("approved", "test_user")
        assert (record.execution, record.result) == ("executed", "web 1.4.2 is live in 3 regions")
        say(f"5. On record: resolved by {record.resolved_by}, {record.execution}: {record.result}")
        await say_verified(client, run.id)


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
