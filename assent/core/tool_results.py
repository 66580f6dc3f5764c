"""What came of the calls of a turn: of tools, and of other agents.

Pure; safe in workflow code.
"""

from __future__ import annotations

from dataclasses import replace

from assent.core import budget_rules, message_handling, sub_agents, turns
from assent.core.events import AgentAnswered, AgentStarted, StartAgent, ToolAnswered, ToolLost
from assent.core.run_state import Run, Step
from assent.core.tool_calls import Call
from assent.wire.protocol import ChildRun, Delegation


def handle(run: Run, event: ToolAnswered | ToolLost | AgentStarted | AgentAnswered) -> Step:
    """What came of a call, and what follows for the run."""
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
    if to is not None and (wrong := sub_agents.agent_mismatch(run.calls[event.position], to.agent)) is not None:
        return turns.answer_call(run, event.position, f"Not run: {wrong}", "refused", at)
    if outcome.delegation is not None:
        return _delegated(run, event, outcome.delegation)
    if outcome.refused is not None:
        if outcome.gate is not None and outcome.gate.verdict in {"ask", "external", "input"}:
            return message_handling.ask_again(run, event, outcome.gate)
        if outcome.again_after is not None:
            return message_handling.try_again(run, event, outcome.again_after)
        return turns.answer_call(run, event.position, f"Not run: {outcome.refused}", "refused", at)
    if outcome.error is not None:
        return turns.answer_call(run, event.position, f"Error: {outcome.error}", "failed", at)
    if outcome.handoff is not None:
        run = replace(run, handoff=run.handoff or outcome.handoff)
    return turns.answer_call(run, event.position, outcome.output or "", "executed", at)


def _delegated(run: Run, event: ToolAnswered, given: Delegation) -> Step:
    """Begin the run of the agent that a call is for; the call goes on until that is over."""
    objection = sub_agents.delegation_objection(run, given)
    if objection is not None:
        return turns.answer_call(run, event.position, f"Not run: {objection}", "refused", event.at)
    request = sub_agents.child_request(run, run.calls[event.position], given, budget_rules.remaining(run, event.at))
    begun = run.with_call(event.position, replace(run.calls[event.position], delegated=given.agent))
    return Step(begun, (StartAgent(request, given.task_queue, attributes=run.attributes),))


def _agent_started(run: Run, event: AgentStarted) -> Step:
    for position, call in enumerate(run.calls):
        if call.running and call.delegated is not None and call.call.call_id == event.call_id:
            child = ChildRun(run_id=event.run_id, agent=call.delegated)
            return Step(run.with_call(position, replace(call, child=child)))
    return Step(run)


def _agent_answered(run: Run, event: AgentAnswered) -> Step:
    position = next((index for index, call in enumerate(run.calls) if _is_answered_by(call, event.run_id)), None)
    if position is None:
        return Step(run)
    after = replace(run, usage=run.usage + event.usage)
    answer, execution = sub_agents.child_answer(run.calls[position], event.answer)
    return turns.answer_call(after, position, answer, execution, event.at)


def _is_answered_by(call: Call, run_id: str) -> bool:
    return call.running and call.child is not None and call.child.run_id == run_id


def _tool_lost(run: Run, event: ToolLost) -> Step:
    if not _is_running(run, event.position):
        return Step(run)
    lost = run.requirement(run.calls[event.position].requirement_id)
    if lost is not None and asks_outcome(run, event.position):
        return message_handling.ask_outcome(run, event, lost)
    return turns.answer_call(run, event.position, f"Error: {event.failure.message}", "failed", event.at)


def asks_outcome(run: Run, position: int) -> bool:
    """Whether a person is asked what came of the call at *position*, should its worker be lost now."""
    call = run.calls[position] if position < len(run.calls) else None
    if call is None or not call.running or not call.gate.at_most_once:
        return False
    return run.requirement(call.requirement_id) is not None


def _is_running(run: Run, position: int) -> bool:
    """Whether the activity of a call is under way; of one that went on to an agent, it is over."""
    call = run.calls[position] if position < len(run.calls) else None
    return call is not None and call.running and call.answer is None and call.delegated is None
