"""What stands beside an answer, read leniently: servers that are compatible in the answer differ here.

An answer is paid for. A token count as text, a model that is null or an empty error is no reason to pay for another.
"""

import json
import math
from collections.abc import Mapping
from typing import Final, Literal, cast

from pydantic import JsonValue

from assent.wire.protocol import Usage

from .errors import ONE_ANSWER, unreadable

Ending = Literal["whole", "cut", "filtered", "unknown"]
"""How an answer ended. *unknown* is none of the others: what was said is no answer."""

_MOST_TOKENS: Final = 10**12
_WHOLE: Final = frozenset(
    {
        "stop", "tool_calls", "tool_call", "tool_use", "function_call", "function_calls", "end_turn", "stop_sequence",
        "stop_token", "eos", "eos_token", "end", "complete", "completed", "finish", "finished", "done",
    }
)  # fmt: skip
_CUT: Final = frozenset({"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length"})
_FILTERED: Final = frozenset(
    {"content_filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist", "prohibited_content"}
)


def finish_reason(reason: object) -> Ending | None:
    """What a reason to end means; None where there is none. Gateways pass on the words of the provider behind them."""
    word = str(reason).strip().lower().replace("-", "_") if isinstance(reason, str) else ""
    if not word:
        return None
    if word in _WHOLE:
        return "whole"
    if word in _CUT:
        return "cut"
    return "filtered" if word in _FILTERED else "unknown"


def text_or_empty(value: object) -> str:
    """*value* if it is text."""
    return value if isinstance(value, str) else ""


def read_body(data: object) -> object:
    """*data*, the body of an answer; read, if it came as text: some servers call their JSON another type."""
    if not isinstance(data, str):
        return data
    try:
        return cast("object", json.loads(data))
    except (ValueError, RecursionError):
        return data


def mapping(value: object) -> dict[str, JsonValue]:
    """*value* if it is an object."""
    return cast("dict[str, JsonValue]", value) if isinstance(value, dict) else {}


def mappings(value: object) -> list[dict[str, JsonValue]]:
    """The objects in *value*. Some servers send `{}` for no entries, and one entry without its list."""
    if isinstance(value, dict):
        return [cast("dict[str, JsonValue]", value)] if value else []
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, JsonValue]", entry) for entry in entries if isinstance(entry, dict)]


def calls_in(value: object, paid: Usage = ONE_ANSWER) -> list[dict[str, JsonValue]]:
    """The tool calls, or the items, in *value*. None of them is left out: an answer without one says something else.

    Raises:
        CallError: there is one that is no object; *paid* is what the answer used.
    """
    entries, shown = mappings(value), str(value)[:500]
    parts = len(cast("list[object]", value)) if isinstance(value, list) else int(bool(value))
    if len(entries) < parts:
        raise unreadable(f"The provider's answer has a part that is no object: {shown}", paid=paid)
    return entries


def begun_only(arguments: object, ended: Ending | None) -> bool:
    """Return whether an answer ended before the model wrote any of the *arguments* of its last call.

    A call without arguments is one with the defaults: of half an answer, nothing that the model did not write runs.
    """
    return ended in {"cut", "filtered"} and not str(arguments or "").strip()


def usage_of(reported: object) -> Usage:
    """The tokens that a provider says it counted, in the words of either API; 0 where it does not say."""
    tokens = mapping(reported)
    return Usage(
        requests=1,
        input_tokens=_count(tokens, "input_tokens", "prompt_tokens"),
        output_tokens=_count(tokens, "output_tokens", "completion_tokens"),
    )


def _count(tokens: Mapping[str, JsonValue], *names: str) -> int:
    for name in names:
        value = tokens.get(name)
        try:
            number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else 0.0
        except (ValueError, OverflowError):
            continue
        if math.isfinite(number) and number > 0:
            return min(int(number), _MOST_TOKENS)
    return 0
