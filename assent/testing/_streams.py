"""An answer of the scripted model as the events of a stream, in the form of either API: word by word."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from aiohttp import web
from pydantic import JsonValue

JsonObject = dict[str, JsonValue]

_WORDS: Final = re.compile(r"\s*\S+\s*|\s+")
_IN_PIECES: Final[dict[str, type]] = {"content": str, "refusal": str, "tool_calls": list}
_STREAMED: Final = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}


async def send(request: web.Request, events: Sequence[bytes], delay: float, *, broken: bool) -> web.StreamResponse:
    """Answer *request* with *events*, *delay* seconds before each; *broken* ends the connection after half of them."""
    if not delay and not broken:
        return web.Response(body=b"".join(events), headers=_STREAMED)
    answer = web.StreamResponse(headers=_STREAMED)
    await answer.prepare(request)
    for event in events[: len(events) // 2] if broken else events:
        await asyncio.sleep(delay)
        await answer.write(event)
    if not broken:
        await answer.write_eof()
    elif request.transport is not None:
        request.transport.close()
    return answer


# -- the Responses API ------------------------------------------------------------------------------------------------


def response_events(body: JsonObject) -> list[bytes]:
    """The events of the response *body*, the last of which holds it whole."""
    begun: JsonObject = {**body, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    output = body["output"]
    events: list[JsonObject] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(output if isinstance(output, list) else []):
        if isinstance(item, dict):
            events += _item_events(item, index)
    events.append({"type": f"response.{body['status']}", "response": body})
    numbers = count()
    return [_named(str(each["type"]), {**each, "sequence_number": next(numbers)}) for each in events]


def _item_events(item: JsonObject, index: int) -> Iterator[JsonObject]:
    started = {**item, "status": "in_progress", **({"content": []} if "content" in item else {})}
    if "arguments" in item:
        started["arguments"] = ""
    place: JsonObject = {"item_id": item["id"], "output_index": index}
    yield {"type": "response.output_item.added", "output_index": index, "item": started}
    content = item.get("content")
    for number, part in enumerate(content if isinstance(content, list) else []):
        if isinstance(part, dict):
            yield from _part_events(part, {**place, "content_index": number})
    if item.get("type") == "function_call":
        for piece in _pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        done: JsonObject = {"arguments": item["arguments"], "name": item["name"]}
        yield {"type": "response.function_call_arguments.done", **place, **done}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part_events(part: JsonObject, place: JsonObject) -> Iterator[JsonObject]:
    kind = "refusal" if part["type"] == "refusal" else "output_text"
    field = "refusal" if kind == "refusal" else "text"
    yield {"type": "response.content_part.added", **place, "part": {**part, field: ""}}
    for piece in _pieces(part[field]):
        yield {"type": f"response.{kind}.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": f"response.{kind}.done", **place, field: part[field], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


# -- the Chat Completions API -----------------------------------------------------------------------------------------


def completion_events(body: JsonObject, *, usage: bool) -> list[bytes]:
    """The chunks of the completion *body*; with *usage* one more, which holds the tokens."""
    head: JsonObject = {"id": body["id"], "object": "chat.completion.chunk"}
    head |= {"created": body["created"], "model": body.get("model"), **({"usage": None} if usage else {})}
    choice = _first(body["choices"])
    message = choice["message"]
    deltas = _deltas(message) if isinstance(message, dict) else iter(())
    chunks: list[JsonObject] = [{**head, "choices": [_choice(delta, None)]} for delta in deltas]
    chunks.append({**head, "choices": [_choice({}, choice.get("finish_reason"))]})
    if usage and "usage" in body:
        chunks.append({**head, "choices": [], "usage": body["usage"]})
    return [*map(_data, chunks), b"data: [DONE]\n\n"]


def _deltas(message: JsonObject) -> Iterator[JsonObject]:
    calls = message.get("tool_calls")
    more = {key: value for key, value in message.items() if not isinstance(value, _IN_PIECES.get(key, ()))}
    yield {**more, "role": "assistant", "content": None if message.get("content") is None else ""}
    for field in ("content", "refusal"):
        for piece in _pieces(message.get(field)):
            yield {field: piece}
    for index, call in enumerate(calls if isinstance(calls, list) else []):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(function, dict):
            yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}
            for piece in _pieces(function.get("arguments")):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _choice(delta: JsonObject, finish_reason: JsonValue) -> JsonValue:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


# -- both -------------------------------------------------------------------------------------------------------------


def _first(values: JsonValue) -> JsonObject:
    first = values[0] if isinstance(values, list) else None
    return first if isinstance(first, dict) else {}


def _pieces(text: JsonValue) -> list[str]:
    return _WORDS.findall(text) if isinstance(text, str) else []


def _named(event: str, data: JsonObject) -> bytes:
    return f"event: {event}\n".encode() + _data(data)


def _data(data: JsonObject) -> bytes:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    try:
        return b"data: " + text.encode() + b"\n\n"
    except UnicodeEncodeError:  # Half of a character: as an escape it is JSON all the same
        return b"data: " + json.dumps(data).encode() + b"\n\n"
