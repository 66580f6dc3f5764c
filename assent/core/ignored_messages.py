"""Messages that had no effect: a run keeps and shows a limited number of them."""

from collections.abc import Mapping

from assent.core.events import MessageReceived
from assent.wire import messages
from assent.wire.digest import json_size
from assent.wire.limits import ATTACHED_LIMIT, QUEUE_LIMIT
from assent.wire.protocol import DecisionResult, Item
from assent.wire.requirements import IgnoredMessage


def ignored(event: MessageReceived, result: DecisionResult, by: str) -> IgnoredMessage:
    """Return the record of a message that was read and had no effect."""
    return unreadable(event, result.detail).model_copy(
        update={"status": result.status, "by": by, "requirement_id": result.requirement_id}
    )


def unreadable(event: MessageReceived, problem: str) -> IgnoredMessage:
    """Return the record of a message that could not be read."""
    return IgnoredMessage(
        status="unreadable",
        name=event.name,
        detail=problem,
        at=event.at,
        text=messages.shown(event.arguments),
        channel=event.channel,
    )


def queue_objection(queued_size: int, item: Item) -> str | None:
    """Return why *item* may not join the queued messages, which have *queued_size* bytes; None if it may."""
    size = queued_size + json_size(item)
    if size <= QUEUE_LIMIT:
        return None
    return f"too long: {size} bytes of messages would wait for the model; the limit is {QUEUE_LIMIT}"


def attachments_objection(attachments: Mapping[str, str]) -> str | None:
    """Return why a run may not have these images and files; None if it may."""
    size = sum(map(len, attachments.values()))
    if size <= ATTACHED_LIMIT:
        return None
    return f"too long: the run's images and files would have {size} bytes of base64; the limit is {ATTACHED_LIMIT}"
