"""Which part of a long conversation a summary replaces, and when.

The history keeps what is replaced; only the model's input gets shorter. The first message, which is the task, and the
newest turns stay, so that no call loses its output and no reasoning its call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import Field

from assent.wire.conversation import Conversation, shorten_outputs, user_message
from assent.wire.digest import canonical, json_size
from assent.wire.limits import REPLACED_LEAST, SUMMARY_LIMIT, TRANSCRIPT_LIMIT
from assent.wire.parts import content_text
from assent.wire.protocol import Item, ModelTurn, Prefix, Stored, Usage

TRIES: Final = 3
"""Summaries that may fail in a row; after that the part is left out, and the conversation says so."""
AGAIN: Final = 5
"""Turns from a failed summary to the next try."""
_BYTES: Final = 4
"""Bytes of a token, if the number of tokens is not known."""
_IMAGE: Final = 4_000
"""Bytes that an image, or a file beside its own, counts as: a provider counts a thousand tokens or so."""
_KEPT: Final = 4
"""The newest turns that stay are together a fourth of what a conversation may be."""
_WORTH: Final = 8
"""The replaced part is at least an eighth of the conversation, and of its limit: not a turn or two, again and again."""
LEAST: Final = 1_000
"""The lowest limit of a conversation, in tokens: a lower one would cause summaries of summaries."""
_PEOPLE: Final = frozenset({"user", "system", "developer"})


class SummariseInput(Stored):
    """The input of the activity `summarise_conversation`: the conversation *prefix*, and the part to summarise.

    *pinned* items at the beginning stay, and *keep* at the end. *limit* is the size of the summary in bytes (as JSON),
    *max_context_tokens* that of the conversation. *number* counts the summaries of a run, failed ones included.
    *routed* is as in `ModelCallInput`.
    """

    agent: str
    number: int
    prefix: Prefix
    pinned: int
    keep: int
    limit: int
    max_context_tokens: int
    routed: bool = False

    @property
    def replaced(self) -> int:
        """Return the number of items that the summary replaces."""
        return self.prefix.length - self.pinned - self.keep


class Summary(Stored):
    """The result of `summarise_conversation`. *model* is the one that made it.

    With a *task_queue* no model was called: the run must repeat the call there.
    """

    summary: str  # Required, so that no result of another activity passes for one.
    usage: Usage = Usage()
    model: str = ""
    task_queue: str | None = Field(default=None, max_length=200)


@dataclass(frozen=True, slots=True)
class Compaction:
    """The state of a run that replaces old turns by summaries.

    *tokens* are those of the newest turn, input and output. *made* counts the requested summaries, *failures* those
    that failed in a row; before turn *again* there is no other. *under_way* is the one that is being made.
    """

    limit: int
    tokens: int = 0
    made: int = 0
    failures: int = 0
    again: int = 0
    under_way: SummariseInput | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a conversation that a summary replaces: all but *pinned* items, and *keep* at the end."""

    pinned: int
    keep: int
    limit: int


def after_turn(compaction: Compaction | None, number: int, turn: ModelTurn) -> Compaction | None:
    """Return the state after turn *number*. The first turn brings the limit; without a limit there are no summaries."""
    if number == 1:
        compaction = None if turn.max_context_tokens is None else Compaction(turn.max_context_tokens)
    if compaction is None:
        return None
    return replace(compaction, tokens=turn.usage.input_tokens + turn.usage.output_tokens)


