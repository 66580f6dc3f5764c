"""The tool calls of a turn: which wait, what is opened for those, and how the others are run.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from assent.core.deadlines import add_seconds
from assent.core.events import Failure, RunTool
from assent.wire.conversation import ToolCall, text_of, tool_calls
from assent.wire.digest import idempotency_key, requirement_id
from assent.wire.messages import shown
from assent.wire.policy import PermissionPolicy
from assent.wire.protocol import (
    Authorization,
    Checked,
    ChildRun,
    Execution,
    Gate,
    ModelTurn,
    RequirementKind,
    ToolCallInput,
    ToolOptions,
    ToolOutcome,
    Verdict,
)
from assent.wire.requirements import EscalationStep, Requirement

WORKER_LOSSES: Final = 5
"""How often an ungated tool is started again after its worker was lost, before the model is told."""

_DEFAULT_OPTIONS: Final = ToolOptions()
_NO_GATE: Final = Gate(verdict="deny", reason="the worker gave no gate for this call")
_KINDS: Final[dict[Verdict, RequirementKind]] = {"ask": "confirmation", "external": "external", "input": "input"}


@dataclass(frozen=True, slots=True)
class CallContext:
    """Whose call it is: the run's ids, its agent, who asked for it, the turn, and the request's own policy.

    *parent* is the run that this one works for, where it does. *handed_over*: the agent took the conversation over.
    """

    run_id: str
    first_execution_id: str
    agent: str
    requested_by: str | None
    turn: int
    policy: PermissionPolicy | None = None
    parent: Execution | None = None
    compacted: bool = False
    handed_over: bool = False

    @property
    def scope(self) -> str:
        """Within what call ids are unique: once old turns are no longer shown, a provider may name a call as in one."""
        return f"{self.first_execution_id}/{self.turn}" if self.compacted else self.first_execution_id


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of the current turn. *answer* is what the model is told; None while it runs or waits.

    *call* has the arguments that run: a person's, where they were *edited*. *policy_version* is that of the turn.
    *started_at* is when its activity was scheduled. *executed* says that the tool gave a result,
    *again_at* when a call that no worker serves is tried again, *tries* how often it was. *delegated* is the
    agent that answers it, and *child* the run in which it does, from when that began.
    """

    call: ToolCall
    gate: Gate
    requirement_id: str | None = None
    answer: str | None = None
    running: bool = False
    executed: bool = False
    edited: bool = False
    policy_version: str = ""
    started_at: datetime | None = None
    again_at: datetime | None = None
    tries: int = 0
    delegated: str | None = None
    child: ChildRun | None = None

    @property
    def told(self) -> str:
        """What the model is told, with what a person changed."""
        answer = self.answer or ""
        if not self.edited:
            return answer
        return f"A person changed the arguments of this call to: {self.call.arguments}\n{answer}"


def read_turn(result: object) -> ModelTurn | Failure:
    """What `call_model` answered; a result that somebody put in by hand may be anything at all."""
    try:
        turn = ModelTurn.model_validate(result)
        if all(call.tool for call in tool_calls(turn.items)) and _is_readable(turn):
            return turn
    except (ValidationError, KeyError, TypeError, ValueError):
        pass
    return Failure("InvalidModelTurn", f"its result was put in by hand, and is not a turn: {shown([result])}")


def _is_readable(turn: ModelTurn) -> bool:
    """Whether the text of a structured answer is JSON, as it says."""
    if turn.structured:
        json.loads(text_of(turn.items))
    return True


def read_outcome(result: object) -> ToolOutcome:
    """What a tool's activity answered; a result that somebody put in by hand may be anything at all."""
    try:
        outcome = ToolOutcome.model_validate(result)
    except ValidationError:
        outcome = ToolOutcome()
    if [outcome.output, outcome.error, outcome.refused, outcome.delegation].count(None) == 3:
        return outcome
    return ToolOutcome(error=f"its result was put in by hand, and is not a tool's: {shown([result])}")


def read_check(result: object) -> Checked | Failure:
    """What `check_call` answered; a result that somebody put in by hand may be anything at all."""
    try:
        return Checked.model_validate(result)
    except ValidationError:
        return Failure("InvalidCheck", f"its result is not a check's: {shown([result])}")


def gate_of(turn: ModelTurn, call: ToolCall) -> Gate:
    """The gate of a call; one that the worker gave no gate for is denied."""
    return turn.gates.get(call.call_id, _NO_GATE)


def gated_calls(turn: ModelTurn) -> list[ToolCall]:
    """The calls of a turn that wait for somebody, in the model's order: those that need a nonce."""
    return [call for call in tool_calls(turn.items) if gate_of(turn, call).verdict in _KINDS]


