"""The bare side's activities, as one would write them by hand: a pooled `httpx` client, and the no-op tools.

Only the last tool result crosses Temporal. The conversation that the provider has to be sent is kept in the process
and nowhere else: the fastest way there is, and it loses the run with the worker. Assent has to beat it all the same.
"""

from __future__ import annotations

import os
import time
from functools import cache

import httpx
from pydantic import BaseModel, JsonValue
from temporalio import activity

from bench.task import GUARDED, INSTRUCTIONS, MODEL, URL_VARIABLE, WORK, output

Item = dict[str, JsonValue]


class Delta(BaseModel):
    """What the model is told: the prompt, or the result of the call *call_id*."""

    text: str
    call_id: str | None = None


class Call(BaseModel):
    """A tool call that the model made."""

    id: str
    tool: str
    arguments: str


class Answer(BaseModel):
    """What the model said: a tool call, or its last words."""

    text: str = ""
    call: Call | None = None


class Arguments(BaseModel):
    """The arguments of either tool."""

    size: int


def _schema(name: str) -> JsonValue:
    size: JsonValue = {"type": "integer", "description": "bytes of the answer."}
    parameters: JsonValue = {
        "type": "object",
        "properties": {"size": size},
        "required": ["size"],
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "description": "Do nothing.", "parameters": parameters, "strict": False}


_TOOLS: JsonValue = [_schema(WORK), _schema(GUARDED)]
_conversations: dict[str, list[JsonValue]] = {}


@cache
def _provider() -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=os.environ[URL_VARIABLE], trust_env=False, timeout=60)


@activity.defn
async def call_model(delta: Delta) -> Answer:
    """Ask the model once."""
    run = activity.info().workflow_id or ""
    conversation = _conversations.setdefault(run, [])
    conversation.append(_item(delta))
    body: JsonValue = {
        "model": MODEL,
        "instructions": INSTRUCTIONS,
        "input": conversation,
        "tools": _TOOLS,
        "store": False,
    }
    response = await _provider().post("/responses", json=body)
    response.raise_for_status()
    item: Item = response.json()["output"][-1]
    if item["type"] == "function_call":
        conversation.append(item)
        call = Call(id=str(item["call_id"]), tool=str(item["name"]), arguments=str(item["arguments"]))
        return Answer(call=call)
    del _conversations[run]
    return Answer(text=_text(item))


@activity.defn(name=WORK)
async def work(arguments: str) -> str:
    """Do nothing, and answer as many bytes as asked for."""
    return output(Arguments.model_validate_json(arguments).size)


@activity.defn(name=GUARDED)
async def guarded(arguments: str) -> str:
    """Tell the time."""
    now = time.monotonic_ns()
    del arguments
    return str(now)


def _item(delta: Delta) -> Item:
    if delta.call_id is None:
        return {"role": "user", "content": delta.text}
    return {"type": "function_call_output", "call_id": delta.call_id, "output": delta.text}


def _text(item: Item) -> str:
    content = item["content"]
    part = content[0] if isinstance(content, list) else None
    return str(part["text"]) if isinstance(part, dict) else ""
