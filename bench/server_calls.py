"""How long an allowed call of an MCP server's tool takes, beside an activity that makes it over a pooled connection."""

from __future__ import annotations

import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from mcp import Client, StdioServerParameters, stdio_client
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client as Temporal
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

from assent import Agent, AgentClient, MCPServer, OpenAIResponses
from assent.testing import ModelServer, call, calls, says
from assent.worker import AssentPlugin
from bench.server_workflow import LIST, BareCalls

QUEUE: Final = "bench-mcp"
KEY: Final = "OPENAI_API_KEY"
PART: Final = 10
"""Calls of one side, before the other has its turn."""
SERVER: Final = Path(__file__).parents[1] / "examples" / "notes_server.py"


async def server_calls(temporal: Temporal, times: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of *times* calls of each side, from their scheduling to their result in the history.

    Each side has a process of the server, which is connected to before.
    """
    os.environ.setdefault(KEY, "none")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(SERVER), folder]
        given = StdioServerParameters(command=sys.executable, args=command)
        async with ModelServer() as models, Client(stdio_client(given)) as connection:

            @activity.defn(name=LIST)
            async def bare_list() -> str:
                answer = await connection.call_tool("list_notes", {})
                return str(answer.structured_content)

            models.script("bench", *[calls(call("notes_list_notes"))] * PART, says("done"))
            server = MCPServer(name="notes", command=sys.executable, args=command, trusted=True)
            agent = Agent(name="clerk", model=OpenAIResponses("bench", base_url=models.url), mcp_servers=[server])
            plugin = AssentPlugin([agent])
            ours, theirs = list[float](), list[float]()
            async with Worker(
                temporal, task_queue=QUEUE, workflows=[BareCalls], activities=[bare_list], plugins=[plugin]
            ):
                for _ in range(1 + times // PART):
                    run = await AgentClient(temporal, task_queue=QUEUE).start("clerk", "Go.")
                    await run.result()
                    ours += [each async for each in _took(temporal.get_workflow_handle(run.id), "notes.list_notes")]
                    bare = f"bare-{uuid.uuid4().hex[:8]}"
                    await temporal.execute_workflow(BareCalls.run, PART, id=bare, task_queue=QUEUE)
                    theirs += [each async for each in _took(temporal.get_workflow_handle(bare), LIST)]
    return ours[PART:], theirs[PART:]


async def _took(handle: WorkflowHandle[object, object], kind: str) -> AsyncIterator[float]:
    """The milliseconds of each activity of a type: from its scheduling to its result."""
    scheduled: dict[int, float] = {}
    async for event in handle.fetch_history_events():
        at = event.event_time.ToNanoseconds() / 1_000_000
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if event.activity_task_scheduled_event_attributes.activity_type.name == kind:
                scheduled[event.event_id] = at
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            begun = scheduled.get(event.activity_task_completed_event_attributes.scheduled_event_id)
            if begun is not None:
                yield at - begun
