"""Call ids that are unique within a conversation, whatever the server sends, and short where it takes no others."""

from base64 import b32encode
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Final

from assent.wire.protocol import Item

_BASE_LENGTH: Final = 32
"""OpenAI takes ids of up to 40 characters; the rest is for the number."""
_SHORT_LENGTH: Final = 9
"""Of letters and digits alone: Mistral takes no other id, and any other provider takes such a one."""
_CALLS: Final = frozenset({"function_call", "function_call_output"})


def with_unique_call_ids(items: Sequence[Item], before: Iterable[Item]) -> list[Item]:
    """*items* with every function call named once: not empty, not twice, not as a call in *before* was.

    Some compatible servers call the first call of every turn `call_0`; an approval is given to one call.
    """
    taken = {str(item.get("call_id")) for item in before if item.get("type") == "function_call"}
    return [_with_unique_id(item, taken) if item.get("type") == "function_call" else item for item in items]


def _with_unique_id(item: Item, taken: set[str]) -> Item:
    original = item.get("call_id")
    call_id = _free(original if isinstance(original, str) else "", taken)
    taken.add(call_id)
    return item if call_id == original else {**item, "call_id": call_id}


def _free(call_id: str, taken: set[str]) -> str:
    if call_id and call_id not in taken:
        return call_id
    base, number = (call_id or "call")[:_BASE_LENGTH], len(taken)
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"


def short_id(call_id: str) -> str:
    """Return an id for the call *call_id* that every provider takes; always the same."""
    digest = blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    return b32encode(digest).decode()[:_SHORT_LENGTH]


def call_ids_of(items: Iterable[Item]) -> set[str]:
    """Return the ids of all calls of *items*."""
    return {str(item.get("call_id")) for item in items if item.get("type") in _CALLS}


def with_short_ids(items: Sequence[Item], call_ids: AbstractSet[str]) -> Sequence[Item]:
    """Return *items* with a short id for each of *call_ids*, in its call and in its output."""
    if not call_ids:
        return items
    return [_with_short_id(item) if str(item.get("call_id")) in call_ids else item for item in items]


def _with_short_id(item: Item) -> Item:
    return {**item, "call_id": short_id(str(item["call_id"]))} if item.get("type") in _CALLS else item
