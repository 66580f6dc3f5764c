"""What waits for people, and how it stops waiting: by a decision, by an edit, by the clock.

Pure; safe in workflow code.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from assent.core import approvals, budget_rules, deadlines, grants, ignored_messages, tool_calls
from assent.core.approvals import Checkable, Decision, DecisionContext, Ruling
from assent.core.events import CheckAnswered, CheckCall, Command, Failure, MessageReceived, ToolAnswered, ToolLost
from assent.core.run_state import PendingCheck, Run, Step
from assent.core.tool_calls import Call
from assent.core.turns import after_budget_decision, close, fail, next_turn, resume
from assent.wire import messages
from assent.wire.conversation import user_message
from assent.wire.digest import json_size, text_digest
from assent.wire.errors import MessageError
from assent.wire.inbound import Approve, Close, Revoke, SendMessage
from assent.wire.messages import Message
from assent.wire.protocol import Checked, DecisionResult, Gate
from assent.wire.requirements import Requirement

CHECKS_AT_ONCE: Final = 20
CHECKS_LIMIT: Final = 1_000
"""How many messages of a run a worker checks, at once and in all: each costs events, and noise must fill nothing."""
AGAIN_LONGEST: Final = 30 * 86_400.0
"""Seconds after which a call that no worker served is tried again, at the most: each try costs some events."""
CHECKS_SIZE: Final = 1_000_000
"""Bytes (as JSON) of what people may send to the calls of one turn for a worker to check or to run with."""


# -- time -------------------------------------------------------------------------------------------------------------


def pass_time(run: Run, at: datetime) -> Step:
    """The run with everything done that is due by *at*: what expired is answered, people are added and reminded."""
    # `wake_at` is when something is due next: with hundreds of messages in one task, there is no time to look.
    if run.wake_at is None or run.wake_at > at:
        return Step(run)
    step = Step(run)
    for requirement in run.pending:
        if deadlines.is_expired(requirement, at):
            expired = deadlines.expire(requirement, at)
            step = _answered(step, expired, deadlines.expired_answer(requirement))
        elif (advanced := deadlines.advance(requirement, at)) is not requirement:
            step = replace(step, run=_replaced(step.run, advanced))
    for position, call in enumerate(step.run.calls):
        if call.again_at is not None and call.again_at <= at:
            step = _run_again(step, position, call, at)
    return _time_over(next_turn(step, at), at)


def _time_over(step: Step, at: datetime) -> Step:
    """End the run, or ask for more, once its time is over: also while it waits for people or tools."""
    run = step.run
    due = budget_rules.due_at(run)
    if run.ended or due is None or due > at or run.budget is None:
        return step
    ends = run.budget.on_reached == "end"
    return merged(step, fail(run, budget_rules.failure(run, at), at) if ends else budget_rules.request_extension(run))


def due_at(run: Run) -> datetime | None:
    """When something of the run is due next; None where nothing ever is."""
    if run.ended:
        return None
    times = [call.again_at for call in run.calls if call.again_at is not None]
    others = (deadlines.next_due(run.pending), budget_rules.due_at(run))
    return min([*times, *(each for each in others if each is not None)], default=None)


def _answered(step: Step, settled: Requirement, answer: str) -> Step:
    run = _replaced(step.run, settled)
    position = _position(run, settled.id)
    return replace(step, run=run.with_call(position, replace(run.calls[position], answer=answer)))


def _run_again(step: Step, position: int, call: Call, at: datetime) -> Step:
    run = step.run.with_call(position, replace(call, again_at=None, running=True, started_at=at))
    run = _executing(run, call.requirement_id, "running")
    approved = run.requirement(call.requirement_id)
    command = tool_calls.run_tool(run.call_context, position, call.call, call.gate, approved)
    return replace(step, run=run, commands=(*step.commands, command))


# -- messages ---------------------------------------------------------------------------------------------------------


def message_received(run: Run, event: MessageReceived) -> Step:
    """What a signal or update does to a run, which may have ended."""
    try:
        message = messages.read(event.name, event.arguments)
    except MessageError as error:
        result = DecisionResult(status="refused", detail=str(error))
        return Step(run.with_ignored(ignored_messages.unreadable(event, str(error))), result=result)
    if isinstance(message, SendMessage):
        return _queue(run, message, event)
    if isinstance(message, Revoke):
        return _revoke(run, message, event)
    if isinstance(message, Close):
        return _close(run, message, event)
    ruling = approvals.rule(run.requirements, message, _context(run, event, event.at))
    if ruling.requirement and getattr(message, "remember", None) and len(run.grants) >= grants.GRANTS_LIMIT:
        detail = f"the run has {len(run.grants)} grants already: approve this call alone"
        return _not_counted(
            run, event, ruling.result.model_copy(update={"status": "refused", "detail": detail}), message.by
        )
    if ruling.check is not None:
        return _begin_check(run, message, ruling.check, event)
    return _ruled(run, ruling, message, event, event.at)


def unknown_target(run: Run, message: Message, at: datetime) -> str | None:
    """What is said of a message about a requirement or grant that the run does not have; None where it has it."""
    if isinstance(message, Revoke):
        _, result = grants.revoke(run.grants, message, at)
        return result.detail if result.status == "unknown" else None
    found = approvals.find_requirement(run.requirements, getattr(message, "id", ""))
    return found if isinstance(found, str) else None


def _context(run: Run, event: MessageReceived, at: datetime) -> DecisionContext:
    return DecisionContext(at, event.channel, run.requested_by)


def _ruled(run: Run, ruling: Ruling, decision: Decision, event: MessageReceived, at: datetime) -> Step:
    """Carry a ruling out: keep what did not count; answer the model, run the tool, or wait for more votes."""
    if ruling.requirement is None:
        return _not_counted(run, event, ruling.result, decision.by)
    decided = ruling.requirement
    after = _replaced(run, decided)
    if isinstance(decision, Approve) and decision.remember is not None and decided.status == "approved":
        after = replace(after, grants=(*after.grants, grants.make_grant(decided, decision.remember, at)))
    return replace(_resolved(after, decided, ruling.answer, at), result=ruling.result)


def _not_counted(run: Run, event: MessageReceived, result: DecisionResult, by: str) -> Step:
    return Step(run.with_ignored(ignored_messages.attempt_of(event, result, by)), result=result)


def _resolved(run: Run, decided: Requirement, answer: str | None, at: datetime) -> Step:
    if decided.kind == "budget":
        return Step(run) if decided.status == "pending" else after_budget_decision(run, decided, at)
    position = _position(run, decided.id)
    call = run.calls[position]
    if answer is not None:
        executed = decided.execution == "executed"
        return next_turn(Step(run.with_call(position, replace(call, answer=answer, executed=executed))), at)
    if decided.status != "approved":
        return Step(run)
    begun = run.with_call(position, replace(call, running=True, started_at=at))
    return Step(begun, (tool_calls.run_tool(run.call_context, position, call.call, call.gate, decided),))


def _position(run: Run, identity: str) -> int:
    return next(index for index, call in enumerate(run.calls) if call.requirement_id == identity)


def _replaced(run: Run, requirement: Requirement) -> Run:
    return run.with_requirement(requirement.id, lambda _: requirement)


def _queue(run: Run, message: SendMessage, event: MessageReceived) -> Step:
    item = user_message(message.content)
    late = "the run has ended" if run.ended else "the conversation is being closed" if run.closing else None
    objection = late or ignored_messages.queue_objection(run.queued_size, item)
    if objection is not None:
        result = DecisionResult(status="late" if late else "refused", detail=objection)
        return _not_counted(run, event, result, message.by)
    queued = replace(run, queued=(*run.queued, item), queued_size=run.queued_size + json_size(item))
    recorded = DecisionResult(status="recorded", detail="the model reads it with its next turn")
    return replace(resume(queued, event.at) if run.status == "idle" else Step(queued), result=recorded)


def _close(run: Run, message: Close, event: MessageReceived) -> Step:
    """End a conversation, or let it end with the answer that is under way."""
    late = "the run has ended" if run.ended else "the conversation is being closed already" if run.closing else None
    if late is not None:
        return _not_counted(run, event, DecisionResult(status="late", detail=late), message.by)
    if run.status == "idle":
        return replace(close(run, event.at), result=DecisionResult(status="recorded", detail="the conversation ends"))
    if run.request is None:
        # It arrived before a worker took the run up: what the run is shows once it has started.
        early = "a conversation ends with its first answer; a run that is none takes no notice"
        return Step(replace(run, closing=True), result=DecisionResult(status="recorded", detail=early))
    if not run.is_conversation:
        refused = "the run is no conversation: it ends by itself, or is cancelled"
        return _not_counted(run, event, DecisionResult(status="refused", detail=refused), message.by)
    recorded = DecisionResult(status="recorded", detail="the conversation ends with the answer that is under way")
    return Step(replace(run, closing=True), result=recorded)


def _revoke(run: Run, message: Revoke, event: MessageReceived) -> Step:
    if run.ended:
        late = DecisionResult(status="late", detail="the run has ended, and its grants with it")
        return _not_counted(run, event, late, message.by)
    kept, result = grants.revoke(run.grants, message, event.at)
    if result.status != "recorded":
        return _not_counted(run, event, result, message.by)
    return Step(replace(run, grants=kept), result=result)


# -- what a worker checks first ---------------------------------------------------------------------------------------


def _begin_check(run: Run, decision: Decision, what: Checkable, event: MessageReceived) -> Step:
    found = approvals.find_requirement(run.requirements, decision.id)
    if isinstance(found, str):
        return Step(run)
    if (detail := _check_objection(run, decision)) is not None:
        return _not_counted(run, event, approvals.refuse(found, detail).result, decision.by)
    number = run.checks_made + 1
    checking = replace(run, checks_made=number, checks=(*run.checks, PendingCheck(number, decision, event)))
    caller = run.call_context
    given = approvals.check_input(found, decision, what, agent=caller.agent, requested_by=caller.requested_by)
    if caller.policy is not None:
        given = given.model_copy(update={"policy": caller.policy})
    return Step(checking, (CheckCall(number, given),), check=number)


def _check_objection(run: Run, decision: Decision) -> str | None:
    """Why a message cannot be checked now; None when it can."""
    if len(run.checks) >= CHECKS_AT_ONCE:
        return "too many messages are being checked; send it again"
    if run.checks_made >= CHECKS_LIMIT:
        return f"{CHECKS_LIMIT} messages of this run were checked already; approve or reject it as it is"
    # What one workflow task schedules goes to the server at once, and over 4 MiB it terminates the run.
    kept = [each for call in run.calls if (each := run.requirement(call.requirement_id)) is not None]
    size = sum(len(each.arguments) for each in kept if each.edited_by)
    size += sum(json_size(each.values) for each in kept if each.values is not None)
    size += sum(json_size(_sent(check.message)) for check in run.checks) + json_size(_sent(decision))
    return None if size <= CHECKS_SIZE else f"too long: what people sent to this turn may have {CHECKS_SIZE} bytes"


def _sent(message: messages.Message) -> object:
    """What a message carries for a worker to check."""
    return [getattr(message, name, None) for name in ("arguments", "values", "output")]


def check_answered(run: Run, event: CheckAnswered) -> Step:
    """What a message comes to, now that a worker has checked it. The first that passes is the first that counts."""
    check = next((each for each in run.checks if each.number == event.number), None)
    if check is None or isinstance(check.message, SendMessage | Revoke | Close):
        return Step(run)
    left = replace(run, checks=tuple(each for each in run.checks if each is not check))
    decision = check.message
    ruling = approvals.rule(left.requirements, decision, _context(left, check.event, event.at), checked=True)
    found = approvals.find_requirement(left.requirements, decision.id)
    if ruling.requirement is None or isinstance(found, str):
        return _ruled(left, ruling, decision, check.event, event.at)
    if isinstance(event.checked, Failure):
        problem: str | None = f"it could not be checked: {event.checked.message}"
    else:
        problem = event.checked.problem
    if problem is not None:
        return _ruled(left, approvals.refuse(found, problem), decision, check.event, event.at)
    if isinstance(decision, Approve) and isinstance(event.checked, Checked):
        return _edited(left, found, decision, event.checked, check.event, event.at)
    return _ruled(left, ruling, decision, check.event, event.at)


def _edited(
    run: Run, found: Requirement, decision: Approve, checked: Checked, event: MessageReceived, at: datetime
) -> Step:
    """Replace a requirement by one for the edited arguments, with their own gate; the editor's vote counts once."""
    gate = checked.gate or Gate(verdict="deny")
    if gate.verdict not in {"ask", "allow"}:
        detail = gate.reason or "the tool with these arguments does not wait for an approval"
        return _ruled(run, approvals.refuse(found, detail), decision, event, at)
    position = _position(run, found.id)
    call = run.calls[position]
    edited = replace(call.call, arguments=approvals.edited_text(decision.arguments))
    opened = _replacement(run, found, edited.arguments, gate, checked, at)
    opened = opened.model_copy(update={"edited_by": decision.by, "edited_from": found.edited_from or found.id})
    context = _context(run, event, at)
    plain = decision.model_copy(update={"id": opened.id, "arguments": None})
    ruling = approvals.rule([opened], plain, context)
    if ruling.requirement is None:
        return _ruled(run, approvals.refuse(found, ruling.result.detail), decision, event, at)
    after = _replaced(run, approvals.supersede(found, decision, context))
    after = replace(after, requirements=(*after.requirements, opened))
    waiting = replace(call, call=edited, gate=_kept(gate, call.gate), requirement_id=opened.id, edited=True)
    return _ruled(after.with_call(position, waiting), ruling, plain, event, at)


