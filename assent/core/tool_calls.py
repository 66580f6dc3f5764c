"""The tool calls of a turn: which of them wait, the requirements that they open, and how the others run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue, ValidationError

from assent.core.deadlines import add_seconds
from assent.core.events import Failure, RunTool
from assent.core.transitions import CALL, CallEvent, CallStatus
from assent.wire.budget import Budget
from assent.wire.conversation import ToolCall, text_of, tool_calls
from assent.wire.digest import idempotency_key, parse_arguments, requirement_id
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

CONNECTION_LOST: Final = "ConnectionLost"
"""The type of the failure of a call whose MCP server was lost while it ran."""
WORKER_LOSSES: Final = 5
"""The starts of an idempotent tool whose worker is lost, or whose time is up, each time."""

_DEFAULT_OPTIONS: Final = ToolOptions()
_NO_GATE: Final = Gate(verdict="deny", reason="the worker gave no gate for this call")
_KINDS: Final[dict[Verdict, RequirementKind]] = {"ask": "confirmation", "external": "external", "input": "input"}


@dataclass(frozen=True, slots=True)
class CallContext:
    """What all calls of a turn have in common: run, agent, requester, turn, the request's policy and context.

    *parent* is the parent run. *handed_over*: the agent took the conversation over from another one. *activity*: the
    call is of an activity that workflow code asked about.
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
    context: dict[str, JsonValue] | None = None
    activity: bool = False

    @property
    def scope(self) -> str:
        """Return the scope in which call ids are unique: a provider may use an id again once its turn is summarised."""
        return f"{self.first_execution_id}/{self.turn}" if self.compacted else self.first_execution_id


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of the current turn. *answer* is the model's answer; None while the call runs or waits.

    *call* has the arguments that run: a person's, if they were *edited*. *policy_version* is that of the turn.
    *started_at* is when its activity was scheduled. *executed*: the tool gave a result. *images* are those of its
    result, as parts of an item. *submitted* is the output that a person handed in, as JSON.

    A call that could not start is retried at *again_at*. *again_why* says why, *tries* counts the retries. *delegated*
    is the agent that answers it in the run *child*, which may use *budget*.
    """

    call: ToolCall
    gate: Gate
    requirement_id: str | None = None
    answer: str | None = None
    images: tuple[JsonValue, ...] = ()
    running: bool = False
    executed: bool = False
    edited: bool = False
    policy_version: str = ""
    started_at: datetime | None = None
    again_at: datetime | None = None
    tries: int = 0
    delegated: str | None = None
    child: ChildRun | None = None
    budget: Budget | None = None
    submitted: JsonValue = None
    again_why: str = ""

    @property
    def status(self) -> CallStatus:
        """Return what the call does now, in a run that has not ended."""
        if self.answer is not None:
            return "answered"
        if self.running:
            return "running" if self.delegated is None else "delegated"
        if self.again_at is not None:
            return "retrying"
        return "new" if self.requirement_id is None else "waiting"

    def on(self, event: CallEvent) -> Call:
        """Return the call after *event*; the caller adds what else its new status needs."""
        return replace(self, running=CALL.next(self.status, event) in {"running", "delegated"})

    @property
    def output(self) -> str:
        """Return the answer as the model gets it, with a person's edit."""
        answer = self.answer or ""
        if not self.edited:
            return answer
        return f"A person changed the arguments of this call to: {self.call.arguments}\n{answer}"


def read_turn(result: object) -> ModelTurn | Failure:
    """Return the result of `call_model`. An operator may have completed the activity with any value."""
    try:
        turn = ModelTurn.model_validate(result)
        if turn.structured:
            json.loads(text_of(turn.items))
        # The server takes no activity without a name. A model may write none: such a call is answered, and never runs.
        if all(call.tool or immediate_answer(gate_of(turn, call)) for call in tool_calls(turn.items)):
            return turn
    except (ValidationError, KeyError, TypeError, ValueError):
        pass
    return Failure("InvalidModelTurn", f"an operator set its result, which is no turn: {shown([result])}")


def read_outcome(result: object) -> ToolOutcome:
    """Return the result of a tool's activity. An operator may have completed the activity with any value."""
    try:
        outcome = ToolOutcome.model_validate(result)
    except ValidationError:
        outcome = ToolOutcome()
    if [outcome.output, outcome.error, outcome.refused, outcome.delegation].count(None) == 3:
        return outcome
    return ToolOutcome(error=f"an operator set its result, which is no tool's: {shown([result])}")


def read_check(result: object) -> Checked | Failure:
    """Return the result of `check_call`. An operator may have completed the activity with any value."""
    try:
        return Checked.model_validate(result)
    except ValidationError:
        return Failure("InvalidCheck", f"its result is no check's: {shown([result])}")


def gate_of(turn: ModelTurn, call: ToolCall) -> Gate:
    """Return the gate of a call; a call without a gate from the worker is denied."""
    return turn.gates.get(call.call_id, _NO_GATE)


