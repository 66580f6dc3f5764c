"""The statement of a bundle (in-toto Statement v1), and the envelope of its signature (DSSE v1).

Formats: https://github.com/in-toto/attestation/tree/main/spec/v1 and https://github.com/secure-systems-lab/dsse.
`PREDICATE_TYPE` only names our predicate: there is no page at that address.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from assent.audit.hash_chain import HashChain, execution_line, missing_line
from assent.wire.digest import canonical
from assent.wire.errors import BundleError

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://assent.dev/audit/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_SHOWN: Final = 200
_HEX: Final = r"^[0-9a-f]{64}$"


class _Claim(BaseModel):
    # in-toto asks for lowerCamelCase, and for readers that ignore unknown fields.
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class ExecutionRange(_Claim):
    """One execution of a run, and the ids of its first and last event. *missing*: its events are gone."""

    execution_id: str
    first_event_id: int | None = None
    last_event_id: int | None = None
    missing: bool = False


class Predicate(_Claim):
    """What a bundle holds: the run's executions, how many events, and the *chain_head* over them.

    *complete* is false if an execution is missing; the events show whether the run has ended. *chain_length* counts the
    lines of the chain: the events, and a marker for each execution.
    """

    run_id: str
    executions: tuple[ExecutionRange, ...]
    events: int
    complete: bool
    chain_head: str = Field(pattern=_HEX)
    chain_length: int
    exported_at: datetime
    assent_version: str


class _Digest(_Claim):
    sha256: str = Field(pattern=_HEX)


class _Subject(_Claim):
    name: str
    digest: _Digest


class _Statement(_Claim):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: tuple[_Subject, ...]
    predicate_type: Literal["https://assent.dev/audit/v1"]
    predicate: Predicate


@dataclass(frozen=True, slots=True)
class Statement:
    """The *predicate*, and the SHA-256 of each file in the bundle, by name."""

    digests: Mapping[str, str]
    predicate: Predicate

    def to_bytes(self) -> bytes:
        """Return the in-toto Statement v1 as canonical JSON, which is what a signer signs."""
        subjects = [{"name": name, "digest": {"sha256": digest}} for name, digest in self.digests.items()]
        predicate = self.predicate.model_dump(mode="json", by_alias=True)
        return canonical(
            {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": PREDICATE_TYPE, "predicate": predicate}
        )


def read_statement(data: bytes) -> Statement:
    """Read the statement of a bundle, strictly.

    Raises:
        BundleError: *data* is not canonical JSON, or not a statement of this predicate type, or names a file twice.
    """
    value = read_canonical(data, "the statement")
    try:
        # From text, because strict mode takes tuples and times only from JSON.
        statement = _Statement.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"the statement is not one of {PREDICATE_TYPE}: {where!r}: {first['msg']}") from None
    digests = {subject.name: subject.digest.sha256 for subject in statement.subject}
    if len(digests) != len(statement.subject):
        raise BundleError("the statement names a file twice")
    return Statement(digests, statement.predicate)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE v1 envelope with one signature: the *payload* and the *keyid* of the key that it names."""

    payload: bytes
    keyid: str
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the envelope as canonical JSON, which replaces the statement in a signed bundle."""
        signature = {"keyid": self.keyid, "sig": base64.b64encode(self.signature).decode()}
        payload = base64.b64encode(self.payload).decode()
        return canonical({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": [signature]})


def signed_bytes(payload: bytes) -> bytes:
    """Return the bytes that a signature covers: DSSE's pre-authentication encoding of the type and the payload."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def read_envelope(data: bytes) -> Envelope:
    """Read an envelope without checking its signature, strictly.

    Several base64 texts stand for the same bytes. Only the one that `Envelope.to_bytes` writes is accepted, so that
    every byte of the file counts.

    Raises:
        BundleError: *data* is not an envelope for an in-toto statement with exactly one signature.
    """
    match read_canonical(data, "the envelope"):
        case {"payload": str(payload), "signatures": [{"keyid": str(keyid), "sig": str(signature)}]}:
            envelope = Envelope(_decoded(payload), keyid, _decoded(signature))
        case _:
            raise BundleError("the envelope is not a DSSE envelope with exactly one signature")
    if envelope.to_bytes() != data:
        raise BundleError(
            "the envelope is not as Assent writes it: another payload type, another field or other base64"
        )
    return envelope


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise BundleError("the envelope holds invalid base64") from None


def read_canonical(data: bytes, what: str) -> object:
    """Return the JSON value of *data*, which must be canonical; an error message begins with *what*.

    Raises:
        BundleError: *data* is not JSON, or not its canonical text; a key that occurs twice is not canonical.
    """
    try:
        value: object = json.loads(data)
        exact = canonical(value) == data
    except (ValueError, RecursionError):
        raise BundleError(f"{what} is not JSON") from None
    if not exact:
        raise BundleError(f"{what} is not in canonical JSON")
    return value


class HistorySummary:
    """The hash *chain*, the executions and the number of events of the run *run_id*, added line by line."""

    def __init__(self, run_id: str) -> None:
        self.chain = HashChain(run_id)
        self.events = 0
        self._executions: list[ExecutionRange] = []

    def add(self, line: bytes) -> None:
        """Append one line: a marker or an event.

        Raises:
            BundleError: *line* is neither, or is not canonical, or its event does not follow the previous one.
        """
        where = f"line {self.chain.length + 1} of the events"
        match read_canonical(line, where):
            case {"eventId": str(number)}:
                self._event(number, where)
            case {"execution": str(execution_id)} if line == execution_line(execution_id):
                self._executions.append(ExecutionRange(execution_id=execution_id))
            case {"missing": str(execution_id)} if line == missing_line(execution_id):
                self._executions.append(ExecutionRange(execution_id=execution_id, missing=True))
            case _:
                raise BundleError(f"{where} is neither an event of a history nor a marker")
        self.chain.extend(line)

    def _event(self, number: str, where: str) -> None:
        execution = self._executions[-1] if self._executions else None
        if execution is None or execution.missing:
            raise BundleError(f"{where} is an event of no execution: a marker must come first")
        expected = (execution.last_event_id or 0) + 1
        if number != str(expected):
            raise BundleError(f"{where} is event {shown(number)}, where event {expected} must follow")
        self._executions[-1] = execution.model_copy(update={"first_event_id": 1, "last_event_id": expected})
        self.events += 1

    def predicate(self, run_id: str, *, exported_at: datetime, assent_version: str) -> Predicate:
        """Return the predicate of these lines."""
        return Predicate(
            run_id=run_id,
            executions=tuple(self._executions),
            events=self.events,
            complete=not any(execution.missing for execution in self._executions),
            chain_head=self.chain.head,
            chain_length=self.chain.length,
            exported_at=exported_at,
            assent_version=assent_version,
        )


def shown(text: str) -> str:
    """Return untrusted text quoted, in one line, and shortened."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
