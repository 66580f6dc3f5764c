"""Exports the audit of a run as a bundle, and checks a bundle by auditing its events again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

from pydantic import BaseModel, ValidationError
from temporalio.converter import PayloadCodec

from assent._version import __version__
from assent.audit.approval import is_recorded
from assent.audit.bundle_checker import BundleCheck, BundleReport, verify_bundle
from assent.audit.bundle_writer import VERIFICATION, new_bundle
from assent.audit.checks import Verification
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_lines
from assent.audit.records import ApprovalRecord, Audit, Record
from assent.audit.signing import Signer
from assent.audit.statement import Predicate
from assent.audit.verifier import Verifier
from assent.runtime.payload_codec import HINT
from assent.wire.digest import canonical


@dataclass(frozen=True, slots=True)
class BundleExport:
    """What an exported bundle holds: its predicate, and the outcome of the checks."""

    predicate: Predicate
    verification: Verification


async def export(
    run_id: str,
    audit: Callable[[AuditObserver], Awaitable[Audit]],
    path: Path,
    *,
    signer: Signer | None = None,
    overwrite: bool = False,
) -> tuple[Audit, BundleExport]:
    """Write the bundle of the run *run_id*. *audit* reads its audit with an observer, such as `RunHandle.audit`.

    Raises:
        BundleError: *path* exists and *overwrite* is not set, or it cannot be written; the events do not follow one
            another.
        AssentError: as *audit*.
    """
    with new_bundle(path, run_id=run_id, overwrite=overwrite) as bundle:
        verifier = Verifier(run_id, bundle.add_event)
        audited = await audit(verifier)
        verification = verifier.verification(audited)
        predicate = bundle.finish(
            records=map(line_of, recorded(audited)),
            verification=line_of(verification),
            exported_at=datetime.now(UTC),
            signer=signer,
        )
    return audited, BundleExport(predicate, verification)


def recorded(audit: Audit) -> Iterator[Record]:
    """Yield the records of an audit: a call of type `audit` has one only once it is decided."""
    for record in audit.records():
        if not isinstance(record, ApprovalRecord) or is_recorded(record):
            yield record


def line_of(value: BaseModel) -> bytes:
    """Return a record or verification as one line of canonical JSON."""
    return canonical(value.model_dump(mode="json"))


# -- checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundleResult:
    """The outcome of a check: the *report* on the bytes, the *verification* in the bundle, the *audit* of its events.

    The last two are None if they cannot be read.
    """

    report: BundleReport
    verification: Verification | None
    audit: Audit | None = None

    @property
    def ok(self) -> bool:
        """True if the bundle is whole and no check of its audit failed."""
        return self.report.ok and self.verification is not None and self.verification.ok


def check(path: Path, *, public_key: Path | None = None, codec: PayloadCodec | None = None) -> BundleResult:
    """Check a bundle without a server, and audit its events again: its records and verification must be the same.

    *codec* is the payload codec of the run, if it had one. Within an event loop, call it by `asyncio.to_thread`.

    Raises:
        BundleError, ConfigurationError: as `assent.audit.bundle_checker.verify_bundle`.
    """
    remade: list[tuple[Audit, Verification]] = []

    def rebuild(run_id: str, lines: Iterable[bytes]) -> Iterable[bytes]:
        remade.append(asyncio.run(_audited(run_id, lines, codec)))
        return map(line_of, recorded(remade[0][0]))

    report = verify_bundle(path, public_key=public_key, rebuild=rebuild)
    if report.predicate is None:
        return BundleResult(report, None)
    with ZipFile(path) as archive:
        stored = archive.read(VERIFICATION)
    checks = tuple(_compared(each, stored, remade, codec) for each in report.checks)
    return BundleResult(replace(report, checks=checks), _read_verification(stored), remade[0][0] if remade else None)


async def _audited(run_id: str, lines: Iterable[bytes], codec: PayloadCodec | None) -> tuple[Audit, Verification]:
    verifier = Verifier(run_id)
    audit = await audit_lines(run_id, lines, verifier, codec)
    return audit, verifier.verification(audit)


def _compared(
    check: BundleCheck, stored: bytes, remade: Sequence[tuple[Audit, Verification]], codec: PayloadCodec | None
) -> BundleCheck:
    """Return the check with its outcome after the events were audited again."""
    if check.name == "records" and check.ok is False:
        blind = codec is None and bool(remade) and not remade[0][0].run.agent
        return replace(check, detail=f"{check.detail}; {HINT}") if blind else check
    if check.name != "verification" or not check.ok:
        return check
    if not remade:
        return replace(check, ok=None, detail="not compared with what the events give")
    if stored == line_of(remade[0][1]):
        return replace(check, detail="the findings are what the events give")
    return replace(check, ok=False, detail=f"the findings are not what the events give (this is Assent {__version__})")


def _read_verification(stored: bytes) -> Verification | None:
    try:
        return Verification.model_validate_json(stored)
    except ValidationError:
        return None
