"""The agent in the OpenAI Agents SDK, as the documentation of its integration says: made in the workflow's own code.

Its tools are activities (`activity_as_tool`). Nothing is traced.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from agents import Agent, Runner
from temporalio import activity, workflow
from temporalio.openai_agents.workflow import activity_as_tool

with workflow.unsafe.imports_passed_through():
    from bench.task import GUARDED, INSTRUCTIONS, MODEL, WORK, output

TURNS: Final = 2_100
TIMEOUT: Final = timedelta(minutes=5)


@activity.defn(name=WORK)
async def work(size: int) -> str:
    """Do nothing.

    Args:
        size: bytes of the answer.
    """
    return output(size)


@activity.defn(name=GUARDED)
async def guarded(size: int) -> str:
    """Tell the time, once a person has approved.

    Args:
        size: not used.
    """
    return str(size)


@workflow.defn(name="OpenAIAgent")
class OpenAIAgentRun:
    """The agent's run, and nothing else."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run to the model's last words."""
        agent = Agent(
            name="bench",
            model=MODEL,
            instructions=INSTRUCTIONS,
            tools=[activity_as_tool(each, start_to_close_timeout=TIMEOUT) for each in (work, guarded)],
        )
        result = await Runner.run(agent, prompt, max_turns=TURNS)
        return str(result.final_output)
