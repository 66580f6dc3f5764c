"""Reading what people type: the messages of signals and updates, from whatever arrived.

Whatever arrives is read or refused with one line that names the field; nothing raises anything else, because an
exception in a signal handler wedges a run for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar, cast

from pydantic import ValidationError

from assent.wire.digest import json_size
from assent.wire.errors import MessageError
from assent.wire.inbound import (
    Approve,
    Close,
    Decide,
    Inbound,
    Reject,
    Revoke,
    SendMessage,
    SubmitInput,
    SubmitResult,
)
from assent.wire.limits import EVIDENCE_LIMIT, FIELD_SHOWN, MESSAGE_SHOWN, POLICIES_LIMIT, POLICY_LIMIT, PROMPT_LIMIT
from assent.wire.protocol import (
    APPROVE,
    CLOSE,
    DECIDE,
    DELIVER,
    REJECT,
    REVOKE,
    SEND_MESSAGE,
    SUBMIT_INPUT,
    SUBMIT_RESULT,
    RunRequest,
)
from assent.wire.text import bounded, one_line

_M = TypeVar("_M", bound=Inbound)
Message = Approve | Reject | SubmitResult | SubmitInput | SendMessage | Revoke | Close

_KINDS: Final[Mapping[str, type[Message]]] = {
    APPROVE: Approve,
    REJECT: Reject,
    SUBMIT_RESULT: SubmitResult,
    SUBMIT_INPUT: SubmitInput,
    SEND_MESSAGE: SendMessage,
    REVOKE: Revoke,
    CLOSE: Close,
}
_EXAMPLE: Final = {
    APPROVE: '{"id": "…", "by": "YOUR NAME"}',
    REJECT: '{"id": "…", "by": "YOUR NAME", "reason": "…"}',
    SUBMIT_RESULT: '{"id": "…", "by": "YOUR NAME", "output": …}',
    SUBMIT_INPUT: '{"id": "…", "by": "YOUR NAME", "values": {…}}',
    SEND_MESSAGE: '{"content": "…", "by": "YOUR NAME"}',
    REVOKE: '{"id": "…", "by": "YOUR NAME"}',
    CLOSE: '{"by": "YOUR NAME"}',
    DECIDE: '{"id": "…", "by": "YOUR NAME", "verdict": "approve"}',
    DELIVER: '{"id": "…", "by": "YOUR NAME", "output": …}',
}
_PLACEHOLDERS: Final = ("NAME", "YOUR NAME")
"""What the commands to copy have in the place of a name."""


def read(name: str, arguments: Sequence[object]) -> Message:
    """The message that a signal or update of this *name* carries in its decoded *arguments*.

    Raises:
        MessageError: no such name, not exactly one input, or an input that does not fit. One line that says what to
            send instead.
    """
    if name not in _EXAMPLE:
        known = ", ".join(sorted(_EXAMPLE))
        message = f"there is no signal or update {name!r}; there are: {known}"
        raise MessageError(message)
    if len(arguments) != 1:
        message = f"{name} takes one JSON input, not {len(arguments)}: {_EXAMPLE[name]}"
        raise MessageError(message)
    body = arguments[0]
    if not isinstance(body, dict):
        message = f"{name} takes a JSON object: {_EXAMPLE[name]}"
        raise MessageError(message)
    fields = cast("dict[str, object]", body)
    by = fields.get("by")
    if isinstance(by, str) and by.strip() in _PLACEHOLDERS:
        message = f"{name}: by: put your own name for {fields['by']!r}; a placeholder cannot decide"
        raise MessageError(message)
    return _message(name, fields)


def read_request(arguments: tuple[object, ...]) -> RunRequest:
    """The request that a run was started with.

    Raises:
        MessageError: not exactly one input, or one that does not fit; one line that says what to send.
    """
    wanted = '{"agent": "NAME", "input": "PROMPT", "requested_by": "YOUR NAME"}'
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        message = f"AgentRun takes one JSON object: {wanted}"
        raise MessageError(message)
    try:
        request = RunRequest.model_validate(arguments[0])
    except ValidationError as error:
        message = f"AgentRun: {problems(error)}: {wanted}"
        raise MessageError(message) from None
    if not request.input.strip() and not request.conversation:
        message = "AgentRun: input: the prompt is empty; say what the agent is to do"
        raise MessageError(message)
    if request.requested_by is not None and not request.requested_by.strip():
        message = "AgentRun: requested_by: the name is empty; leave it out, or say who asks"
        raise MessageError(message)
    limit = POLICIES_LIMIT if request.parents else POLICY_LIMIT
    if request.policy is not None and (length := len(request.policy.model_dump_json().encode())) > limit:
        message = f"AgentRun: policy: it is {length} bytes long; it may be {limit}, as every call carries it"
        raise MessageError(message)
    size = json_size(request.input)
    if size > PROMPT_LIMIT:
        message = f"AgentRun: input: the prompt is {size} bytes long; it may be {PROMPT_LIMIT}"
        raise MessageError(message)
    return request


def _message(name: str, body: dict[str, object]) -> Message:
    if name == DECIDE:
        return _decision(_parse(name, Decide, body))
    if name == DELIVER:
        name = SUBMIT_INPUT if "values" in body else SUBMIT_RESULT
    if name == SUBMIT_RESULT and "output" not in body and body.get("error") is None:
        message = f"{SUBMIT_RESULT}: an output or an error is missing: {_EXAMPLE[SUBMIT_RESULT]}"
        raise MessageError(message)
    read_as: Message = _parse(name, _KINDS[name], body)
    if isinstance(read_as, SubmitResult) and json_size(read_as.evidence) > EVIDENCE_LIMIT:
        problem = f"{name}: evidence: it is too long; send up to {EVIDENCE_LIMIT} bytes, such as a link to it"
        raise MessageError(problem)
    return read_as


def _parse(name: str, kind: type[_M], body: dict[str, object]) -> _M:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        message = f"{name}: {problems(error)}: {_EXAMPLE[name]}"
        raise MessageError(message) from None


def _decision(decide: Decide) -> Approve | Reject | Revoke:
    if decide.verdict != "approve" and (decide.arguments is not None or decide.remember is not None):
        message = f"{DECIDE}: arguments and remember go with the verdict approve, not {decide.verdict}"
        raise MessageError(message)
    if decide.verdict == "revoke":
        return Revoke(id=decide.id, by=decide.by, reason=decide.reason)
    if decide.verdict == "approve":
        return Approve(
            id=decide.id, by=decide.by, reason=decide.reason, arguments=decide.arguments, remember=decide.remember
        )
    if not decide.reason:
        message = f"{DECIDE}: a rejection needs a reason; it is what the model is told"
        raise MessageError(message)
    return Reject(id=decide.id, by=decide.by, reason=decide.reason)


def problems(error: ValidationError) -> str:
    """The problems that pydantic found, in one line: each field and what is wrong with it."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{_place(each['loc'])}: {bounded(each['msg'].removeprefix('Value error, '), 200)}" for each in found[:5]
    )


def _place(location: tuple[int | str, ...]) -> str:
    return bounded(one_line(".".join(map(str, location))), FIELD_SHOWN) or "input"


def shown(arguments: Sequence[object]) -> str:
    """Show what arrived, cut to a limit, for people who look at the run."""
    return bounded(", ".join(repr(argument) for argument in arguments), MESSAGE_SHOWN)
