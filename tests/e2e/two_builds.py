"""Agents that a real worker process serves in two builds: what a tool answers tells which of them ran it."""

from __future__ import annotations

import os

from assent import Agent, OpenAIResponses, tool


@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    return f"build {os.environ['ASSENT_BUILD_ID']} paid {to}"


payer = Agent(name="payer", model=OpenAIResponses(id="builds"), tools=[pay])
