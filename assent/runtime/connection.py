"""Reaching Temporal, by the `TEMPORAL_*` variables and profile of the `temporal` CLI; and the search attributes."""

import asyncio
import atexit
import dataclasses
import time
from datetime import timedelta
from functools import cache
from typing import Final

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from assent.runtime.connection_errors import check_address, check_namespace_name, fatal_answer, unreachable
from assent.runtime.converter import LenientConverter, data_converter
from assent.runtime.payload_codec import configured_codec, encoding
from assent.runtime.settings import warn_of_unknown_variables
from assent.runtime.storage import configured_storage
from assent.wire import protocol
from assent.wire.errors import ConfigurationError, ServerUnreachableError

DEFAULT_ADDRESS: Final = "localhost:7233"
CONNECT_TIMEOUT: Final = 10.0
_ATTRIBUTES: Final = {
    protocol.ATTRIBUTE_AGENT: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    protocol.ATTRIBUTE_STATUS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    protocol.ATTRIBUTE_PENDING: IndexedValueType.INDEXED_VALUE_TYPE_INT,
    protocol.ATTRIBUTE_WAITING_ON: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    protocol.ATTRIBUTE_REQUESTED_BY: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
}
_RPC: Final = timedelta(seconds=10)
_PASSING: Final = frozenset(
    {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNKNOWN, RPCStatusCode.CANCELLED}
)
"""What a server answers, or its connection, that starts or stops; no word about what it permits."""


@cache
def exit_cleanly() -> None:
    """Arrange for the process to end without aborting. `connect` does; a program that connects otherwise calls it.

    A Python process that has connected a Temporal client aborts at exit in 30 to 57 % of cases (sdk-python #300);
    a pause of 50 ms at exit brought that to none in 30.
    """
    atexit.register(time.sleep, 0.05)


async def connect(address: str | None = None, *, namespace: str | None = None, profile: str | None = None) -> Client:
    """A Temporal client, from the arguments, else the environment, else the profile file, else `localhost:7233`.

    It encodes what it stores with the codec that `ASSENT_PAYLOAD_CODEC` names, and keeps what is large in the storage
    that `ASSENT_STORAGE` names, where they name one.

    Raises:
        ConfigurationError: the environment or the profile file cannot be read or do not fit, or the codec or storage
            not be had.
        ServerUnreachableError: nothing answers at the address within 10 seconds, or what answers cannot be used: its
            certificate, the credentials, the namespace or its protocol is wrong. One line: the cause, what to check.
    """
    warn_of_unknown_variables()
    try:
        config = ClientConfig.load_client_connect_config(profile=profile)
    except (RuntimeError, ValueError, OSError) as error:
        words = " ".join(str(error).split())
        message = f"the Temporal settings cannot be read: {words}; see TEMPORAL_* and TEMPORAL_CONFIG_FILE"
        raise ConfigurationError(message) from error
    target = address or config.get("target_host") or DEFAULT_ADDRESS
    check_address(target)
    config["target_host"] = target
    if namespace is not None:
        config["namespace"] = namespace
    check_namespace_name(config.get("namespace", "default"))
    exit_cleanly()
    converter = dataclasses.replace(encoding(data_converter, configured_codec()), external_storage=configured_storage())
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            client = await Client.connect(**config, data_converter=converter)
    except ValueError as error:
        message = f"the Temporal settings do not fit: {' '.join(str(error).split())}; see TEMPORAL_*"
        raise ConfigurationError(message) from error
    except (RuntimeError, TimeoutError) as error:
        tls = bool(config.get("tls", config.get("api_key")))
        raise unreachable(target, error, tls=tls) from error
    # Who may do nothing else than start runs may not read the namespace; the answer to that will say so.
    await check_namespace(client, permitted=False)
    return client


def with_own_converter(client: Client) -> Client:
    """Return *client*, or one like it over the same connection that reads and writes Assent's values as its workers do.

    Codec, failure converter, external storage and interceptors are those of *client*.
    """
    converter = client.data_converter
    if issubclass(converter.payload_converter_class, LenientConverter):
        return client
    config = client.config(active_config=True)
    config["data_converter"] = dataclasses.replace(converter, payload_converter_class=LenientConverter)
    config["plugins"] = []  # They have changed the configuration already.
    return Client(**config)


async def check_namespace(client: Client, *, permitted: bool = True) -> None:
    """Check that the server accepts the credentials and has the client's namespace.

    *permitted* says that the client must be permitted to read it, as every worker must.

    Raises:
        ServerUnreachableError: it does not, or has not. One line: the cause, what to check.
    """
    request = DescribeNamespaceRequest(namespace=client.namespace)
    try:
        await client.workflow_service.describe_namespace(request, retry=True, timeout=_RPC)
    except RPCError as error:
        answer = fatal_answer(error)
        if answer is not None and (permitted or error.status != RPCStatusCode.PERMISSION_DENIED):
            raise answer from error


async def missing_attributes(client: Client) -> list[str]:
    """The Assent search attributes that are not registered in the client's namespace.

    Raises:
        ConfigurationError: one is registered with another type.
        RPCError: the server refuses to tell.
    """
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), retry=True, timeout=_RPC
    )
    for name, kind in _ATTRIBUTES.items():
        if known.custom_attributes.get(name, kind) != kind:
            message = f"search attribute {name} is registered with another type; it must be {_type_name(kind)}"
            raise ConfigurationError(message)
    return [name for name in _ATTRIBUTES if name not in known.custom_attributes]


async def register_attributes(client: Client) -> list[str]:
    """Register the Assent search attributes that are missing, and say which were.

    Raises:
        ConfigurationError: one is registered with another type, or the server does not let this client register them;
            the message is one line with the commands for an administrator.
    """
    try:
        missing = await missing_attributes(client)
        if missing:
            request = AddSearchAttributesRequest(
                namespace=client.namespace, search_attributes={name: _ATTRIBUTES[name] for name in missing}
            )
            await client.operator_service.add_search_attributes(request, retry=True, timeout=_RPC)
            await _until_registered(client)
    except RPCError as error:
        message = (
            f"the search attributes cannot be registered: {error.message}; ask an administrator to run: assent setup"
        )
        raise ConfigurationError(message) from error
    return missing


async def attributes_usable(client: Client) -> bool:
    """Whether runs may upsert the Assent search attributes: they are registered now, or could be.

    Raises:
        ServerUnreachableError: the server does not answer. It may well permit them: runs begun without them would be
            in no inbox that asks for them.
    """
    try:
        await register_attributes(client)
    except ConfigurationError as error:
        if isinstance(error.__cause__, RPCError) and error.__cause__.status in _PASSING:
            raise ServerUnreachableError(f"the Temporal server does not answer: {error.__cause__.message}") from error
        return False
    return True


async def _until_registered(client: Client) -> None:
    for _ in range(100):
        if not await missing_attributes(client):
            return
        await asyncio.sleep(0.05)


def _type_name(kind: IndexedValueType.ValueType) -> str:
    return IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").title().replace("_", "")