def _replacement(
    run: Run, found: Requirement, arguments: str, gate: Gate, checked: Checked, at: datetime
) -> Requirement:
    call = next(call.call for call in run.calls if call.requirement_id == found.id)
    opened = tool_calls.open_requirement(
        run.call_context,
        replace(call, arguments=arguments),
        gate.model_copy(update={"verdict": "ask"}),
        # No memo tells a nonce of what is approved at once: it is derived, and as unique as the one it comes from.
        nonce=text_digest(f"{found.nonce}:{arguments}")[:32],
        policy_version=checked.policy_version,
        at=at,
        latest=found.expires_at,  # Nobody gains time by an edit.
    )
    return opened.model_copy(update={"follows": found.id, "approval_type": found.approval_type})


def _kept(gate: Gate, before: Gate) -> Gate:
    """The gate of an edited call: one that a person has decided about runs at most once if it did before."""
    return gate.model_copy(update={"at_most_once": gate.at_most_once or before.at_most_once, "stop": before.stop})


# -- calls that come back to people -----------------------------------------------------------------------------------


def ask_again(run: Run, event: ToolAnswered, gate: Gate) -> Step:
    """A call that its activity refused, because it takes more today than it had: it waits for a person again."""
    call = run.calls[event.position]
    before = run.requirement(call.requirement_id)
    opened = tool_calls.open_requirement(
        run.call_context,
        call.call,
        gate.model_copy(update={"reason": _why(event.outcome.refused, gate.reason)}),
        nonce=event.nonces[call.call.call_id],
        policy_version=event.outcome.policy_version,
        at=event.at,
    )
    return _reopened(
        run, event.position, opened, before, {"execution": "refused", "result": event.outcome.refused}, gate
    )


