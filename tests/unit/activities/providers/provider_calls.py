"""What the tests of both adapters ask the scripted server."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pytest
from openai import APIError

from assent.activities.providers import (
    Answer,
    CallError,
    ErrorHandling,
    Providers,
    Question,
    ToolSpec,
    posture,
)
from assent.agents.models import Model, OpenAIChat, OpenAIResponses
from assent.testing import (
    ModelServer,
)
from assent.wire.conversation import tool_calls, tool_output, user_message
from assent.wire.protocol import Item

Api = Literal["responses", "chat"]

both = pytest.mark.parametrize("api", ["responses", "chat"])

EVERY_FAILURE = (APIError, CallError, TimeoutError)

TOOLS = [
    ToolSpec("add", "Adds.", {"type": "object", "properties": {"x": {"type": "integer"}}}),
    ToolSpec("drop", "Drops.", {"type": "object", "properties": {}}),
]


def model(server: ModelServer | str, api: Api, *, timeout: timedelta = timedelta(seconds=5.0)) -> Model:
    url = server if isinstance(server, str) else server.url
    kind = OpenAIResponses if api == "responses" else OpenAIChat
    return kind(id="scripted", base_url=url, timeout=timeout)


def question(of: Model, *items: Item, tools: list[ToolSpec] | None = None) -> Question:
    return Question(model=of, instructions="Be brief.", items=items or [user_message("Hi")], tools=tools or TOOLS)


async def failure_of(providers: Providers, asked: Question) -> ErrorHandling:
    with pytest.raises(EVERY_FAILURE) as caught:
        await providers.ask(asked)
    return posture(caught.value)


def answered(answer: Answer, output: str = "done") -> list[Item]:
    return [*answer.items, *(tool_output(asked.call_id, output) for asked in tool_calls(answer.items))]
