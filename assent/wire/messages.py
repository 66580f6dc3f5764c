"""The messages that people and services send to a run, the input of each signal and update, and how they are read.

They forbid unknown fields. Whatever arrives is read or refused with one line that names the field; nothing raises
anything else, because an exception in a signal handler wedges a run for ever. Nothing here may be renamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import to_json

from assent.wire import limits, protocol
from assent.wire.digest import Json, canonical, json_depth, json_size, parse_arguments
from assent.wire.duration import Duration
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.parts import HALF, PARTS, TEXT, Parts, content_problem, kind_of, without_bytes
from assent.wire.policy import Condition
from assent.wire.proofs import Proof
from assent.wire.text import bounded, is_blank, one_line


class Inbound(BaseModel):
    """A message from outside: frozen, strict about types, and unknown fields are errors; so are NaN and infinities."""

    # `1e999` is JSON, and lenient readers make an infinity of it, which has no digest.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


# White space around a name or an id is a slip of the fingers; inside arguments, values and results it is what it is.
_Words = Annotated[str, StringConstraints(strip_whitespace=True)]
_Text = Field(min_length=1)
_Id = Field(min_length=1, max_length=64)
_Name = Field(min_length=1, max_length=200)
_Reason = Field(min_length=1, max_length=20_000)


class Remember(Inbound):
    """What a decision is remembered for: further calls of the same tool in the same run, within bounds.

    At most *uses* calls, until *expires_after* (as JSON: seconds) has passed; one of the two is required. *arguments*
    are conditions on the arguments, as in a policy's rules; without them any arguments will do.
    """

    uses: int | None = Field(default=None, ge=1, le=limits.USES_LIMIT)
    expires_after: Duration | None = None
    arguments: dict[str, Condition] | None = Field(default=None, min_length=1, max_length=50)

    @field_validator("arguments", mode="before")
    @classmethod
    def _conditions(cls, value: object) -> object:
        # The strictness of messages is for what people type; a list is how JSON writes the alternatives of `one_of`.
        if not isinstance(value, dict):
            return value
        if len(to_json(value)) > limits.CONDITIONS_LIMIT:
            raise ValueError(f"too long; conditions may have {limits.CONDITIONS_LIMIT} bytes")
        fields = cast("dict[str, object]", value)
        return {name: Condition.model_validate(each, strict=False) for name, each in fields.items()}

    @model_validator(mode="after")
    def _is_bounded(self) -> Remember:
        if self.uses is None and self.expires_after is None:
            raise ValueError("give a limit: uses, or expires_after in seconds")
        return self


class _FromPerson(Inbound):
    """What a person sends. *by* is their name, as a claim; by *ref* the sender finds its answer."""

    by: _Words = _Name
    ref: _Words | None = Field(default=None, max_length=64)


class _Proven(_FromPerson):
    """What a person may have to prove. *proof* shows that *by* sends exactly this; without it, the name is a claim."""

    proof: Proof | None = None


class Approve(_Proven):
    """The signal `approve`. *arguments* replace the model's; *remember* is a grant for further calls.

    For an `outcome` requirement it means: run it again.
    """

    id: _Words = _Id
    reason: _Words | None = Field(default=None, max_length=20_000)
    arguments: dict[str, Json] | None = None
    remember: Remember | None = None


class Reject(_Proven):
    """The signal `reject`. The model gets the *reason*; *remember* rejects further calls too.

    For an `outcome` requirement it means: give up.
    """

    id: _Words = _Id
    reason: _Words = _Reason
    remember: Remember | None = None


class SubmitResult(_Proven):
    """The signal `submit_result`: the result of a call that was carried out elsewhere, or its *error*.

    The record keeps *evidence*: a link, a ticket. For an `outcome` requirement it means: it happened.
    """

    id: _Words = _Id
    output: Json = None
    error: _Words | None = Field(default=None, min_length=1, max_length=20_000)
    evidence: Json = None


class SubmitInput(_Proven):
    """The signal `submit_input`: the fields that a tool needs from a person."""

    id: _Words = _Id
    values: dict[str, Json]


class SendMessage(_FromPerson):
    """The signal `send_message`: text or parts, which the model reads on its next turn."""

    content: Annotated[Annotated[_Words, _Text, Tag(TEXT)] | Parts, Discriminator(kind_of)]


class Revoke(_Proven):
    """The signal `revoke`: a remembered grant ends. *id* is the grant's."""

    id: _Words = _Id
    reason: _Words | None = Field(default=None, max_length=20_000)


