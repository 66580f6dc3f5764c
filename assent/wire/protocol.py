"""Every wire name, and every value that histories store: the contract with services, operators and old histories.

Nothing here may be renamed: runs that wait for months carry these names. What is stored in histories ignores unknown
fields, so that old histories replay on new code. The messages that people send are in `assent.wire.messages`.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter
from pydantic_core import to_json

from assent.wire.budget import Budget
from assent.wire.digest import Json
from assent.wire.parts import Content, ImagePart, readable
from assent.wire.policy import PermissionPolicy
from assent.wire.proofs import DecisionProof, ProofLevel, ProofToCheck, VerifiedProof

WORKFLOW: Final = "AgentRun"
CALL_MODEL: Final = "call_model"
CHECK_CALL: Final = "check_call"
SEND_NOTICES: Final = "send_notices"
SUMMARISE: Final = "summarise_conversation"
ASK_USER: Final = "ask_user"

APPROVE: Final = "approve"
REJECT: Final = "reject"
SUBMIT_RESULT: Final = "submit_result"
SUBMIT_INPUT: Final = "submit_input"
SEND_MESSAGE: Final = "send_message"
REVOKE: Final = "revoke"
CLOSE: Final = "close"
DECIDE: Final = "decide"
DELIVER: Final = "deliver"
STATE: Final = "state"

ATTRIBUTE_AGENT: Final = "AssentAgent"
ATTRIBUTE_STATUS: Final = "AssentStatus"
ATTRIBUTE_PENDING: Final = "AssentPending"
ATTRIBUTE_WAITING_ON: Final = "AssentWaitingOn"
ATTRIBUTE_REQUESTED_BY: Final = "AssentRequestedBy"

MEMO_PENDING: Final = "assent_pending"
MEMO_STATUS: Final = "assent_status"
MEMO_REQUEST: Final = "assent_request"

RULES_VERSION: Final = 1
"""The version of the rules that a worker gives with the first turn of a run (docs/why/changing-rules.md)."""

RESERVED_TOOL_NAMES: Final = frozenset({CALL_MODEL, CHECK_CALL, SEND_NOTICES, SUMMARISE, ASK_USER})
"""Activity types that Assent uses or will use itself; a tool may not take them."""

Seconds = Annotated[float, Field(ge=1e-6, le=1e10, allow_inf_nan=False)]
"""A time in seconds. Stored values are limited too: a run must survive any result from an operator."""
Item = dict[str, JsonValue]
"""One item of a conversation, in the shape of an input item of the OpenAI Responses API."""

RunStatus = Literal["running", "waiting", "idle", "completed", "failed", "cancelled"]
Verdict = Literal["allow", "ask", "deny", "external", "input", "invalid"]
ApprovalType = Literal["required", "audit"]
RequirementKind = Literal["confirmation", "input", "external", "outcome", "budget"]


class Stored(BaseModel):
    """A value that is kept in histories: frozen, and lenient towards fields of other versions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def without_defaults(self) -> Self:
        """This value, with only those fields set that differ from their default: histories keep every byte."""
        defaults = _defaults(type(self))
        set_fields = {
            name for name in self.model_fields_set if name not in defaults or getattr(self, name) != defaults[name]
        }
        # Another set: one from which names are taken stays as large as it was.
        object.__setattr__(self, "__pydantic_fields_set__", set_fields)
        return self


@cache
def _defaults(kind: type[Stored]) -> dict[str, object]:
    fields = kind.model_fields.items()
    return {name: each.get_default(call_default_factory=True) for name, each in fields if not each.is_required()}


# -- starting a run ---------------------------------------------------------------------------------------------------


class ParentRun(Stored):
    """A parent run: its id and agent, and the tool and id of the call that the child run answers."""

    run_id: str = Field(min_length=1, max_length=1_000)
    agent: str = Field(max_length=100)
    tool: str = Field(max_length=100)
    call_id: str


class Execution(Stored):
    """One execution of a run: its ids for Assent, and for Temporal."""

    run_id: str
    execution_id: str


class ChildRun(Stored):
    """An active child run: its id and agent."""

    run_id: str
    agent: str


# -- the gate of a call -----------------------------------------------------------------------------------------------


