"""The state of a run, and what an event does to it.

`decide(run, event)` is the whole of a run's behaviour. The workflow feeds it what it lives through and carries out the
commands; the audit, the watch and the rebuilding of a conversation feed it the same events read from history. So what
runs, what is shown and what is audited cannot differ. (Decisions as values: Percival and Gregory, *Architecture
Patterns with Python*, chapter 3.)

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from assent import approvals, attempts, calls, messages
from assent.calls import Call
from assent.conversation import Conversation, ToolCall, fitted, text_of, tool_calls, tool_output, user_message
from assent.digest import canonical
from assent.errors import MessageError
from assent.events import (
    CallModel,
    Cancel,
    Command,
    Complete,
    Event,
    Fail,
    Failure,
    MessageReceived,
    ModelAnswered,
    ModelFailed,
    Started,
    ToolAnswered,
    ToolLost,
)
from assent.protocol import (
    DecisionResult,
    Item,
    ModelCallInput,
    ModelTurn,
    RunRequest,
    RunResult,
    RunStatus,
    SendMessage,
    Usage,
)
from assent.render import bounded
from assent.requirements import Attempt, Requirement, RunState

MAX_TURNS: Final = 50


@dataclass(frozen=True, slots=True)
class Run:
    """Everything there is to know about a run, at one moment."""

    id: str = ""
    run_id: str = ""
    first_run_id: str = ""
    namespace: str = "default"
    request: RunRequest | None = None
    status: RunStatus = "running"
    turn: int = 0
    max_turns: int = MAX_TURNS
    model_running: bool = False
    conversation: Conversation = field(default_factory=Conversation)
    calls: tuple[Call, ...] = ()
    queued: tuple[Item, ...] = ()
    queued_size: int = 0
    requirements: tuple[Requirement, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    attempts_dropped: int = 0
    usage: Usage = field(default_factory=Usage)
    attributes: bool = False
    content: str | None = None
    output: JsonValue = None
    failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether the run is over; nothing changes a run that is, except that late messages are kept."""
        return self.status in {"completed", "failed", "cancelled"}

    @property
    def pending(self) -> list[Requirement]:
        """The requirements that wait."""
        return [requirement for requirement in self.requirements if requirement.status == "pending"]


@dataclass(frozen=True, slots=True)
class Step:
    """What an event came to: the run as it is now, the commands to carry out, the answer to whoever sent it."""

    run: Run
    commands: tuple[Command, ...] = ()
    result: DecisionResult | None = None


def decide(run: Run, event: Event) -> Step:
    """What *event* does to *run*.

    Pure; safe in workflow code.
    """
    if isinstance(event, MessageReceived):
        return _settled(_message_received(run, event))
    if run.ended:
        return Step(run)
    return _settled(_advance(run, event))


def _advance(run: Run, event: Event) -> Step:
    match event:
        case Started():
            return _started(run, event)
        case ModelAnswered():
            return _model_answered(run, event)
        case ModelFailed(at, failure):
            return _fail(run, failure, at)
        case ToolAnswered():
            return _tool_answered(run, event)
        case ToolLost():
            return _tool_lost(run, event)
        case _:
            return _cancelled(run, event.at)


def _settled(step: Step) -> Step:
    """The step with the run's status set to what the run is now doing."""
    run = step.run
    if run.ended:
        return step
    moving = run.model_running or any(call.running for call in run.calls)
    status: RunStatus = "waiting" if run.pending and not moving else "running"
    return step if status == run.status else replace(step, run=replace(run, status=status))


# -- the model --------------------------------------------------------------------------------------------------------


def _started(run: Run, event: Started) -> Step:
    begun = replace(
        run,
        id=event.workflow_id,
        run_id=event.run_id,
        first_run_id=event.first_run_id,
        namespace=event.namespace,
    )
    try:
        request = messages.read_request(event.arguments)
    except MessageError as error:
        return _fail(begun, Failure("InvalidRunRequest", str(error)), event.at)
    limit = min(request.max_turns or MAX_TURNS, MAX_TURNS)
    begun = replace(begun, request=request, max_turns=limit)
    return _call_model(begun, [user_message(request.input)], event.at)


def _call_model(run: Run, delta: list[Item], at: datetime) -> Step:
    if run.turn >= run.max_turns:
        return _fail(run, Failure("MaxTurnsExceeded", f"the run used all of its {run.max_turns} turns"), at)
    items = [*delta, *run.queued]
    agent = run.request.agent if run.request else ""
    fields: dict[str, object] = {"agent": agent, "turn": run.turn + 1, "delta": items}
    if run.conversation.prefix is not None:
        fields["prefix"] = run.conversation.prefix
    after = replace(
        run,
        turn=run.turn + 1,
        model_running=True,
        conversation=run.conversation.append(items),
        queued=(),
        queued_size=0,
        calls=(),
    )
    return Step(after, (CallModel(ModelCallInput.model_validate(fields)),))


