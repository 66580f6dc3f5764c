"""Reads back what `assent.runtime.storage.store_text` kept."""

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.converter import DataConverter

from assent.runtime.storage import retrieved
from assent.wire.protocol import Reference


async def stored_text(converter: DataConverter, reference: Reference) -> str:
    """The text that `store_text` kept.

    Raises:
        HistoryError: as `retrieved`.
    """
    claim = ExternalStorageReference(driver_name=reference.driver, claim_data=reference.claim)
    [payload] = DataConverter.default.payload_converter.to_payloads([claim])
    payloads: Sequence[Payload] = [await retrieved(converter.external_storage, payload)]
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.decode(payloads)
    text: str = converter.payload_converter.from_payloads(payloads, [str])[0]
    return text
