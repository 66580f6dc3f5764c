"""What time does to a requirement: its deadline, escalations and reminders.

A run has one timer, for the earliest time at which something is due. A run without deadlines has no timer. Before each
event the core applies everything that is due, so a deadline wins against a decision of the same moment: live, on replay
and in the audit.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from assent.core.transitions import REQUIREMENT
from assent.wire.requirements import Requirement

LONGEST: Final = timedelta(days=36_500)
"""The longest time span that is added; a longer one counts as this one, because dates end."""

REMINDERS: Final = 100
"""The reminders of one requirement, at most: each costs about ten events, and a run may wait for years."""


def add_seconds(at: datetime, seconds: float) -> datetime:
    """Return the time *seconds* after *at*, in whole microseconds."""
    return at + min(timedelta(seconds=seconds), LONGEST) if seconds < LONGEST.total_seconds() else at + LONGEST


def next_due(requirements: Iterable[Requirement]) -> datetime | None:
    """Return the earliest time at which something is due; None if nothing is."""
    return min(_times(requirements), default=None)


def _times(requirements: Iterable[Requirement]) -> Iterator[datetime]:
    for requirement in requirements:
        if requirement.status == "pending":
            if requirement.expires_at is not None:
                yield requirement.expires_at
            if requirement.remind_at is not None and requirement.reminders < REMINDERS:
                yield requirement.remind_at
            if requirement.escalated < len(requirement.escalations):
                yield requirement.escalations[requirement.escalated].at


def is_expired(requirement: Requirement, at: datetime) -> bool:
    """Return whether the deadline of a pending requirement has passed."""
    return requirement.status == "pending" and requirement.expires_at is not None and at >= requirement.expires_at


def expire(requirement: Requirement, at: datetime) -> Requirement:
    """Return the requirement after its deadline: silence is a rejection."""
    return requirement.model_copy(update={"status": REQUIREMENT.next(requirement.status, "expire"), "resolved_at": at})


def expired_answer(requirement: Requirement) -> str:
    """Return the model's answer for a call whose requirement has expired."""
    by = f"{requirement.expires_at:%Y-%m-%d %H:%M:%SZ}" if requirement.expires_at else "its deadline"
    return f"Expired: no one decided about this call by {by}, so it was not run. Silence counts as a rejection."


def advance(requirement: Requirement, at: datetime) -> Requirement:
    """Return the requirement with every reminder and escalation that is due by *at*; the same object if none is.

    Several reminders that were missed while no worker ran count as one.
    """
    if requirement.status != "pending":
        return requirement
    update: dict[str, object] = {}
    due = [step for step in requirement.escalations[requirement.escalated :] if step.at <= at]
    if due:
        update["escalated"] = requirement.escalated + len(due)
        if requirement.approvers is not None:
            more = [name for step in due for name in step.approvers]
            update["approvers"] = list(dict.fromkeys([*requirement.approvers, *more]))
    every = requirement.remind_every
    if (
        every
        and requirement.reminders < REMINDERS
        and requirement.remind_at is not None
        and requirement.remind_at <= at
    ):
        missed = (at - requirement.remind_at) // every
        following = add_seconds(requirement.remind_at, (missed + 1) * every.total_seconds())
        update |= {"reminders": requirement.reminders + 1, "remind_at": max(following, at + timedelta(milliseconds=1))}
    return requirement.model_copy(update=update) if update else requirement
