"""Bundles of real runs: exporting the audit of a run as one, and auditing the events of one again.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
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
from assent.runtime.payload_codec import HINT, hinted
from assent.wire.digest import canonical


@dataclass(frozen=True, slots=True)
class BundleExport:
    """What a bundle holds: what its statement says of the run, and what the checks of the audit came to."""

    predicate: Predicate
    verification: Verification


async def export(
    run_id: str,
    audit: Callable[[AuditObserver], Awaitable[Audit]],
    path: Path,
    *,
    signer: Signer | None = None,
    overwrite: bool = False,
) -> BundleExport:
    """Write the bundle of the run *run_id*. *audit* reads it before a observer: `client.run(run_id).audit`, say.

    Raises:
        BundleError: *path* is there already and is not to be overwritten, or cannot be written; the events do not
            follow one another.
        AssentError: as *audit*.
    """
    with new_bundle(path, run_id=run_id, overwrite=overwrite) as bundle:
        verifier = Verifier(run_id, bundle.add_event)
        found = await audit(verifier)
        verification = verifier.verification(found)
        predicate = bundle.finish(
            records=map(line_of, recorded(found)),
            verification=line_of(verification),
            exported_at=datetime.now(UTC),
            signer=signer,
        )
    return BundleExport(predicate, verification)


def recorded(audit: Audit) -> Iterator[Record]:
    """The records of an audit that there are: a call of type `audit` has one only once it is decided."""
    for record in audit.records():
        if not isinstance(record, ApprovalRecord) or is_recorded(record):
            yield record


def line_of(value: BaseModel) -> bytes:
    """A record, or a verification, as one line of canonical JSON."""
    return canonical(value.model_dump(mode="json"))


# -- the other way ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundleResult:
    """What a bundle came to: the *report* on its bytes, and the *verification* that it holds, where it can be read.

    *audit* is what its events give, where they were audited again.
    """

    report: BundleReport
    verification: Verification | None
    audit: Audit | None = None

    @property
    def ok(self) -> bool:
        """The bundle is whole, and the checks of the audit in it failed nowhere."""
        return self.report.ok and self.verification is not None and self.verification.ok


def check(path: Path, *, public_key: Path | None = None, codec: PayloadCodec | None = None) -> BundleResult:
    """Check a bundle without a server, down to auditing its events again: its records and findings must be the same.

    *codec* is the payload codec of the run, if it had one. Not within an event loop: there, `asyncio.to_thread` it.

    Raises:
        BundleError, ConfigurationError: as `assent.audit.bundle_checker.verify_bundle`.
    """
    again: list[tuple[Audit, Verification]] = []

    def rebuild(run_id: str, lines: Iterable[bytes]) -> Iterable[bytes]:
        again.append(asyncio.run(_audited(run_id, lines, codec)))
        return map(line_of, recorded(again[0][0]))

    report = verify_bundle(path, public_key=public_key, rebuild=rebuild)
    if report.predicate is None:
        return BundleResult(report, None)
    with ZipFile(path) as archive:
        kept = archive.read(VERIFICATION)
    checks = tuple(_told(each, kept, again, codec) for each in report.checks)
    return BundleResult(replace(report, checks=checks), _read(kept), again[0][0] if again else None)


async def _audited(run_id: str, lines: Iterable[bytes], codec: PayloadCodec | None) -> tuple[Audit, Verification]:
    verifier = Verifier(run_id)
    audit = await audit_lines(run_id, lines, verifier, codec)
    return audit, verifier.verification(audit)


def _told(
    check: BundleCheck, kept: bytes, again: Sequence[tuple[Audit, Verification]], codec: PayloadCodec | None
) -> BundleCheck:
    """The check as it stands once the events were audited again."""
    if check.name == "records" and check.ok is False:
        blind = codec is None and bool(again) and not again[0][0].run.agent
        return replace(check, detail=f"{check.detail}; {HINT}" if blind else hinted(check.detail, codec))
    if check.name != "verification" or not check.ok:
        return check
    if not again:
        return replace(check, ok=None, detail="not compared with what the events give")
    if kept == line_of(again[0][1]):
        return replace(check, detail="the findings are what the events give")
    return replace(check, ok=False, detail=f"the findings are not what the events give (this is Assent {__version__})")


def _read(kept: bytes) -> Verification | None:
    try:
        return Verification.model_validate(cast("object", json.loads(kept)))
    except (ValidationError, ValueError, RecursionError):
        return None