class ToolOptions(Stored):
    """How a tool's activity is scheduled. Times are in seconds.

    *attempts* limits its starts, the first included. None: it starts again while its worker is lost, unless its gate
    says *at_most_once*, and never after the tool itself failed.
    """

    timeout: Seconds = 600.0
    heartbeat: Seconds = 30.0
    attempts: int | None = Field(default=None, ge=1, le=1_000_000)
    task_queue: str | None = None


class Escalation(Stored):
    """More people who may decide, *after* this number of seconds without a decision. *approvers* are their names."""

    after: Seconds
    approvers: list[str]


class InputField(Stored):
    """One field that a person fills in. *type* is its JSON schema, without its description."""

    name: str
    type: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    description: str | None = None
    required: bool = True


class ServerRequest(Stored):
    """One thing that an MCP server asks for. The answer goes back under *key*.

    *digest* is the question's own: a stored answer is given to an equal question only. *prefix* begins the names of its
    fields, for a person. *url*: it is answered elsewhere, at a URL.
    """

    key: str
    digest: str
    prefix: str = ""
    url: bool = False


class ServerQuestion(Stored):
    """What an MCP server asks in the middle of a call. The answers go back with *state*.

    *held*: the server held the call meanwhile. That call was ended, and is made again. *earlier* are the answers to its
    earlier questions in this call, by digest.
    """

    requests: list[ServerRequest]
    state: str | None = None
    held: bool = False
    earlier: dict[str, JsonValue] = Field(default_factory=dict)


class Gate(Stored):
    """What one tool call needs before it may run. The worker decides it when the model makes the call.

    *reason* explains a `deny` or `invalid` to the model. With `ask` it is for the approver: a rule's words, or the
    error of a gate that raised. *needed* distinct people must approve. *approvers* may decide (None: anyone); groups
    are resolved. Times are in seconds from when the call begins to wait: *expires_after* is the deadline,
    *remind_every* sends notices. *approval_type* is that of `@approval`. *proof* is the level of proof that a decision
    needs.

    *fields* are what a person fills in, or the `output` of a call that is made elsewhere. *checked*: a result from
    outside is checked against the tool's return annotation. *failed*: a part of the gate could not be decided, so no
    grant lets the call through. *stop*: the run ends once the call was executed. *at_most_once*: the tool does not
    start again after a timeout or the loss of its worker.

    *read_as* has, by parameter, the values that the tool gets where the arguments say something else: defaults filled
    in, validators applied. *binding* is the digest of the tool, "-", and the digest of those values (empty if unknown).
    *output_limit* is the number of bytes of the result that are kept. *agent* answers the call. *definition* is the
    beginning of an MCP server's description of the tool, if the call waits. *question* is what that server asks in the
    middle of the call. Defaults are left out.
    """

    verdict: Verdict
    reason: str | None = None
    needed: int = Field(default=1, ge=1, le=1_000)
    approvers: list[str] | None = None
    expires_after: Seconds | None = None
    remind_every: Seconds | None = None
    escalations: list[Escalation] = Field(default_factory=list[Escalation])
    approval_type: ApprovalType | None = None
    self_approval: bool = False
    at_most_once: bool = False
    fields: list[InputField] = Field(default_factory=list[InputField])
    checked: bool = False
    failed: bool = False
    read_as: dict[str, JsonValue] | None = None
    binding: str = ""
    proof: ProofLevel | None = None
    stop: bool = False
    options: ToolOptions | None = None
    output_limit: int | None = Field(default=None, ge=1)
    agent: str | None = None
    definition: str | None = None
    question: ServerQuestion | None = None


# -- the request ------------------------------------------------------------------------------------------------------


class WorkflowCall(Stored):
    """What workflow code asks people about, in a run without a model.

    *tool* names what is to be done, as an activity type does. *arguments* are the raw JSON text of an object: people
    see it, and their decision binds it. The *gate* says what people send (`ask`, `input` or `external`), and has all
    terms. With *activity*, the activity of type *tool* runs once it is approved, at most once. It gets the values of
    *arguments* in their order. *attributes*, *notices* and *continue_after* are facts of the caller's worker, as in
    `ModelTurn`. With *requires_requester*, the run fails if it has no `requested_by`.
    """

    tool: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$")
    arguments: str
    gate: Gate
    activity: bool = False
    attributes: bool = False
    notices: bool = False
    continue_after: int = Field(default=0, ge=0)
    requires_requester: bool = False


