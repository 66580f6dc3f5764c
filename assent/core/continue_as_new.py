"""Carries a run into a new execution (Temporal's continue-as-new).

The one input of a continued execution is the run as compressed JSON. Fields with their default value are left out, so
that the new fields of a later version cost nothing in runs that do not use them.

What it carries of decided calls is bounded: the history of the execution that decided them is their record.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, Final, Literal, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from assent.core.events import Channel, MessageReceived
from assent.core.notices import NoticesInput
from assent.core.run_state import PendingCheck, Run
from assent.wire import messages
from assent.wire.digest import json_size, sha256_hex
from assent.wire.errors import MessageError
from assent.wire.limits import CARRIED_LIMIT, STATE_LIMIT, VALUE_SHOWN
from assent.wire.protocol import Stored
from assent.wire.requirements import Requirement
from assent.wire.text import bounded

KEPT_DECIDED: Final = 1_000
"""The decided requirements of earlier turns that a new execution still knows."""
QUERY_LIMIT: Final = 250_000
"""Characters of decided requirements from which the query `state` has only the newest, and these short."""
QUERY_DECIDED: Final = 100
"""How many it then has."""
_FIELDS: Final = 1_000
"""Characters of the fields of a requirement, without its arguments and result, at most as a rule."""
_FORMAT: Final = 1
_WITHOUT_DEFAULTS: Final = frozenset({"requirements", "ignored_messages", "usage", "failure", "prefix"})
"""The fields that are written without the defaults in them; no activity gets these as they were written."""


class Carried(Stored):
    """The input of a continued execution. *carried* is the version of the format.

    *state* is the run: base64 of zlib of its JSON. *attachments* are those of the run, which zlib makes no shorter.
    *notices* were not sent yet, or it is unknown whether they were.
    """

    carried: Literal[1] = _FORMAT
    state: str
    notices: list[NoticesInput] = Field(default_factory=list[NoticesInput])
    attachments: dict[str, str] = Field(default_factory=dict[str, str])


class _StoredCheck(Stored):
    """A `PendingCheck`, as it is carried: its message is read again from the arguments."""

    number: int
    at: datetime
    name: str
    arguments: list[Any]
    channel: Channel = "signal"


def carry(run: Run, notices: Sequence[NoticesInput] = ()) -> Carried:
    """Return what a new execution needs to continue *run*, and to send *notices*."""
    short = replace(shortened(run), attachments={})
    state = base64.b64encode(zlib.compress(_dumped(short))).decode()
    optional = {"notices": list(notices), "attachments": dict(run.attachments)}
    return Carried.model_validate({"carried": _FORMAT, "state": state} | {k: v for k, v in optional.items() if v})


def shortened(run: Run) -> Run:
    """Return the run as a new execution knows it: decided requirements of earlier turns are short, the oldest dropped.

    Those that extended the budget are never dropped: their number names the next one. The history of a new execution
    gets the text of the instructions again.
    """
    if run.instructions is not None:
        run = replace(run, instructions=None)
    if run.checks_before != run.checks_made:
        # Their limit bounds the events of one history; for a whole run, it would let a flood end all decisions.
        run = replace(run, checks_before=run.checks_made)
    old = [each for each in run.requirements if each.turn < run.turn and each.status != "pending"]
    if not old:
        return run
    dropped = {each.id for each in [each for each in old if each.kind != "budget"][:-KEPT_DECIDED]}
    short = {each.id: _shorten(each) for each in old}
    requirements = tuple(short.get(each.id, each) for each in run.requirements if each.id not in dropped)
    return replace(run, requirements=requirements, requirements_dropped=run.requirements_dropped + len(dropped))


def shortened_for_query(run: Run) -> Run:
    """Return the run as the query `state` answers: its decided requirements are short and few once they are too large.

    The server takes no answer of over 2 MB. The history has the rest, and `RunHandle.state` reads it.
    """
    decided = [each for each in run.requirements if each.status != "pending"]
    if sum(_FIELDS + len(each.arguments) + len(each.result or "") for each in decided) <= QUERY_LIMIT:
        return run
    dropped = {each.id for each in decided[:-QUERY_DECIDED]}
    left = [each for each in run.requirements if each.id not in dropped]
    requirements = tuple(each if each.status == "pending" else _shorten(each) for each in left)
    return replace(run, requirements=requirements, requirements_dropped=run.requirements_dropped + len(dropped))


def _shorten(requirement: Requirement) -> Requirement:
    if requirement.shortened:
        return requirement
    return Requirement(
        id=requirement.id,
        kind=requirement.kind,
        call_id=requirement.call_id,
        tool=requirement.tool,
        arguments="",
        nonce="",
        turn=requirement.turn,
        created_at=requirement.created_at,
        needed=requirement.needed,
        approval_type=requirement.approval_type,
        status=requirement.status,
        votes=[each.model_copy(update={"reason": None, "proof": None}) for each in requirement.votes],
        resolved_by=requirement.resolved_by,
        resolved_at=requirement.resolved_at,
        reason=None if requirement.reason is None else bounded(requirement.reason, VALUE_SHOWN),
        execution=requirement.execution,
        grant=requirement.grant,
        agent=requirement.agent,
        shortened=True,
    )


def size_of(carried: Carried) -> int:
    """Return the size in bytes as the server counts it."""
    return json_size(carried.model_dump(mode="json", exclude_unset=True))


def fits(carried: Carried) -> bool:
    """Return whether the server takes it as an input."""
    return size_of(carried) < CARRIED_LIMIT


def restore(arguments: Sequence[object]) -> Run | None:
    """Return the run that the decoded inputs of an execution carry; None if they are no `Carried` at all.

    Only for executions that Temporal itself says continue another: in any other, a client could claim here that every
    call was approved.

    Raises:
        MessageError: the `Carried` cannot be read. One line.
    """
    carried = _read_carried(arguments)
    if carried is None:
        return None
    try:
        run = replace(_loaded(_unpacked(carried.state)), attachments=_check_digests(carried.attachments))
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error, binascii.Error, MessageError):
        raise MessageError("AgentRun: the state that the previous execution passed on cannot be read") from None
    return run


def _check_digests(attachments: dict[str, str]) -> dict[str, str]:
    for name, data in attachments.items():
        if sha256_hex(base64.b64decode(data, validate=True)) != name:
            raise ValueError(name)
    return attachments


def unsent_notices(arguments: Sequence[object]) -> list[NoticesInput]:
    """Return the notices that the execution before could not send."""
    carried = _read_carried(arguments)
    return carried.notices if carried else []


def _read_carried(arguments: Sequence[object]) -> Carried | None:
    if len(arguments) != 1 or not isinstance(arguments[0], dict) or "carried" not in arguments[0]:
        return None
    try:
        return Carried.model_validate(arguments[0])
    except ValidationError as error:
        message = f"AgentRun: {messages.problems(error)}: this version cannot read the carried state"
        raise MessageError(message) from None


# -- a run as JSON ----------------------------------------------------------------------------------------------------


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """Return what writes and reads each field of a run; built when the first run is carried."""
    adapters: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(kind) for name, kind in get_type_hints(Run).items()}
    return adapters | {"checks": TypeAdapter(list[_StoredCheck])}


def _dumped(run: Run) -> bytes:
    plain, state = Run(), dict[str, object]()
    for name, adapter in _adapters().items():
        value = getattr(run, name)
        if value == getattr(plain, name):
            continue
        if name == "checks":
            value = [_store_check(check) for check in run.checks]
        # Activities get the other fields as they were written: `equals: null` differs from a condition left out.
        defaults = name in _WITHOUT_DEFAULTS
        state[name] = adapter.dump_python(value, mode="json", exclude_defaults=defaults, exclude_unset=not defaults)
    # Not sorted: messages are shown as people wrote them, and a repeated model call has the same bytes.
    return json.dumps(state, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "surrogatepass"
    )


def _store_check(check: PendingCheck) -> _StoredCheck:
    event = check.event
    return _StoredCheck(
        number=check.number, at=event.at, name=event.name, arguments=list(event.arguments), channel=event.channel
    )


def _pending(stored: _StoredCheck) -> PendingCheck:
    event = MessageReceived(stored.at, stored.name, tuple(stored.arguments), stored.channel)
    return PendingCheck(stored.number, messages.read(event.name, event.arguments), event)


def _unpacked(state: str) -> dict[str, object]:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(state, validate=True), STATE_LIMIT)
    if not unpacking.eof:
        raise ValueError(len(data))
    fields: object = json.loads(data.decode("utf-8", "surrogatepass"))
    if not isinstance(fields, dict):
        raise TypeError(type(fields).__name__)
    return cast("dict[str, object]", fields)


def _loaded(state: dict[str, object]) -> Run:
    adapters = _adapters()
    fields = {name: adapters[name].validate_python(value) for name, value in state.items() if name in adapters}
    if "checks" in fields:
        fields["checks"] = tuple(map(_pending, fields["checks"]))
    return Run(**fields)
