"""Your own worker: Assent in a worker that has a workflow, an activity and encryption of its own.

python examples/own_worker.py
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import Worker

from assent import AgentClient, DecisionError
from assent.runtime.connection import exit_cleanly
from assent.runtime.embedded_server import embedded_server
from assent.worker import AssentPlugin
from examples.payouts import Encryption, Invoice, Payout, wire_transfer
from examples.support import say, say_verified, soon

INVOICE = Invoice(4711, "DE02120300000000202051", 500_000)


async def main() -> None:
    """Run the team's worker with the plugin, ask finance, pay once, and look at what is stored."""
    async with embedded_server(ui=False) as server:
        say(f"Temporal: a server of this program's own, at {server.address}")
        converter = replace(DataConverter.default, payload_codec=Encryption(os.urandom(32)))
        client = await Client.connect(server.address, data_converter=converter)
        assent = AssentPlugin(groups={"finance": ["bob", "dora"]}, gated_activities=["wire_transfer"])
        async with Worker(
            client, task_queue="payouts", workflows=[Payout], activities=[wire_transfer], plugins=[assent]
        ):
            say("\n1. alice's workflow pays an invoice. Its activity is gated, so finance is asked.")
            payout = await client.start_workflow(
                Payout.run, args=[INVOICE, "alice"], id="payout-4711", task_queue="payouts"
            )
            inbox = AgentClient(client, task_queue="payouts")
            [waiting] = await soon(inbox.pending, bool)
            say(f"2. {waiting.tool}({waiting.arguments})")
            say(f"   asked by {waiting.requested_by}, may be approved by {' and '.join(waiting.approvers or [])}")
            run = inbox.get_run(waiting.run_id)
            try:
                await run.approve(waiting.id, by="alice")
            except DecisionError as error:
                say(f"3. alice may not approve: {error}")
            await run.approve(waiting.id, by="bob")
            await run.approve(waiting.id, by="dora")
            say(f"4. bob and dora approve. Paid: {await payout.result()}")
            await say_verified(inbox, run.id)
            stored = str(await client.get_workflow_handle(run.id).fetch_history())
            assert "binary/aes" in stored
            assert INVOICE.iban not in stored
            say("5. All of it is encrypted by the team's own codec.")


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