def immediate_answer(gate: Gate) -> str | None:
    """What the model is told at once about a call that neither runs nor waits; None for the others."""
    if gate.verdict == "deny":
        return f"Denied: {gate.reason or 'the policy does not permit it'}"
    if gate.verdict == "invalid":
        return f"Error: {gate.reason or 'the arguments do not fit'}"
    return None


def open_requirement(
    context: CallContext,
    call: ToolCall,
    gate: Gate,
    *,
    nonce: str,
    policy_version: str,
    at: datetime,
    latest: datetime | None = None,
) -> Requirement:
    """Return the requirement of a call that waits; its deadline is the gate's own or *latest*, whichever is earlier."""
    own = None if gate.expires_after is None else add_seconds(at, gate.expires_after)
    expires_at = min((each for each in (own, latest) if each is not None), default=None)
    identity = requirement_id(
        run_id=context.run_id,
        nonce=nonce,
        call_id=call.call_id,
        tool=call.tool,
        arguments=call.arguments,
        policy_version=policy_version,
        needed=gate.needed,
        expires_at=expires_at,
    )
    return Requirement(
        id=identity,
        kind=_KINDS.get(gate.verdict, "confirmation"),
        call_id=call.call_id,
        tool=call.tool,
        arguments=call.arguments,
        nonce=nonce,
        turn=context.turn,
        created_at=at,
        policy_version=policy_version,
        needed=gate.needed,
        approvers=gate.approvers,
        expires_at=expires_at,
        approval_type=gate.approval_type,
        self_approval=gate.self_approval,
        note=gate.reason,
        escalations=[
            EscalationStep(at=add_seconds(at, each.after), approvers=each.approvers) for each in gate.escalations
        ],
        remind_every=timedelta(seconds=gate.remind_every) if gate.remind_every else None,
        remind_at=add_seconds(at, gate.remind_every) if gate.remind_every else None,
        fields=gate.fields,
        checked=gate.checked,
        agent=context.agent if context.handed_over else None,
    )


def open_outcome(
    context: CallContext, lost: Requirement, call: Call, failure: Failure, nonce: str, at: datetime
) -> Requirement:
    """The requirement that asks a person what came of a call whose worker was lost.

    Those who could decide the call decide this; it has no deadline, because nothing can be taken for an answer.
    """
    gate = Gate(
        verdict="ask",
        reason=f"its worker was lost while it ran ({failure.message}); it may or may not have taken effect",
        needed=lost.needed,
        approvers=lost.approvers,
        remind_every=lost.remind_every.total_seconds() if lost.remind_every else None,
        approval_type=lost.approval_type,
        self_approval=lost.self_approval,
    )
    opened = open_requirement(context, call.call, gate, nonce=nonce, policy_version=lost.policy_version, at=at)
    return opened.model_copy(update={"kind": "outcome", "follows": lost.id, "values": lost.values})


def run_tool(context: CallContext, position: int, call: ToolCall, gate: Gate, approved: Requirement | None) -> RunTool:
    """The command that runs a call, with what its activity checks again where somebody approved it."""
    # Only what is not the default is set: these inputs are stored for every call of a history.
    fields: dict[str, object] = {
        "agent": context.agent,
        "call_id": call.call_id,
        "arguments": call.arguments,
        "key": idempotency_key(context.run_id, context.scope, call.call_id),
    }
    if context.requested_by is not None:
        fields["requested_by"] = context.requested_by
    if approved is not None:
        fields["authorization"] = _authorization(context, approved)
        if approved.values is not None:
            fields["values"] = approved.values
    if context.policy is not None:
        fields["policy"] = context.policy
    if gate.output_limit is not None:
        fields["output_limit"] = gate.output_limit
    return RunTool(
        position=position,
        turn=context.turn,
        tool=call.tool,
        input=ToolCallInput.model_validate(fields),
        options=gate.options or _DEFAULT_OPTIONS,
        attempts=_attempts(gate),
    )


def _authorization(context: CallContext, approved: Requirement) -> Authorization:
    fields: dict[str, object] = {
        "requirement_id": approved.id,
        "nonce": approved.nonce,
        "policy_version": approved.policy_version,
        "needed": approved.needed,
        "expires_at": approved.expires_at,
        "approved_by": [vote.by for vote in approved.votes if vote.verdict != "reject"],
        "execution_id": context.first_execution_id,
    }
    # Only what is not the default is set: these inputs are stored for every call of a history.
    if approved.edited_from is not None:
        fields["follows"] = approved.edited_from
    if context.parent is not None:
        fields["parent"] = context.parent
    return Authorization.model_validate(fields)


def _attempts(gate: Gate) -> int:
    if gate.at_most_once:
        return 1
    wanted = gate.options.attempts if gate.options else None
    return wanted or WORKER_LOSSES
