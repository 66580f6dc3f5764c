"""What time does to a requirement: it expires, more people may decide it, people are reminded of it.

A run has one timer, set to the earliest time at which anything of it is due; without deadlines it has none. Time is
looked at with every event, before the event itself: so what is due at a moment is done first, whether the timer or a
decision is handed to the run first, live, on replay and in the audit.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from assent.wire.requirements import Requirement

LONGEST: Final = timedelta(days=36_500)
"""A longer time than this is this: a date has no room for more."""

REMINDERS: Final = 100
"""The most reminders of one requirement: each costs some ten events, and a run must be able to wait for years."""


def add_seconds(at: datetime, seconds: float) -> datetime:
    """The time *seconds* after *at*, in whole microseconds."""
    return at + min(timedelta(seconds=seconds), LONGEST) if seconds < LONGEST.total_seconds() else at + LONGEST


def next_due(requirements: Iterable[Requirement]) -> datetime | None:
    """The earliest time at which something is due; None where nothing ever is."""
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
    """Whether it waits, and its deadline has come."""
    return requirement.status == "pending" and requirement.expires_at is not None and at >= requirement.expires_at


def expire(requirement: Requirement, at: datetime) -> Requirement:
    """The requirement once nobody decided in time: silence is a rejection."""
    return requirement.model_copy(update={"status": "expired", "resolved_at": at})


def expired_answer(requirement: Requirement) -> str:
    """What the model is told of silence."""
    by = f"{requirement.expires_at:%Y-%m-%d %H:%M:%SZ}" if requirement.expires_at else "its deadline"
    return f"Expired: nobody decided about this call by {by}, so it was not run. Silence counts as a rejection."


def advance(requirement: Requirement, at: datetime) -> Requirement:
    """The requirement with every reminder and escalation that is due by *at*; the same object where none is.

    Several reminders that were missed while no worker ran are one.
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