class Close(_FromPerson):
    """The signal `close`: a conversation ends, at once or with the answer that is under way."""

    reason: _Words | None = Field(default=None, max_length=20_000)


class Decide(_Proven):
    """The update `decide`: as `approve`, `reject` or `revoke`, plus the *verdict*, with an answer."""

    id: _Words = _Id
    verdict: Literal["approve", "reject", "revoke"]
    reason: _Words | None = Field(default=None, max_length=20_000)
    arguments: dict[str, Json] | None = None
    remember: Remember | None = None


# -- reading ----------------------------------------------------------------------------------------------------------

_M = TypeVar("_M", bound=Inbound)
Message = Approve | Reject | SubmitResult | SubmitInput | SendMessage | Revoke | Close

_KINDS: Final[Mapping[str, type[Message]]] = {
    protocol.APPROVE: Approve,
    protocol.REJECT: Reject,
    protocol.SUBMIT_RESULT: SubmitResult,
    protocol.SUBMIT_INPUT: SubmitInput,
    protocol.SEND_MESSAGE: SendMessage,
    protocol.REVOKE: Revoke,
    protocol.CLOSE: Close,
}
_EXAMPLE: Final = {
    protocol.APPROVE: '{"id": "…", "by": "YOUR NAME"}',
    protocol.REJECT: '{"id": "…", "by": "YOUR NAME", "reason": "…"}',
    protocol.SUBMIT_RESULT: '{"id": "…", "by": "YOUR NAME", "output": …}',
    protocol.SUBMIT_INPUT: '{"id": "…", "by": "YOUR NAME", "values": {…}}',
    protocol.SEND_MESSAGE: '{"content": "…", "by": "YOUR NAME"}',
    protocol.REVOKE: '{"id": "…", "by": "YOUR NAME"}',
    protocol.CLOSE: '{"by": "YOUR NAME"}',
    protocol.DECIDE: '{"id": "…", "by": "YOUR NAME", "verdict": "approve"}',
    protocol.DELIVER: '{"id": "…", "by": "YOUR NAME", "output": …}',
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
        raise MessageError(f"there is no signal or update {name!r}; there are: {known}")
    if len(arguments) != 1:
        raise MessageError(f"{name} takes one JSON input, not {len(arguments)}: {_EXAMPLE[name]}")
    body = arguments[0]
    if not isinstance(body, dict):
        raise MessageError(f"{name} takes a JSON object{_type_hint(body)}: {_EXAMPLE[name]}")
    fields = cast("dict[str, object]", body)
    by = fields.get("by")
    if isinstance(by, str) and by.strip() in _PLACEHOLDERS:
        raise MessageError(f"{name}: by: put your own name for {fields['by']!r}; a placeholder cannot decide")
    return _message(name, fields)


def read_request(arguments: tuple[object, ...]) -> protocol.RunRequest:
    """The request that a run was started with.

    Raises:
        MessageError: not exactly one input, or one that does not fit; one line that says what to send.
    """
    wanted = '{"agent": "NAME", "input": "PROMPT", "requested_by": "YOUR NAME"}'
    if len(arguments) != 1 or not isinstance(arguments[0], dict):
        raise MessageError(f"AgentRun takes one JSON object: {wanted}")
    try:
        request = protocol.RunRequest.model_validate(arguments[0])
    except ValidationError as error:
        if "call" in cast("dict[str, object]", arguments[0]):
            wanted = (
                '{"agent": "YOUR WORKFLOW", "input": "", "call": {"tool": "NAME", "arguments": "{…}", "gate": {…}}}'
            )
        raise MessageError(f"AgentRun: {problems(error)}: {wanted}") from None
    if request.call is not None and (problem := _call_problem(request, request.call)) is not None:
        raise MessageError(f"AgentRun: {problem}")
    if (problem := _text_problem(request)) is not None:
        raise MessageError(f"AgentRun: {problem}")
    limit = limits.POLICIES_LIMIT if request.parents else limits.POLICY_LIMIT
    if request.policy is not None and (length := len(request.policy.model_dump_json().encode())) > limit:
        raise MessageError(
            f"AgentRun: policy: it is {length} bytes long; the limit is {limit}, because every call carries it"
        )
    if request.context is not None and (problem := _context_problem(request.context)):
        raise MessageError(f"AgentRun: context: {problem}")
    return request


def _text_problem(request: protocol.RunRequest) -> str | None:
    """Return what is wrong with the input or the requester of a request; None if nothing is."""
    if not request.prompt.strip() and not request.conversation and request.call is None:
        return "input: the prompt is empty; say what the agent is to do"
    if request.requested_by is not None and is_blank(request.requested_by):
        return "requested_by: the name is empty or invisible; leave it out, or say who asks"
    if not isinstance(request.input, str):
        problem = content_problem(request.input)
        return problem and f"input: {problem}"
    if HALF.search(request.input):
        return "input: the prompt has half a character, which JSON cannot carry"
    size = json_size(request.input)
    return (
        None
        if size <= limits.PROMPT_LIMIT
        else f"input: the prompt is {size} bytes long; the limit is {limits.PROMPT_LIMIT}"
    )


_MODEL_ONLY: Final = ("conversation", "policy", "budget", "max_turns", "max_tool_calls", "parents")
"""What a request with a call does not take: it is about a model, or about the agent that called an agent."""
_TOOL_ONLY: Final = ("agent", "stop", "failed", "read_as", "binding", "checked", "at_most_once", "output_limit")
"""What the gate of such a call does not take: it is about the tool of an agent, or follows from the request."""


def _call_problem(request: protocol.RunRequest, call: protocol.WorkflowCall) -> str | None:
    """Return what is wrong with a request to ask people about a call; None if nothing is."""
    gate = call.gate
    wrong = _present_fields(request, _MODEL_ONLY)
    if wrong:
        return f"call: leave out {', '.join(wrong)}: no model is called"
    if wrong := _present_fields(gate, _TOOL_ONLY):
        return f"call.gate: leave out {', '.join(wrong)}: the call has no agent's tool"
    if gate.verdict not in {"ask", "input", "external"}:
        return f"call.gate.verdict: it is {gate.verdict!r}; people can be sent 'ask', 'input' or 'external'"
    if call.activity and gate.verdict != "ask":
        return (
            f"call.activity: an activity runs once people approved it: call.gate.verdict is 'ask', not {gate.verdict!r}"
        )
    if call.activity and call.tool in protocol.RESERVED_TOOL_NAMES:
        return f"call.tool: {call.tool!r} is an activity of Assent itself; name one of your own"
    try:
        parse_arguments(call.arguments)
    except ArgumentsError as error:
        return f"call.arguments: {error}"
    if (size := len(call.arguments.encode("utf-8", "surrogatepass"))) > limits.CALL_ARGUMENTS_LIMIT:
        return f"call.arguments: they are {size} bytes long; the limit is {limits.CALL_ARGUMENTS_LIMIT}"
    return _fields_problem(gate)


def _present_fields(stored: protocol.Stored, names: Sequence[str]) -> list[str]:
    """Return those of the fields that say something."""
    return [name for name in names if repr(getattr(stored, name)) not in {"None", "False", "''", "[]"}]


def _fields_problem(gate: protocol.Gate) -> str | None:
    names = [field.name for field in gate.fields]
    if gate.verdict == "ask" and names:
        return "call.gate.fields: they go with the verdict 'input' or 'external'"
    if gate.verdict == "input" and not names:
        return "call.gate.fields: they are missing; say what a person fills in"
    if gate.verdict == "external" and names not in ([], ["output"]):
        return "call.gate.fields: a result from outside has one field, 'output'"
    if len({*names}) < len(names):
        return "call.gate.fields: two of them have the same name"
    return None


def _context_problem(context: Mapping[str, Json]) -> str | None:
    """Return what is wrong with a context that is a JSON object for Python; None if nothing is."""
    if (depth := json_depth(context)) > limits.CONTEXT_DEPTH:
        return f"{depth} objects and lists are nested; the limit is {limits.CONTEXT_DEPTH}"
    try:
        text = canonical(context)
        text.decode()
    except UnicodeDecodeError:
        return "a text in it has half a character, which JSON cannot carry"
    except ValueError:
        return "a number in it is not finite, and JSON has only finite ones"
    return (
        None
        if len(text) <= limits.CONTEXT_LIMIT
        else f"it is {len(text)} bytes long; the limit is {limits.CONTEXT_LIMIT}"
    )


@dataclass(frozen=True, slots=True)
class Undecodable:
    """What stands for an input that is not JSON: its encoding and its size in bytes."""

    encoding: str
    size: int


def _type_hint(value: object) -> str:
    """Return what arrived instead of an object, if that helps its sender."""
    if isinstance(value, Undecodable):
        encoding = bounded(one_line(value.encoding), limits.FIELD_SHOWN)
        return f" of the encoding json/plain, and not {value.size} bytes of {encoding} that are no JSON"
    return ", and not JSON within a text" if isinstance(value, str) and value.lstrip().startswith("{") else ""


def _message(name: str, body: dict[str, object]) -> Message:
    if name == protocol.DECIDE:
        return _decision(_parse(name, Decide, body))
    if name == protocol.DELIVER:
        name = protocol.SUBMIT_INPUT if "values" in body else protocol.SUBMIT_RESULT
    if name == protocol.SUBMIT_RESULT and "output" not in body and body.get("error") is None:
        raise MessageError(
            f"{protocol.SUBMIT_RESULT}: an output or an error is missing: {_EXAMPLE[protocol.SUBMIT_RESULT]}"
        )
    read_as: Message = _parse(name, _KINDS[name], body)
    if isinstance(read_as, SubmitResult) and json_size(read_as.evidence) > limits.EVIDENCE_LIMIT:
        problem = f"{name}: evidence: it is too long; send up to {limits.EVIDENCE_LIMIT} bytes, such as a link to it"
        raise MessageError(problem)
    if isinstance(read_as, SendMessage) and (wrong := content_problem(read_as.content)):
        raise MessageError(f"{name}: content: {wrong}")
    return read_as


def _parse(name: str, kind: type[_M], body: dict[str, object]) -> _M:
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise MessageError(f"{name}: {problems(error)}: {_EXAMPLE[name]}") from None


def _decision(decide: Decide) -> Approve | Reject | Revoke:
    if decide.verdict != "approve" and decide.arguments is not None:
        raise MessageError(f"{protocol.DECIDE}: arguments go with the verdict approve, not {decide.verdict}")
    if decide.verdict == "revoke" and decide.remember is not None:
        raise MessageError(f"{protocol.DECIDE}: remember goes with the verdict approve or reject, not revoke")
    if decide.verdict == "revoke":
        return Revoke(id=decide.id, by=decide.by, reason=decide.reason, proof=decide.proof)
    if decide.verdict == "approve":
        return Approve(
            id=decide.id,
            by=decide.by,
            reason=decide.reason,
            arguments=decide.arguments,
            remember=decide.remember,
            proof=decide.proof,
        )
    if not decide.reason:
        raise MessageError(f"{protocol.DECIDE}: a rejection needs a reason, which the model gets")
    return Reject(id=decide.id, by=decide.by, reason=decide.reason, remember=decide.remember, proof=decide.proof)


def problems(error: ValidationError) -> str:
    """The problems that pydantic found, in one line: each field and what is wrong with it."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{_field_path(each['loc'])}: {one_line(bounded(each['msg'].removeprefix('Value error, '), 200))}"
        for each in errors[:5]
    )


def _field_path(location: tuple[int | str, ...]) -> str:
    named = [str(each) for each in location if each not in {TEXT, PARTS}]
    return bounded(one_line(".".join(named)), limits.FIELD_SHOWN) or "input"


def shown(arguments: Sequence[object]) -> str:
    """Show what arrived, cut to a limit and without the bytes of images and files, for people who look at the run."""
    return bounded(", ".join(repr(without_bytes(argument)) for argument in arguments), limits.MESSAGE_SHOWN)
