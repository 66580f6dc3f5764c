"""The results of a turn's calls: from tools, and from other agents."""

from collections.abc import Sequence
from dataclasses import replace

from assent.core import budget_rules, reopening, sub_agents, tool_calls, turns
from assent.core.events import AgentAnswered, AgentStarted, StartAgent, ToolAnswered, ToolLost
from assent.core.run_state import Run, Step
from assent.wire.limits import RESULT_IMAGES_LIMIT
from assent.wire.parts import ImagePart, attachments_of, item_content
from assent.wire.protocol import ChildRun, Delegation


def handle(run: Run, event: ToolAnswered | ToolLost | AgentStarted | AgentAnswered) -> Step:
    """Apply the result of a call, and start what follows for the run."""
    match event:
        case ToolAnswered():
            return _tool_answered(run, event)
        case ToolLost():
            return _tool_lost(run, event)
        case AgentStarted():
            return _agent_started(run, event)
        case AgentAnswered():
            return _agent_answered(run, event)


def _tool_answered(run: Run, event: ToolAnswered) -> Step:
    outcome, at = event.outcome, event.at
    if not _is_running(run, event.position):
        return Step(run)
    to = outcome.delegation or outcome.handoff
    if to is not None and (mismatch := sub_agents.agent_mismatch(run.calls[event.position], to.agent)) is not None:
        return turns.answer_call(run, event.position, f"Not run: {mismatch}", "refused", at)
    if outcome.delegation is not None:
        return _delegate(run, event, outcome.delegation)
    if outcome.refused is not None:
        if outcome.gate is not None and outcome.gate.verdict in {"ask", "external", "input"}:
            return reopening.ask_again(run, event, outcome.gate)
        if outcome.again_after is not None:
            return reopening.retry_later(run, event, outcome.again_after)
        return turns.answer_call(run, event.position, f"Not run: {outcome.refused}", "refused", at)
    if outcome.error is not None:
        return turns.answer_call(run, event.position, f"Error: {outcome.error}", "failed", at)
    if outcome.handoff is not None:
        run = replace(run, handoff=run.handoff or outcome.handoff)
    run = _with_images(run, event.position, outcome.images)
    return turns.answer_call(run, event.position, outcome.output or "", "executed", at)


def _with_images(run: Run, position: int, images: Sequence[ImagePart]) -> Run:
    """Keep the images of a result, if the run has room for them; its text describes them."""
    attachments = {**run.attachments, **attachments_of(images)}
    content = item_content(images)
    if not isinstance(content, list) or not content or sum(map(len, attachments.values())) > RESULT_IMAGES_LIMIT:
        return run
    return replace(
        run.with_call(position, replace(run.calls[position], images=tuple(content))), attachments=attachments
    )


def _delegate(run: Run, event: ToolAnswered, delegation: Delegation) -> Step:
    """Start the child run that a call is for; the call runs until that run ends."""
    call, objection = run.calls[event.position], sub_agents.delegation_objection(run, delegation)
    if objection is not None:
        return turns.answer_call(run, event.position, f"Not run: {objection}", "refused", event.at)
    budget = budget_rules.remaining(run, event.at)
    request = sub_agents.child_request(run, call, delegation, budget)
    after = run.with_call(event.position, replace(call.on("delegate"), delegated=delegation.agent, budget=budget))
    return Step(after, (StartAgent(request, delegation.task_queue, attributes=run.attributes),))


def _agent_started(run: Run, event: AgentStarted) -> Step:
    for position, call in enumerate(run.calls):
        if call.delegated is not None and call.running and call.call.call_id == event.call_id:
            child = ChildRun(run_id=event.run_id, agent=call.delegated)
            return Step(run.with_call(position, replace(call, child=child)))
    return Step(run)


def _agent_answered(run: Run, event: AgentAnswered) -> Step:
    for position, call in enumerate(run.calls):
        if call.running and call.child is not None and call.child.run_id == event.run_id:
            answer, execution = sub_agents.child_answer(call, event.answer)
            after = replace(run, usage=run.usage + event.usage)
            return turns.answer_call(after, position, answer, execution, event.at)
    return Step(run)


def _tool_lost(run: Run, event: ToolLost) -> Step:
    if not _is_running(run, event.position):
        return Step(run)
    lost = run.requirement(run.calls[event.position].requirement_id)
    if lost is not None and asks_outcome(run, event.position):
        return reopening.ask_outcome(run, event, lost)
    failure = event.failure
    is_unknown = failure.kind in {"Timeout", tool_calls.CONNECTION_LOST}
    why = tool_calls.unknown_outcome_reason(failure, run.calls[event.position].gate) if is_unknown else failure.message
    return turns.answer_call(run, event.position, f"Error: {why}", "failed", event.at)


def asks_outcome(run: Run, position: int) -> bool:
    """Return whether the run asks a person for the outcome of the call at *position* if its worker is lost now."""
    call = run.calls[position] if position < len(run.calls) else None
    if call is None or not call.running or not call.gate.at_most_once:
        return False
    return run.requirement(call.requirement_id) is not None


def _is_running(run: Run, position: int) -> bool:
    """Return whether the activity of a call is active; that of a delegated call has ended."""
    return position < len(run.calls) and run.calls[position].status == "running"
