"""The Chat Completions API: OpenAI's own, or any server that is compatible with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue

from assent.agents.models import OpenAIChat
from assent.agents.tool import permitted_name
from assent.wire.live_text import TextSoFar
from assent.wire.protocol import Item
from assent.wire.text import bounded

from .chat_stream import Chunks
from .errors import CallError, in_stream, unreadable
from .exchange import Answer, JsonObject, Question, ToolSpec
from .metadata import Ending, begun_only, calls_in, finish_reason, mapping, mappings, read_body, text_or_empty, usage_of
from .opaque import address, call_fields, fields_of, message_fields, with_fields
from .parts import chat_content
from .past_calls import permitted_arguments, raw_arguments
from .question import format_of, instructions_of, tool_choice
from .refusals import Refusable
from .responses import CUT_OFF, FILTERED
from .sse import ask_streamed
from .strict_schema import strictest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PATH: Final = "/chat/completions"
_NO_SIGNATURE: Final = "skip_thought_signature_validator"
_SHOWN: Final = 500
"""Characters of an answer that is none, in an error."""


async def ask(
    client: AsyncOpenAI, question: Question, so_far: TextSoFar, without: AbstractSet[Refusable] = frozenset()
) -> Answer:
    """Ask over *client*, *without* what the provider refuses to be asked for; its words go to *so_far* as they come.

    Raises:
        openai.APIError: the provider refused, or was not reached.
        CallError: it answered something that is no answer.
    """
    # Not `client.chat.completions.create`: its transformation of long inputs takes a hundred times as long.
    by = address(str(client.base_url))
    body = body_of(question, by, without)
    if not question.model.stream or "stream" in without:
        return answer_of(await client.post(_PATH, body=body, cast_to=object), by)
    if "usage" not in without:
        body["stream_options"] = {"include_usage": True}
    return answer_of(await ask_streamed(client, _PATH, body, Chunks(so_far)), by)


def body_of(question: Question, by: str = "", without: AbstractSet[Refusable] = frozenset()) -> JsonObject:
    """The body of the request to the address *by*, *without* what the provider refuses.

    Settings that are None are left to the provider.
    """
    model, messages = question.model, messages_of(question.items, by, question.attachments)
    if "thoughtless" in without:
        messages = [_with_reasoning(each, number) for number, each in enumerate(messages)]
    if "unsigned" in without:
        messages = [_with_signature(each) for each in messages]
    body: dict[str, JsonValue] = {
        "model": model.id,
        "messages": [*_system(instructions_of(question, without)), *messages],
        "temperature": model.temperature,
        "top_p": model.top_p,
        _tokens_name(question, without): model.max_output_tokens,
        "reasoning_effort": model.reasoning_effort,
        "response_format": _response_format(question, without),
    }
    if question.tools:
        body |= {
            "tools": [_tool(tool, without) for tool in question.tools],
            "parallel_tool_calls": None if "parallel" in without else model.parallel_tool_calls,
            "tool_choice": None if "tool_choice" in without else _tool_choice(tool_choice(question)),
        }
    return {key: value for key, value in body.items() if value is not None}


def _tool_choice(choice: str | dict[str, str] | None) -> JsonValue:
    return {"type": "function", "function": {**choice}} if isinstance(choice, dict) else choice


def _tokens_name(question: Question, without: AbstractSet[Refusable]) -> str:
    """The parameter that bounds the tokens of the answer; where its name is refused, the other one."""
    first = "max_completion_tokens"
    if isinstance(question.model, OpenAIChat) and question.model.max_tokens_name == "max_tokens":
        first = "max_tokens"
    if "tokens" not in without:
        return first
    return "max_tokens" if first == "max_completion_tokens" else "max_completion_tokens"


def _system(instructions: str | None) -> list[JsonObject]:
    return [{"role": "system", "content": instructions}] if instructions else []


def _tool(tool: ToolSpec, without: AbstractSet[Refusable]) -> JsonObject:
    function: JsonObject = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function if "strict" in without else {**function, "strict": False}}


def _response_format(question: Question, without: AbstractSet[Refusable]) -> JsonObject | None:
    if format_of(question, without) != "json_schema":
        return {"type": "json_object"} if format_of(question, without) else None
    schema, strict = strictest(question.output_schema or {})
    return {"type": "json_schema", "json_schema": {"name": question.output_name, "schema": schema, "strict": strict}}


@dataclass
class _Turn:
    """What one answer of the model said and asked for: to this API a single message, and the outputs behind it."""

    texts: list[str] = field(default_factory=list[str])
    calls: list[JsonValue] = field(default_factory=list[JsonValue])
    outputs: list[JsonObject] = field(default_factory=list[JsonObject])
    opaque: JsonObject = field(default_factory=dict[str, JsonValue])

    def messages(self) -> list[JsonObject]:
        if not self.texts and not self.calls:
            return self.outputs
        # Not null where there is none: some servers take text only.
        message: JsonObject = {**self.opaque, "role": "assistant", "content": "\n\n".join(self.texts)}
        if self.calls:
            message["tool_calls"] = self.calls
        return [message, *self.outputs]


def messages_of(items: Sequence[Item], by: str = "", attachments: Mapping[str, str] | None = None) -> list[JsonObject]:
    """The conversation as chat messages for the address *by*; *attachments* are the bytes that it names.

    Outputs are put right behind the calls they answer, as this API demands, even if a message arrived while the
    run waited. Reasoning items are left out.

    Raises:
        CallError: as `chat_content`.
    """
    outputs = {item.get("call_id"): item for item in items if item.get("type") == "function_call_output"}
    messages: list[JsonObject] = []
    turn = _Turn()
    for item in items:
        if item.get("type") == "reasoning":
            continue
        if not (item.get("role") == "assistant" or item.get("type") == "function_call"):
            messages += turn.messages()
            turn = _Turn()
            messages += _said(item, attachments or {})
            continue
        turn.opaque |= fields_of(item, "message", by)
        if item.get("type") == "function_call":
            turn.calls.append(_call(item, fields_of(item, "call", by)))
            turn.outputs += [_output(outputs[item.get("call_id")])] if item.get("call_id") in outputs else []
        elif text := _text(item.get("content")):
            turn.texts.append(text)
    return messages + turn.messages()


def _with_reasoning(message: JsonObject, number: int) -> JsonObject:
    """Return *message* with reasoning, if it is the model's: it may come from a model, or a turn, without any."""
    if message.get("role") != "assistant" or message.get("reasoning_content"):
        return message
    # Not empty, which some refuse, and not the same each time, which makes models repeat it.
    return {**message, "reasoning_content": f"(none is kept of message {number})"}


