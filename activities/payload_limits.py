"""How large a result is once it is written: what is over 2 MiB the SDK fails, and retries as if the work had failed."""

import asyncio
import contextlib
import logging
from typing import Final

from temporalio.api.common.v1 import Payloads
from temporalio.converter import DataConverter, ExternalStorage, StorageDriverStoreContext

from assent.runtime.converter import PLAIN, data_converter
from assent.runtime.storage import store_text
from assent.wire.digest import text_digest
from assent.wire.parts import ServerText
from assent.wire.protocol import Reference, ToolOutcome

from .own_run import own_client

RESULT_LIMIT: Final = 2_000_000
"""Bytes of an activity's result as the server is given it: encoded by the codec, where there is one."""
OUTPUT_LIMIT: Final = 256 * 1024
"""Bytes of a tool's result that reach the model and the history, at the most."""
STORING: Final = 20.0
"""Seconds that a result waits for a storage that is down; then it is kept without it, if it can be."""
_AGAIN: Final = 0.5
_PROBE: Final = PLAIN.to_payloads(["assent"])
_SURE: Final = 400_000
"""Bytes that no codec makes five times as many of."""

_log = logging.getLogger(__name__)


async def fits(result: object) -> bool:
    """Whether the server takes this result of the activity under way, or the storage, which is waited for."""
    converter = _converter()
    storage = converter.external_storage
    if storage is not None and is_stored(result):
        return await _is_up(storage)
    payloads = PLAIN.to_payloads([result])
    size = Payloads(payloads=payloads).ByteSize()
    if size > _SURE and converter.payload_codec is not None:
        size = Payloads(payloads=await converter.payload_codec.encode(payloads)).ByteSize()
    return size <= RESULT_LIMIT


def is_stored(result: object) -> bool:
    """Whether this result is kept in the external storage."""
    converter = _converter()
    if converter.external_storage is None:
        return False
    [payload] = PLAIN.to_payloads([result])
    return payload.ByteSize() >= converter.external_storage.payload_size_threshold


async def of_output(text: str, limit: int | None = None) -> ToolOutcome:
    """What a tool gave, cut to what the history takes; then with the size and digest of the whole, stored if it can be.

    A tool that has acted does not fail because its result is too large, or the storage is down. Of a `ServerText` the
    images are left out that do not fit, and the whole is stored where it has more than the text.
    """
    data = text.encode("utf-8", "surrogatepass")
    limit = min(limit or OUTPUT_LIMIT, OUTPUT_LIMIT)
    fields: dict[str, object] = {"output": text}
    if isinstance(text, ServerText):
        if text.whole is not None and (whole := await _store(text.whole)) is not None:
            fields |= _of_whole(text.whole, whole)
        if text.images and await fits(ToolOutcome.model_validate({**fields, "images": text.images})):
            fields["images"] = text.images
    outcome = ToolOutcome.model_validate(fields)
    if len(data) <= limit and await fits(outcome):
        return outcome
    if "sha256" not in fields:
        fields |= _of_whole(text, await _store(text))
    while True:
        outcome = ToolOutcome.model_validate({**fields, "output": _cut(data, limit)})
        if await fits(outcome):
            return outcome
        limit //= 2


def _of_whole(text: str, whole: Reference | None) -> dict[str, object]:
    size = len(text.encode("utf-8", "surrogatepass"))
    return {"size": size, "sha256": text_digest(text), **({} if whole is None else {"whole": whole})}


def _cut(data: bytes, limit: int) -> str:
    beginning = data[:limit].decode("utf-8", "ignore")
    return f"{beginning}\n[cut here: {min(limit, len(data))} of {len(data)} bytes]"


async def _store(text: str) -> Reference | None:
    try:
        async with asyncio.timeout(STORING):
            return await store_text(_converter(), text)
    except Exception as error:  # A driver may be of any make, and may raise anything
        _log.warning("the whole of a cut result could not be stored: %s", error)
        return None


async def _is_up(storage: ExternalStorage) -> bool:
    """Whether the storage takes anything, now or soon: the SDK would fail the activity, and do the work again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STORING):
            while True:
                try:
                    await storage.drivers[0].store(StorageDriverStoreContext(), _PROBE)
                except Exception as error:  # A driver may be of any make, and may raise anything
                    _log.warning("the external storage is down: %s", error)
                    await asyncio.sleep(_AGAIN)
                else:
                    return True
    return False


def _converter() -> DataConverter:
    """The data converter of the worker that runs the activity."""
    try:
        return own_client().data_converter
    except RuntimeError:  # There is no client where an activity is run by hand.
        return data_converter
