"""Call ids that are unique within a conversation, whatever the server sends."""

from collections.abc import Iterable, Sequence
from typing import Final

from assent.wire.protocol import Item

_BASE_LENGTH: Final = 48
"""The provider takes ids of up to 64 characters; the rest is for the number."""


def with_unique_call_ids(items: Sequence[Item], before: Iterable[Item]) -> list[Item]:
    """*items* with every function call named once: not empty, not twice, not as a call in *before* was.

    Some compatible servers call the first call of every turn `call_0`; an approval is given to one call.
    """
    taken = {str(item.get("call_id")) for item in before if item.get("type") == "function_call"}
    return [_with_unique_id(item, taken) if item.get("type") == "function_call" else item for item in items]


def _with_unique_id(item: Item, taken: set[str]) -> Item:
    said = item.get("call_id")
    call_id = _free(said if isinstance(said, str) else "", taken)
    taken.add(call_id)
    return item if call_id == said else {**item, "call_id": call_id}


def _free(call_id: str, taken: set[str]) -> str:
    if call_id and call_id not in taken:
        return call_id
    base, number = (call_id or "call")[:_BASE_LENGTH], len(taken)
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"
