"""What was sent to a run, as an auditor records it: by whom, when, how, and what it came to.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit import event_fields
from assent.audit.records import Citation, SentMessage
from assent.core.events import MessageReceived
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.history.payloads import values_of
from assent.wire.requirements import Attempt


def sent(transition: Transition, cite: Citation, admitted: Mapping[str, UpdateRequest]) -> SentMessage:
    """What a message came to; `checking` where a worker checks it first."""
    event, source = cast("MessageReceived", transition.event), transition.source
    base = _base(source, event.name, event.arguments, cite, admitted)
    if event.channel == "update":  # The server writes an update down once it has been handled.
        base = base.model_copy(update={"sent_at": event.at})
    if transition.step.check is not None:
        return base.model_copy(update={"handled_at": event.at, "status": "checking"})
    return base.model_copy(update=_answer(transition, event.at))


def answered(checking: SentMessage, transition: Transition, cite: Citation) -> SentMessage:
    """What a message came to that a worker has checked."""
    update = _answer(transition, transition.event.at)
    return checking.model_copy(update={**update, "events": [*checking.events, cite]})


def unread(source: HistoryEvent, cite: Citation, admitted: Mapping[str, UpdateRequest]) -> SentMessage:
    """A signal that no worker has read."""
    signal = source.workflow_execution_signaled_event_attributes
    return _base(source, signal.signal_name, values_of(signal.input.payloads), cite, admitted)


def _base(
    source: HistoryEvent,
    name: str,
    arguments: tuple[object, ...],
    cite: Citation,
    admitted: Mapping[str, UpdateRequest],
) -> SentMessage:
    body = arguments[0] if len(arguments) == 1 else None
    fields = cast("dict[str, object]", body) if isinstance(body, dict) else {}
    by, reason = fields.get("by"), fields.get("reason")
    is_signal = source.HasField("workflow_execution_signaled_event_attributes")
    return SentMessage.model_validate(
        {
            "name": name,
            "channel": "signal" if is_signal else "update",
            "sent_at": time_of(source),
            "status": "unread",
            "by": by if isinstance(by, str) else None,
            "reason": reason if isinstance(reason, str) else None,
            "identity": event_fields.identity_of(source, admitted),
            "principal": event_fields.principal_of(source) if is_signal else None,
            "attribution": event_fields.attribution_of(source, by if isinstance(by, str) and is_signal else None),
            "content": event_fields.content_of(event_fields.payloads_of(source, admitted)),
            "events": [cite],
        }
    )


def _answer(transition: Transition, at: datetime) -> dict[str, object]:
    result, attempt = transition.step.result, attempt_of(transition)
    if result is None:
        return {"handled_at": at}
    status = "unreadable" if attempt is not None and attempt.status == "unreadable" else result.status
    return {"handled_at": at, "status": status, "detail": result.detail}


def attempt_of(transition: Transition) -> Attempt | None:
    """What a message is kept as that did not count; None of one that did."""
    before, after = transition.before, transition.step.run
    if after.attempts is before.attempts or transition.step.result is None:
        return None
    return after.attempts[-1]


def requirements_of(transition: Transition) -> list[str]:
    """The ids of the requirements that a message is about: the one that it decided, and one that its edit replaced."""
    result = transition.step.result
    about = [] if result is None or result.requirement_id is None else [result.requirement_id]
    for was, now in zip(transition.before.requirements, transition.step.run.requirements, strict=False):
        if was is not now and was.status == "pending" and now.status == "superseded":
            about.append(now.id)
    known = {each.id for each in transition.step.run.requirements}
    return [each for each in dict.fromkeys(about) if each in known]


def revoked_by(transition: Transition) -> list[str]:
    """The ids of the grants that a message ended."""
    before, after = transition.before.grants, transition.step.run.grants
    # What nobody revoked ended because the conversation was handed over, with the turn that a message ended.
    revoked = ((was, now) for was, now in zip(before, after, strict=False) if now.revoked_by is not None)
    return [now.id for was, now in revoked if was.revoked_at != now.revoked_at]