def try_again(run: Run, event: ToolAnswered, seconds: float) -> Step:
    """A call whose worker does not serve it: another may, so it is tried again, and stays approved."""
    call = run.calls[event.position]
    again_at = deadlines.add_seconds(event.at, min(max(seconds, 1.0) * 2.0 ** min(call.tries, 30), AGAIN_LONGEST))
    waits = replace(call, running=False, again_at=again_at, tries=call.tries + 1)
    after = run.with_call(event.position, waits)
    return Step(_executing(after, call.requirement_id, None))


def _executing(run: Run, identity: str | None, execution: str | None) -> Run:
    if identity is None:
        return run
    return run.with_requirement(identity, lambda found: found.model_copy(update={"execution": execution}))


def _why(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None


def ask_outcome(run: Run, event: ToolLost, lost: Requirement) -> Step:
    """A call that may run only once, and whose worker was lost: a person says what came of it."""
    call = run.calls[event.position]
    nonce = event.nonces[call.call.call_id]
    opened = tool_calls.open_outcome(run.call_context, lost, call, event.failure, nonce, event.at)
    return _reopened(run, event.position, opened, lost, {"execution": "unknown"}, call.gate)


def _reopened(
    run: Run,
    position: int,
    opened: Requirement,
    before: Requirement | None,
    update: dict[str, object],
    gate: Gate,
) -> Step:
    call = replace(run.calls[position], running=False, requirement_id=opened.id, gate=gate)
    after = run.with_call(position, call)
    if before is not None:
        opened = opened.model_copy(update={"follows": before.id})
        after = _replaced(after, before.model_copy(update=update))
    return Step(replace(after, requirements=(*after.requirements, opened)))


def merged(first: Step, then: Step) -> Step:
    """What two steps, one after the other, came to together."""
    commands: tuple[Command, ...] = (*first.commands, *then.commands)
    return replace(then, commands=commands)
