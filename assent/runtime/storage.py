"""Where payloads are kept that are too large for a history: what `ASSENT_STORAGE` names (Temporal's external storage).

`directory:/path` keeps them in files of one machine. `s3://bucket/prefix` keeps them by the SDK's own S3 driver, which
needs the extra `s3` and takes credentials and region as AWS tools do. The history has a reference in the place
of each. Give the workers and clients of the same runs the same storage. (`temporalio.converter.ExternalStorage` is the
SDK's own, and experimental.)
"""

import asyncio
import contextlib
import hashlib
import os
import re
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol, TypeVar, cast

from google.protobuf.json_format import Parse, ParseError
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import ExternalStorageReference
from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.converter import (
    DataConverter,
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from assent.wire.errors import ConfigurationError, HistoryError
from assent.wire.protocol import Reference

VARIABLE: Final = "ASSENT_STORAGE"
THRESHOLD_VARIABLE: Final = "ASSENT_STORAGE_THRESHOLD"
THRESHOLD: Final = 128 * 1024
"""Bytes from which on a payload is kept in the storage, and not in the history."""
LEAST_THRESHOLD: Final = 16 * 1024
"""The least that it may be: the live text that a model call sends twice a second is smaller."""
TRIES: Final = 4
"""How often a file is written or read before the storage is called down."""
PAUSE: Final = 0.25
"""Seconds before the second try, doubled with each."""
MARK: Final = ExternalStorageReference.DESCRIPTOR.full_name.encode()
"""What stands in every event that has a reference."""
_ADAPTER: Final = "temporalio.contrib.aws.s3driver.aioboto3"
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Directory(StorageDriver):
    """A directory of files, each named by the SHA-256 of what it holds: written once, whole or not at all."""

    def __init__(self, root: Path) -> None:
        """*root* is made when the first payload is stored."""
        self._root = root

    def name(self) -> str:
        """The driver's name in references: the same for every directory, so that one may be moved."""
        return "assent.directory"

    async def store(self, context: StorageDriverStoreContext, payloads: Sequence[Payload]) -> list[StorageDriverClaim]:
        """Write each payload to its file.

        Raises:
            HistoryError: the directory cannot be written. One line.
        """
        del context
        return [await self._with_retries(self._write, payload.SerializeToString()) for payload in payloads]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        """Read what *claims* name.

        Raises:
            HistoryError: a file is missing, cannot be read, or is not what was stored. One line.
        """
        del context
        return [await self._with_retries(self._read_payload, claim.claim_data.get("sha256", "")) for claim in claims]

    async def _with_retries(self, work: Callable[[_Given], _Found], argument: _Given) -> _Found:
        for pause in [PAUSE * 2**number for number in range(TRIES - 1)]:
            with contextlib.suppress(OSError):  # A disk of the network comes back.
                return await asyncio.to_thread(work, argument)
            await asyncio.sleep(pause)
        try:
            return await asyncio.to_thread(work, argument)
        except OSError as error:
            message = f"the storage directory {self._root} cannot be used: {error.strerror or error}"
            raise HistoryError(message) from None

    def _write(self, data: bytes) -> StorageDriverClaim:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if not _is_stored(path, digest):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{digest}.{uuid.uuid4().hex}")
            try:
                with part.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            _flush(path.parent)
        return StorageDriverClaim(claim_data={"sha256": digest, "size": str(len(data))})

    def _read_payload(self, digest: str) -> Payload:
        if not _DIGEST.fullmatch(digest):  # A forged history must not name other files.
            raise HistoryError(f"the storage directory {self._root} has no file {digest[:100]!r}")
        try:
            data = self._path(digest).read_bytes()
        except FileNotFoundError:
            message = f"payload {digest} is not in the storage directory {self._root}: put it back, or name another"
            raise HistoryError(message) from None
        if hashlib.sha256(data).hexdigest() != digest:
            message = f"payload {digest} in the storage directory {self._root} was changed: it has another SHA-256"
            raise HistoryError(message)
        return Payload.FromString(data)

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / digest


class _Session(Protocol):
    """`aioboto3.Session`."""

    def client(self, service: str) -> AbstractAsyncContextManager[object]:
        """A client of one of the services."""
        ...


def s3_driver(bucket: str, prefix: str) -> StorageDriver:
    """The driver for a bucket, whose keys begin with *prefix*.

    Raises:
        ConfigurationError: the extra `s3` is not installed.
    """
    if find_spec("aioboto3") is None or find_spec("types_aiobotocore_s3") is None:
        raise ConfigurationError("s3:// needs the S3 driver of the Temporal SDK: pip install 'assent-agents[s3]'")
    return S3StorageDriver(client=_Prefixed(prefix.rstrip("/")), bucket=bucket)


class _Prefixed(S3StorageDriverClient):
    """A client for each request: a Temporal client has no end at which one could be closed."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}/" if prefix else ""
        self._session = cast("Callable[[], _Session]", import_module("aioboto3").Session)()
        self._adapted = cast("Callable[[object], S3StorageDriverClient]", import_module(_ADAPTER).new_aioboto3_client)

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[S3StorageDriverClient]:
        async with self._session.client("s3") as client:
            yield self._adapted(client)

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        async with self._client() as client:
            await client.put_object(bucket=bucket, key=self._prefix + key, data=data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        async with self._client() as client:
            return await client.object_exists(bucket=bucket, key=self._prefix + key)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        async with self._client() as client:
            return await client.get_object(bucket=bucket, key=self._prefix + key)


def configured_storage() -> ExternalStorage | None:
    """The storage that the environment names; None where it names none.

    Raises:
        ConfigurationError: as `load_storage`.
    """
    # Not by `Settings`: a client must not fail for what only a worker reads.
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        return None
    threshold = os.environ.get(THRESHOLD_VARIABLE, "").strip() or str(THRESHOLD)
    if not (threshold.isascii() and threshold.isdecimal() and int(threshold) >= LEAST_THRESHOLD):
        message = f"{THRESHOLD_VARIABLE}={threshold!r} is not a number of bytes, {LEAST_THRESHOLD} or more"
        raise ConfigurationError(message)
    return load_storage(name, int(threshold))


def load_storage(name: str, threshold: int = THRESHOLD) -> ExternalStorage:
    """The storage `directory:/path` or `s3://bucket/prefix`, for payloads of *threshold* bytes and more.

    Raises:
        ConfigurationError: it is neither, or the extra that it needs is not installed. One line.
    """
    kind, colon, rest = name.partition(":")
    if kind == "directory" and colon and Path(rest).is_absolute():
        return ExternalStorage(drivers=[Directory(Path(rest))], payload_size_threshold=threshold)
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if kind == "s3" and rest.startswith("//") and _BUCKET.fullmatch(bucket):
        return ExternalStorage(drivers=[s3_driver(bucket, prefix)], payload_size_threshold=threshold)
    raise ConfigurationError(f"{VARIABLE}={name!r} is neither directory:/absolute/path nor s3://bucket/prefix")


def reference_of(payload: Payload) -> ExternalStorageReference | None:
    """What a payload refers to; None where it is no reference."""
    if payload.metadata.get("messageType") != MARK:
        return None
    try:
        return Parse(payload.data, ExternalStorageReference())
    except ParseError as error:
        raise HistoryError("a reference to the external storage cannot be read") from error


async def retrieved(storage: ExternalStorage | None, payload: Payload) -> Payload:
    """What was stored, for a reference; any other payload as it is.

    Raises:
        HistoryError: there is no storage, or not the one that it was stored with, or it cannot give it. One line.
    """
    reference = reference_of(payload)
    if reference is None:
        return payload
    driver = next((each for each in storage.drivers if each.name() == reference.driver_name), None) if storage else None
    if driver is None:
        raise HistoryError(f"it is in the external storage {reference.driver_name!r}: name that storage in {VARIABLE}")
    [whole] = await driver.retrieve(StorageDriverRetrieveContext(), [StorageDriverClaim(dict(reference.claim_data))])
    return whole


async def store_text(converter: DataConverter, text: str) -> Reference | None:
    """Keep *text* in the converter's storage, through its codec; None where it has no storage.

    Raises:
        HistoryError: the storage cannot be used. (A driver of another make may raise anything.)
    """
    if converter.external_storage is None:
        return None
    payloads = converter.payload_converter.to_payloads([text])
    if converter.payload_codec is not None:
        payloads = await converter.payload_codec.encode(payloads)
    [driver, *_] = converter.external_storage.drivers
    [claim] = await driver.store(StorageDriverStoreContext(), payloads)
    return Reference(driver=driver.name(), claim=dict(claim.claim_data))


def _is_stored(path: Path, digest: str) -> bool:
    """Whether the file exists and its content matches its name; otherwise it is written again."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except FileNotFoundError:
        return False


def _flush(folder: Path) -> None:
    """Have the file's name outlive a power cut too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