def _model_answered(run: Run, event: ModelAnswered) -> Step:
    turn = event.turn
    after = replace(
        run,
        model_running=False,
        conversation=run.conversation.append(turn.items),
        usage=run.usage + turn.usage,
        attributes=run.attributes or turn.attributes,
        max_turns=_limit(run, turn),
    )
    wanted = tool_calls(turn.items)
    if len({call.call_id for call in wanted}) != len(wanted):
        return _fail(after, Failure("InvalidModelTurn", "the model named two calls of one turn alike"), event.at)
    if wanted:
        return _begin_calls(after, wanted, event)
    if turn.follow_up is not None:
        return _call_model(after, [user_message(turn.follow_up)], event.at)
    if after.queued and after.turn < after.max_turns:
        return _call_model(after, [], event.at)
    return _complete(after, turn)


def _limit(run: Run, turn: ModelTurn) -> int:
    """The agent's own limit comes with its first turn; the request may lower it, never raise it."""
    if turn.max_turns is None:
        return run.max_turns
    asked = run.request.max_turns if run.request else None
    return min(asked, turn.max_turns) if asked else turn.max_turns


def _complete(run: Run, turn: ModelTurn) -> Step:
    content = text_of(turn.items)
    output: JsonValue = json.loads(content) if turn.structured else None
    done = replace(run, status="completed", content=content, output=output)
    return Step(done, (Complete(RunResult(content=content, output=output, usage=done.usage, turns=done.turn)),))


def _fail(run: Run, failure: Failure, at: datetime) -> Step:
    return Step(replace(_closed(run, at), status="failed", failure=failure), (Fail(failure),))


def _cancelled(run: Run, at: datetime) -> Step:
    return Step(replace(_closed(run, at), status="cancelled"), (Cancel(),))


def _closed(run: Run, at: datetime) -> Run:
    """The run with nothing left open: what was pending is cancelled, what was under way is unknown."""
    return replace(
        run,
        model_running=False,
        calls=tuple(replace(call, running=False) for call in run.calls),
        requirements=tuple(approvals.cancel(requirement, at) for requirement in run.requirements),
    )


# -- tool calls -------------------------------------------------------------------------------------------------------


def _caller(run: Run) -> calls.Caller:
    request = run.request
    return calls.Caller(
        workflow_id=run.id,
        first_run_id=run.first_run_id,
        agent=request.agent if request else "",
        requested_by=request.requested_by if request else None,
        turn=run.turn,
    )


def _begin_calls(run: Run, wanted: list[ToolCall], event: ModelAnswered) -> Step:
    begun: list[Call] = []
    opened: list[Requirement] = []
    commands: list[Command] = []
    caller = _caller(run)
    for position, call in enumerate(wanted):
        gate = calls.gate_of(event.turn, call)
        answer = calls.answer_of(gate)
        if answer is not None:
            begun.append(Call(call, gate, answer=answer))
        elif gate.verdict == "allow":
            begun.append(Call(call, gate, running=True))
            commands.append(calls.run_tool(caller, position, call, gate, None))
        else:
            requirement = calls.open_requirement(
                caller,
                call,
                gate,
                nonce=event.nonces[call.call_id],
                policy_version=event.turn.policy_version,
                at=event.at,
            )
            opened.append(requirement)
            begun.append(Call(call, gate, requirement_id=requirement.id))
    after = replace(run, calls=tuple(begun), requirements=(*run.requirements, *opened))
    return _next_turn(Step(after, tuple(commands)), event.at)


def _tool_answered(run: Run, event: ToolAnswered) -> Step:
    outcome = event.outcome
    if outcome.refused is not None:
        return _answered(run, event.position, f"Not run: {outcome.refused}", "refused", event.at)
    if outcome.error is not None:
        return _answered(run, event.position, f"Error: {outcome.error}", "failed", event.at)
    return _answered(run, event.position, outcome.output or "", "executed", event.at)


def _tool_lost(run: Run, event: ToolLost) -> Step:
    call = run.calls[event.position] if event.position < len(run.calls) else None
    if call is not None and call.gate.at_most_once:
        told = f"Outcome unknown: the tool was started and its worker was lost ({event.failure.message}). "
        told += "It may or may not have taken effect, and it will not be run again by itself."
        return _answered(run, event.position, told, "unknown", event.at)
    return _answered(run, event.position, f"Error: {event.failure.message}", "failed", event.at)


