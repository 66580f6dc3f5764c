"""A question that an MCP server asks a person in the middle of a call: what it is for one, and for a later answer.

The server keeps nothing meanwhile: it answers `input_required` with a state that it has sealed, and takes the call
again with the answer and this state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue

from assent.agents.authorization import Refusal, context_of
from assent.agents.gates import Gatekeeper
from assent.agents.mcp_server import schema_problem, without_patterns
from assent.agents.tool import Tool
from assent.wire.digest import canonical, json_size, sha256_hex
from assent.wire.limits import QUESTION_LIMIT, TERM_SHOWN
from assent.wire.protocol import InputField, ServerQuestion, ToolCallInput
from assent.wire.text import bounded

_DONE: Final = "done"
"""The field of a question that a person answers at a URL."""
_REFUSED: Final[Mapping[JsonValue, str]] = {
    "sampling/createMessage": "it asks for an answer of a model, which it does not get",
    "roots/list": "it asks for folders, which it does not get",
}


@dataclass(frozen=True)
class Question:
    """A question in words, the fields that a person fills in, and what the server needs with the answer."""

    words: str
    fields: list[InputField]
    stored: ServerQuestion


def question_of(asked: Mapping[str, JsonValue]) -> Question | str:
    """Return the question of an answer `input_required`, as JSON; or why it cannot be put to a person."""
    requests, state = asked.get("inputRequests"), asked.get("requestState")
    if not isinstance(requests, dict) or len(requests) != 1:
        return "it asks for nothing, or for several things at once"
    [(key, request)] = requests.items()
    if not isinstance(request, dict) or request.get("method") != "elicitation/create":
        method = request.get("method") if isinstance(request, dict) else None
        return _REFUSED.get(method, "it asks for what is not known here")
    if (size := json_size(asked)) > QUESTION_LIMIT:
        return f"its question has {size:,} bytes; it may have {QUESTION_LIMIT:,}"
    params = request.get("params")
    given = params if isinstance(params, dict) else {}
    message, url, schema = given.get("message"), given.get("url"), given.get("requestedSchema")
    if not isinstance(message, str):
        return "it asks a question without words"
    if isinstance(url, str):
        fields = [InputField(name=_DONE, type={"const": True}, description=f"true, once you are done at {url}")]
        words, same = f"{bounded(message, TERM_SHOWN)} Open {url}", cast("list[JsonValue]", [message, url])
    elif isinstance(schema, dict) and isinstance(properties := schema.get("properties"), dict):
        if problem := schema_problem(schema):
            return f"it asks a question, but {problem}"
        required = schema.get("required")
        needed = required if isinstance(required, list) else []
        fields = [_field(name, each, required=name in needed) for name, each in properties.items()]
        words, same = bounded(message, TERM_SHOWN), [message, schema]
    else:
        return "it asks a question without fields"
    digest = sha256_hex(canonical(same))
    sealed = state if isinstance(state, str) else None
    stored = ServerQuestion(key=key, digest=digest, state=sealed, url=isinstance(url, str))
    return Question(words, fields, stored)


def _field(name: str, schema: JsonValue, *, required: bool) -> InputField:
    kind = without_patterns(schema) if isinstance(schema, dict) else {}
    description = kind.pop("description", None)
    said = description if isinstance(description, str) else None
    return InputField(name=name, type=kind, description=said, required=required)


def response(question: ServerQuestion, fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return what the server gets for its *question*, where a person filled in *fields*."""
    content: dict[str, JsonValue] = {} if question.url else {"content": dict(fields)}
    return {question.key: {"action": "accept", **content}}


def question_gate(
    question: Question, tool: Tool, call: ToolCallInput, keeper: Gatekeeper, *, run_id: str, now: datetime
) -> Refusal:
    """Return the refusal that puts a server's question to those who may approve the call; a free call's to anyone."""
    del now
    context = context_of(call, tool, run_id)
    gate = keeper.gate(tool, context, call.arguments)
    if gate.verdict in {"deny", "invalid"}:
        return Refusal(gate.reason or "the policy does not permit it")
    update: dict[str, object] = {"verdict": "input", "fields": question.fields, "question": question.stored}
    if gate.verdict == "allow":
        update["self_approval"] = True
        gate = replace(keeper, asks=True).gate(tool, context, call.arguments)
    server = "" if tool.definition is None else tool.definition.server
    words = f"the MCP server {server!r} asks: {question.words}"
    return Refusal(words, gate.model_copy(update=update | {"needed": 1, "reason": None}))
