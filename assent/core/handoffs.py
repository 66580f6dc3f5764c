"""When a conversation is handed over: which call says so, and the event with which it takes effect.

Pure; safe in workflow code.
"""

from __future__ import annotations

from assent.core.events import Event, ToolAnswered
from assent.core.run_state import Run
from assent.wire.protocol import Handoff
from assent.wire.requirements import Grant


def handoff_of(before: Run, event: Event) -> Handoff | None:
    """The handoff that *event* brings: the first of a turn is the one that counts, at the end of that turn.

    Pure; safe in workflow code.
    """
    if not isinstance(event, ToolAnswered) or before.ended or event.position >= len(before.calls):
        return None
    call, outcome = before.calls[event.position], event.outcome
    counts = call.running and call.answer is None and outcome.error is None and outcome.refused is None
    return outcome.handoff if counts and before.handoff is None and outcome.delegation is None else None


def effective_handoff(before: Run, event: Event, run: Run) -> Handoff | None:
    """The handoff that took effect with *event*.

    Pure; safe in workflow code.
    """
    to = before.handoff or handoff_of(before, event)
    is_taken = to is not None and run is not before and run.handoff is None and run.agent == to.agent
    return to if is_taken else None


def ended_grants(before: Run, run: Run) -> list[Grant]:
    """The approvals that were remembered, and ended because the conversation was handed over: by nobody.

    Pure; safe in workflow code.
    """
    return [now for was, now in zip(before.grants, run.grants, strict=False) if _ended(was, now)]


def _ended(was: Grant, now: Grant) -> bool:
    return was.revoked_at != now.revoked_at and now.revoked_by is None
