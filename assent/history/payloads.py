"""Reads the payloads of a history as its run read them: from external storage, and through the payload codec.

A codec encrypts or compresses payloads. Messages that a person sends with the `temporal` CLI or the Web UI may be
stored without encoding; a codec leaves these as they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.common import RawValue
from temporalio.converter import ExternalStorage, PayloadCodec

from assent.runtime.converter import PLAIN, decoded
from assent.runtime.storage import MARK, configured_storage, retrieved
from assent.wire.errors import HistoryError

_NEVER_ENCODED: Final = frozenset({"temporal.api.common.v1.SearchAttributes", "temporal.api.common.v1.Header"})


def values_of(payloads: Iterable[Payload]) -> tuple[object, ...]:
    """Return payloads as JSON values, such as the inputs of a message; `Undecodable` for other content."""
    return decoded([RawValue(payload) for payload in payloads])


async def decoded_events(
    codec: PayloadCodec | None, events: Sequence[HistoryEvent], storage: ExternalStorage | None = None
) -> Sequence[HistoryEvent]:
    """Return *events* with their payloads decoded; the same events if there is no codec and no external payload.

    External payloads are read from *storage*, or else from the storage that the environment names.

    Raises:
        HistoryError: the codec cannot decode a payload, or the storage does not have it.
        ConfigurationError: the storage that the environment names cannot be used.
    """
    external = [MARK in event.SerializeToString() for event in events]
    if any(external):
        storage = storage or configured_storage()
        pairs = zip(events, external, strict=True)
        events = [await _fetched(storage, event) if marked else event for event, marked in pairs]
    if codec is None:
        return events
    return [await _decoded(codec, event) for event in events]


async def _fetched(storage: ExternalStorage | None, stored: HistoryEvent) -> HistoryEvent:
    event = HistoryEvent()
    event.CopyFrom(stored)
    try:
        for encoded in _encoded(event):
            for payload in [encoded] if isinstance(encoded, Payload) else encoded.payloads:
                payload.CopyFrom(await retrieved(storage, payload))
    except Exception as error:  # A driver is the user's own, and may raise anything
        reason = str(error) if isinstance(error, HistoryError) else f"{type(error).__name__}: {error}"
        raise HistoryError(f"a payload of event {stored.event_id} cannot be read: {reason}") from error
    return event


async def decoded_failure(codec: PayloadCodec | None, stored: Failure) -> Failure:
    """Return a failure with its message; as it is stored if there is no codec, or the codec fails."""
    if codec is None:
        return stored
    failure = Failure()
    failure.CopyFrom(stored)
    try:
        await _decode(codec, failure)
    except Exception:  # A codec is the user's own, and may raise anything; the kind of failure is not encoded
        return stored
    for each in _messages(failure, Failure):
        _restore_message(cast("Failure", each))
    return failure


async def _decoded(codec: PayloadCodec, stored: HistoryEvent) -> HistoryEvent:
    event = HistoryEvent()
    event.CopyFrom(stored)
    try:
        await _decode(codec, event)
    except Exception as error:  # A codec is the user's own, and may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise HistoryError(f"the payload codec cannot decode event {stored.event_id}: {reason}") from error
    for failure in _messages(event, Failure):
        _restore_message(cast("Failure", failure))
    return event


async def _decode(codec: PayloadCodec, message: Message) -> None:
    for encoded in _encoded(message):
        if isinstance(encoded, Payload):
            [plain] = await codec.decode([encoded])
            encoded.CopyFrom(plain)
        else:
            several = await codec.decode(list(encoded.payloads))
            del encoded.payloads[:]
            encoded.payloads.extend(several)


def _encoded(message: Message) -> Iterator[Payload | Payloads]:
    """Yield what a codec encodes in a message: each list of payloads as a whole, other payloads one by one."""
    if isinstance(message, Payload | Payloads):
        yield message
    elif message.DESCRIPTOR.full_name not in _NEVER_ENCODED:
        for child in _children(message):
            yield from _encoded(child)


def _messages(message: Message, kind: type[Message]) -> Iterator[Message]:
    if isinstance(message, kind):
        yield message
    for child in _children(message):
        yield from _messages(child, kind)


def _children(message: Message) -> Iterator[Message]:
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            yield from (each for each in value.values() if isinstance(each, Message))
        elif isinstance(value, Message):
            yield value
        else:
            yield from value


def _restore_message(failure: Failure) -> None:
    """Restore the message of a failure whose converter keeps it in a payload, so that the codec encodes it."""
    if not failure.HasField("encoded_attributes"):
        return
    attributes: object = PLAIN.from_payloads([failure.encoded_attributes], None)[0]
    if isinstance(attributes, dict):
        fields = cast("dict[str, object]", attributes)
        failure.message = str(fields.get("message", ""))
        failure.stack_trace = str(fields.get("stack_trace", ""))