class RunRequest(Stored):
    """The input of the workflow `AgentRun`. Any language may start a run with this JSON.

    *agent* is the agent's name on the worker. *input* is the prompt: text, or a list of text, images and files.
    *requested_by* is the requester, as a claim. *max_turns*, *max_tool_calls* and *budget* can lower the agent's own
    limits, never raise them. *policy* applies in addition to the agent's own; the stricter one wins.

    A *conversation* stays open after an answer, for the next message, until it is closed. It may begin without an
    *input*. Its limits are for each answer. *context* is for tools, gates, policies and people; the model does not get
    it. It never changes. *parents* are the parent runs of a child run, the outermost first; they must be the ones that
    Temporal names. With a *call*, people are asked about it, and no model. *agent* is then the name of the workflow
    that asks, and *input* may be empty.
    """

    agent: str = Field(min_length=1, max_length=100)
    input: Content
    requested_by: str | None = Field(default=None, max_length=200)
    max_turns: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=0)
    policy: PermissionPolicy | None = None
    conversation: bool = False
    budget: Budget | None = None
    parents: list[ParentRun] = Field(default_factory=list[ParentRun], max_length=20)
    call: WorkflowCall | None = None
    context: dict[str, Json] | None = None

    @property
    def prompt(self) -> str:
        """The input as text: of each image or file what it is, its size and its SHA-256."""
        return readable(self.input)


class Usage(Stored):
    """The sums of tokens, requests and *cost* of model calls. There is a cost if the worker has a table of prices.

    *requests* counts the answered ones. *failed* counts the others: their tokens are unknown, and no budget counts
    them.
    """

    requests: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        total = Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
        )
        # What is not the default is not stored.
        failed = self.failed + other.failed
        return total.model_copy(update={"failed": failed}) if failed else total


_T = TypeVar("_T")


class RunResult(Stored):
    """What a completed run returns. *output* is the structured output where the agent declares one."""

    content: str
    output: JsonValue = None
    usage: Usage = Usage()
    turns: int = 0

    def output_as(self, output_type: type[_T]) -> _T:
        """Return *output* as an instance of *output_type*, the agent's own. May be called in workflow code.

        Raises:
            ValidationError: of pydantic; the output does not fit the type.

        Example:
            `score = RunResult(content="", output={"a": 1}).output_as(dict[str, int])`
        """
        return TypeAdapter(output_type).validate_json(to_json(self.output))


class Decision(Stored):
    """What people decided about the call of a `WorkflowCall`: the output of its run, as JSON.

    *status* is `approved` if they approved it or filled in the *values*, and nothing ran. It is `executed` or `failed`
    if an activity or another system gave an *output* or an *error*. Both are there if the output was cut. `refused`:
    the call was approved and did not run; *error* says why. `rejected`, with the *reason*, and `expired`: it is not to
    be done.

    *decided_by* are the people whose decision counted. *requirement_id* is their last decision's. *arguments* are the
    approved ones, with edits. *evidence* came with a result from outside.
    """

    status: Literal["approved", "rejected", "expired", "executed", "failed", "refused"]
    requirement_id: str
    run_id: str
    decided_by: list[str] = Field(default_factory=list)
    reason: str | None = None
    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    values: dict[str, JsonValue] | None = None
    output: JsonValue = None
    error: str | None = None
    evidence: JsonValue = None

    @property
    def approved(self) -> bool:
        """Whether it may be done, or was done. May be called in workflow code."""
        return self.status in {"approved", "executed"}


# -- the model call ---------------------------------------------------------------------------------------------------


class Prefix(Stored):
    """The part of a conversation that a model call does not carry: its number of items and running digest (hex)."""

    length: int
    digest: str


class ModelCallInput(Stored):
    """The input of the activity `call_model`. *delta* is what the conversation gained since the last call.

    *requested_by*, *policy* and *context* are the request's, for the gates. *routed*: it runs on the task queue where
    the agent's model is asked. *instructions* is the SHA-256 of the newest instructions from a function in the history
    of this execution.
    """

    agent: str
    turn: int
    delta: list[Item]
    prefix: Prefix | None = None
    requested_by: str | None = None
    policy: PermissionPolicy | None = None
    routed: bool = False
    context: dict[str, JsonValue] | None = None
    instructions: str | None = None


