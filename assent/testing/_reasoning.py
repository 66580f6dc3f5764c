"""Reasoning that has to come back: how the scripted server knows, without keeping anything.

The ids of an answer that was thought about say so (`call_r…`, `fc_r…`, `msg_r…`) and name the reasoning item
(`rs_…`), whose encrypted content can be told from its id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from assent.wire.protocol import Item

MARK_LENGTH: Final = 24


def encrypted(reasoning_id: str) -> str:
    """The encrypted content of the reasoning item *reasoning_id*."""
    return f"gAAAA{blake2b(reasoning_id.encode(), digest_size=48).hexdigest()}"


def check_reasoning(items: Sequence[Item]) -> str | None:
    """What the real API would say is wrong with the reasoning among *items*; None when nothing is."""
    given: set[str] = set()
    for item, following in zip(items, [*items[1:], None], strict=True):
        if item.get("type") != "reasoning":
            if needed := _needed(item, given):
                return needed
            continue
        reasoning_id = str(item.get("id"))
        if item.get("encrypted_content") != encrypted(reasoning_id):
            return (
                f"Item with id '{reasoning_id}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input."
            )
        if not _is_models(following):
            return f"Item '{reasoning_id}' of type 'reasoning' was provided without its required following item."
        given.add(reasoning_id)
    return None


def _is_models(item: Item | None) -> bool:
    return item is not None and (item.get("role") == "assistant" or item.get("type") in {"function_call", "reasoning"})


def _needed(item: Item, given: set[str]) -> str | None:
    kind = item.get("type", "message")
    if not _is_models(item):
        return None
    for needed in _reasoning_ids([item.get("id"), item.get("call_id")]):
        if needed not in given:
            name = item.get("id") or item.get("call_id")
            return f"Item '{name}' of type '{kind}' was provided without its required 'reasoning' item: '{needed}'."
    return None


def _reasoning_ids(names: Iterable[object]) -> Iterable[str]:
    for name in names:
        _, mark, rest = str(name).partition("_r")
        if mark and len(rest) >= MARK_LENGTH and str(name).startswith(("call_r", "fc_r", "msg_r")):
            yield f"rs_{rest[:MARK_LENGTH]}"
