"""Fields of an answer that mean nothing to us and have to come back: reasoning, and signatures of it.

DeepSeek demands `reasoning_content` back, Gemini the `thought_signature` of each call, OpenRouter `reasoning_details`;
what comes next has other names. So what an answer has beside the fields that we know is kept with its items, and given
back to the address that it came from, and to no other.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, cast

from pydantic import JsonValue

from assent.wire.digest import canonical, json_size
from assent.wire.protocol import Item

from .exchange import JsonObject
from .metadata import mapping

KEY: Final = "opaque"
"""The field of an item that holds them: `by`, `message` (the fields of the message), `call` and `function`."""
_LIMIT: Final = 256 * 1024
"""Bytes of them in one item. What is longer is not kept: the provider has to do without."""
_MESSAGE: Final = frozenset(
    {"role", "content", "refusal", "tool_calls", "function_call", "annotations", "audio", "name", "id", "index"}
)
_CALL: Final = frozenset({"id", "type", "index", "function"})
_FUNCTION: Final = frozenset({"name", "arguments"})
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "message": ("type", "role", "content"),
    "function_call": ("type", "call_id", "name", "arguments"),
    "function_call_output": ("type", "call_id", "output"),
}


def message_fields(message: Mapping[str, JsonValue]) -> JsonObject:
    """The fields of a chat message, or of a part of one, that we do not know."""
    return {key: value for key, value in message.items() if key not in _MESSAGE and value not in (None, [], {})}


def call_fields(call: Mapping[str, JsonValue]) -> JsonObject:
    """The fields of a call of a chat message that we do not know; those of its function under `function`."""
    inner = {key: value for key, value in mapping(call.get("function")).items() if key not in _FUNCTION}
    outer = {key: value for key, value in call.items() if key not in _CALL}
    fields: JsonObject = {key: value for key, value in outer.items() if value not in (None, [], {})}
    return {**fields, **({"function": inner} if inner else {})}


def with_fields(items: list[Item], message: JsonObject, calls: list[JsonObject], by: str) -> list[Item]:
    """The *items* of a chat answer with what they do not hold: *calls* are the fields of the calls, the last items."""
    if not message and not any(calls):
        return items
    extended: list[Item] = []
    for index, item in enumerate(items):
        call = calls[index - len(items)] if index >= len(items) - len(calls) else {}
        fields: JsonObject = {"message": message if index == 0 else {}, "call": call}
        fields = {key: value for key, value in fields.items() if value}
        keep = bool(fields) and json_size(fields) <= _LIMIT
        extended.append({**item, KEY: {"by": by, **fields}} if keep else item)
    return extended


def fields_of(item: Item, part: str, by: str) -> JsonObject:
    """The fields of *part* (`message` or `call`) that came with *item* from the address *by*."""
    opaque = mapping(item.get(KEY))
    return mapping(opaque.get(part)) if opaque.get("by") == by else {}


def address(base_url: str) -> str:
    """What names the address: never the address itself, which may hold a token."""
    return blake2b(base_url.encode(), digest_size=6).hexdigest()


def binding(item: Item) -> str | None:
    """What names the part of *item* that only its own provider, or model, can read; None when it has none."""
    kind = item.get("type", "message")
    bound = KEY in item or bool(item.get("id")) or kind not in _KNOWN
    # Not by its id: some servers give each answer the same.
    return blake2b(canonical(item), digest_size=16).hexdigest() if bound else None


def without_opaque(item: Item) -> Item | None:
    """*item* without what only its own provider, or model, can read; None when that is all of it."""
    known = _KNOWN.get(cast("str", item.get("type", "message")))
    return None if known is None else {key: item[key] for key in known if key in item}


def join_fragments(before: JsonValue, more: JsonValue) -> JsonValue:
    """A field that comes in pieces of a stream, put together."""
    if before is None or more is None:
        return before if more is None else more
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    if isinstance(before, dict) and isinstance(more, dict):
        return {**before, **{key: join_fragments(before.get(key), value) for key, value in more.items()}}
    if isinstance(before, list) and isinstance(more, list):
        return _joined_entries(before, more)
    return more


def _joined_entries(before: list[JsonValue], more: list[JsonValue]) -> list[JsonValue]:
    """Entries with the same index are pieces of one."""
    entries = list(before)
    for entry in more:
        last = entries[-1] if entries else None
        same = isinstance(entry, dict) and isinstance(last, dict) and "index" in entry
        if same and isinstance(entry, dict) and isinstance(last, dict) and last.get("index") == entry["index"]:
            entries[-1] = {
                **last,
                **{
                    key: join_fragments(last.get(key), value) if key in _PIECES else value
                    for key, value in entry.items()
                },
            }
        else:
            entries.append(entry)
    return entries


_PIECES: Final = frozenset({"text", "summary", "data", "signature", "thinking", "content"})
