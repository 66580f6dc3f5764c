"""An agent for operators: one sync and one async tool, both to be confirmed, neither on record as an approval."""

from __future__ import annotations

import asyncio

from assent import Agent, OpenAIResponses, tool


@tool(requires_confirmation=True)
def restart_service(service: str) -> str:
    """Restart a service.

    Args:
        service: The service's name.
    """
    return f"{service} was restarted"


@tool(requires_confirmation=True)
async def clear_cache(service: str) -> str:
    """Clear the cache of a service.

    Args:
        service: The service's name.
    """
    await asyncio.sleep(0.1)
    return f"the cache of {service} was cleared"


agent = Agent(
    name="operations",
    model=OpenAIResponses("gpt-5-mini"),
    instructions=(
        "You operate services. Call the tools for everything you are asked for, at once and side by side; the system "
        "asks a person for permission by itself. Then say in one or two sentences what was done and what was not."
    ),
    tools=[restart_service, clear_cache],
)