def _with_signature(message: JsonObject) -> JsonObject:
    """Return *message* with a signature of its first call, if it has calls and the first has none.

    Gemini wants one, and says what to send of a call that another model made: ai.google.dev, "Thought signatures".
    """
    first, *others = mappings(message.get("tool_calls")) or [{}]
    google = mapping(mapping(first.get("extra_content")).get("google"))
    if not first or google.get("thought_signature"):
        return message
    signed: JsonObject = {**first, "extra_content": {"google": {**google, "thought_signature": _NO_SIGNATURE}}}
    return {**message, "tool_calls": [signed, *others]}


def _said(item: Item, attachments: Mapping[str, str]) -> list[JsonObject]:
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str):
        return []
    if isinstance(content, list) and role == "user":
        return [{"role": role, "content": chat_content(content, attachments)}]
    return [{"role": "system" if role == "developer" else role, "content": _text(content)}]


def _call(item: Item, opaque: JsonObject) -> JsonObject:
    name, arguments = permitted_name(item.get("name")), permitted_arguments(item.get("arguments"))
    function: JsonObject = {**mapping(opaque.get("function")), "name": name, "arguments": arguments}
    return {**opaque, "id": item.get("call_id"), "type": "function", "function": function}


def _output(item: Item) -> JsonObject:
    return {"role": "tool", "tool_call_id": item.get("call_id"), "content": _text(item.get("output"))}


def _text(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [part.get("text") or part.get("refusal") for part in parts]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def answer_of(data: object, by: str = "") -> Answer:
    """The answer in a completion's JSON, from the address *by*.

    Raises:
        CallError: it is no completion, or one that ended for another reason than that it was whole.
    """
    body = mapping(read_body(data))
    choice = next(iter(mappings(body.get("choices"))), None)
    if choice is None or not isinstance(choice.get("message"), dict):
        raise _no_completion(body, data)
    message, usage, reason = mapping(choice["message"]), usage_of(body.get("usage")), choice.get("finish_reason")
    if finish_reason(reason) == "unknown":
        problem = bounded(str(choice.get("error") or body.get("error") or ""), _SHOWN)
        raise unreadable(
            f"The provider stopped in the middle of its answer: finish_reason {str(reason)[:100]!r}. {problem}",
            paid=usage,
        )
    raw_calls = calls_in(message.get("tool_calls"), usage)
    if raw_calls and begun_only(mapping(raw_calls[-1].get("function")).get("arguments"), finish_reason(reason)):
        raw_calls = raw_calls[:-1]
    calls = [_item(call, mapping(call.get("function"))) for call in raw_calls]
    text = _answer_text(message, finish_reason(reason), silent=bool(calls))
    said_items: list[Item] = [{"role": "assistant", "content": text}] if text else []
    items = with_fields([*said_items, *calls], message_fields(message), [call_fields(call) for call in raw_calls], by)
    return Answer(items=items, usage=usage, model=text_or_empty(body.get("model")), text=text)


def _no_completion(body: JsonObject, data: object) -> CallError:
    """What to raise for a body without an answer. Some gateways report their errors with status 200."""
    if (error := mapping(body.get("error"))) and "choices" not in body:
        return CallError(in_stream(error.get("code"), error.get("type"), text_or_empty(error.get("message"))))
    return unreadable(
        f"The provider's answer is not a completion: {str(data)[:_SHOWN]}", paid=usage_of(body.get("usage"))
    )


def _item(call: JsonObject, function: JsonObject) -> Item:
    named: Item = {"name": text_or_empty(function.get("name")), "arguments": raw_arguments(function.get("arguments"))}
    return {"type": "function_call", "call_id": text_or_empty(call.get("id")), **named}


def _answer_text(message: JsonObject, ended: Ending | None, *, silent: bool) -> str | None:
    """The words of the answer; it is said when it stopped early, unless it is *silent* because it calls tools."""
    text = _text(message.get("content")) or text_or_empty(message.get("refusal"))
    if ended == "filtered":
        return f"{text}\n\n{FILTERED}" if text else FILTERED
    if ended == "cut" and not text and not silent:
        return CUT_OFF
    return text or None
