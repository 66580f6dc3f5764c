"""What time does to a run: deadlines, escalations, reminders, retries, and the end of its time budget."""

from dataclasses import replace
from datetime import datetime

from assent.core import budget_rules, deadlines, reopening
from assent.core.run_state import Run, Step
from assent.core.turns import fail, next_turn


def apply_due(run: Run, at: datetime) -> Step:
    """Apply everything that is due by *at*."""
    # `wake_at` is when something is due next: a task with hundreds of messages has no time to look at each.
    if run.wake_at is None or run.wake_at > at:
        return Step(run)
    step = Step(run)
    for requirement in run.pending:
        if deadlines.is_expired(requirement, at):
            after = step.run.with_requirement(deadlines.expire(requirement, at))
            position = after.position(requirement.id)
            call = replace(after.calls[position].on("expire"), answer=deadlines.expired_answer(requirement))
            step = replace(step, run=after.with_call(position, call))
        elif (advanced := deadlines.advance(requirement, at)) is not requirement:
            step = replace(step, run=step.run.with_requirement(advanced))
    for position, call in enumerate(step.run.calls):
        if call.again_at is not None and call.again_at <= at:
            step = step.followed_by(reopening.retry(step.run, position, at))
    step = next_turn(step, at)
    run, due = step.run, budget_rules.due_at(step.run)
    if run.ended or due is None or due > at or run.budget is None:
        return step
    # The time is over, perhaps while the run waits for people or tools.
    ends = run.budget.on_reached == "end"
    return step.followed_by(
        fail(run, budget_rules.failure(run, at), at) if ends else budget_rules.request_extension(run)
    )


def due_at(run: Run) -> datetime | None:
    """Return when something of the run is due next; None if nothing is."""
    if run.ended:
        return None
    times = [call.again_at for call in run.calls if call.again_at is not None]
    others = (deadlines.next_due(run.pending), budget_rules.due_at(run))
    return min([*times, *(each for each in others if each is not None)], default=None)
