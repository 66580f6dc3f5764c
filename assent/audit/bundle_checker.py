"""Checks a bundle without a server: that every byte is as it was written, and that its parts agree."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Final, cast
from zipfile import ZIP_STORED, ZipFile

from assent._version import __version__
from assent.audit.bundle_writer import EVENTS, LAYOUTS, RECORDS, SIGNED, STATEMENT, SUBJECTS, VERIFICATION, adding
from assent.audit.signing import check_signature
from assent.audit.statement import (
    Envelope,
    HistorySummary,
    Predicate,
    Statement,
    read_canonical,
    read_envelope,
    read_statement,
    shown,
)
from assent.runtime.files import open_regular
from assent.wire.errors import BundleError

Rebuild = Callable[[str, Iterable[bytes]], Iterable[bytes]]
"""Returns the lines of the records, from a run id and the lines of its history (events and markers)."""

_BLOCK: Final = 1 << 20
BUNDLE_LIMIT: Final = 8 << 30
"""Bytes of a bundle, which is copied to be compared."""
MEMBER_LIMIT: Final = 64 << 20
"""Bytes of each of the members of a bundle that are read whole: its statement, signature and verification."""


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """One check. *ok* is `None` if it was not possible or not asked for; *detail* is one line."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class BundleReport:
    """The outcome of the checks, the bundle's *predicate* if it can be read, and the *keyid* that it names."""

    checks: tuple[BundleCheck, ...]
    predicate: Predicate | None = None
    keyid: str | None = None

    @property
    def ok(self) -> bool:
        """True if no check failed. A check that was not made does not count; its detail says so."""
        return not any(check.ok is False for check in self.checks)


def verify_bundle(path: Path, *, public_key: Path | None = None, rebuild: Rebuild | None = None) -> BundleReport:
    """Check the bundle in *path*, without a server.

    With a *public_key* (a PEM file), the bundle must be signed with it. With *rebuild*, the records must be those that
    its events give; without, only their digest is checked.

    Raises:
        BundleError: *path* cannot be read.
        ConfigurationError: *public_key* cannot be used, or the extra `signing` is not installed.
    """
    try:
        file = open_regular(path, BUNDLE_LIMIT)
    except OSError as error:
        raise BundleError(f"the bundle {path} cannot be read: {error.strerror}") from None
    with file:
        exact = _check("file", lambda: _check_exact_bytes(file))
        if not exact.ok:
            return BundleReport((exact,))
        with ZipFile(file) as archive:
            return _check_archive(archive, exact, public_key, rebuild)


def event_lines(archive: ZipFile) -> Generator[bytes]:
    """Yield the lines of a bundle's events, without line feeds."""
    return _lines(archive, EVENTS)


def _check_archive(
    archive: ZipFile, exact: BundleCheck, public_key: Path | None, rebuild: Rebuild | None
) -> BundleReport:
    try:
        envelope = read_envelope(archive.read(SIGNED)) if SIGNED in archive.namelist() else None
        statement = read_statement(envelope.payload if envelope else archive.read(STATEMENT))
    except BundleError as error:
        return BundleReport((exact, BundleCheck("statement", False, str(error))))
    claimed = statement.predicate
    chain = _check("events", lambda: _events(archive, claimed))
    checks = (
        exact,
        BundleCheck("statement", True, f"of {shown(claimed.run_id)}, exported {claimed.exported_at.isoformat()}"),
        _check("digests", lambda: _digests(archive, statement)),
        chain,
        _check("records", lambda: _records(archive, claimed, rebuild)) if rebuild and chain.ok else _unbuilt(chain),
        _check("verification", lambda: _verification(archive)),
        _signature(envelope, public_key),
    )
    return BundleReport(checks, claimed, envelope.keyid if envelope else None)


def _check(name: str, act: Callable[[], str]) -> BundleCheck:
    try:
        return BundleCheck(name, True, act())
    except BundleError as error:
        return BundleCheck(name, False, str(error))


def _check_exact_bytes(file: IO[bytes]) -> str:
    with tempfile.TemporaryFile() as rewritten:
        try:
            with ZipFile(file) as archive, ZipFile(rewritten, "w", ZIP_STORED) as copy:
                _copy(archive, copy)
        except BundleError:
            raise
        except Exception as error:  # For a damaged zip, the library raises a dozen types.
            raise BundleError(f"not a whole bundle: {type(error).__name__}: {shown(str(error))}") from None
        size = _common_length(file, rewritten)
    return f"{size} bytes, each as it is written"