class TurnInstructions(Stored):
    """The instructions that a function gave for a turn: their SHA-256 in hex; the *text* if it is another than before.

    The *text* also comes with the first turn of an execution.
    """

    sha256: str
    text: str | None = None


class TurnFailure(Stored):
    """Why no answer of the model could be used: the failure that the run ends with."""

    kind: str
    message: str


class ModelTurn(Stored):
    """The result of `call_model`: the new items, and a gate for each tool call among them, by `call_id`.

    A call without a gate is denied. *agent_version* is `Agent.version`; the first turn has it, and each turn with
    calls. *follow_up* is the message to the model if its answer does not fit the output type. *wasted* is the usage of
    answers that could not be used. With a *failure*, no more answers are asked for, and the run ends. *instructions*
    are the ones that the model got, if the agent's are a function.

    The first turn alone has facts of the worker: *rules_version* (of the rules that the run follows), *max_turns*,
    *max_tool_calls*, *budget*, *max_context_tokens*, *attributes* (whether search attributes may be upserted), *proof*
    (the level that every decision needs), and *continue_after* (the history events after which the run continues as
    new; 0: when the server suggests it). *notices* says, with each turn that has calls, whether notices are sent.
    *task_queue* is where the model is asked from then on (empty: where the run is). Without items, no model was
    asked.
    """

    items: list[Item]
    gates: dict[str, Gate] = Field(default_factory=dict)
    policy_version: str = ""
    agent_version: str = ""
    rules_version: int = 1
    usage: Usage = Usage()
    wasted: Usage = Usage()
    failure: TurnFailure | None = None
    instructions: TurnInstructions | None = None
    model: str = ""
    structured: bool = False
    follow_up: str | None = None
    max_turns: int | None = None
    max_tool_calls: int | None = None
    attributes: bool = False
    notices: bool = False
    continue_after: int = Field(default=0, ge=0)
    proof: ProofLevel | None = None
    budget: Budget | None = None
    max_context_tokens: int | None = Field(default=None, ge=1)
    task_queue: str | None = Field(default=None, max_length=200)


# -- the tool call ----------------------------------------------------------------------------------------------------


class Authorization(Stored):
    """Every part of the requirement's id. The tool's activity checks it again before it runs an approved call.

    *execution_id* is Temporal's id of the run's first execution: after a workflow reset it is another one, and earlier
    approvals authorise nothing. *follows* is the first requirement of a chain of edits. *parent* is the parent run, if
    any: a reset may have taken its call back. *binding* and *read_as* are the gate's. *proof* is the level of proof
    that it needed, *proofs* are those of its approvals.
    """

    requirement_id: str
    nonce: str
    policy_version: str
    needed: int
    expires_at: datetime | None = None
    approved_by: list[str] = Field(default_factory=list)
    execution_id: str
    follows: str | None = None
    parent: Execution | None = None
    binding: str = ""
    read_as: dict[str, JsonValue] | None = None
    proof: ProofLevel | None = None
    proofs: list[DecisionProof] = Field(default_factory=list[DecisionProof])


class ToolCallInput(Stored):
    """The input of a tool's activity. *arguments* are the raw bytes (UTF-8 text) that were approved.

    They are the model's own, unless a person edited them. *values* are what a person filled in. *policy* and *context*
    are the request's, *output_limit* and *question* the gate's.
    """

    agent: str
    call_id: str
    arguments: str
    key: str
    requested_by: str | None = None
    authorization: Authorization | None = None
    values: dict[str, JsonValue] | None = None
    policy: PermissionPolicy | None = None
    output_limit: int | None = None
    context: dict[str, JsonValue] | None = None
    question: ServerQuestion | None = None


class Reference(Stored):
    """Where the external storage keeps something: the name of its driver, and what that needs to find it again."""

    driver: str
    claim: dict[str, str]


class Delegation(Stored):
    """The result of an agent's tool: another *agent* is to answer *input*, in a child run.

    *policy* bounds that run in addition to its agent's own. *task_queue* is where it is served; None: as this
    one.
    """

    agent: str = Field(min_length=1, max_length=100)
    input: str
    policy: PermissionPolicy | None = None
    task_queue: str | None = None


