"""Which part of a long conversation is replaced by a summary, when, and by what words.

What is replaced stays in the history; only what the model is told gets shorter. The first message, which is the task,
stays; and so do the newest turns, so that no call is parted from its output, and no reasoning from its call.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import Field

from assent.wire.conversation import Conversation, fitted, text_of, user_message
from assent.wire.digest import canonical, json_size
from assent.wire.protocol import Item, ModelTurn, Prefix, Stored, Usage

SUMMARY_LIMIT: Final = 64_000
"""Bytes (as JSON) of a summary, at the most."""
TRANSCRIPT_LIMIT: Final = 4_000_000
"""Bytes (as JSON) of what is given to the model to summarise, at the most."""
TRIES: Final = 3
"""Summaries that may fail in a row; then what they were of is left out, and the model is told so."""
AGAIN: Final = 5
"""Turns after which it is tried again to make a summary that failed."""
_BYTES: Final = 4
"""Bytes of a token, where nobody says how many tokens something has."""
_KEPT: Final = 4
"""The newest turns that stay are together a fourth of what a conversation may be."""
_WORTH: Final = 8
"""What is replaced is an eighth of the conversation, and of its limit, at least: not a turn or two, again and again."""
LEAST: Final = 1_000
"""Tokens that a conversation may have, at least: a limit that no conversation keeps makes summaries of summaries."""
_LEAST: Final = 2_000
"""Bytes of what is replaced, at least: with the words around it, no summary of less would be shorter."""
_PEOPLE: Final = frozenset({"user", "system", "developer"})


class SummariseInput(Stored):
    """The input of the activity `summarise_conversation`: of the conversation *prefix*, which part, and how short.

    *pinned* items at the beginning stay, and *keep* at the end. *limit* is the bytes (as JSON) of the summary, and
    *max_context_tokens* what the conversation may have. *number* counts the summaries of a run, the failed included.
    *routed* is as of `ModelCallInput`.
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
        """How many items are replaced."""
        return self.prefix.length - self.pinned - self.keep


class Summary(Stored):
    """What `summarise_conversation` returns. *model* is the one that made it.

    With a *task_queue* no model was asked: it is to be asked there.
    """

    summary: str  # Required, so that no answer of another activity is taken for one.
    usage: Usage = Usage()
    model: str = ""
    task_queue: str | None = Field(default=None, max_length=200)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a run that replaces old turns knows of that.

    *tokens* are those of the newest turn, what it was asked and what it answered. *made* counts the summaries asked
    for, *failures* those that failed in a row; before turn *again* there is no other. *under_way* is the one that is
    being made.
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
    """What is known once turn *number* was answered. The limit comes with the first turn; without one, nothing is."""
    if number == 1:
        compaction = None if turn.max_context_tokens is None else Compaction(turn.max_context_tokens)
    if compaction is None:
        return None
    return replace(compaction, tokens=turn.usage.input_tokens + turn.usage.output_tokens)


def part_to_replace(
    compaction: Compaction | None, turn: int, items: Sequence[Item], added: Sequence[Item]
) -> Part | None:
    """What of *items* a summary should replace before the model is asked about *added*, after *turn* turns.

    None where the conversation is not too long, or nothing in it is old enough.
    """
    if compaction is None or compaction.under_way is not None or turn < compaction.again or not items:
        return None
    more = _size(added) // _BYTES
    if compaction.tokens and compaction.tokens + more <= compaction.limit:
        return None
    sizes = [json_size(item) for item in items]
    tokens = compaction.tokens or sum(sizes) // _BYTES
    if tokens + more <= compaction.limit:
        return None
    return _chosen(items, sizes, sum(sizes) * compaction.limit // (_KEPT * tokens), compaction.limit)


def _chosen(items: Sequence[Item], sizes: Sequence[int], share: int, limit: int) -> Part | None:
    """What to replace, so that what stays of the newest turns has no more than *share* bytes, if it can be."""
    pinned = 1 if items[0].get("role") == "user" else 0
    cuts = [index for index in boundaries(items) if index > pinned]
    if not cuts:
        return None
    cut, kept = cuts[-1], sum(sizes[cuts[-1] :])
    for earlier in reversed(cuts[:-1]):
        kept += sum(sizes[earlier:cut])
        if kept > share:
            break
        cut = earlier
    size = sum(sizes[pinned:cut])
    if size < max(_LEAST, sum(sizes) // _WORTH, limit * _BYTES // _WORTH):
        return None
    return Part(pinned, len(items) - cut, min(SUMMARY_LIMIT, size // 2, max(limit, _LEAST // 2)))


def boundaries(items: Sequence[Item]) -> Iterator[int]:
    """Where a conversation may be cut: before what a person said, and before what the model answered in one turn.

    Never while a call has no output yet.
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


def _size(items: Sequence[Item]) -> int:
    return sum(json_size(item) for item in items)


# -- the words --------------------------------------------------------------------------------------------------------


def with_summary(conversation: Conversation, wanted: SummariseInput, summary: str | None) -> Conversation:
    """The conversation with a part of it replaced by its summary; by the word that it was left out where that is None.

    A summary that is too long is cut, and marked as cut.
    """
    number, end = wanted.replaced, len(conversation) - wanted.keep
    if summary is None:
        text = f"[{number} earlier items of this conversation were left out here: no summary of them could be made.]"
    else:
        [words] = fitted([summary.strip()], wanted.limit)
        text = f"[This is a summary, made by the model, of {number} earlier items of this conversation.]\n\n{words}"
    items = conversation.items
    return Conversation().append([*items[: wanted.pinned], user_message(text), *items[end:]])


def transcript(items: Sequence[Item], limit: int) -> str:
    """What was said and done, a JSON object in each line, so that nothing said can pass for another line.

    Where it is over *limit* bytes (as JSON), the longest texts are cut, each marked as cut.
    """
    told = [line for item in items if (line := _told(item)) is not None]
    texts = fitted([text for _, text in told], min(limit, TRANSCRIPT_LIMIT))
    lines = [canonical({**head, "text": text}) for (head, _), text in zip(told, texts, strict=True)]
    return b"\n".join(lines).decode("utf-8", "replace")


def _told(item: Item) -> tuple[dict[str, str], str] | None:
    """Who said an item, or which tool is called, and the words; None for what says nothing."""
    match item.get("type"):
        case "function_call":
            return {"by": "assistant", "calls": str(item.get("name"))}, str(item.get("arguments", ""))
        case "function_call_output":
            return {"by": "tool"}, _words(item.get("output"))
        case "reasoning":
            return None
        case _:
            said = text_of([{**item, "role": "assistant"}])
            return ({"by": str(item.get("role"))}, said) if said else None


def _words(value: object) -> str:
    return value if isinstance(value, str) else canonical(value).decode("utf-8", "replace")
