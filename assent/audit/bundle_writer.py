"""Writes bundles: the audit of one run as one file, which can be checked without a server.

A bundle is a zip with the run's events, its records, its verification, and a statement about all three: their digests,
and the head of the hash chain over the events. Equal contents give equal bytes, so a check can write the file again and
compare every byte, those of the zip format included.
"""

import hashlib
import os
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from assent._version import __version__
from assent.audit.signing import Signer
from assent.audit.statement import HistorySummary, Predicate, Statement
from assent.wire.errors import BundleError

README: Final = "README.txt"
EVENTS: Final = "events.jsonl"
RECORDS: Final = "records.jsonl"
VERIFICATION: Final = "verification.json"
STATEMENT: Final = "statement.json"
SIGNED: Final = "statement.dsse.json"
SUBJECTS: Final = (README, EVENTS, RECORDS, VERIFICATION)
LAYOUTS: Final = ((*SUBJECTS, STATEMENT), (*SUBJECTS, SIGNED))
"""The names in a bundle, in order: without a signature, and with one."""


def member(name: str) -> ZipInfo:
    """Return the header of one file in a bundle, which does not depend on the clock, the machine or the system."""
    info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = ZIP_STORED  # Compressed bytes differ between versions of zlib.
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


@contextmanager
def adding(archive: ZipFile, name: str) -> Generator[IO[bytes]]:
    """Open one file of a bundle for writing, of any size."""
    with archive.open(member(name), "w", force_zip64=True) as file:
        yield file


class BundleWriter:
    """Writes a bundle, event by event: `add_event` for each line, then `finish`. Made by `new_bundle`."""

    def __init__(self, file: IO[bytes], run_id: str) -> None:
        self._run_id = run_id
        self._contents = HistorySummary(run_id)
        self._digests: dict[str, str] = {}
        self._archive = ZipFile(file, "w", ZIP_STORED)
        self._write_file(README, [files("assent").joinpath("bundle_readme.txt").read_bytes()])
        self._events = self._archive.open(member(EVENTS), "w", force_zip64=True)
        self._events_digest = hashlib.sha256()
        self.finished = False

    def add_event(self, line: bytes) -> None:
        """Append one line of the chain: the canonical JSON of an event, or a marker of `assent.audit.hash_chain`.

        Raises:
            BundleError: *line* is neither, or its event does not follow the one before it.
        """
        self._contents.add(line)
        for part in (line, b"\n"):
            self._events.write(part)
            self._events_digest.update(part)

    def finish(
        self, *, records: Iterable[bytes], verification: bytes, exported_at: datetime, signer: Signer | None = None
    ) -> Predicate:
        """Append the *records* and the *verification*, as canonical JSON, and return the statement's predicate.

        Raises:
            BundleError: there were no events, or a record holds a line feed.
        """
        if not self._contents.chain.length:
            raise BundleError("a bundle needs the events of a run, and there were none")
        self._events.close()
        self._digests[EVENTS] = self._events_digest.hexdigest()
        self._write_file(RECORDS, _lines(records))
        self._write_file(VERIFICATION, [verification])
        predicate = self._contents.predicate(self._run_id, exported_at=exported_at, assent_version=__version__)
        statement = Statement(dict(self._digests), predicate).to_bytes()
        if signer is None:
            self._write_file(STATEMENT, [statement])
        else:
            self._write_file(SIGNED, [signer.sign(statement).to_bytes()])
        self._archive.close()
        self.finished = True
        return predicate

    def discard(self) -> None:
        """Close the unfinished bundle."""
        self._events.close()
        self._archive.close()

    def _write_file(self, name: str, parts: Iterable[bytes]) -> None:
        digest = hashlib.sha256()
        with adding(self._archive, name) as file:
            for part in parts:
                file.write(part)
                digest.update(part)
        self._digests[name] = digest.hexdigest()


@contextmanager
def new_bundle(path: Path, *, run_id: str, overwrite: bool = False) -> Generator[BundleWriter]:
    """Write the bundle of the run *run_id* to *path*: whole, or not at all.

    A temporary file beside *path* replaces it when the block ends after `finish`. Only the owner may read it, because a
    history holds prompts and results in clear.

    Raises:
        BundleError: *path* exists and *overwrite* is not set, or it cannot be written.
    """
    try:
        if path.exists() and not overwrite:
            raise BundleError(_exists(path))
        if path.is_dir():
            raise BundleError(f"the bundle {path} cannot be written: it is a folder")
        # Not named after *path*, whose name may have the greatest length already.
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".bundle.")
    except OSError as error:
        raise BundleError(f"the bundle {path} cannot be written: {error.strerror}") from None
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield from _writing(file, run_id)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, path, overwrite=overwrite)
    finally:
        temporary.unlink(missing_ok=True)


def _writing(file: IO[bytes], run_id: str) -> Generator[BundleWriter]:
    bundle = BundleWriter(file, run_id)
    try:
        yield bundle
        if not bundle.finished:
            raise BundleError("the bundle was not finished")
    finally:
        if not bundle.finished:
            bundle.discard()


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    try:
        if not overwrite:
            path.hardlink_to(temporary)  # Unlike a rename, it never replaces the file of a concurrent export.
            return
    except FileExistsError:
        raise BundleError(_exists(path)) from None
    except OSError:
        pass  # A file system without hard links.
    try:
        temporary.replace(path)
    except OSError as error:
        raise BundleError(f"the bundle {path} cannot be written: {error.strerror}") from None


def _exists(path: Path) -> str:
    return f"{path} exists already: name another file, or say that it may be overwritten"


def _lines(lines: Iterable[bytes]) -> Generator[bytes]:
    for number, line in enumerate(lines, 1):
        if b"\n" in line:
            raise BundleError(f"record {number} holds a line feed: give the canonical JSON of one record")
        yield line
        yield b"\n"
