"""The worker: `python -m examples.integrations.pydantic_ai.worker TASK_QUEUE`."""

from __future__ import annotations

import asyncio

from pydantic_ai.durable_exec.temporal import PydanticAIPlugin

from examples.integrations import payments
from examples.integrations.pydantic_ai.workflow import PydanticAIPayer
from examples.integrations.serving import serve

if __name__ == "__main__":
    asyncio.run(serve(PydanticAIPlugin(), PydanticAIPayer, [payments.wire_transfer]))
