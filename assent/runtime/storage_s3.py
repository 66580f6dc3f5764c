"""The SDK's own S3 driver, for `ASSENT_STORAGE=s3://bucket/prefix`. Credentials and region are those of AWS tools.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol, cast

from temporalio.contrib.aws.s3driver import S3StorageDriver, S3StorageDriverClient
from temporalio.converter import StorageDriver

from assent.wire.errors import ConfigurationError

_ADAPTER: Final = "temporalio.contrib.aws.s3driver.aioboto3"


class _Session(Protocol):
    """`aioboto3.Session`."""

    def client(self, service: str) -> AbstractAsyncContextManager[object]:
        """A client of one of the services."""
        ...


def s3_driver(bucket: str, prefix: str) -> StorageDriver:
    """The driver for a bucket, whose keys begin with *prefix*.

    Raises:
        ConfigurationError: the extra `assent[s3]` is not installed.
    """
    if find_spec("aioboto3") is None or find_spec("types_aiobotocore_s3") is None:
        message = "s3:// needs the extra assent[s3]"
        raise ConfigurationError(message)
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
