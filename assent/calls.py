"""The tool calls of a turn: which wait, what is opened for those, and how the others are run.

Pure; safe in workflow code.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from assent.conversation import ToolCall, tool_calls
from assent.digest import idempotency_key, requirement_id
from assent.events import Failure, RunTool
from assent.messages import shown
from assent.protocol import (
    Authorization,
    Gate,
    ModelTurn,
    RequirementKind,
    ToolCallInput,
    ToolOptions,
    ToolOutcome,
    Verdict,
)
from assent.requirements import Requirement

WORKER_LOSSES: Final = 5
"""How often an ungated tool is started again after its worker was lost, before the model is told."""

_DEFAULT_OPTIONS: Final = ToolOptions()
_NO_GATE: Final = Gate(verdict="deny", reason="the worker gave no gate for this call")
_KINDS: Final[dict[Verdict, RequirementKind]] = {"ask": "confirmation", "external": "external", "input": "input"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose call it is: the run's ids, its agent, who asked for it, and the turn."""

    workflow_id: str
    first_run_id: str
    agent: str
    requested_by: str | None
    turn: int


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of the current turn. *answer* is what the model is told; None while it runs or waits."""

    call: ToolCall
    gate: Gate
    requirement_id: str | None = None
    answer: str | None = None
    running: bool = False


def turn_of(result: object) -> ModelTurn | Failure:
    """What `call_model` answered; a result that somebody put in by hand may be anything at all."""
    try:
        return ModelTurn.model_validate(result)
    except ValidationError:
        return Failure("InvalidModelTurn", f"its result was put in by hand, and is not a turn: {shown([result])}")


def outcome_of(result: object) -> ToolOutcome:
    """What a tool's activity answered; a result that somebody put in by hand may be anything at all."""
    try:
        outcome = ToolOutcome.model_validate(result)
    except ValidationError:
        outcome = ToolOutcome()
    if [outcome.output, outcome.error, outcome.refused].count(None) == len(ToolOutcome.model_fields) - 1:
        return outcome
    return ToolOutcome(error=f"its result was put in by hand, and is not a tool's: {shown([result])}")


def gate_of(turn: ModelTurn, call: ToolCall) -> Gate:
    """The gate of a call; one that the worker gave no gate for is denied."""
    return turn.gates.get(call.call_id, _NO_GATE)


def gated_calls(turn: ModelTurn) -> list[ToolCall]:
    """The calls of a turn that wait for somebody, in the model's order: those that need a nonce."""
    return [call for call in tool_calls(turn.items) if gate_of(turn, call).verdict in _KINDS]


def answer_of(gate: Gate) -> str | None:
    """What the model is told at once about a call that neither runs nor waits; None for the others."""
    if gate.verdict == "deny":
        return f"Denied: {gate.reason or 'the policy does not permit it'}"
    if gate.verdict == "invalid":
        return f"Error: {gate.reason or 'the arguments do not fit'}"
    return None


def open_requirement(
    caller: Caller, call: ToolCall, gate: Gate, *, nonce: str, policy_version: str, at: datetime
) -> Requirement:
    """The requirement of a call that waits."""
    identity = requirement_id(
        workflow_id=caller.workflow_id,
        nonce=nonce,
        call_id=call.call_id,
        tool=call.tool,
        arguments=call.arguments,
        policy_version=policy_version,
        needed=gate.needed,
        expires_at=gate.expires_at,
    )
    return Requirement(
        id=identity,
        kind=_KINDS[gate.verdict],
        call_id=call.call_id,
        tool=call.tool,
        arguments=call.arguments,
        nonce=nonce,
        turn=caller.turn,
        created_at=at,
        policy_version=policy_version,
        needed=gate.needed,
        approvers=gate.approvers,
        expires_at=gate.expires_at,
        approval_type=gate.approval_type,
        self_approval=gate.self_approval,
        note=gate.reason,
    )


def run_tool(caller: Caller, position: int, call: ToolCall, gate: Gate, approved: Requirement | None) -> RunTool:
    """The command that runs a call, with what its activity checks again where somebody approved it."""
    # Only what is not the default is set: these inputs are stored for every call of a history.
    fields: dict[str, object] = {
        "agent": caller.agent,
        "call_id": call.call_id,
        "arguments": call.arguments,
        "key": idempotency_key(caller.workflow_id, caller.first_run_id, call.call_id),
    }
    if caller.requested_by is not None:
        fields["requested_by"] = caller.requested_by
    if approved is not None:
        fields["authorization"] = _authorization(approved)
    return RunTool(
        position=position,
        turn=caller.turn,
        tool=call.tool,
        input=ToolCallInput.model_validate(fields),
        options=gate.options or _DEFAULT_OPTIONS,
        attempts=_attempts(gate),
    )


def _authorization(approved: Requirement) -> Authorization:
    return Authorization(
        requirement_id=approved.id,
        nonce=approved.nonce,
        policy_version=approved.policy_version,
        needed=approved.needed,
        expires_at=approved.expires_at,
        approved_by=[vote.by for vote in approved.votes],
    )


def _attempts(gate: Gate) -> int:
    if gate.at_most_once:
        return 1
    wanted = gate.options.attempts if gate.options else None
    return wanted or WORKER_LOSSES
