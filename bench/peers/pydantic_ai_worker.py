"""pydantic-ai's worker: `python -m bench.peers.pydantic_ai_worker ADDRESS TASK_QUEUE`. Ends on SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from pydantic_ai.durable_exec.temporal import PydanticAIPlugin

from bench.peers.pydantic_ai_workflow import PydanticAIRun
from bench.peers.serving import serve

if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], PydanticAIPlugin(), PydanticAIRun))
