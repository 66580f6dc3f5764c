"""A help desk: an agent that asks another one, and hands the conversation over to a third."""

from __future__ import annotations

from assent import Agent, OpenAIResponses, PermissionPolicy, approval, tool
from examples import accounts

REFUNDS: list[str] = []


@approval
@tool
def refund(order: str, cents: int) -> str:
    """Refund an order.

    Args:
        order: The order, such as `order-7`.
        cents: How much, in cents.
    """
    REFUNDS.append(order)
    return f"refunded {cents} cents of {order}"


billing = Agent(
    name="billing",
    description="It refunds orders.",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You refund orders. Call the tool that does what is asked for, at once and once; the system asks a person for "
        "permission by itself. Then say in one sentence what was done."
    ),
    tools=[refund],
)

agent = Agent(
    name="desk",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You are a help desk. Ask the agent `accounts` for whatever is to be deleted. Once that is answered, hand the "
        "conversation over to `billing` if money is to be paid back. Do nothing else."
    ),
    tools=[accounts.agent.as_tool(description="Deletes what is stored about users.")],
    handoffs=[billing],
    policy=PermissionPolicy.of(deny=["drop_*"], default="allow"),
)
