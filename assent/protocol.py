"""Every wire name and every message: the contract with operators, services in any language, and old histories.

Nothing here may be renamed: runs that wait for months carry these names. Inbound messages forbid unknown fields and
say which field is wrong; what is stored in histories ignores unknown fields, so that old histories replay on new code.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

WORKFLOW: Final = "AgentRun"
TASK_QUEUE: Final = "agents"
CALL_MODEL: Final = "call_model"

APPROVE: Final = "approve"
REJECT: Final = "reject"
SUBMIT_RESULT: Final = "submit_result"
SUBMIT_INPUT: Final = "submit_input"
SEND_MESSAGE: Final = "send_message"
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

RESERVED_TOOL_NAMES: Final = frozenset({CALL_MODEL, "send_notice", "summarise_conversation", "ask_user"})
"""Activity types that Assent uses or will use itself; a tool may not take them."""

Item = dict[str, JsonValue]
"""One item of a conversation, in the shape of an input item of the OpenAI Responses API."""

RunStatus = Literal["running", "waiting", "completed", "failed", "cancelled"]
Verdict = Literal["allow", "ask", "deny", "external", "input", "invalid"]
ApprovalType = Literal["required", "audit"]
RequirementKind = Literal["confirmation", "input", "external", "outcome"]


class Stored(BaseModel):
    """A value that is kept in histories: frozen, and lenient towards fields of other versions."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Inbound(BaseModel):
    """A message from outside: frozen, strict about types, and unknown fields are errors; so are NaN and infinities."""

    # `1e999` is JSON, and lenient readers make an infinity of it, which has no digest.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True, allow_inf_nan=False)


# -- starting a run ---------------------------------------------------------------------------------------------------


class RunRequest(Stored):
    """The input of the workflow `AgentRun`. Any language may start a run with this JSON.

    *agent* is the agent's name on the worker. *input* is the prompt. *requested_by* is who asked, as a claim of the
    starter. *max_turns* may lower the agent's own limit, never raise it.
    """

    agent: str = Field(min_length=1, max_length=100)
    input: str
    requested_by: str | None = Field(default=None, max_length=200)
    max_turns: int | None = Field(default=None, ge=1)


class Usage(Stored):
    """Tokens and requests of model calls, summed."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
        )


class RunResult(Stored):
    """What a completed run returns. *output* is the structured output where the agent declares one."""

    content: str
    output: JsonValue = None
    usage: Usage = Usage()
    turns: int = 0


# -- the model call ---------------------------------------------------------------------------------------------------


class Prefix(Stored):
    """The part of a conversation that a model call does not carry: its number of items and running digest (hex)."""

    length: int
    digest: str


class ModelCallInput(Stored):
    """The input of the activity `call_model`. *delta* is what the conversation gained since the last call."""

    agent: str
    turn: int
    delta: list[Item]
    prefix: Prefix | None = None


class ToolOptions(Stored):
    """How a tool's activity is scheduled. Times in seconds. *attempts* counts runs, the first included.

    *attempts* None means: retried while its worker is lost, never after the tool itself failed.
    """

    timeout: float = 600.0
    heartbeat: float = 30.0
    attempts: int | None = None
    task_queue: str | None = None


class Gate(Stored):
    """What one tool call needs before it may run, worked out on the worker when the model asked for it.

    *reason* explains a `deny` or `invalid` to the model, or carries the error of a gate that raised (then the verdict
    is `ask`) to whoever decides. *needed* is how many distinct people must approve. *approval_type* is what
    `@approval` says. *options* is left out when it is the default.
    """

    verdict: Verdict
    reason: str | None = None
    needed: int = 1
    approvers: list[str] | None = None
    expires_at: datetime | None = None
    approval_type: ApprovalType | None = None
    self_approval: bool = False
    at_most_once: bool = False
    options: ToolOptions | None = None


class ModelTurn(Stored):
    """What `call_model` returns: the new items, and a gate for every tool call among them, by `call_id`.

    A call without a gate is denied. *follow_up* is set when the model's final answer does not fit the agent's output
    type: the text that the model is told before it is asked again. *max_turns* and *attributes* (whether the Assent
    search attributes may be upserted) are facts of the worker, given with the first turn only.
    """

    items: list[Item]
    gates: dict[str, Gate] = Field(default_factory=dict)
    policy_version: str = ""
    usage: Usage = Usage()
    model: str = ""
    structured: bool = False
    follow_up: str | None = None
    max_turns: int | None = None
    attributes: bool = False


# -- the tool call ----------------------------------------------------------------------------------------------------


class Authorization(Stored):
    """What the tool's activity checks again before it runs an approved call: every part of the requirement's id."""

    requirement_id: str
    nonce: str
    policy_version: str
    needed: int
    expires_at: datetime | None = None
    approved_by: list[str] = Field(default_factory=list)


class ToolCallInput(Stored):
    """The input of a tool's activity. *arguments* are the raw bytes (UTF-8 text) that the model produced."""

    agent: str
    call_id: str
    arguments: str
    key: str
    requested_by: str | None = None
    authorization: Authorization | None = None


