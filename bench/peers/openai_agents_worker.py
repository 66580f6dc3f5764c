"""The OpenAI Agents SDK's worker: `python -m bench.peers.openai_agents_worker ADDRESS TASK_QUEUE`. Ends on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys

from temporalio.openai_agents import OpenAIAgentsPlugin

from bench.peers.openai_agents_workflow import OpenAIAgentRun, guarded, work
from bench.peers.serving import serve
from bench.task import URL_VARIABLE

if __name__ == "__main__":
    # The plugin installs a trace provider of its own, which `agents.set_tracing_disabled` does not reach.
    os.environ.update(
        OPENAI_AGENTS_DISABLE_TRACING="1", OPENAI_API_KEY="none", OPENAI_BASE_URL=os.environ[URL_VARIABLE]
    )
    plugin = OpenAIAgentsPlugin(add_temporal_spans=False)
    asyncio.run(serve(sys.argv[1], sys.argv[2], plugin, OpenAIAgentRun, [work, guarded]))
