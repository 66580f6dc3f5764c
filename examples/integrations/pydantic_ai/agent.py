"""The agent, made durable by the capability `TemporalDurability`, as the documentation of pydantic-ai says.

A tool runs in an activity of the framework. With the metadata `{"temporal": False}` it is workflow code: it may wait
for a person.
"""

from __future__ import annotations

from pydantic_ai import Agent, RunContext
from pydantic_ai.durable_exec.temporal import TemporalDurability
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.toolsets import FunctionToolset

from examples.integrations import payments


async def look_up_invoice(number: str) -> str:
    """Look an invoice up.

    Args:
        number: The number of the invoice.
    """
    return await payments.look_up_invoice(number)


async def wire_transfer(context: RunContext[str], to: str, cents: int) -> str:  # noqa: D417 - the model does not see context
    """Send money. It cannot be taken back.

    Args:
        to: The IBAN of the receiver.
        cents: How much, in euro cents.
    """
    return await payments.transfer_if_approved(to, cents, context.deps)


tools = FunctionToolset[str](id="payments")
tools.add_function(look_up_invoice)
tools.add_function(wire_transfer, metadata={"temporal": False})

agent = Agent(
    OpenAIResponsesModel(payments.MODEL),
    name="payer",
    deps_type=str,
    instructions=payments.INSTRUCTIONS,
    toolsets=[tools],
    capabilities=[TemporalDurability()],
)
