"""What goes to the server, and what its answers mean: bounds, and the errors of `assent.wire.errors`."""

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from assent.runtime import connection_errors
from assent.wire.digest import canonical
from assent.wire.errors import MessageError, RunFailedError, RunNotFoundError
from assent.wire.parts import inline_problem, without_bytes

MESSAGE_LIMIT: Final = 1_000_000
"""Bytes (as JSON) of a signal or update."""

_JSON: Final[TypeAdapter[object]] = TypeAdapter(object)


def as_json(value: object) -> JsonValue:
    """Return *value* as JSON.

    Raises:
        MessageError: JSON cannot carry it.
    """
    try:
        plain: JsonValue = _JSON.dump_python(value, mode="json")
    except (ValueError, PydanticSerializationError) as error:
        raise MessageError(f"the output is not JSON: {error}") from None
    return plain


def check_size(client: Client, body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return *body* if it can be sent. The server accepts an update of over 2 MiB, which blocks the run for ever.

    Raises:
        MessageError: it cannot: it is no JSON, or too large.
    """
    check_inline(client, "content", body.get("content"))
    try:
        size = len(canonical(without_bytes(dict(body))))
        to_json(body)
    except (ValueError, PydanticSerializationError) as error:
        raise MessageError(f"the message is not JSON that can be sent: {error}") from None
    if size > MESSAGE_LIMIT:
        raise MessageError(f"the message is {size} bytes long; the limit is {MESSAGE_LIMIT}")
    return dict(body)


def check_inline(client: Client, name: str, content: JsonValue) -> None:
    """Check that images and files fit into an input, or that the client has a storage for them.

    Raises:
        MessageError: they do not, and it has none.
    """
    if client.data_converter.external_storage is None and (problem := inline_problem(content)) is not None:
        raise MessageError(f"{name}: {problem}")


def has_ended(error: RPCError) -> bool:
    """Return whether the run had ended, or ended meanwhile: the server answers both with `NOT_FOUND`."""
    ended = "already completed" in error.message or "aborted by closing workflow" in error.message
    return error.status == RPCStatusCode.NOT_FOUND and ended


def to_assent_error(error: RPCError, run_id: str, namespace: str) -> Exception:
    """Return the Assent error for an RPC error about a run; the RPC error itself where there is none."""
    if (refused_at_all := connection_errors.fatal_answer(error)) is not None:
        return refused_at_all
    match error.status:
        case RPCStatusCode.NOT_FOUND:
            ended = " that is still running" if has_ended(error) else ""
            return RunNotFoundError(f"there is no run {run_id!r}{ended} in namespace {namespace!r}")
        case RPCStatusCode.INVALID_ARGUMENT:
            return MessageError(error.message)
        case _:
            return error


def run_failed(run_id: str, cause: BaseException) -> RunFailedError:
    """Return the error for a run that ended without a result."""
    if isinstance(cause, ApplicationError):
        return RunFailedError(f"run {run_id!r} failed: {cause.message}", kind=cause.type or "Error")
    if isinstance(cause, CancelledError):
        return RunFailedError(f"run {run_id!r} was cancelled", kind="Cancelled")
    if isinstance(cause, TerminatedError):
        return RunFailedError(f"run {run_id!r} was terminated: {cause.message}", kind="Terminated")
    return RunFailedError(f"run {run_id!r} ended without a result: {cause}", kind=type(cause).__name__)
