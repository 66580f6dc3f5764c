"""Reasoning that has to come back: how the scripted server knows, without keeping anything.

The ids of an answer that was thought about say so (`fc_r…`, `msg_r…`) and name the reasoning item (`rs_…`), whose
encrypted content can be told from its id and the model. Over the Chat Completions API, ids of calls (`call_o…`) say
that the message had `reasoning_content`, and each call a signature.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from pydantic import JsonValue

from assent.wire.protocol import Item

MARK_LENGTH: Final = 24


def encrypted(reasoning_id: str, model: str) -> str:
    """The encrypted content of the reasoning item *reasoning_id*, which *model* alone can read."""
    return f"gAAAA{blake2b(f'{model}/{reasoning_id}'.encode(), digest_size=48).hexdigest()}"


def check_reasoning(items: Sequence[Item], model: str) -> tuple[str, str | None] | None:
    """What the real API would say is wrong with the reasoning among *items*, with its code; None when nothing is."""
    seen: set[str] = set()
    for item, following in zip(items, [*items[1:], None], strict=True):
        if item.get("type") != "reasoning":
            if needed := _missing_reasoning(item, seen):
                return needed, None
            continue
        reasoning_id, content = str(item.get("id")), item.get("encrypted_content")
        if content is None:
            return (
                f"Item with id '{reasoning_id}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input."
            ), None
        if content != encrypted(reasoning_id, model):
            return f"The encrypted content {str(content)[:4]}... could not be verified.", "invalid_encrypted_content"
        if not _is_models(following):
            problem = f"Item '{reasoning_id}' of type 'reasoning' was provided without its required following item."
            return problem, None
        seen.add(reasoning_id)
    return None


def _is_models(item: Item | None) -> bool:
    return item is not None and (item.get("role") == "assistant" or item.get("type") in {"function_call", "reasoning"})


def _missing_reasoning(item: Item, seen: set[str]) -> str | None:
    kind = item.get("type", "message")
    if not _is_models(item):
        return None
    for needed in _reasoning_ids([item.get("id")]):
        if needed not in seen:
            return (
                f"Item '{item['id']}' of type '{kind}' was provided without its required 'reasoning' item: '{needed}'."
            )
    return None


def _reasoning_ids(names: Iterable[object]) -> Iterable[str]:
    for name in names:
        _, mark, rest = str(name).partition("_r")
        if mark and len(rest) >= MARK_LENGTH and str(name).startswith(("fc_r", "msg_r")):
            yield f"rs_{rest[:MARK_LENGTH]}"


def seal(mark: str) -> str:
    """The `reasoning_content` of a chat message, and the signature of its calls."""
    return f"sealed-{mark}"


def mark_of(call_id: object) -> str | None:
    """The mark of the message with this call, where it had reasoning that has to come back."""
    name = str(call_id)
    return name[len("call_o") :][:MARK_LENGTH] if name.startswith("call_o") else None


def check_chat_reasoning(message: dict[str, JsonValue]) -> str | None:
    """What DeepSeek, or Gemini, would say is wrong with a *message* of the history; None when nothing is."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if not isinstance(call, dict) or (mark := mark_of(call.get("id"))) is None:
            continue
        if message.get("reasoning_content") != seal(mark):
            return "The `reasoning_content` in the thinking mode must be passed back to the API."
        if call.get("extra_content") != {"google": {"thought_signature": seal(mark)}}:
            return "Function call is missing a thought_signature in functionCall parts."
    return None
