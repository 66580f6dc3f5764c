"""What a message does to a run: a decision, a result, input, an edit, or text for the model."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from assent.core import approvals, decision_proofs, grants, ignored_messages, tool_calls, workflow_calls
from assent.core.approvals import Checkable, Decision, DecisionContext, DecisionEffect, fold_name
from assent.core.decision_proofs import Provable
from assent.core.events import CheckAnswered, CheckCall, Failure, MessageReceived
from assent.core.run_state import PendingCheck, Run, Step
from assent.core.turns import after_budget_decision, close, next_turn, resume
from assent.wire import messages
from assent.wire.conversation import user_message
from assent.wire.digest import json_size, text_digest
from assent.wire.errors import MessageError
from assent.wire.limits import CHECKS_SIZE, VALUE_SHOWN
from assent.wire.messages import Approve, Close, Message, Reject, Revoke, SendMessage, SubmitInput, SubmitResult
from assent.wire.parts import attachments_of
from assent.wire.proofs import DecisionProof
from assent.wire.protocol import Checked, CheckInput, DecisionResult, DecisionStatus, Gate
from assent.wire.requirements import Grant, Requirement
from assent.wire.text import bounded

CHECKS_AT_ONCE: Final = 20
CHECKS_OF_ALL: Final = 100
"""As `CHECKS_AT_ONCE`, for a sender of whom none is being checked: those of others do not keep them out."""
CHECKS_LIMIT: Final = 1_000
"""The messages that workers check, at once and in one execution of a run: each costs events."""


def message_received(run: Run, event: MessageReceived) -> Step:
    """Apply a signal or update to a run, which may have ended."""
    try:
        message = messages.read(event.name, event.arguments)
    except MessageError as error:
        result = DecisionResult(status="refused", detail=str(error))
        return Step(run.with_ignored(ignored_messages.unreadable(event, str(error))), result=result)
    match message:
        case SendMessage():
            return _queue(run, message, event)
        case Revoke():
            return _revoke(run, message, event)
        case Close():
            return _close(run, message, event)
        case _:
            return _decide(run, message, event)


def unknown_target(run: Run, message: Message, at: datetime) -> str | None:
    """Return what to say if the run does not have the requirement or grant of a message; None if it has it."""
    if isinstance(message, Revoke):
        _, result = grants.revoke(run.grants, message, at)
        return result.detail if result.status == "unknown" else None
    requirement = approvals.find_requirement(run.requirements, getattr(message, "id", ""))
    return approvals.with_dropped(requirement, run.requirements_dropped) if isinstance(requirement, str) else None


def _ignore(run: Run, event: MessageReceived, by: str, result: DecisionResult) -> Step:
    return Step(run.with_ignored(ignored_messages.ignored(event, result, by)), result=result)


def _queue(run: Run, message: SendMessage, event: MessageReceived) -> Step:
    item = user_message(message.content)
    late = "the run has ended" if run.ended else "the conversation is being closed" if run.closing else None
    no_model = None if run.workflow_call is None else workflow_calls.NO_MODEL
    attachments = {**run.attachments, **attachments_of(message.content)}
    objection = (
        late
        or no_model
        or ignored_messages.queue_objection(run.queued_size, item)
        or ignored_messages.attachments_objection(attachments)
    )
    if objection is not None:
        status: DecisionStatus = "late" if late else "refused"
        return _ignore(run, event, message.by, DecisionResult(status=status, detail=objection))
    queued = replace(
        run, queued=(*run.queued, item), queued_size=run.queued_size + json_size(item), attachments=attachments
    )
    recorded = DecisionResult(status="recorded", detail="the model reads it with its next turn")
    return replace(resume(queued, event.at) if run.status == "idle" else Step(queued), result=recorded)


def _close(run: Run, message: Close, event: MessageReceived) -> Step:
    """End a conversation now if it is idle, or else with its next answer."""
    late = "the run has ended" if run.ended else "the conversation is being closed already" if run.closing else None
    if late is not None:
        return _ignore(run, event, message.by, DecisionResult(status="late", detail=late))
    if run.status == "idle":
        return replace(close(run, event.at), result=DecisionResult(status="recorded", detail="the conversation ends"))
    if run.request is not None and not run.is_conversation:
        refused = "the run is no conversation: it ends by itself, or is cancelled"
        return _ignore(run, event, message.by, DecisionResult(status="refused", detail=refused))
    detail = (
        "the conversation ends with its next answer"
        if run.request is not None  # Without a request, the message arrived before the run started.
        else "a conversation ends with its first answer; a run that is no conversation ignores this"
    )
    return Step(replace(run, closing=True), result=DecisionResult(status="recorded", detail=detail))


def _revoke(run: Run, message: Revoke, event: MessageReceived) -> Step:
    if run.ended:
        late = DecisionResult(status="late", detail="the run has ended, and its grants with it")
        return _ignore(run, event, message.by, late)
    remaining, result = grants.revoke(run.grants, message, event.at)
    if result.status != "recorded":
        return _ignore(run, event, message.by, result)
    grant = next(each for each in run.grants if each.id.startswith(message.id.strip().lower()))
    if (unproven := _unproven_revocation(grant, message, None, checked=False)) is not None:
        return _ignore(run, event, message.by, result.model_copy(update={"status": "refused", "detail": unproven}))
    if message.proof is not None:
        return _start_check(run, message, "proof", event, grant)
    return Step(replace(run, grants=remaining), result=result)


def _unproven_revocation(grant: Grant, message: Revoke, proof: DecisionProof | None, *, checked: bool) -> str | None:
    # Any proof will do: to revoke only means that people are asked again.
    return approvals.proof_objection("service" if grant.proof else None, message, proof, checked=checked)


def _revocation_checked(
    run: Run, message: Revoke, checked: Checked | Failure, event: MessageReceived, at: datetime
) -> Step:
    remaining, result = grants.revoke(run.grants, message, at)
    if result.status != "recorded":
        return _ignore(run, event, message.by, result)
    grant = next(each for each in run.grants if each.id.startswith(message.id.strip().lower()))
    problem = _problem(checked)
    if problem is None:
        problem = _unproven_revocation(grant, message, _found_proof(run, message, grant, checked, event), checked=True)
    if problem is not None:
        return _ignore(run, event, message.by, result.model_copy(update={"status": "refused", "detail": problem}))
    return Step(replace(run, grants=remaining), result=result)


# -- decisions --------------------------------------------------------------------------------------------------------


def _decide(run: Run, decision: Decision, event: MessageReceived) -> Step:
    ruling = approvals.rule(run.requirements, decision, _context(run, event, event.at))
    if ruling.result.status == "unknown":
        detail = approvals.with_dropped(ruling.result.detail, run.requirements_dropped)
        return _ignore(run, event, decision.by, ruling.result.model_copy(update={"detail": detail}))
    requirement = approvals.find_requirement(run.requirements, decision.id)
    if ruling.check is None or isinstance(requirement, str):
        return _apply(run, ruling, decision, event, event.at)
    if run.workflow_call is None or not isinstance(decision, Approve):
        return _start_check(run, decision, ruling.check, event, requirement)
    if decision.proof is not None:
        return _start_check(run, decision, "proof", event, requirement)
    checked = workflow_calls.check_edit(run, run.workflow_call, decision)
    return _apply_checked(run, decision, checked, event, event.at)


def _grant_objection(run: Run) -> str | None:
    """Return why a decision cannot be remembered; None if it can."""
    if run.workflow_call is not None:
        return "the run asks about one call, so there is nothing to remember: decide it alone"
    if len(run.grants) >= grants.GRANTS_LIMIT:
        return f"the run has {len(run.grants)} grants already: decide this call alone"
    return None


def _context(run: Run, event: MessageReceived, at: datetime) -> DecisionContext:
    return DecisionContext(at, event.channel, run.requested_by)


def _apply(run: Run, ruling: DecisionEffect, decision: Decision, event: MessageReceived, at: datetime) -> Step:
    """Apply a ruling: answer the model, run the tool, or wait for more votes. Without an effect, keep the message."""
    decided = ruling.requirement
    if decided is None:
        return _ignore(run, event, decision.by, ruling.result)
    if getattr(decision, "remember", None) and (objection := _grant_objection(run)) is not None:
        refused = ruling.result.model_copy(update={"status": "refused", "detail": objection})
        return _ignore(run, event, decision.by, refused)
    after = run.with_requirement(decided)
    if isinstance(decision, Approve | Reject) and decision.remember is not None and decided.status != "pending":
        after = replace(after, grants=(*after.grants, grants.make_grant(decided, decision.remember, at)))
    return replace(_continue_call(after, decided, decision, ruling.answer, at), result=ruling.result)


def _continue_call(run: Run, decided: Requirement, decision: Decision, answer: str | None, at: datetime) -> Step:
    if decided.status == "pending":
        return Step(run)
    if decided.kind == "budget":
        return after_budget_decision(run, decided, at)
    position = run.position(decided.id)
    call = run.calls[position]
    if answer is not None:
        executed = decided.execution == "executed"
        if isinstance(decision, SubmitResult):
            done = replace(call.on("submit_result"), submitted=decision.output if run.workflow_call else None)
        else:
            done = call.on("reject")
        return next_turn(Step(run.with_call(position, replace(done, answer=answer, executed=executed))), at)
    if run.workflow_call is not None and not run.workflow_call.activity:
        waiting = run.update_requirement(decided.id, execution=None)  # Nothing runs.
        return next_turn(Step(waiting.with_call(position, replace(call.on("decide"), answer="Approved"))), at)
    started = run.with_call(position, replace(call.on("approve"), started_at=at))
    return Step(started, (tool_calls.run_tool(run.call_context, position, call.call, call.gate, decided),))


# -- decisions that a worker checks first -----------------------------------------------------------------------------


def _start_check(
    run: Run, message: Provable, what: Checkable, event: MessageReceived, target: Requirement | Grant
) -> Step:
    """Have a worker check a message, and its proof, before it counts."""
    detail, proof = _check_objection(run, message), None
    try:
        proof = decision_proofs.proof_to_check(run, message, target, event.at)
    except ValueError as error:
        detail = detail or f"its proof cannot be checked: {error}"
    if detail is not None:
        refused = DecisionResult(
            status="refused",
            requirement_id=target.id if isinstance(target, Requirement) else None,
            tool=target.tool,
            detail=detail,
        )
        return _ignore(run, event, message.by, refused)
    number, context = run.checks_made + 1, run.call_context
    checking = replace(run, checks_made=number, checks=(*run.checks, PendingCheck(number, message, event)))
    options: dict[str, object] = {"policy": context.policy, "context": context.context, "proof": proof}
    if isinstance(target, Requirement) and not isinstance(message, Revoke):
        check = approvals.check_input(target, message, what, agent=context.agent, requested_by=context.requested_by)
    else:
        check = CheckInput(what="proof", agent=context.agent, tool=target.tool, call_id="", arguments="")
        options["requested_by"] = context.requested_by
    if run.workflow_call is not None:
        options["fields"] = run.workflow_call.gate.fields
    elif isinstance(target, Requirement) and what == "values" and _is_question(run, target):
        options["fields"] = target.fields  # The server's own: no tool says what fits.
    check = check.model_copy(update={name: value for name, value in options.items() if value is not None})
    return Step(checking, (CheckCall(number, check),), check=number)


def _is_question(run: Run, requirement: Requirement) -> bool:
    """Return whether an MCP server asks for what this requirement is."""
    return any(call.gate.question is not None and call.requirement_id == requirement.id for call in run.calls)


def _check_objection(run: Run, decision: Message) -> str | None:
    """Return why a message cannot be checked now; None if it can."""
    own = any(fold_name(check.message.by) == fold_name(decision.by) for check in run.checks)
    if len(run.checks) >= (CHECKS_AT_ONCE if own else CHECKS_OF_ALL):
        return "too many messages are being checked; send it again"
    if run.checks_made - run.checks_before >= CHECKS_LIMIT:
        return f"{CHECKS_LIMIT} messages were checked in this execution; decide it as it is, or send it again later"
    # What one workflow task schedules goes to the server at once, and over 4 MiB it terminates the run.
    waiting = [each for call in run.calls if (each := run.requirement(call.requirement_id)) is not None]
    size = sum(len(each.arguments) for each in waiting if each.edited_by)
    size += sum(json_size(each.values) for each in waiting if each.values is not None)
    size += sum(json_size(_content(each)) for each in [*(check.message for check in run.checks), decision])
    if size <= CHECKS_SIZE:
        return None
    return f"too long: messages that are checked together may have {CHECKS_SIZE:,} bytes; send it again"


def _content(message: Message) -> object:
    """Return what a message carries for a worker to check."""
    return [getattr(message, name, None) for name in ("arguments", "values", "output")]


def check_answered(run: Run, event: CheckAnswered) -> Step:
    """Apply a message that a worker has checked. Of several, the first without a problem counts."""
    check = next((each for each in run.checks if each.number == event.number), None)
    if check is None:
        return Step(run)
    left = replace(run, checks=tuple(each for each in run.checks if each is not check))
    if isinstance(check.message, Revoke):
        return _revocation_checked(left, check.message, event.checked, check.event, event.at)
    if not isinstance(check.message, Approve | Reject | SubmitInput | SubmitResult):
        return Step(run)
    return _apply_checked(left, check.message, event.checked, check.event, event.at)


def _apply_checked(
    run: Run, decision: Decision, checked: Checked | Failure, event: MessageReceived, at: datetime
) -> Step:
    requirement = approvals.find_requirement(run.requirements, decision.id)
    if isinstance(requirement, str):
        return _apply(run, approvals.rule(run.requirements, decision, _context(run, event, at)), decision, event, at)
    proof, problem = _found_proof(run, decision, requirement, checked, event), _problem(checked)
    if requirement.status == "pending" and problem is not None:
        return _apply(run, approvals.refuse(requirement, problem), decision, event, at)
    ruling = approvals.rule(run.requirements, decision, _context(run, event, at), checked=True, proof=proof)
    if ruling.requirement is not None and isinstance(decision, Approve) and decision.arguments is not None:
        if run.workflow_call is not None:
            checked = workflow_calls.check_edit(run, run.workflow_call, decision)
        if isinstance(checked, Checked) and checked.problem is None:
            return _edit(run, requirement, decision, _Found(checked, proof), event, at)
        ruling = approvals.refuse(requirement, _problem(checked) or "")
    return _apply(run, ruling, decision, event, at)


def _problem(checked: Checked | Failure) -> str | None:
    return f"it could not be checked: {checked.message}" if isinstance(checked, Failure) else checked.problem


def _found_proof(
    run: Run, message: Provable, target: Requirement | Grant, checked: Checked | Failure, event: MessageReceived
) -> DecisionProof | None:
    """Return the proof that a worker found to hold, with what it takes to check it again."""
    if isinstance(checked, Failure) or checked.proof is None:
        return None
    to_check = decision_proofs.proof_to_check(run, message, target, event.at)
    return decision_proofs.checked_proof(to_check, checked.proof)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the check of an edit found."""

    checked: Checked
    proof: DecisionProof | None


