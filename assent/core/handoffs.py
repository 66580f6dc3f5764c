"""Handoffs of a conversation: the call that requests one, and the event with which it takes effect."""

from assent.core.events import Event, ToolAnswered
from assent.core.run_state import Run
from assent.wire.protocol import Handoff
from assent.wire.requirements import Grant


def handoff_of(before: Run, event: Event) -> Handoff | None:
    """Return the handoff that *event* requests. The first of a turn counts, at the end of that turn."""
    if not isinstance(event, ToolAnswered) or before.ended or event.position >= len(before.calls):
        return None
    call, outcome = before.calls[event.position], event.outcome
    counts = call.running and call.answer is None and outcome.error is None and outcome.refused is None
    return outcome.handoff if counts and before.handoff is None and outcome.delegation is None else None


def effective_handoff(before: Run, event: Event, run: Run) -> Handoff | None:
    """Return the handoff that took effect with *event*."""
    to = before.handoff or handoff_of(before, event)
    is_effective = to is not None and run is not before and run.handoff is None and run.agent == to.agent
    return to if is_effective else None


def ended_grants(before: Run, run: Run) -> list[Grant]:
    """Return the grants that the handoff ended, and no person."""
    return [
        now
        for was, now in zip(before.grants, run.grants, strict=False)
        if was.revoked_at != now.revoked_at and now.revoked_by is None
    ]
