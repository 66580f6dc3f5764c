"""The Chat Completions API: OpenAI's own, or any server that is compatible with it."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, Field, JsonValue, ValidationError

from assent.wire.live_text import TextSoFar
from assent.wire.protocol import Item, Usage

from .chat_stream import Chunks
from .errors import unreadable
from .exchange import Answer, JsonObject, Question, ToolSpec
from .past_calls import permitted_arguments, permitted_name, raw_arguments
from .responses import CUT_OFF, FILTERED
from .sse import Refusable, ask_streamed
from .strict_schema import strictest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PATH: Final = "/chat/completions"


class _Tokens(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Function(BaseModel):
    name: str | None = None
    arguments: JsonValue = ""


class _ToolCall(BaseModel):
    id: str | None = None
    function: _Function | None = None


class _Message(BaseModel):
    content: JsonValue = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """As much of a completion as is read. The package's own type takes anything for one; this one does not."""

    choices: list[_Choice] = Field(min_length=1)
    model: str = ""
    usage: _Tokens | None = None


async def ask(
    client: AsyncOpenAI, question: Question, so_far: TextSoFar, without: AbstractSet[Refusable] = frozenset()
) -> Answer:
    """Ask over *client*, *without* what the provider refuses to be asked for; its words go to *so_far* as they come.

    Raises:
        openai.APIError: the provider refused, or was not reached.
        CallError: it answered something that is no answer.

    I/O; not in workflow code.
    """
    # Not `client.chat.completions.create`: its transformation of long inputs takes a hundred times as long.
    body = body_of(question)
    if not question.model.stream or "stream" in without:
        return answer_of(await client.post(_PATH, body=body, cast_to=object))
    if "usage" not in without:
        body["stream_options"] = {"include_usage": True}
    return answer_of(await ask_streamed(client, _PATH, body, Chunks(so_far)))


def body_of(question: Question) -> JsonObject:
    """The body of the request. Settings that are None are left to the provider.

    Pure; safe in workflow code.
    """
    model = question.model
    body: dict[str, JsonValue] = {
        "model": model.id,
        "messages": [*_system(question.instructions), *messages_of(question.items)],
        "temperature": model.temperature,
        "top_p": model.top_p,
        "max_completion_tokens": model.max_output_tokens,
        "reasoning_effort": model.reasoning_effort,
        "response_format": _response_format(question) if question.output_schema else None,
    }
    if question.tools:
        body |= {"tools": [_tool(tool) for tool in question.tools], "parallel_tool_calls": model.parallel_tool_calls}
    return {key: value for key, value in body.items() if value is not None}


def _system(instructions: str | None) -> list[JsonObject]:
    return [{"role": "system", "content": instructions}] if instructions else []


def _tool(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": {**function, "strict": False}}


def _response_format(question: Question) -> JsonObject:
    schema, strict = strictest(question.output_schema or {})
    return {"type": "json_schema", "json_schema": {"name": question.output_name, "schema": schema, "strict": strict}}


@dataclass
class _Turn:
    """What one answer of the model said and asked for: to this API a single message, and the outputs behind it."""

    texts: list[str] = field(default_factory=list[str])
    calls: list[JsonValue] = field(default_factory=list[JsonValue])
    outputs: list[JsonObject] = field(default_factory=list[JsonObject])

    def messages(self) -> list[JsonObject]:
        if not self.texts and not self.calls:
            return self.outputs
        message: JsonObject = {"role": "assistant", "content": "\n\n".join(self.texts) or None}
        if self.calls:
            message["tool_calls"] = self.calls
        return [message, *self.outputs]


def messages_of(items: Sequence[Item]) -> list[JsonObject]:
    """The conversation as chat messages.

    Outputs are put right behind the calls they answer, as this API demands, even if a message arrived while the
    run waited. Reasoning items are left out.

    Pure; safe in workflow code.
    """
    outputs = {item.get("call_id"): item for item in items if item.get("type") == "function_call_output"}
    messages: list[JsonObject] = []
    turn = _Turn()
    for item in items:
        if item.get("type") == "reasoning":
            continue
        if not _is_models(item):
            messages += turn.messages()
            turn = _Turn()
            messages += _said(item)
        elif item.get("type") == "function_call":
            turn.calls.append(_call(item))
            turn.outputs += [_output(outputs[item.get("call_id")])] if item.get("call_id") in outputs else []
        elif text := _text(item.get("content")):
            turn.texts.append(text)
    return messages + turn.messages()


def _is_models(item: Item) -> bool:
    return item.get("role") == "assistant" or item.get("type") == "function_call"


def _said(item: Item) -> list[JsonObject]:
    role = item.get("role")
    if not isinstance(role, str):
        return []
    return [{"role": "system" if role == "developer" else role, "content": _text(item.get("content"))}]


def _call(item: Item) -> JsonObject:
    name, arguments = permitted_name(item.get("name")), permitted_arguments(item.get("arguments"))
    function: JsonObject = {"name": name, "arguments": arguments}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def _output(item: Item) -> JsonObject:
    return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _text(item.get("output"))}


def _text(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") or part.get("refusal") for part in parts]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def answer_of(data: object) -> Answer:
    """The answer in a completion's JSON.

    Raises:
        CallError: it is no completion.

    Pure; safe in workflow code.
    """
    try:
        completion = _Completion.model_validate(data)
    except ValidationError as error:
        # Some gateways report their errors with status 200 and no choices: the text below then has them.
        raise unreadable(f"The provider's answer is not a completion: {str(data)[:500]}") from error
    choice = completion.choices[0]
    calls = [_item(call, call.function) for call in choice.message.tool_calls or () if call.function]
    text = _spoken(choice, silent=bool(calls))
    said: list[Item] = [{"role": "assistant", "content": text}] if text else []
    return Answer(items=[*said, *calls], usage=_usage(completion.usage), model=completion.model, text=text)


def _usage(tokens: _Tokens | None) -> Usage:
    tokens = tokens or _Tokens()
    return Usage(requests=1, input_tokens=tokens.prompt_tokens or 0, output_tokens=tokens.completion_tokens or 0)


def _item(call: _ToolCall, function: _Function) -> Item:
    named: Item = {"name": function.name or "", "arguments": raw_arguments(function.arguments)}
    return {"type": "function_call", "call_id": call.id or "", **named}


def _spoken(choice: _Choice, *, silent: bool) -> str | None:
    """The words of the answer; it is said when it stopped early, unless it is *silent* because it calls tools."""
    text = _text(choice.message.content) or choice.message.refusal or ""
    if choice.finish_reason == "content_filter":
        return f"{text}\n\n{FILTERED}" if text else FILTERED
    if choice.finish_reason == "length" and not text and not silent:
        return CUT_OFF
    return text or None
