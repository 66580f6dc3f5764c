"""The data converter that workers and clients of Assent share: JSON by pydantic, and lenient towards what people type.

Pure; safe in workflow code.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticPayloadConverter, ToJsonOptions
from temporalio.converter import CompositePayloadConverter, DataConverter

from assent.wire.messages import Undecodable

# The SDK makes a converter for every workflow task; its parts, and the type adapters that they have built, are shared.
_PARTS: Final = tuple(PydanticPayloadConverter(ToJsonOptions(exclude_unset=True)).converters.values())


class LenientConverter(CompositePayloadConverter):
    """Pydantic's JSON, except that a payload without a declared type never fails to decode.

    The SDK drops a signal whose payload does not decode, so that neither the run nor its operator learns of it.
    Here such a payload arrives as a `RawValue`. Fields that were never set are left out of what is written, because
    every byte of a turn is stored.
    """

    def __init__(self) -> None:
        super().__init__(*_PARTS)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type[Any]] | None = None) -> list[Any]:
        """As the parent, but undecodable payloads without a declared type become `RawValue`.

        Raises:
            KeyError: with a declared type, nothing here reads the payload's encoding.
            RuntimeError: with a declared type, the payload holds something else.
        """
        if type_hints:
            try:
                return super().from_payloads(payloads, type_hints)
            except UnicodeDecodeError as error:  # From the SDK, where the name of an unknown encoding is no text
                raise KeyError("Unknown payload encoding") from error
        return [self._untyped(payload) for payload in payloads]

    def _untyped(self, payload: Payload) -> object:
        readable = payload
        if payload.metadata.get("encoding") == b"json/protobuf":
            # One of the choices of the Web UI; what a person typed there is JSON, and of no message type.
            readable = Payload(metadata={"encoding": b"json/plain"}, data=payload.data)
        try:
            return super().from_payloads([readable], None)[0]
        except Exception:  # Whatever is wrong with it, it has to arrive
            return RawValue(payload)


data_converter: Final = dataclasses.replace(DataConverter.default, payload_converter_class=LenientConverter)
"""Give this to `temporalio.client.Client.connect(..., data_converter=...)`."""

PLAIN: Final = LenientConverter()


def decoded(arguments: Sequence[object]) -> tuple[object, ...]:
    """The inputs of a signal, update or workflow as JSON values; what is not JSON becomes `Undecodable`."""
    return tuple(_decode(argument) for argument in arguments)


def _decode(value: object) -> object:
    if isinstance(value, bytes | bytearray):
        return Undecodable("binary/plain", len(value))
    if not isinstance(value, RawValue):
        return value
    reread = PLAIN.from_payloads([value.payload], None)[0]
    if not isinstance(reread, RawValue):
        return _decode(reread)
    encoding = value.payload.metadata.get("encoding", b"").decode("utf-8", "replace")
    return Undecodable(encoding or "none", len(value.payload.data))
