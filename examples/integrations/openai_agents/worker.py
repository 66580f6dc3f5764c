"""The worker: `python -m examples.integrations.openai_agents.worker TASK_QUEUE`."""

from __future__ import annotations

import asyncio

from temporalio.openai_agents import OpenAIAgentsPlugin

from examples.integrations import payments
from examples.integrations.openai_agents.workflow import OpenAIAgentsPayer
from examples.integrations.serving import serve

if __name__ == "__main__":
    plugin = OpenAIAgentsPlugin()
    asyncio.run(serve(plugin, OpenAIAgentsPayer, [payments.look_up_invoice, payments.wire_transfer]))