def _answered(run: Run, position: int, answer: str, execution: str, at: datetime) -> Step:
    call = run.calls[position] if position < len(run.calls) else None
    if call is None or call.answer is not None or not call.running:
        return Step(run)
    result = {"execution": execution, "result": bounded(answer, approvals.RESULT_SHOWN)}
    after = _with_call(run, position, replace(call, answer=answer, running=False))
    if call.requirement_id is not None:
        after = _with_requirement(after, call.requirement_id, lambda found: found.model_copy(update=result))
    return _next_turn(Step(after), at)


def _next_turn(step: Step, at: datetime) -> Step:
    """The next model call, once every call of the turn has its answer."""
    run = step.run
    if run.ended or not run.calls or any(call.answer is None for call in run.calls):
        return step
    told = fitted([call.answer or "" for call in run.calls])
    answers = [tool_output(call.call.call_id, answer) for call, answer in zip(run.calls, told, strict=True)]
    following = _call_model(run, answers, at)
    return replace(following, commands=(*step.commands, *following.commands), result=step.result)


def _with_call(run: Run, position: int, call: Call) -> Run:
    return replace(run, calls=(*run.calls[:position], call, *run.calls[position + 1 :]))


def _with_requirement(run: Run, identity: str, change: Callable[[Requirement], Requirement]) -> Run:
    changed = tuple(change(each) if each.id == identity else each for each in run.requirements)
    return replace(run, requirements=changed)


# -- messages ---------------------------------------------------------------------------------------------------------


def _message_received(run: Run, event: MessageReceived) -> Step:
    try:
        message = messages.read(event.name, event.arguments)
    except MessageError as error:
        result = DecisionResult(status="refused", detail=str(error))
        return Step(_keep(run, attempts.unreadable(event, str(error))), result=result)
    if isinstance(message, SendMessage):
        return _queue(run, message, event)
    context = approvals.Context(event.at, event.channel, run.request.requested_by if run.request else None)
    ruling = approvals.rule(run.requirements, message, context)
    if ruling.requirement is None:
        return Step(_keep(run, attempts.attempt_of(event, ruling.result, message.by)), result=ruling.result)
    decided = ruling.requirement
    after = _with_requirement(run, decided.id, lambda _: decided)
    return replace(_resolved(after, decided, ruling.answer, event.at), result=ruling.result)


def _resolved(run: Run, decided: Requirement, answer: str | None, at: datetime) -> Step:
    """Carry on with the call that waited: answer the model, run the tool, or keep waiting for more votes."""
    position = next(index for index, call in enumerate(run.calls) if call.requirement_id == decided.id)
    call = run.calls[position]
    if answer is not None:
        return _next_turn(Step(_with_call(run, position, replace(call, answer=answer))), at)
    if decided.status != "approved":
        return Step(run)
    begun = _with_call(run, position, replace(call, running=True))
    return Step(begun, (calls.run_tool(_caller(run), position, call.call, call.gate, decided),))


def _queue(run: Run, message: SendMessage, event: MessageReceived) -> Step:
    item = user_message(message.content)
    objection = "the run has ended" if run.ended else attempts.queue_objection(run.queued_size, item)
    if objection is not None:
        result = DecisionResult(status="late" if run.ended else "refused", detail=objection)
        return Step(_keep(run, attempts.attempt_of(event, result, message.by)), result=result)
    queued = replace(run, queued=(*run.queued, item), queued_size=run.queued_size + len(canonical(item)))
    return Step(queued, result=DecisionResult(status="recorded", detail="the model reads it with its next turn"))


def _keep(run: Run, attempt: Attempt) -> Run:
    kept = (*run.attempts, attempt)[-attempts.KEPT :]
    dropped = run.attempts_dropped + len(run.attempts) + 1 - len(kept)
    return replace(run, attempts=kept, attempts_dropped=dropped)


# -- views ------------------------------------------------------------------------------------------------------------


def state_of(run: Run) -> RunState:
    """The run as the query `state` answers it."""
    request = run.request
    return RunState(
        id=run.id,
        execution_id=run.run_id,
        agent=request.agent if request else "",
        status=run.status,
        input=request.input if request else "",
        requested_by=request.requested_by if request else None,
        content=run.content,
        output=run.output,
        error=f"{run.failure.kind}: {run.failure.message}" if run.failure else None,
        turns=run.turn,
        usage=run.usage,
        running=int(run.model_running) + sum(call.running for call in run.calls),
        requirements=list(run.requirements),
        attempts=list(run.attempts),
        attempts_dropped=run.attempts_dropped,
    )
