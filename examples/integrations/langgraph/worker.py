"""The worker: `python -m examples.integrations.langgraph.worker TASK_QUEUE`."""

from __future__ import annotations

import asyncio

from temporalio.langgraph import LangGraphPlugin

from examples.integrations import payments
from examples.integrations.langgraph.graph import payer
from examples.integrations.langgraph.workflow import LangGraphPayer
from examples.integrations.serving import serve

if __name__ == "__main__":
    plugin = LangGraphPlugin(
        graphs={"payer": payer()}, default_activity_options={"start_to_close_timeout": payments.TIMEOUT}
    )
    asyncio.run(serve(plugin, LangGraphPayer, [payments.look_up_invoice, payments.wire_transfer]))
