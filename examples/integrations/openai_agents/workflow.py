"""The agent, made in the workflow's own code, as the documentation of the integration says.

`activity_as_tool` makes an activity a tool. A `function_tool` is workflow code: it may wait for a person.
"""

from __future__ import annotations

from agents import Agent, RunContextWrapper, Runner, function_tool
from temporalio import workflow
from temporalio.openai_agents.workflow import activity_as_tool

with workflow.unsafe.imports_passed_through():
    from examples.integrations import payments


async def wire_transfer(context: RunContextWrapper[str], to: str, cents: int) -> str:  # noqa: D417 - the model does not see context
    """Send money. It cannot be taken back.

    Args:
        to: The IBAN of the receiver.
        cents: How much, in euro cents.
    """
    return await payments.transfer_if_approved(to, cents, context.context)


@workflow.defn
class OpenAIAgentsPayer:
    """One request, to the agent's last words."""

    @workflow.run
    async def run(self, prompt: str, requested_by: str) -> str:
        """Run the agent."""
        agent = Agent(
            name="payer",
            model=payments.MODEL,
            instructions=payments.INSTRUCTIONS,
            tools=[
                activity_as_tool(payments.look_up_invoice, start_to_close_timeout=payments.TIMEOUT),
                function_tool(wire_transfer),
            ],
        )
        result = await Runner.run(agent, prompt, context=requested_by)
        return str(result.final_output)
