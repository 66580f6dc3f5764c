"""The workflow that runs the agent."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from examples.integrations.pydantic_ai.agent import agent


@workflow.defn
class PydanticAIPayer:
    """One request, to the agent's last words."""

    __pydantic_ai_agents__ = (agent,)

    @workflow.run
    async def run(self, prompt: str, requested_by: str) -> str:
        """Run the agent."""
        result = await agent.run(prompt, deps=requested_by)
        return str(result.output)
