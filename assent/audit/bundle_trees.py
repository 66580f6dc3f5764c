"""Bundles of a run and of all runs below it: a folder with a bundle of each, and checking such a folder as one.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from temporalio.converter import PayloadCodec

from assent.audit.audit_tree import AuditedRun, AuditReader, audits
from assent.audit.bundle_checker import event_lines
from assent.audit.bundles import BundleExport, BundleResult, check, export
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_lines
from assent.audit.records import Audit
from assent.audit.signing import Signer
from assent.wire.errors import BundleError, RunNotFoundError

SUFFIX: Final = ".zip"
_STARTED: Final = "workflowExecutionStartedEventAttributes"
_UNNAMEABLE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 100
"""Characters of a run's id in the name of its bundle."""


# -- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunExport:
    """One run of a tree, and the *bundle* that it has in the folder; None where its history cannot be had.

    *path* names the agents from the outermost down to this one.
    """

    run_id: str
    path: tuple[str, ...]
    bundle: str | None
    exported: BundleExport | None


async def export_tree(read: AuditReader, run_id: str, folder: Path, *, signer: Signer | None = None) -> list[RunExport]:
    """Write the bundles of *run_id* and of the runs below it to *folder*, which is made: all of them, or nothing.

    Each before those below it, in the order of asking, which is the order of their names.

    Raises:
        BundleError: *folder* is there already, or cannot be written.
        AssentError: as *read*.
    """
    with _new_folder(folder) as made:
        return [each async for each in _exported(read, run_id, (), made, signer, {run_id})]


async def _exported(
    read: AuditReader, run_id: str, path: tuple[str, ...], folder: Path, signer: Signer | None, known: set[str]
) -> AsyncIterator[RunExport]:
    found = list[Audit]()

    async def audit(observer: AuditObserver) -> Audit:
        found.append(await read(run_id, observer))
        return found[0]

    name = f"{len(known):03d}-{_UNNAMEABLE.sub('-', run_id)[:_LONGEST]}{SUFFIX}"
    try:
        exported = await export(run_id, audit, folder / name, signer=signer)
    except RunNotFoundError:
        if not path:
            raise
        yield RunExport(run_id, path, None, None)
        return
    run = found[0].run
    own = path or (*(each.agent for each in run.parents), run.agent)
    yield RunExport(run_id, own, name, exported)
    for child in found[0].children:
        if child.run_id is not None and child.run_id not in known:
            known.add(child.run_id)
            async for each in _exported(read, child.run_id, (*own, child.agent), folder, signer, known):
                yield each


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """A folder that is made beside *folder*, and takes its name where the block ends well."""
    if folder.exists():
        message = f"{folder} exists already: name another folder"
        raise BundleError(message)
    try:
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bundles."))
    except OSError as error:
        message = f"the folder {folder} cannot be made: {error.strerror}"
        raise BundleError(message) from None
    try:
        yield made
        try:
            os.rename(made, folder)  # noqa: PTH104 it never replaces a folder that is not empty
        except OSError as error:
            message = f"the folder {folder} cannot be made: {error.strerror}"
            raise BundleError(message) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


# -- checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundleTreeResult:
    """What a folder of bundles came to: each of the *bundles*, and, where all are whole, each run beside the one above.

    *strays* are the runs that say that a run of the folder began them, which it did not. *detached* are those that
    nothing here tells of, because the run above them has no bundle; they and the runs below them come last in *runs*.
    """

    bundles: dict[Path, BundleResult]
    runs: list[AuditedRun]
    strays: list[str]
    detached: list[str]

    @property
    def ok(self) -> bool:
        """Each bundle is whole, and no check of the audits in them failed, nor what they say of each other."""
        whole = all(each.ok for each in self.bundles.values())
        return (
            whole and not self.strays and all(each.verification is None or each.verification.ok for each in self.runs)
        )

    @property
    def missing(self) -> list[str]:
        """The runs that a run above names, and that have no bundle here."""
        return [each.run_id for each in self.runs if each.audit is None]


def check_tree(folder: Path, *, public_key: Path | None = None, codec: PayloadCodec | None = None) -> BundleTreeResult:
    """Check all bundles of *folder* (`*.zip`) without a server, and that they tell the same of each other.

    They are of one run and of runs below it, wherever they came from. Not within an event loop, as `bundling.check`.

    Raises:
        BundleError: there is no bundle in *folder*, or it cannot be read; two are of one run; or they are of runs none
            of which stands above all others.
        HistoryError, ConfigurationError: as `bundling.check`.
    """
    bundles = {path: check(path, public_key=public_key, codec=codec) for path in _bundles(folder)}
    if not all(each.report.ok for each in bundles.values()):
        return BundleTreeResult(bundles, [], [], [])
    paths = _by_run(bundles)

    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        if run_id not in paths:
            message = f"no bundle in {folder} is of run {run_id!r}"
            raise RunNotFoundError(message)
        with ZipFile(paths[run_id]) as archive:
            return await audit_lines(run_id, event_lines(archive), observer, codec)

    async def all_of(tops: Sequence[str]) -> list[AuditedRun]:
        return [each for top in tops async for each in audits(read, top, verify=True)]

    top, *detached = _tops(folder, paths, bundles)
    runs = asyncio.run(all_of([top, *detached]))
    reached = {each.run_id for each in runs}
    return BundleTreeResult(bundles, runs, [each for each in paths if each not in reached], detached)


def _bundles(folder: Path) -> list[Path]:
    try:
        found = sorted(each for each in folder.iterdir() if each.suffix == SUFFIX)
    except OSError as error:
        message = f"the folder {folder} cannot be read: {error.strerror}"
        raise BundleError(message) from None
    if not found:
        message = f"{folder} holds no bundle (*{SUFFIX})"
        raise BundleError(message)
    return found


def _by_run(bundles: Mapping[Path, BundleResult]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path, checked in bundles.items():
        # A bundle that passed its checks says what it is.
        run_id = checked.report.predicate.run_id if checked.report.predicate else ""
        if run_id in found:
            message = f"{found[run_id]} and {path} are both of run {run_id!r}: take one away"
            raise BundleError(message)
        found[run_id] = path
    return found


def _tops(folder: Path, paths: Mapping[str, Path], bundles: Mapping[Path, BundleResult]) -> list[str]:
    """The run that stands above all others, then those that hang together with it by a run that has no bundle here."""
    tops = [run_id for run_id, path in paths.items() if _above(path) not in paths]
    detached = [run_id for run_id in tops if _named_above(bundles[paths[run_id]]) & paths.keys()]
    outermost = [run_id for run_id in tops if run_id not in detached]
    if len(outermost) != 1:
        named = ", ".join(map(repr, outermost)) or "none"
        message = f"{folder} holds bundles of several trees of runs ({named} stand above others): check each by itself"
        raise BundleError(message)
    return outermost + detached


def _named_above(checked: BundleResult) -> set[str]:
    """The ids of all runs that a run says to be above it."""
    return set() if checked.audit is None else {each.run_id for each in checked.audit.run.parents}


def _above(path: Path) -> str:
    """The id of the run that began the run of a bundle, as the server wrote it; empty where none did."""
    with ZipFile(path) as archive:
        for line in event_lines(archive):
            first: dict[str, Any] = json.loads(line)
            if _STARTED in first:
                return str(first[_STARTED].get("parentWorkflowExecution", {}).get("workflowId", ""))
    return ""
