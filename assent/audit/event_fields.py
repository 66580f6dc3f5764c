"""Reads single fields of history events for the audit: senders, workers, times, payloads."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit.records import TEXT_SHOWN, Attribution, TextDigest
from assent.core.approvals import fold_name
from assent.history import event_types
from assent.history.event_types import time_of
from assent.wire.digest import sha256_hex
from assent.wire.parts import payload_text
from assent.wire.text import bounded


def time_or_none(event: HistoryEvent | None) -> datetime | None:
    """Return when the server wrote an event that may not exist."""
    return None if event is None else time_of(event)


def digest_of(text: str) -> TextDigest:
    """Return a text as a record holds it."""
    data = text.encode("utf-8", "surrogatepass")
    return TextDigest(text=bounded(text, TEXT_SHOWN), size=len(data), sha256=sha256_hex(data))


def content_of(payloads: Iterable[Payload]) -> TextDigest:
    """Return a message as it was sent, one input a line, its text without the bytes of images and files."""
    sent = [payload.data for payload in payloads]
    data, text = b"\n".join(sent), b"\n".join(map(payload_text, sent)).decode("utf-8", "replace")
    return TextDigest(text=bounded(text, TEXT_SHOWN), size=len(data), sha256=sha256_hex(data))


def principal_of(event: HistoryEvent) -> str | None:
    """Return the sender that the server authenticated, as `type:name` or `name`; None if it does not authenticate.

    Works for signals, starts and cancellations. The worker writes an update's acceptance, which has the worker's.
    """
    if not event.HasField("principal") or not event.principal.name:
        return None
    kind = event.principal.type
    return f"{kind}:{event.principal.name}" if kind else event.principal.name


def attribution_of(event: HistoryEvent, claimed: str | None) -> Attribution:
    """Compare the name that a message claims with the sender that the server authenticated."""
    if claimed is None or principal_of(event) is None:
        return "unverified"
    return "verified" if fold_name(claimed) == fold_name(event.principal.name) else "differs"


def identity_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> str | None:
    """Return the identity that the sending program of a signal or update chose for itself."""
    if event.event_type == event_types.SIGNALED:
        return event.workflow_execution_signaled_event_attributes.identity or None
    return request_of(event, admitted).meta.identity or None


def payloads_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> Iterable[Payload]:
    """Return the inputs of a signal or update."""
    if event.event_type == event_types.SIGNALED:
        return event.workflow_execution_signaled_event_attributes.input.payloads
    return request_of(event, admitted).input.args.payloads


def request_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> UpdateRequest:
    """Return the request of an accepted update; after a workflow reset, an event of its own holds it."""
    accepted = event.workflow_execution_update_accepted_event_attributes
    return admitted.get(accepted.protocol_instance_id, accepted.accepted_request)


def build_of(event: HistoryEvent) -> str | None:
    """Return the build of the worker that completed a workflow task or started an activity."""
    if event.event_type == event_types.ACTIVITY_STARTED:
        return event.activity_task_started_event_attributes.worker_version.build_id or None
    done = event.workflow_task_completed_event_attributes
    return done.deployment_version.build_id or done.worker_version.build_id or done.binary_checksum or None


def scheduled_id_of(event: HistoryEvent) -> int:
    """Return the number of the event that scheduled the activity of this event; 0 for events of other kinds."""
    name = event.WhichOneof("attributes")
    if name is None or not name.startswith("activity_task_"):
        return 0
    return int(getattr(getattr(event, name), "scheduled_event_id", 0))
