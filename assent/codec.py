"""The payloads of a history, as its run read them: through the client's payload codec, where it has one.

A codec encrypts or compresses what is stored. What a person sends with the `temporal` CLI or the Web UI may be stored
plain beside it; a codec leaves what it did not encode as it is.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import PayloadCodec

from assent.converter import PLAIN
from assent.errors import HistoryError

_NEVER_ENCODED = frozenset({"temporal.api.common.v1.SearchAttributes", "temporal.api.common.v1.Header"})


async def decoded_events(codec: PayloadCodec | None, events: Sequence[HistoryEvent]) -> Sequence[HistoryEvent]:
    """*events* with their payloads decoded; the same ones where there is no codec.

    Raises:
        HistoryError: the codec cannot decode one, such as for lack of a key.
    """
    if codec is None:
        return events
    return [await _decoded(codec, event) for event in events]


async def _decoded(codec: PayloadCodec, stored: HistoryEvent) -> HistoryEvent:
    event = HistoryEvent()
    event.CopyFrom(stored)
    try:
        for found in _encoded(event):
            if isinstance(found, Payload):
                [plain] = await codec.decode([found])
                found.CopyFrom(plain)
            else:
                several = await codec.decode(list(found.payloads))
                del found.payloads[:]
                found.payloads.extend(several)
    except Exception as error:  # A codec is the user's own, and may raise anything
        message = f"the payload codec cannot decode event {stored.event_id}: {type(error).__name__}: {error}"
        raise HistoryError(message) from error
    for failure in _messages(event, Failure):
        _put_back(cast("Failure", failure))
    return event


def _encoded(message: Message) -> Iterator[Payload | Payloads]:
    """What a codec encodes in a message: lists of payloads together, others one by one."""
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


def _put_back(failure: Failure) -> None:
    """A failure's words, where its converter keeps them in a payload so that the codec hides them."""
    if not failure.HasField("encoded_attributes"):
        return
    words: object = PLAIN.from_payloads([failure.encoded_attributes], None)[0]
    if isinstance(words, dict):
        told = cast("dict[str, object]", words)
        failure.message = str(told.get("message", ""))
        failure.stack_trace = str(told.get("stack_trace", ""))