class ToolOutcome(Stored):
    """What came of a tool call: exactly one of *output*, *error* (the tool failed) and *refused* (it did not run)."""

    output: str | None = None
    error: str | None = None
    refused: str | None = None


# -- decisions and deliveries -----------------------------------------------------------------------------------------

PROMPT_LIMIT: Final = 1_000_000
"""Bytes (as JSON) of a run's input."""

_Text = Field(min_length=1)
_Id = Field(min_length=1, max_length=64)
_Name = Field(min_length=1, max_length=200)
_Reason = Field(min_length=1, max_length=20_000)


class Approve(Inbound):
    """The signal `approve`. *arguments* (an edit) and *remember* (a grant) are read, and refused until supported."""

    id: str = _Id
    by: str = _Name
    reason: str | None = Field(default=None, max_length=20_000)
    arguments: dict[str, JsonValue] | None = None
    remember: dict[str, JsonValue] | None = None


class Reject(Inbound):
    """The signal `reject`. *reason* is what the model is told."""

    id: str = _Id
    by: str = _Name
    reason: str = _Reason


class SubmitResult(Inbound):
    """The signal `submit_result`: the result of a call that was carried out elsewhere, or its *error*."""

    id: str = _Id
    by: str = _Name
    output: JsonValue = None
    error: str | None = Field(default=None, min_length=1, max_length=20_000)


class SubmitInput(Inbound):
    """The signal `submit_input`: the fields that a tool needs from a person."""

    id: str = _Id
    by: str = _Name
    values: dict[str, JsonValue]


class SendMessage(Inbound):
    """The signal `send_message`: something more for the model to read before its next turn."""

    content: str = _Text
    by: str = _Name


class Decide(Inbound):
    """The update `decide`: as `approve` or `reject`, plus the *verdict*, with an answer."""

    id: str = _Id
    by: str = _Name
    verdict: Literal["approve", "reject"]
    reason: str | None = Field(default=None, max_length=20_000)
    arguments: dict[str, JsonValue] | None = None
    remember: dict[str, JsonValue] | None = None


DecisionStatus = Literal[
    "approved", "rejected", "executed", "failed", "recorded", "duplicate", "late", "refused", "superseded", "unknown"
]


class DecisionResult(Stored):
    """What a decision or delivery came to.

    `approved`, `rejected`: it settled the requirement. `executed`, `failed`: a result from outside was taken.
    `recorded`: a vote counted, others are still needed, or a message was queued. `duplicate`: the same was decided
    before. `late`: settled otherwise before. `refused`: not allowed. `superseded`: an edit replaced the requirement.
    `unknown`: no requirement of that id. *detail* is one line for a person.
    """

    status: DecisionStatus
    requirement_id: str | None = None
    tool: str | None = None
    detail: str = ""


def request_memo(request: RunRequest | None) -> dict[str, str]:
    """The memo `assent_request`: who asked which agent, for inboxes where no search attributes are registered."""
    if request is None:
        return {}
    asked = {"requested_by": request.requested_by} if request.requested_by else {}
    return {"agent": request.agent, **asked}


def model_activity_id(turn: int) -> str:
    """The activity id of a turn's model call."""
    return f"{turn}"


def tool_activity_id(turn: int, position: int) -> str:
    """The activity id of the call at *position* in its turn."""
    return f"{turn}.{position}"


def tool_position(activity_id: str) -> int | None:
    """The position that a tool's activity id names; None for other activities."""
    _, dot, position = activity_id.partition(".")
    return int(position) if dot and position.isdigit() else None


KEYWORDS: Final = 2_000
"""Bytes (as ASCII JSON) of a search attribute; over 2 KiB the server terminates the run."""
ANY_TOOL: Final = "*"
"""Stands in `AssentWaitingOn` for more tools than fit."""


def keyword(text: str) -> str:
    """The beginning of *text* that fits into a search attribute."""
    while len(json.dumps(text)) > KEYWORDS:
        text = text[:-1]
    return text
