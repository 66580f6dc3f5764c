"""What single events of a history tell an auditor: who sent what, who ran it, and the bytes themselves.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit.records import TEXT_SHOWN, Attribution, TextDigest
from assent.core.approvals import fold_name
from assent.history import event_types
from assent.wire.digest import sha256_hex
from assent.wire.text import bounded


def digest_of(text: str) -> TextDigest:
    """A text as a record holds it."""
    data = text.encode("utf-8", "surrogatepass")
    return TextDigest(text=bounded(text, TEXT_SHOWN), size=len(data), sha256=sha256_hex(data))


def content_of(payloads: Iterable[Payload]) -> TextDigest:
    """The bytes of a message as they were sent, one input a line."""
    data = b"\n".join(payload.data for payload in payloads)
    return TextDigest(
        text=bounded(data.decode("utf-8", "replace"), TEXT_SHOWN), size=len(data), sha256=sha256_hex(data)
    )


def principal_of(event: HistoryEvent) -> str | None:
    """Who the server saw behind an event, where it authenticates senders: `type:name`, or the name alone.

    Of signals, starts and cancellations. An update's acceptance is written by the worker, and carries the worker's.
    """
    if not event.HasField("principal") or not event.principal.name:
        return None
    kind = event.principal.type
    return f"{kind}:{event.principal.name}" if kind else event.principal.name


def attribution_of(event: HistoryEvent, claimed: str | None) -> Attribution:
    """Whether the name that a message claims is the one that the server saw."""
    if claimed is None or principal_of(event) is None:
        return "unverified"
    return "verified" if fold_name(claimed) == fold_name(event.principal.name) else "differs"


def identity_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> str | None:
    """What the program that sent a signal or update said of itself."""
    if event.event_type == event_types.SIGNALED:
        return event.workflow_execution_signaled_event_attributes.identity or None
    return request_of(event, admitted).meta.identity or None


def payloads_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> Iterable[Payload]:
    """The inputs of a signal or update."""
    if event.event_type == event_types.SIGNALED:
        return event.workflow_execution_signaled_event_attributes.input.payloads
    return request_of(event, admitted).input.args.payloads


def request_of(event: HistoryEvent, admitted: Mapping[str, UpdateRequest]) -> UpdateRequest:
    """The request that an update's acceptance is about; after a workflow reset it stands in an event of its own."""
    accepted = event.workflow_execution_update_accepted_event_attributes
    return admitted.get(accepted.protocol_instance_id, accepted.accepted_request)


def build_of(event: HistoryEvent) -> str | None:
    """The build of the worker that completed a workflow task or took up an activity."""
    if event.event_type == event_types.ACTIVITY_STARTED:
        return event.activity_task_started_event_attributes.worker_version.build_id or None
    done = event.workflow_task_completed_event_attributes
    return done.deployment_version.build_id or done.worker_version.build_id or done.binary_checksum or None


def run_id_of(first: HistoryEvent) -> str:
    """The workflow id that the first event of a history names; empty where an old server wrote none."""
    return first.workflow_execution_started_event_attributes.workflow_id


def scheduled_id_of(event: HistoryEvent) -> int:
    """The number of the event by which an activity was scheduled that this event is about; 0 for other events."""
    name = event.WhichOneof("attributes")
    if name is None or not name.startswith("activity_task_"):
        return 0
    return int(getattr(getattr(event, name), "scheduled_event_id", 0))