def part_to_replace(
    compaction: Compaction | None, turn: int, items: Sequence[Item], added: Sequence[Item]
) -> Part | None:
    """Return the part of *items* to replace before a model call with the new items *added*, after *turn* turns.

    None if the conversation is not too long, or nothing in it is old enough.
    """
    if compaction is None or compaction.under_way is not None or turn < compaction.again or not items:
        return None
    more = sum(map(_weight, added)) // _BYTES
    if compaction.tokens and compaction.tokens + more <= compaction.limit:
        return None
    sizes = [_weight(item) for item in items]
    tokens = compaction.tokens or sum(sizes) // _BYTES
    if tokens + more <= compaction.limit:
        return None
    return _choose(items, sizes, sum(sizes) * compaction.limit // (_KEPT * tokens), compaction.limit)


def _choose(items: Sequence[Item], sizes: Sequence[int], share: int, limit: int) -> Part | None:
    """Return the part to replace, so that the newest turns which stay have at most *share* bytes, if possible."""
    pinned = 1 if items[0].get("role") == "user" else 0
    cuts = [index for index in boundaries(items) if index > pinned]
    if not cuts:
        return None
    cut, kept_size = cuts[-1], sum(sizes[cuts[-1] :])
    for earlier in reversed(cuts[:-1]):
        kept_size += sum(sizes[earlier:cut])
        if kept_size > share:
            break
        cut = earlier
    size = sum(sizes[pinned:cut])
    if size < max(REPLACED_LEAST, sum(sizes) // _WORTH, limit * _BYTES // _WORTH):
        return None
    return Part(pinned, len(items) - cut, min(SUMMARY_LIMIT, size // 2, max(limit, REPLACED_LEAST // 2)))


def boundaries(items: Sequence[Item]) -> Iterator[int]:
    """Yield where a conversation may be cut: before a person's message, and before the model's items of one turn.

    Never between a call and its output.
    """
    unanswered: set[str] = set()
    for index, item in enumerate(items):
        if index and not unanswered and _begins(items[index - 1], item):
            yield index
        if item.get("type") == "function_call":
            unanswered.add(str(item.get("call_id")))
        elif item.get("type") == "function_call_output":
            unanswered.discard(str(item.get("call_id")))


def _begins(before: Item, item: Item) -> bool:
    if item.get("type") == "function_call_output":
        return False
    return not _is_models(item) or not _is_models(before)


def _is_models(item: Item) -> bool:
    return item.get("role") not in _PEOPLE and item.get("type") != "function_call_output"


def _weight(item: Item) -> int:
    """Return the bytes of text that cost about as many tokens as an item."""
    content = item.get("images") or item.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    files = [part.get("size") for part in parts if part.get("type") == "input_file"]
    images = sum(part.get("type") in {"input_image", "input_file"} for part in parts)
    return json_size(item) + _IMAGE * images + sum(size for size in files if isinstance(size, int))


# -- the texts --------------------------------------------------------------------------------------------------------


def with_summary(conversation: Conversation, request: SummariseInput, summary: str | None) -> Conversation:
    """Return the conversation with a part replaced by its *summary*, or by a note that it was left out.

    A summary that is too long is cut, and marked as cut.
    """
    number, end = request.replaced, len(conversation) - request.keep
    if summary is None:
        text = f"[{number} earlier items of this conversation were left out here: no summary of them could be made.]"
    else:
        [words] = shorten_outputs([summary.strip()], request.limit)
        text = f"[This is a summary, made by the model, of {number} earlier items of this conversation.]\n\n{words}"
    items = conversation.items
    return Conversation().append([*items[: request.pinned], user_message(text), *items[end:]])


def transcript(items: Sequence[Item], limit: int) -> str:
    """Return *items* as text, one JSON object a line, so that no text can pass for another line.

    If it is over *limit* bytes (as JSON), the longest texts are cut, each marked as cut.
    """
    entries = [entry for item in items if (entry := _entry(item)) is not None]
    texts = shorten_outputs([text for _, text in entries], min(limit, TRANSCRIPT_LIMIT))
    lines = [canonical({**head, "text": text}) for (head, _), text in zip(entries, texts, strict=True)]
    return b"\n".join(lines).decode("utf-8", "replace")


def _entry(item: Item) -> tuple[dict[str, str], str] | None:
    """Return the author of an item, or the tool that it calls, and its text; None if it has no text."""
    match item.get("type"):
        case "function_call":
            return {"by": "assistant", "calls": str(item.get("name"))}, str(item.get("arguments", ""))
        case "function_call_output":
            output = item.get("output")
            return {"by": "tool"}, output if isinstance(output, str) else canonical(output).decode("utf-8", "replace")
        case "reasoning":
            return None
        case _:
            text = content_text(item.get("content"))
            return ({"by": str(item.get("role"))}, text) if text else None
