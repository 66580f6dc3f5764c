"""pydantic-ai's workflow.

Its documentation has the agent in this module, where the sandbox makes it anew for every run. Passed through, as here,
a turn takes two thirds of the time.
"""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.usage import UsageLimits

    from bench.peers.pydantic_ai_agent import agent


@workflow.defn(name="PydanticAI")
class PydanticAIRun:
    """The agent's run, and nothing else."""

    __pydantic_ai_agents__ = (agent,)

    @workflow.run
    async def run(self, prompt: str | None, messages: list[ModelMessage] | None = None) -> str:
        """Run to the model's last words. *messages* are there when it goes on from another execution."""
        result = await agent.run(prompt, message_history=messages, usage_limits=UsageLimits(request_limit=None))
        return str(result.output)
