"""The agent in pydantic-ai, made durable as its documentation says: by the capability `TemporalDurability`.

The provider's client does not retry, as Temporal does, and the hook `continue_as_new` goes on in a new execution when
the server suggests it. Nothing is traced.
"""

from __future__ import annotations

import os
from typing import NoReturn

from openai import AsyncOpenAI
from pydantic_ai import Agent, RunContext
from pydantic_ai.durable_exec.temporal import TemporalDurability
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.toolsets import FunctionToolset
from temporalio import workflow

from bench.task import INSTRUCTIONS, MODEL, URL_VARIABLE, output


async def work(size: int) -> str:
    """Do nothing.

    Args:
        size: bytes of the answer.
    """
    return output(size)


async def guarded(size: int) -> str:
    """Tell the time, once a person has approved.

    Args:
        size: not used.
    """
    return str(size)


def go_on(context: RunContext[None]) -> NoReturn:
    """Go on in a new execution, with all messages so far."""
    workflow.continue_as_new(args=[None, context.messages])


client = AsyncOpenAI(base_url=os.environ[URL_VARIABLE], api_key="none", max_retries=0)
agent = Agent(
    OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=client)),
    name="bench",
    instructions=INSTRUCTIONS,
    toolsets=[FunctionToolset([work, guarded], id="bench")],
    capabilities=[TemporalDurability(continue_as_new=go_on)],
)
