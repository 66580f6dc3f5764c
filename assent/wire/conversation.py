"""The items of a conversation: append-only, with a running digest.

An item has the shape of an input item of the OpenAI Responses API; the Chat Completions adapter translates. A
conversation is named by its length and digest, so that a model call can carry what is new and *name* the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from assent.wire.digest import extend, json_size
from assent.wire.limits import TURN_LIMIT
from assent.wire.parts import Part, item_content
from assent.wire.protocol import Item, Prefix

EMPTY_DIGEST: Final = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call that the model asked for. *arguments* are the raw text it produced."""

    call_id: str
    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The items so far, and the running digest over them."""

    items: tuple[Item, ...] = ()
    digest: str = EMPTY_DIGEST

    def __len__(self) -> int:
        """How many items there are."""
        return len(self.items)

    @property
    def prefix(self) -> Prefix | None:
        """The name of the whole, for the next model call; None when it is empty."""
        return Prefix(length=len(self.items), digest=self.digest) if self.items else None

    def append(self, items: Sequence[Item]) -> Conversation:
        """This conversation with *items* behind it."""
        return Conversation((*self.items, *items), extend(self.digest, items))


def user_message(content: str | Sequence[Part]) -> Item:
    """What a person said; bytes are named by their SHA-256."""
    return {"role": "user", "content": item_content(content)}


def tool_output(call_id: str, output: str, images: Sequence[JsonValue] = ()) -> Item:
    """What a tool call is answered to the model; *images* as the parts of an item, which name their bytes."""
    item: Item = {"type": "function_call_output", "call_id": call_id, "output": output}
    return {**item, "images": list(images)} if images else item


def shorten_outputs(outputs: Sequence[str], limit: int = TURN_LIMIT) -> list[str]:
    """*outputs*, cut where together they are over *limit* bytes: the longest first, each cut marked as one."""
    sizes = [json_size(output) for output in outputs]
    if sum(sizes) <= limit:
        return list(outputs)
    share = _share(sorted(sizes), limit)
    return [_cut(output, size, share) for output, size in zip(outputs, sizes, strict=True)]


def _share(ascending: Sequence[int], limit: int) -> int:
    """The most bytes that each may keep, so that what is shorter keeps all of its own."""
    left = limit
    for index, size in enumerate(ascending):
        share = left // (len(ascending) - index)
        if size > share:
            return share
        left -= size
    return limit


def _cut(output: str, size: int, share: int) -> str:
    if size <= share:
        return output
    data = output.encode("utf-8", "surrogatepass")
    keep = min(share, len(data))
    # What escapes to many bytes may lie at the beginning, so the cut is measured again until it fits.
    while keep and (written := json_size(data[:keep].decode("utf-8", "ignore"))) > share:
        keep = keep * share // written
    return f"{data[:keep].decode('utf-8', 'ignore')}\n[cut here: {keep} of {len(data)} bytes]"


def tool_calls(items: Iterable[Item]) -> list[ToolCall]:
    """The tool calls among *items*, in the model's order."""
    return [
        ToolCall(call_id=str(item["call_id"]), tool=str(item["name"]), arguments=str(item.get("arguments", "")))
        for item in items
        if item.get("type") == "function_call"
    ]


def text_of(items: Iterable[Item]) -> str:
    """The words that the model said among *items*, paragraphs joined by an empty line; empty when it said none."""
    return "\n\n".join(text for item in items if item.get("role") == "assistant" for text in _texts(item))


def _texts(item: Item) -> list[str]:
    content = item.get("content")
    if isinstance(content, str):
        return [content] if content else []
    if not isinstance(content, list):
        return []
    parts = [part for part in content if isinstance(part, dict)]
    return [str(part.get("text") or part.get("refusal")) for part in parts if part.get("text") or part.get("refusal")]