class Handoff(Stored):
    """Another *agent* continues the conversation; *policy* bounds it from then on, in addition to its own."""

    agent: str = Field(min_length=1, max_length=100)
    policy: PermissionPolicy | None = None


class ToolOutcome(Stored):
    """The outcome of a tool call: one of *output*, *error* (the tool failed), *refused* (it did not run), *delegation*.

    If *output* was cut, *size* (bytes) and *sha256* are those of the whole, and *whole* is where it is stored. A
    refused call with a *gate* (of *policy_version*) goes to a person again. One with *again_after* is tried again after
    so many seconds, because this worker does not serve it. A *handoff* comes with an *output*. So do *images* for the
    model; the output describes them.
    """

    output: str | None = None
    size: int | None = None
    sha256: str | None = None
    whole: Reference | None = None
    error: str | None = None
    refused: str | None = None
    gate: Gate | None = None
    policy_version: str = ""
    again_after: Seconds | None = None
    delegation: Delegation | None = None
    handoff: Handoff | None = None
    images: list[ImagePart] = Field(default_factory=list[ImagePart])


class BlockedLoop(Stored):
    """The heartbeat of a tool call whose worker's event loop is blocked *since* then, by the tool *blocked_by*.

    Empty where it is no tool that blocks it.
    """

    blocked_by: str
    since: datetime


class CheckInput(Stored):
    """The input of the activity `check_call`: something that a person sent, to be checked where the tool is known.

    *what* is checked: edited *arguments* (raw text), *values* for the fields of an `input`, or an *output* from
    outside. Otherwise, *arguments* are those of the call. With *fields*, these say what fits, instead of a tool.
    *proof* is checked first; for `proof`, alone.
    """

    what: Literal["arguments", "values", "output", "proof"]
    agent: str
    tool: str
    call_id: str
    arguments: str
    requested_by: str | None = None
    values: dict[str, JsonValue] | None = None
    output: JsonValue = None
    policy: PermissionPolicy | None = None
    context: dict[str, JsonValue] | None = None
    fields: list[InputField] = Field(default_factory=list[InputField])
    proof: ProofToCheck | None = None


class Checked(Stored):
    """The result of `check_call`: a *problem*, in one line for the sender, or None.

    *gate* is that of edited arguments, under *policy_version*. *proof* is the result of the check of the proof.
    """

    problem: str | None  # Required, so that no answer of another activity is taken for "nothing is wrong".
    gate: Gate | None = None
    policy_version: str = ""
    proof: VerifiedProof | None = None


# -- decisions and deliveries -----------------------------------------------------------------------------------------

DecisionStatus = Literal[
    "approved", "rejected", "executed", "failed", "recorded", "duplicate", "late", "refused", "superseded", "unknown"
]
COUNTED: Final = frozenset({"approved", "rejected", "executed", "failed", "recorded"})
"""The statuses of messages that had an effect."""


class DecisionResult(Stored):
    """The outcome of a decision, a result or input.

    `approved`, `rejected`: the requirement is resolved. `executed`, `failed`: a result from outside was accepted.
    `recorded`: a vote counted and more are needed, or a message is queued. `duplicate`: the same decision was made
    before. `late`: another decision was made before, or the deadline has passed. `refused`: not allowed. `superseded`:
    an edit replaced the requirement. `unknown`: the run has no requirement of that id. *detail* is one line for a
    person.
    """

    status: DecisionStatus
    requirement_id: str | None = None
    tool: str | None = None
    detail: str = ""


class DecisionOutcome(Stored):
    """What a decision or a message led to, for its sender: `status` as in `DecisionResult`, or `sent`.

    `sent`: the message is in the run's history, and no worker has handled it yet. It counts once a worker runs.
    *requirement_id* is the id of the decided requirement (after an edit, of the new one), None for a message to the run
    itself. *grant* is the id of a grant that was revoked. *detail* is one line for a person.
    """

    run_id: str
    status: DecisionStatus | Literal["sent"]
    by: str
    detail: str = ""
    requirement_id: str | None = None
    tool: str | None = None
    grant: str | None = None

    @property
    def counted(self) -> bool:
        """Whether the decision counts, or will as soon as a worker runs."""
        return self.status == "sent" or self.status in COUNTED
