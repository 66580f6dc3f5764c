"""Calls that did not run as approved: they wait for people again, or are retried later."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from assent.core import deadlines, tool_calls, turns
from assent.core.events import ToolAnswered, ToolLost
from assent.core.run_state import Run, Step
from assent.core.transitions import CallEvent
from assent.wire.limits import AGAIN_WHY_SHOWN
from assent.wire.protocol import Gate
from assent.wire.requirements import Requirement
from assent.wire.text import bounded

LONGEST_RETRY: Final = 30 * 86_400.0
"""Seconds between two tries of a call that no worker serves, at most: each try costs some events."""
MOST_TIMES: Final = 5
"""How often a person is asked again about one call: a tool may read its arguments differently each time."""


def ask_again(run: Run, event: ToolAnswered, gate: Gate) -> Step:
    """Open a requirement for a call that its activity refused: today's policy asks for more, or the tool is another."""
    call = run.calls[event.position]
    kept = (each for each in run.requirements if each.turn == run.turn and each.call_id == call.call.call_id)
    if sum(each.execution == "refused" for each in kept) >= MOST_TIMES:
        why = f"Not run: {event.outcome.refused}; a person was asked again {MOST_TIMES} times"
        return turns.answer_call(run, event.position, why, "refused", event.at)
    reason = "; ".join(each for each in (event.outcome.refused, gate.reason) if each) or None
    opened = tool_calls.open_requirement(
        run.call_context,
        call.call,
        gate.model_copy(update={"reason": reason}),
        nonce=event.nonces[call.call.call_id],
        policy_version=event.outcome.policy_version,
        at=event.at,
    )
    before = run.requirement(call.requirement_id)
    update: dict[str, object] = {"execution": "refused", "result": event.outcome.refused}
    return _reopen(run, event.position, "ask_again", opened, before, update, gate)


def ask_outcome(run: Run, event: ToolLost, lost: Requirement) -> Step:
    """Ask a person for the outcome of a call that may run only once and whose worker was lost."""
    call = run.calls[event.position]
    nonce = event.nonces[call.call.call_id]
    opened = tool_calls.open_outcome(run.call_context, lost, call, event.failure, nonce, event.at)
    return _reopen(run, event.position, "lose_worker", opened, lost, {"execution": "unknown"}, call.gate)


def _reopen(
    run: Run,
    position: int,
    event: CallEvent,
    opened: Requirement,
    before: Requirement | None,
    update: dict[str, object],
    gate: Gate,
) -> Step:
    call = replace(run.calls[position].on(event), requirement_id=opened.id, gate=gate)
    after = run.with_call(position, call)
    if before is not None:
        opened = opened.model_copy(update={"follows": before.id})
        after = after.with_requirement(before.model_copy(update=update))
    return Step(replace(after, requirements=(*after.requirements, opened)))


def retry_later(run: Run, event: ToolAnswered, seconds: float) -> Step:
    """Retry a call later, because its worker does not serve it and another may; the call stays approved."""
    call = run.calls[event.position]
    again_at = deadlines.add_seconds(event.at, min(max(seconds, 1.0) * 2.0 ** min(call.tries, 30), LONGEST_RETRY))
    why = bounded(event.outcome.refused or "", AGAIN_WHY_SHOWN)
    retried = replace(call.on("retry_later"), again_at=again_at, again_why=why, tries=call.tries + 1)
    after = run.with_call(event.position, retried)
    return Step(after.update_requirement(call.requirement_id, execution=None))


def retry(run: Run, position: int, at: datetime) -> Step:
    """Run a call again whose retry is due."""
    call = replace(run.calls[position].on("retry"), again_at=None, again_why="", started_at=at)
    after = run.with_call(position, call).update_requirement(call.requirement_id, execution="running")
    approved = after.requirement(call.requirement_id)
    return Step(after, (tool_calls.run_tool(after.call_context, position, call.call, call.gate, approved),))
