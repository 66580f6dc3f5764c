"""Records the messages that a run received: who sent them, when, how, and their outcome."""

from collections.abc import Mapping
from typing import cast

from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit import event_fields
from assent.audit.records import Citation, SentMessage
from assent.core.events import MessageReceived
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.history.payloads import values_of
from assent.wire.requirements import IgnoredMessage


def message_record(transition: Transition, cite: Citation, admitted: Mapping[str, UpdateRequest]) -> SentMessage:
    """Return the record of a message with its outcome; `checking` if a worker checks it first."""
    event, source = cast("MessageReceived", transition.event), transition.source
    record = _record(source, event.name, event.arguments, cite, admitted)
    if event.channel == "update":  # The server writes an update only once it has been handled.
        record = record.model_copy(update={"sent_at": event.at})
    if transition.step.check is not None:
        return record.model_copy(update={"handled_at": event.at, "status": "checking"})
    return record.model_copy(update=_outcome(transition))


def checked(checking: SentMessage, transition: Transition, cite: Citation) -> SentMessage:
    """Return the record of a message with its outcome, once a worker has checked it."""
    return checking.model_copy(update={**_outcome(transition), "events": [*checking.events, cite]})


def unread_signal_record(source: HistoryEvent, cite: Citation, admitted: Mapping[str, UpdateRequest]) -> SentMessage:
    """Return the record of a signal that no worker has read."""
    signal = source.workflow_execution_signaled_event_attributes
    return _record(source, signal.signal_name, values_of(signal.input.payloads), cite, admitted)


def _record(
    source: HistoryEvent,
    name: str,
    arguments: tuple[object, ...],
    cite: Citation,
    admitted: Mapping[str, UpdateRequest],
) -> SentMessage:
    body = arguments[0] if len(arguments) == 1 else None
    fields = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    by, reason = fields.get("by"), fields.get("reason")
    by = by if isinstance(by, str) else None
    is_signal = source.event_type == event_types.SIGNALED
    return SentMessage(
        name=name,
        channel="signal" if is_signal else "update",
        sent_at=time_of(source),
        status="unread",
        by=by,
        reason=reason if isinstance(reason, str) else None,
        identity=event_fields.identity_of(source, admitted),
        principal=event_fields.principal_of(source) if is_signal else None,
        attribution=event_fields.attribution_of(source, by if is_signal else None),
        content=event_fields.content_of(event_fields.payloads_of(source, admitted)),
        events=[cite],
    )


def _outcome(transition: Transition) -> dict[str, object]:
    result, ignored = transition.step.result, ignored_message_of(transition)
    handled: dict[str, object] = {"handled_at": transition.event.at}
    if result is None:
        return handled
    status = "unreadable" if ignored is not None and ignored.status == "unreadable" else result.status
    return {**handled, "status": status, "detail": result.detail}


def ignored_message_of(transition: Transition) -> IgnoredMessage | None:
    """Return the ignored message that the run keeps of a message; None if the message had an effect."""
    before, after = transition.before, transition.step.run
    if after.ignored_messages is before.ignored_messages or transition.step.result is None:
        return None
    return after.ignored_messages[-1]


def requirements_of(transition: Transition) -> list[str]:
    """Return the ids of the requirements that a message is about: the decided one, and one that its edit replaced."""
    result, requirements = transition.step.result, transition.step.run.requirements
    about = [] if result is None or result.requirement_id is None else [result.requirement_id]
    about += [
        new.id
        for old, new in zip(transition.before.requirements, requirements, strict=False)
        if old.status == "pending" and new.status == "superseded"
    ]
    known = {each.id for each in requirements}
    return [each for each in dict.fromkeys(about) if each in known]


def revoked_by(transition: Transition) -> list[str]:
    """Return the ids of the grants that a message revoked."""
    pairs = zip(transition.before.grants, transition.step.run.grants, strict=False)
    # Without *revoked_by*, a grant ended because the conversation was handed over.
    return [new.id for old, new in pairs if new.revoked_by is not None and old.revoked_at != new.revoked_at]
