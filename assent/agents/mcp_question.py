"""Questions that an MCP server asks a person in the middle of a call: what they are for one, and for a later answer.

A server of the protocol 2026-07-28 keeps nothing meanwhile: it answers `input_required` with a state that it has
sealed, and takes the call again with the answers and this state. One of an earlier protocol holds the call while it
asks. That call is ended, and made again from its start with the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, cast

from pydantic import JsonValue

from assent.agents.authorization import Refusal, context_of
from assent.agents.gates import Gatekeeper
from assent.agents.server_schema import plain_field, schema_problem
from assent.agents.tool import Tool
from assent.wire.digest import canonical, json_size, sha256_hex
from assent.wire.limits import QUESTION_LIMIT, TERM_SHOWN
from assent.wire.protocol import InputField, ServerQuestion, ServerRequest, ToolCallInput
from assent.wire.text import bounded, one_line

ELICIT: Final = "elicitation/create"
ROOTS: Final = "roots/list"
"""What a request for folders is called, and its digest: the answer to it is the operator's."""
_DONE: Final = "done"
"""The field of a question that a person answers at a URL."""
_REFUSED: Final[Mapping[JsonValue, str]] = {
    "sampling/createMessage": "it asks for an answer of a model (sampling), which servers do not get",
    ROOTS: "it asks for folders, which it gets only with MCPServer(roots=[…])",
}
_AGAIN: Final = "Your answer makes the call again from its start: what it did before it asked, it may do twice."
_SAID: Final = 200
_WEB: Final = re.compile(r"https?://[^/]")

Answers = Mapping[str, JsonValue]
"""What a server gets for its questions, each by the digest of the question."""


@dataclass(frozen=True)
class Question:
    """A question in words, the fields that a person fills in, and what the server needs with the answer."""

    words: str
    fields: list[InputField]
    stored: ServerQuestion


def question_of(asked: Mapping[str, JsonValue], *, roots: bool = False, held: str | None = None) -> Question | str:
    """Return the question of an answer `input_required`, as JSON; or why it cannot be put to a person.

    With *roots*, folders may be asked for. *held*: the server ended the call with these words, and takes it again.
    """
    requests, state = asked.get("inputRequests") or {}, asked.get("requestState")
    if not isinstance(requests, dict) or not (requests or isinstance(state, str)):
        return "it asks for nothing"
    if (size := json_size(asked)) > QUESTION_LIMIT:
        return f"its question has {size:,} bytes; the limit is {QUESTION_LIMIT:,}"
    found = list[ServerRequest]()
    texts, fields = list[str](), list[InputField]()
    asks = sum(isinstance(each, dict) and each.get("method") == ELICIT for each in requests.values())
    for key, request in requests.items():
        prefix = f"{len(texts) + 1}." if asks > 1 else ""
        one = _request(key, request, prefix=prefix, roots=roots)
        if isinstance(one, str):
            return one
        if one.words and one.stored.digest not in {each.digest for each in found}:  # An equal one is answered once.
            texts.append(f"{prefix} {one.words}".strip())
            fields += one.fields
        found.append(one.stored)
    sealed = state if isinstance(state, str) else None
    words = " ".join(texts)
    if held:
        end = one_line(bounded(held, _SAID))
        words += f" (It held the call while it asked; that call was ended, with: {end!r}. {_AGAIN})"
    elif held is not None:
        words += f" ({_AGAIN})"
    return Question(words, fields, ServerQuestion(requests=found, state=sealed, held=held is not None))


@dataclass(frozen=True)
class _Request:
    words: str
    fields: list[InputField]
    stored: ServerRequest


def _request(key: str, request: JsonValue, *, prefix: str, roots: bool) -> _Request | str:
    method = request.get("method") if isinstance(request, dict) else None
    if method == ROOTS and roots:
        return _Request("", [], ServerRequest(key=key, digest=ROOTS))
    if not isinstance(request, dict) or method != ELICIT:
        return _REFUSED.get(method, "it asks for what is not known here")
    params = request.get("params")
    parameters = params if isinstance(params, dict) else {}
    message, url, schema = parameters.get("message"), parameters.get("url"), parameters.get("requestedSchema")
    if not isinstance(message, str):
        return "it asks a question without words"
    if isinstance(url, str):
        if not _WEB.match(url):
            return f"it asks to open what is no page of the web: {one_line(bounded(url, _SAID))}"
        kind: dict[str, JsonValue] = {"const": True}
        fields = [InputField(name=prefix + _DONE, type=kind, description=f"true, once you are done at {url}")]
        words, same = f"{bounded(message, TERM_SHOWN)} Open {url}", cast("list[JsonValue]", [message, url])
    elif isinstance(schema, dict) and isinstance(properties := schema.get("properties"), dict):
        if problem := schema_problem(schema):
            return f"it asks a question, but {problem}"
        required = schema.get("required")
        needed = required if isinstance(required, list) else []
        fields = [_field(prefix + name, each, required=name in needed) for name, each in properties.items()]
        words, same = bounded(message, TERM_SHOWN), [message, schema]
    else:
        return "it asks a question without fields"
    stored = ServerRequest(key=key, digest=sha256_hex(canonical(same)), prefix=prefix, url=isinstance(url, str))
    return _Request(words, fields, stored)


def _field(name: str, schema: JsonValue, *, required: bool) -> InputField:
    kind = plain_field(schema) if isinstance(schema, dict) else {}
    description = kind.pop("description", None)
    text = description if isinstance(description, str) else None
    return InputField(name=name, type=kind, description=text, required=required)


def answers_of(question: ServerQuestion, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the answers to a *question* for which a person filled in *values*, and those of before in this call."""
    answers = dict(question.earlier)
    for each in question.requests:
        if each.digest == ROOTS:
            continue
        own = {name.removeprefix(each.prefix): value for name, value in values.items() if name.startswith(each.prefix)}
        if own or each.digest not in answers:  # An equal one has its values under the first key.
            answers[each.digest] = {"action": "accept", **({} if each.url else {"content": own})}
    return answers


def responses_to(question: ServerQuestion, answers: Answers) -> dict[str, JsonValue] | None:
    """Return what the server gets for its *question*, by its keys; None if an answer is missing."""
    if any(each.digest not in answers for each in question.requests):
        return None
    return {each.key: answers[each.digest] for each in question.requests}


def question_gate(question: Question, tool: Tool, call: ToolCallInput, keeper: Gatekeeper, *, run_id: str) -> Refusal:
    """Return the refusal that puts a server's question to those who may approve the call; a free call's to anyone."""
    context = context_of(call, tool, run_id)
    gate = keeper.gate(tool, context, call.arguments)
    if gate.verdict in {"deny", "invalid"}:
        return Refusal(gate.reason or "the policy does not permit it")
    stored = question.stored
    if call.question is not None:
        stored = stored.model_copy(update={"earlier": answers_of(call.question, call.values or {})})
    update: dict[str, object] = {"verdict": "input", "fields": question.fields, "question": stored}
    if gate.verdict == "allow":
        update["self_approval"] = True
        gate = replace(keeper, asks=True).gate(tool, context, call.arguments)
    server = "" if tool.definition is None else tool.definition.server
    words = f"the MCP server {server!r} asks: {question.words}"
    return Refusal(words, gate.model_copy(update=update | {"needed": 1, "reason": None}))