def _copy(archive: ZipFile, copy: ZipFile) -> None:
    names = tuple(archive.namelist())
    if names not in LAYOUTS:
        raise BundleError(f"not a bundle: it holds {shown(', '.join(names))}")
    for name in {SIGNED, STATEMENT, VERIFICATION}.intersection(names):
        if (size := archive.getinfo(name).file_size) > MEMBER_LIMIT:
            raise BundleError(f"not a bundle: {name} has {size} bytes; the limit is {MEMBER_LIMIT}")
    if any(info.compress_type != ZIP_STORED for info in archive.infolist()):
        raise BundleError("not a bundle as Assent writes it: a file in it is compressed")
    for name in names:
        with archive.open(name) as source, adding(copy, name) as target:
            shutil.copyfileobj(source, target, _BLOCK)


def _common_length(file: IO[bytes], rewritten: IO[bytes]) -> int:
    file.seek(0)
    rewritten.seek(0)
    at = 0
    while True:
        block, expected = file.read(_BLOCK), rewritten.read(_BLOCK)
        if block != expected:
            pairs = enumerate(zip(block, expected, strict=False))
            differs = next((i for i, (one, other) in pairs if one != other), min(len(block), len(expected)))
            raise BundleError(
                f"byte {at + differs} differs from what Assent writes: the file was changed outside its contents"
            )
        if not block:
            return at
        at += len(block)


def _digests(archive: ZipFile, statement: Statement) -> str:
    if set(statement.digests) != set(SUBJECTS):
        raise BundleError(f"the statement is about other files: {shown(', '.join(statement.digests))}")
    for name, digest in statement.digests.items():
        with archive.open(name) as file:
            # Typed for files of the system; any that reads into a buffer will do.
            actual = hashlib.file_digest(cast("io.BufferedReader", file), "sha256")
        if actual.hexdigest() != digest:
            raise BundleError(f"{name} is not the file that the statement is about")
    return f"{len(SUBJECTS)} files are those that the statement is about"


def _events(archive: ZipFile, claimed: Predicate) -> str:
    contents = HistorySummary(claimed.run_id)
    for line in _lines(archive, EVENTS):
        contents.add(line)
    predicate = contents.predicate(
        claimed.run_id, exported_at=claimed.exported_at, assent_version=claimed.assent_version
    )
    if predicate.chain_head != claimed.chain_head:
        raise BundleError(f"the chain over the events ends in {predicate.chain_head}, the statement names another head")
    if predicate != claimed:
        raise BundleError("the statement's counts or executions are not those of the events")
    gone = [execution.execution_id for execution in predicate.executions if execution.missing]
    lack = f"; incomplete: {shown(', '.join(gone))} could not be had" if gone else ""
    of = "1 execution" if len(predicate.executions) == 1 else f"{len(predicate.executions)} executions"
    return f"{predicate.events} events of {of}, chain head {predicate.chain_head}{lack}"


def _records(archive: ZipFile, claimed: Predicate, rebuild: Rebuild) -> str:
    try:
        rebuilt = rebuild(claimed.run_id, _lines(archive, EVENTS))
        count, differs = _compared(zip_longest(_lines(archive, RECORDS), rebuilt))
    except BundleError:
        raise
    except Exception as error:  # The bundle may be anyone's.
        reason = f"{type(error).__name__}: {shown(str(error))}"
        raise BundleError(f"the records cannot be rebuilt from the events{_versions(claimed)}: {reason}") from None
    if differs:
        raise BundleError(f"record {count} differs from what the events give{_versions(claimed)}")
    return f"{count} records, each what the events give"


def _compared(pairs: Iterable[tuple[bytes | None, bytes | None]]) -> tuple[int, bool]:
    """Return how many pairs there are, or the number of the first unequal pair and True."""
    count = 0
    for count, (stored, rebuilt) in enumerate(pairs, 1):
        if stored != rebuilt:
            return count, True
    return count, False


def _versions(claimed: Predicate) -> str:
    if claimed.assent_version == __version__:
        return ""
    return f" (exported by Assent {shown(claimed.assent_version)}, and this is {__version__})"


def _unbuilt(events: BundleCheck) -> BundleCheck:
    return BundleCheck("records", None, "not rebuilt" if events.ok else "not rebuilt, because the events are not whole")


def _verification(archive: ZipFile) -> str:
    read_canonical(archive.read(VERIFICATION), VERIFICATION)
    return "the findings are those of the export; `assent audit --verify` finds them again"


def _signature(envelope: Envelope | None, public_key: Path | None) -> BundleCheck:
    if envelope is None and public_key is None:
        detail = "not signed: this shows that the file is whole, not who made it"
        return BundleCheck("signature", None, detail)
    if envelope is None:
        return BundleCheck("signature", False, "not signed, and a key was given")
    if public_key is None:
        return BundleCheck("signature", None, f"signed by keyid {shown(envelope.keyid)}, not checked: give --key")
    return _check("signature", lambda: f"signed by the key {check_signature(envelope, public_key)}")


def _lines(archive: ZipFile, name: str) -> Generator[bytes]:
    with archive.open(name) as stored, io.BufferedReader(cast("io.RawIOBase", stored), _BLOCK) as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                raise BundleError(f"line {number} of {name} does not end")
            yield line[:-1]
