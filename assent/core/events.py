"""The events that change a run and the commands that a run gives: the vocabulary of `assent.core.state_machine`.

The workflow makes events from live results and messages; readers of a history make the same ones from its events.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from assent.core.compaction import SummariseInput, Summary
from assent.core.notices import NoticesInput
from assent.wire.protocol import (
    Checked,
    CheckInput,
    Execution,
    ModelCallInput,
    ModelTurn,
    RunRequest,
    RunResult,
    ToolCallInput,
    ToolOptions,
    ToolOutcome,
    Usage,
)

Channel = Literal["signal", "update"]


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of an activity: type name and message. *is_overrun*: it passed its timeout; its worker may live."""

    kind: str
    message: str
    is_overrun: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """An execution of the run started. *arguments* are the workflow's inputs as decoded JSON.

    The one input should be a `RunRequest`; an execution that is *continued* takes the state that the execution before
    carried. *parent* is the workflow that started it, according to Temporal. *nonces* has one for the call of a request
    that has a call; none where the run was cancelled before its code ran.
    """

    at: datetime
    run_id: str
    execution_id: str
    first_execution_id: str
    arguments: tuple[object, ...]
    namespace: str = "default"
    continued: bool = False
    parent: Execution | None = None
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A model call returned. *nonces* has one for each call that waits, by `call_id`."""

    at: datetime
    turn: ModelTurn
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """A model call failed for good."""

    at: datetime
    failure: Failure


@dataclass(frozen=True, slots=True)
class Summarised:
    """The summary of old turns was made, or failed."""

    at: datetime
    summary: Summary | Failure


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool's activity returned. *position* is that of the call in its turn, *nonces* as in `ModelAnswered`."""

    at: datetime
    position: int
    outcome: ToolOutcome
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ToolLost:
    """A tool's activity gave no result: its worker died, or it ran out of time or attempts."""

    at: datetime
    position: int
    failure: Failure
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """The child run *run_id* started, to answer the call *call_id*."""

    at: datetime
    call_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class AgentAnswered:
    """The child run *run_id*, which answers a call, ended. *usage* is what it used, as far as that is known."""

    at: datetime
    run_id: str
    answer: RunResult | Failure
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class CheckAnswered:
    """A worker checked a message, or could not."""

    at: datetime
    number: int
    checked: Checked | Failure


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The run's timer fired."""

    at: datetime


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A signal or update arrived. *arguments* are its inputs as decoded JSON, any number of any shape."""

    at: datetime
    name: str
    arguments: tuple[object, ...]
    channel: Channel = "signal"


@dataclass(frozen=True, slots=True)
class BudgetReached:
    """The run has used its budget. *nonces* as in `ModelAnswered`."""

    at: datetime
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person requested the cancellation of the run."""

    at: datetime


Event = (
    Started
    | ModelAnswered
    | ModelFailed
    | Summarised
    | ToolAnswered
    | ToolLost
    | AgentStarted
    | AgentAnswered
    | CheckAnswered
    | TimeReached
    | MessageReceived
    | BudgetReached
    | CancelRequested
)


@dataclass(frozen=True, slots=True)
class CallModel:
    """Schedule `call_model` on *task_queue*, or on that of this run."""

    input: ModelCallInput
    task_queue: str | None = None


@dataclass(frozen=True, slots=True)
class Summarise:
    """Schedule `summarise_conversation` on *task_queue*, or on that of this run."""

    input: SummariseInput
    task_queue: str | None = None


@dataclass(frozen=True, slots=True)
class RunTool:
    """Schedule the tool's activity, whose type is *tool*. *attempts* limits its starts.

    An activity that workflow code asked about is given *values* instead of *input*; its worker reads that from history.
    """

    position: int
    turn: int
    tool: str
    input: ToolCallInput
    options: ToolOptions
    attempts: int
    values: tuple[JsonValue, ...] | None = None


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start a child run, to answer the call that *request* names, and report it with `AgentStarted`.

    It starts on *task_queue*, or on that of this run. *attributes*: the Assent search attributes may be set.
    """

    request: RunRequest
    task_queue: str | None = None
    attributes: bool = False


@dataclass(frozen=True, slots=True)
class CheckCall:
    """Schedule `check_call`."""

    number: int
    input: CheckInput


@dataclass(frozen=True, slots=True)
class AskBudget:
    """Draw a nonce for this call id, and report it at once with `BudgetReached`."""

    call_id: str


@dataclass(frozen=True, slots=True)
class SendNotices:
    """Schedule `send_notices`, and do not wait for it."""

    input: NoticesInput


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Set the run's timer, which replaces the one before; None: it needs none."""

    at: datetime | None


@dataclass(frozen=True, slots=True)
class Complete:
    """End the run with a result."""

    result: RunResult


@dataclass(frozen=True, slots=True)
class Fail:
    """End the run with a failure."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the run as cancelled."""


Command = (
    CallModel
    | Summarise
    | RunTool
    | StartAgent
    | CheckCall
    | AskBudget
    | SendNotices
    | WakeAt
    | Complete
    | Fail
    | Cancel
)