def gated_calls(turn: ModelTurn) -> list[ToolCall]:
    """Return the calls of a turn that open a requirement, and so need a nonce, in the model's order."""
    return [call for call in tool_calls(turn.items) if gate_of(turn, call).verdict in _KINDS]


def immediate_answer(gate: Gate) -> str | None:
    """Return the answer to a call that neither runs nor waits; None for the others."""
    if gate.verdict == "deny":
        return f"Denied: {gate.reason or 'the policy does not permit it'}"
    if gate.verdict == "invalid":
        return f"Error: {gate.reason or 'the arguments do not fit'}"
    return None


def immediate_answers(turn: ModelTurn, *, made: int, limit: int | None) -> dict[str, str]:
    """Return the answers to the calls of a turn that neither run nor wait, by call id.

    *made* calls of the *limit* were made before the turn.
    """
    answers: dict[str, str] = {}
    for call in tool_calls(turn.items):
        answer = immediate_answer(gate_of(turn, call))
        if answer is None and limit is not None and made >= limit:
            answer = f"Denied: the run may make {limit} tool calls, and has made them. Answer with what you have."
        if answer is None:
            made += 1
        else:
            answers[call.call_id] = answer
    return answers


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
    """Return the requirement of a call that waits. Its deadline is the gate's own or *latest*, if that is earlier."""
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
        binding=gate.binding,
        proof=gate.proof,
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
        proof=gate.proof,
        note=gate.reason,
        escalations=[
            EscalationStep(at=add_seconds(at, each.after), approvers=each.approvers) for each in gate.escalations
        ],
        remind_every=timedelta(seconds=gate.remind_every) if gate.remind_every else None,
        remind_at=add_seconds(at, gate.remind_every) if gate.remind_every else None,
        fields=gate.fields,
        checked=gate.checked,
        agent=context.agent if context.handed_over else None,
        read_as=gate.read_as,
        binding=gate.binding,
    ).without_defaults()  # For memory: a run may wait for a year, and each name set counts.


def open_outcome(
    context: CallContext, lost: Requirement, call: Call, failure: Failure, nonce: str, at: datetime
) -> Requirement:
    """Return the requirement that asks for the outcome of a call whose worker was lost, or whose time was up.

    The call's approvers decide it. It has no deadline, because silence says nothing about the outcome.
    """
    gate = Gate(
        verdict="ask",
        reason=f"{unknown_outcome_reason(failure, call.gate)}; to run it again may do it twice",
        needed=lost.needed,
        approvers=lost.approvers,
        remind_every=lost.remind_every.total_seconds() if lost.remind_every else None,
        approval_type=lost.approval_type,
        self_approval=lost.self_approval,
        proof=lost.proof,
        read_as=lost.read_as,
        binding=lost.binding,
    )
    opened = open_requirement(context, call.call, gate, nonce=nonce, policy_version=lost.policy_version, at=at)
    return opened.model_copy(update={"kind": "outcome", "follows": lost.id, "values": lost.values})


def unknown_outcome_reason(failure: Failure, gate: Gate) -> str:
    """Return why the outcome of a call that was started is unknown."""
    if failure.kind == CONNECTION_LOST:
        return f"{failure.message}; it may or may not have taken effect"
    if failure.is_overrun:
        limit = (gate.options or _DEFAULT_OPTIONS).timeout
        return f"it passed its timeout of {limit:g} s: it may still be running, and may or may not have taken effect"
    return f"its worker was lost while it ran ({failure.message}); it may or may not have taken effect"


def run_tool(context: CallContext, position: int, call: ToolCall, gate: Gate, approved: Requirement | None) -> RunTool:
    """Return the command that runs a call. The activity of an approved call checks its authorization again."""
    call_input = ToolCallInput(
        agent=context.agent,
        call_id=call.call_id,
        arguments=call.arguments,
        key=idempotency_key(context.run_id, context.scope, call.call_id),
        requested_by=context.requested_by,
        authorization=None if approved is None else _authorization(context, approved),
        values=None if approved is None else approved.values,
        policy=context.policy,
        output_limit=gate.output_limit,
        context=context.context,
        question=gate.question,
    )
    options = gate.options or _DEFAULT_OPTIONS
    return RunTool(
        position=position,
        turn=context.turn,
        tool=call.tool,
        input=call_input.without_defaults(),
        options=options,
        attempts=1 if gate.at_most_once else options.attempts or WORKER_LOSSES,
        values=tuple(parse_arguments(call.arguments).values()) if context.activity else None,
    )


def _authorization(context: CallContext, approved: Requirement) -> Authorization:
    approvals = [vote for vote in approved.votes if vote.verdict != "reject"]
    return Authorization(
        requirement_id=approved.id,
        nonce=approved.nonce,
        policy_version=approved.policy_version,
        needed=approved.needed,
        expires_at=approved.expires_at,
        approved_by=[vote.by for vote in approvals],
        execution_id=context.first_execution_id,
        follows=approved.edited_from,
        parent=context.parent,
        binding=approved.binding,
        read_as=approved.read_as,
        proof=approved.proof,
        proofs=[vote.proof for vote in approvals if vote.proof is not None],
    ).without_defaults()
