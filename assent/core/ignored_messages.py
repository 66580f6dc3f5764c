"""What was sent to a run and did not count: kept, bounded, and shown, so that nothing vanishes and noise fills nothing.

Pure; safe in workflow code.
"""

from __future__ import annotations

from typing import Final

from assent.core.events import MessageReceived
from assent.wire import messages
from assent.wire.digest import json_size
from assent.wire.protocol import DecisionResult, Item
from assent.wire.requirements import Attempt

KEPT: Final = 50
"""How many a run keeps; older ones are counted, and are in the history all the same."""
QUEUE_LIMIT: Final = 200_000
"""Bytes of messages that may wait for the model's next turn."""


def attempt_of(event: MessageReceived, result: DecisionResult, by: str) -> Attempt:
    """A message that was read, and did not count."""
    return Attempt.model_validate(
        {
            "status": result.status,
            "name": event.name,
            "detail": result.detail,
            "at": event.at,
            "by": by,
            "requirement_id": result.requirement_id,
            "text": messages.shown(event.arguments),
            "channel": event.channel,
        }
    )


def unreadable(event: MessageReceived, problem: str) -> Attempt:
    """A message that could not be read."""
    return Attempt(
        status="unreadable",
        name=event.name,
        detail=problem,
        at=event.at,
        text=messages.shown(event.arguments),
        channel=event.channel,
    )


def queue_objection(waiting: int, item: Item) -> str | None:
    """Why *item* may not wait behind the messages that wait already; None when it may."""
    size = waiting + json_size(item)
    if size <= QUEUE_LIMIT:
        return None
    return f"too long: {size} bytes of messages would wait for the model, and {QUEUE_LIMIT} may"
