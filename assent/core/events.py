"""What can happen to a run, and what a run can ask for: the vocabulary of `assent.core.state_machine.decide`.

The workflow makes these values from what it lives through, the audit makes the same ones from a recorded history.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

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
    """Why an activity gave no result: the failure's type name, and its message."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Started:
    """The run began, or goes on in a new execution. *arguments* are the workflow's inputs as decoded JSON.

    The one input should be a `RunRequest`; of an execution that goes on from another (*continued*), it is what that one
    carried over. *parent* is the workflow that began it, as Temporal says.
    """

    at: datetime
    run_id: str
    execution_id: str
    first_execution_id: str
    arguments: tuple[object, ...]
    namespace: str = "default"
    continued: bool = False
    parent: Execution | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswered:
    """A model call came back. *nonces* holds one for each call that waits, by `call_id`."""

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
    """A summary of old turns was made, or could not be."""

    at: datetime
    summary: Summary | Failure


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool's activity came back. *position* is the call's place in its turn, *nonces* as in `ModelAnswered`."""

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
    """The run *run_id* of another agent was begun, to answer the call *call_id*."""

    at: datetime
    call_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class AgentAnswered:
    """The run of another agent, *run_id*, that answers a call is over. *usage* is what it used, as far as is known."""

    at: datetime
    run_id: str
    answer: RunResult | Failure
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class CheckAnswered:
    """What a person sent was checked on a worker, or could not be."""

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
    """The run asks for more than its budget. *nonces* as in `ModelAnswered`."""

    at: datetime
    nonces: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody asked for the run to be cancelled."""

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
    """Schedule `call_model`, on *task_queue* or that of this run."""

    input: ModelCallInput
    task_queue: str | None = None


@dataclass(frozen=True, slots=True)
class Summarise:
    """Schedule `summarise_conversation`, on *task_queue* or that of this run."""

    input: SummariseInput
    task_queue: str | None = None


@dataclass(frozen=True, slots=True)
class RunTool:
    """Schedule the tool's activity, whose type is *tool*. *attempts* bounds how often it may be started."""

    position: int
    turn: int
    tool: str
    input: ToolCallInput
    options: ToolOptions
    attempts: int


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Begin a run of another agent, to answer the call that *request* names; tell the run of it with `AgentStarted`.

    On *task_queue*, or that of this run; *attributes* says whether the Assent search attributes may be set.
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
    """Draw a nonce for this call id, and tell the run with `BudgetReached`, at once."""

    call_id: str


@dataclass(frozen=True, slots=True)
class SendNotices:
    """Schedule `send_notices`; nothing waits for it."""

    input: NoticesInput


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Set the run's timer, in the place of the one that it has; None: it needs none."""

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
