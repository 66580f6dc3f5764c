"""Bundles as the tests write, forge and check them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from assent.audit.bundle_checker import BundleCheck, BundleReport
from assent.audit.bundle_writer import README, STATEMENT, new_bundle
from assent.audit.hash_chain import execution_line
from assent.audit.signing import Signer
from assent.audit.statement import Predicate
from assent.wire.digest import canonical

RUN_ID: Final = 'teller-"1"'
EXPORTED: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)
FINDINGS: Final = canonical([{"check": "gates", "verdict": "ok"}])


def events(count: int = 3) -> list[bytes]:
    return [
        canonical({"eventId": str(number), "eventType": "EVENT_TYPE_TIMER_FIRED"}) for number in range(1, count + 1)
    ]


def rebuild(run_id: str, lines: Iterable[bytes]) -> Iterable[bytes]:
    """Return the simplest records: the run and the number of each event."""
    found = [json.loads(line) for line in lines]
    return [canonical([run_id, event["eventId"]]) for event in found if "eventId" in event]


def written(
    path: Path,
    lines: Iterable[bytes] | None = None,
    *,
    records: Iterable[bytes] | None = None,
    verification: bytes | Callable[[], bytes] = FINDINGS,
    signer: Signer | None = None,
    overwrite: bool = False,
) -> Predicate:
    lines = [execution_line("r1"), *events()] if lines is None else lines
    if records is None:
        lines = list(lines)
        records = list(rebuild(RUN_ID, lines))
    with new_bundle(path, run_id=RUN_ID, overwrite=overwrite) as bundle:
        for line in lines:
            bundle.add_event(line)
        findings = verification if isinstance(verification, bytes) else verification()
        return bundle.finish(records=records, verification=findings, exported_at=EXPORTED, signer=signer)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(path: Path, files: dict[str, bytes], *, restate: bool = True) -> Path:
    """Write a bundle of other *files*, as well as a forger with this source and without the key can."""
    if restate and STATEMENT in files:
        statement = json.loads(files[STATEMENT])
        for subject in statement["subject"]:
            subject["digest"]["sha256"] = hashlib.sha256(files[subject["name"]]).hexdigest()
        files = {**files, STATEMENT: canonical(statement)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                file.write(data)
    return path


def changed(data: bytes, at: int, by: int) -> bytes:
    return data[:at] + bytes([data[at] ^ by]) + data[at + 1 :]


def failed(report: BundleReport) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if check.ok is False}


def found(report: BundleReport, name: str) -> BundleCheck:
    [check] = [check for check in report.checks if check.name == name]
    return check


def by_hand(path: Path, folder: Path, *, signed: bool) -> subprocess.CompletedProcess[str]:
    """Run the commands of the bundle's own README."""
    subprocess.run(["unzip", "-q", str(path), "-d", str(folder)], check=True)
    steps = (folder / README).read_text().split("\n1. ")[1].split("\n2. ")
    text = "\n".join(steps) if signed else steps[1]
    commands = "\n".join(line for line in text.splitlines() if line.startswith("    "))
    return subprocess.run(["bash", "-euc", commands], cwd=folder, capture_output=True, text=True, check=False)
