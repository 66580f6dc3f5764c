"""A run on its way into a new execution: Temporal's continue-as-new, with everything that the run knows.

The one input of an execution that goes on from another is the run, compressed. What was left at its default is left
out, so that what a newer version adds costs the runs without it nothing.

Pure; safe in workflow code.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from assent.core.events import Channel, MessageReceived
from assent.core.notices import NoticesInput
from assent.core.run_state import PendingCheck, Run
from assent.wire import messages
from assent.wire.digest import json_size
from assent.wire.errors import MessageError
from assent.wire.protocol import Stored

LIMIT: Final = 1_900_000
"""Bytes of what is carried, as JSON: over 2 MiB the server takes no input, and stops the run for good."""
STATE_LIMIT: Final = 64_000_000
"""Bytes of a run's state before it is compressed: the text of what no server's 2 MiB could hold is not unpacked."""
_FORMAT: Final = 1
_WITHOUT_DEFAULTS: Final = frozenset({"requirements", "attempts", "usage", "failure", "prefix"})
"""The fields that are written without what is the default in them; nothing of these goes on as it was written."""


class Carried(Stored):
    """The input of an execution that goes on from another. *carried* is the version of the format.

    *state* is the run: base64 of zlib of its JSON. *notices* were not sent yet, or nobody knows whether they were.
    """

    carried: Literal[1] = _FORMAT
    state: str
    notices: list[NoticesInput] = Field(default_factory=list[NoticesInput])


class _StoredCheck(Stored):
    """A `PendingCheck`, as it is carried: its message is read anew from what was sent."""

    number: int
    at: datetime
    name: str
    arguments: list[Any]
    channel: Channel = "signal"


def carry(run: Run, notices: Sequence[NoticesInput] = ()) -> Carried:
    """What a new execution needs to go on with *run*, and to send *notices*.

    Pure; safe in workflow code.
    """
    given: dict[str, object] = {"carried": _FORMAT, "state": base64.b64encode(zlib.compress(_dumped(run))).decode()}
    if notices:
        given["notices"] = list(notices)
    return Carried.model_validate(given)


def size_of(carried: Carried) -> int:
    """The bytes of what is carried, as the server counts them.

    Pure; safe in workflow code.
    """
    return json_size(carried.model_dump(mode="json", exclude_unset=True))


def fits(carried: Carried) -> bool:
    """Whether the server takes it as an input.

    Pure; safe in workflow code.
    """
    return size_of(carried) < LIMIT


def restore(arguments: Sequence[object]) -> Run | None:
    """The run that the decoded inputs of an execution carry; None where they are no `Carried` at all.

    Only for what Temporal itself says was carried over: whoever starts a run could say here that all was approved.

    Raises:
        MessageError: they are one that cannot be read. One line.

    Pure; safe in workflow code.
    """
    carried = _read(arguments)
    if carried is None:
        return None
    try:
        return _loaded(_unpacked(carried.state))
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error, binascii.Error, MessageError):
        message = "AgentRun: what was carried over from the execution before cannot be read"
        raise MessageError(message) from None


def unsent_notices(arguments: Sequence[object]) -> list[NoticesInput]:
    """The notices that the execution before could not send any more.

    Pure; safe in workflow code.
    """
    carried = _read(arguments)
    return carried.notices if carried else []


def _read(arguments: Sequence[object]) -> Carried | None:
    if len(arguments) != 1 or not isinstance(arguments[0], dict) or "carried" not in arguments[0]:
        return None
    try:
        return Carried.model_validate(arguments[0])
    except ValidationError as error:
        message = f"AgentRun: {messages.problems(error)}: what was carried over cannot be read by this version"
        raise MessageError(message) from None


# -- a run as JSON ----------------------------------------------------------------------------------------------------


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """What writes and reads each field of a run; built when the first run is carried."""
    found: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in get_type_hints(Run).items()}
    return found | {"checks": TypeAdapter(list[_StoredCheck])}


def _dumped(run: Run) -> bytes:
    plain = Run()
    given = {name: getattr(run, name) for name in _adapters() if getattr(run, name) != getattr(plain, name)}
    if run.checks:
        given["checks"] = [_checking(check) for check in run.checks]
    state = {name: _written(name, value) for name, value in given.items()}
    # Not sorted: what people sent is shown as they wrote it, and a model call is made with the very same bytes.
    return json.dumps(state, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )


def _written(name: str, value: object) -> object:
    adapter = _adapters()[name]
    if name in _WITHOUT_DEFAULTS:
        return adapter.dump_python(value, mode="json", exclude_defaults=True)
    # What goes on to activities is kept as it was written: a condition `equals: null` is not one that was left out.
    return adapter.dump_python(value, mode="json", exclude_unset=True)


def _checking(check: PendingCheck) -> _StoredCheck:
    event = check.event
    return _StoredCheck(
        number=check.number, at=event.at, name=event.name, arguments=list(event.arguments), channel=event.channel
    )


def _checked(found: _StoredCheck) -> PendingCheck:
    event = MessageReceived(found.at, found.name, tuple(found.arguments), found.channel)
    return PendingCheck(found.number, messages.read(event.name, event.arguments), event)


def _unpacked(state: str) -> dict[str, object]:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(state, validate=True), STATE_LIMIT)
    if not unpacking.eof:
        raise ValueError(len(data))
    found: object = json.loads(data.decode("utf-8", "surrogatepass"))
    if not isinstance(found, dict):
        raise TypeError(type(found).__name__)
    return cast("dict[str, object]", found)


def _loaded(state: dict[str, object]) -> Run:
    adapters = _adapters()
    given = {name: adapters[name].validate_python(value) for name, value in state.items() if name in adapters}
    if "checks" in given:
        given["checks"] = tuple(map(_checked, given["checks"]))
    return Run(**given)