def _edit(
    run: Run, requirement: Requirement, decision: Approve, found: _Found, event: MessageReceived, at: datetime
) -> Step:
    """Replace a requirement by one for the edited arguments, with their own gate; the editor's vote counts once."""
    checked = found.checked
    gate = checked.gate or Gate(verdict="deny")
    if gate.verdict not in {"ask", "allow"}:
        detail = gate.reason or "the tool with these arguments does not wait for an approval"
        return _apply(run, approvals.refuse(requirement, detail), decision, event, at)
    position = run.position(requirement.id)
    call = run.calls[position]
    edited = replace(call.call, arguments=approvals.edited_text(decision.arguments, workflow_calls.order(run)))
    opened = tool_calls.open_requirement(
        run.call_context,
        edited,
        gate.model_copy(update={"verdict": "ask"}),
        # No memo holds the nonce of what is approved at once: it is derived, and as unique as the one it comes from.
        nonce=text_digest(f"{requirement.nonce}:{edited.arguments}")[:32],
        policy_version=checked.policy_version,
        at=at,
        latest=requirement.expires_at,  # An edit does not restart the clock.
    )
    opened = opened.model_copy(
        update={
            "follows": requirement.id,
            "approval_type": requirement.approval_type,
            "edited_by": decision.by,
            "edited_from": requirement.edited_from or requirement.id,
        }
    )
    context = _context(run, event, at)
    plain = decision.model_copy(update={"id": opened.id, "arguments": None})
    ruling = approvals.rule([opened], plain, context, checked=True, proof=found.proof)
    if ruling.requirement is None:
        return _apply(run, approvals.refuse(requirement, ruling.result.detail), decision, event, at)
    if gate.read_as and not approvals.only_adds(decision.arguments, {**(decision.arguments or {}), **gate.read_as}):
        # The editor has not seen what the tool gets: the new requirement shows it, and waits.
        gets = bounded(approvals.edited_text(gate.read_as), VALUE_SHOWN)
        detail = f"not approved yet: the tool would get {gets}; approve {opened.short_id} for that"
        ruling = DecisionEffect(ruling.result.model_copy(update={"status": "recorded", "detail": detail}), opened)
    after = run.with_requirement(approvals.supersede(requirement, decision, context))
    after = replace(after, requirements=(*after.requirements, opened))
    # A call runs at most once, and ends the run, if it did so before the edit.
    promises = {"at_most_once": gate.at_most_once or call.gate.at_most_once, "stop": call.gate.stop}
    waiting = replace(call, call=edited, gate=gate.model_copy(update=promises), requirement_id=opened.id, edited=True)
    return _apply(after.with_call(position, waiting), ruling, plain, event, at)
