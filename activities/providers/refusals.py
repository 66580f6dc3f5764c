"""What a provider refuses to be asked for, read from its error; a request is then made without that.

No list of providers stays right, so it is learnt: by a worker, for one model at one address, and only once a request
without it was answered. Errors come in many envelopes; what is read of them are messages, and names of parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, Literal, cast

from assent.agents.models import OpenAIResponses

from .exchange import Question

if TYPE_CHECKING:
    from openai import APIStatusError

Refusable = Literal[
    "encrypted",
    "usage",
    "stream",
    "tool_choice",
    "parallel",
    "strict",
    "tokens",
    "json_schema",
    "json_object",
    "thoughtless",
    "unsigned",
]
"""Encrypted reasoning, the tokens used in a stream, a stream, `tool_choice`, `parallel_tool_calls`, `strict` of tools,
the name of the parameter that bounds the answer's tokens, an answer by a schema, an answer in JSON, messages of the
model that have no `reasoning_content`, and calls that have no `thought_signature`."""

_STATUSES: Final = frozenset({400, 404, 422, 501})
"""404 is OpenRouter's, where no server behind it takes a parameter."""
_FORMAT: Final = re.compile(r"response_format|json_schema|json_object|text\.format|\btype is unavailable")
_ABOUT: Final[dict[Refusable, re.Pattern[str]]] = {
    "thoughtless": re.compile(
        r"reasoning_content\b.{0,80}\b(must be|is|are) (passed|provided|included|missing|required)"
        r"|\b(missing|requires?)\b.{0,80}\breasoning_content"
    ),
    "unsigned": re.compile(r"\b(missing|requires?)\b.{0,80}\bthought_?signature", re.IGNORECASE),
    "usage": re.compile(r"stream_options|include_usage"),
    "tool_choice": re.compile(r"tool_choice|tool choice"),
    "parallel": re.compile(r"parallel_tool_calls"),
    "strict": re.compile(r"\bstrict\b"),
    "tokens": re.compile(r"max_tokens|max_completion_tokens"),
    "json_schema": _FORMAT,
    "json_object": _FORMAT,
    "stream": re.compile(r"\bstream"),
}
_INCLUDE: Final = re.compile(r"\bbody\.include\b|['\"`]include\b")
_CALL_ID: Final = re.compile(r"call[_ ]?ids?\b|tool_calls\W*\d+\W*\.id\b|tool_use\.id\b|tool_use_id", re.IGNORECASE)
_WORDS: Final = ("message", "msg", "detail", "error", "errors", "error_description", "title", "reason")
_DEPTH: Final = 6


def refused_parameter(error: Exception, question: Question, without: AbstractSet[Refusable]) -> Refusable | None:
    """What of the request *error* says that the provider does not take; None when it is about something else.

    *without* is what the request did without already.
    """
    from openai import APIStatusError

    if not isinstance(error, APIStatusError):
        return None
    about = error.param or "\n".join(error_messages(error.body)) or str(error)
    if isinstance(question.model, OpenAIResponses) and error.status_code in _STATUSES and _names_include(error, about):
        # By the parameter alone: an item whose content cannot be read is that conversation's, and no model's.
        return None if "encrypted" in without else "encrypted"
    for name in _sent(question, without):
        # Some servers answer 500 where they do not know the format of an answer.
        known = error.status_code in _STATUSES or (error.status_code == 500 and _ABOUT[name] is _FORMAT)
        if known and _ABOUT[name].search(about):
            return name
    return None


def _names_include(error: APIStatusError, about: str) -> bool:
    return error.param == "include" or (error.param is None and _INCLUDE.search(about) is not None)


def refuses_call_ids(error: Exception) -> bool:
    """Return whether *error* is about the ids of calls in the history: of other characters, or too long.

    Whatever its status: servers answer 500, or 404, to ids that they made themselves.
    """
    from openai import APIStatusError

    if not isinstance(error, APIStatusError):
        return False
    return _CALL_ID.search("\n".join([error.param or "", *error_messages(error.body)])) is not None


def _sent(question: Question, without: AbstractSet[Refusable]) -> Iterator[Refusable]:
    """What the request had that may be left out, the plainest first."""
    model = question.model
    parts: dict[Refusable, bool] = {
        "thoughtless": model.api == "chat" and any(item.get("role") != "user" for item in question.items),
        "unsigned": model.api == "chat" and any(item.get("type") == "function_call" for item in question.items),
        "usage": model.api == "chat" and model.stream and "stream" not in without,
        "tool_choice": bool(question.tools) and model.tool_choice is not None,
        "parallel": bool(question.tools),
        "strict": bool(question.tools),
        "tokens": model.api == "chat" and model.max_output_tokens is not None,
        "json_schema": question.output_schema is not None,
        "json_object": question.output_schema is not None and "json_schema" in without,
        "stream": model.stream,
    }
    return (name for name, is_sent in parts.items() if is_sent and name not in without)


def error_messages(body: object, depth: int = _DEPTH) -> list[str]:
    """The messages in the body of an error, and the names of the parameters that they are about.

    OpenAI's `{"error": {"message"}}`, FastAPI's `{"detail": [{"loc", "msg"}]}` and what gateways make of them. Never
    what a server repeats of the request.
    """
    if isinstance(body, str):
        return [body] if body else []
    if isinstance(body, list):
        entries = cast("list[object]", body)
        return [] if depth == 0 else [text for entry in entries for text in error_messages(entry, depth - 1)]
    if not isinstance(body, dict) or depth == 0:
        return []
    fields = cast("dict[str, object]", body)
    where = fields.get("loc")
    prefix = ".".join(map(str, cast("list[object]", where))) if isinstance(where, list) else ""
    texts = [text for name in _WORDS if name in fields for text in error_messages(fields[name], depth - 1)]
    return [f"{prefix}: {text}" if prefix else text for text in texts]
