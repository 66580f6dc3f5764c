"""Bundles of a run tree: writes a folder with a bundle of each run, and checks such a folder as one."""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

from temporalio.converter import PayloadCodec

from assent.audit.audit_tree import AuditedRun, AuditReader, audits, walk
from assent.audit.bundle_checker import event_lines
from assent.audit.bundles import BundleExport, BundleResult, check, export
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_lines
from assent.audit.records import Audit
from assent.audit.signing import Signer
from assent.wire.errors import BundleError, RunNotFoundError

SUFFIX: Final = ".zip"
_STARTED: Final = "workflowExecutionStartedEventAttributes"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST: Final = 100
"""Characters of a run id in the name of its bundle."""


# -- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunExport:
    """One run of a run tree, and its *bundle* in the folder; None if its history is gone.

    *path* names the agents from the root of the tree to this run.
    """

    run_id: str
    path: tuple[str, ...]
    bundle: str | None
    exported: BundleExport | None


async def export_tree(read: AuditReader, run_id: str, folder: Path, *, signer: Signer | None = None) -> list[RunExport]:
    """Write a bundle of each run of a run tree to the new folder *folder*: all of them, or none.

    Each run comes before its child runs, also in the order of the bundles' names.

    Raises:
        BundleError: *folder* exists, or cannot be written.
        AssentError: as *read*.
    """
    bundles: dict[str, tuple[str, BundleExport]] = {}
    with _new_folder(folder) as new_folder:

        async def export_one(run_id: str) -> Audit:
            name = f"{len(bundles) + 1:03d}-{_UNSAFE.sub('-', run_id)[:_LONGEST]}{SUFFIX}"
            audit, exported = await export(run_id, partial(read, run_id), new_folder / name, signer=signer)
            bundles[run_id] = name, exported
            return audit

        return [
            RunExport(own, path, *bundles.get(own, (None, None))) async for own, _, path, _ in walk(export_one, run_id)
        ]


@contextmanager
def _new_folder(folder: Path) -> Generator[Path]:
    """Make a temporary folder beside *folder*, and rename it to that if the block succeeds."""
    if folder.exists():
        raise BundleError(f"{folder} exists already: name another folder")
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".bundles."))
    except OSError as error:
        raise BundleError(f"the folder {folder} cannot be made: {error.strerror}") from None
    try:
        yield temporary
        try:
            os.rename(temporary, folder)  # noqa: PTH104 it never replaces a folder that is not empty
        except OSError as error:
            raise BundleError(f"the folder {folder} cannot be made: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -- checking ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BundleTreeResult:
    """The outcome of a check of a folder: each of the *bundles* and, if all are whole, each run beside its parent run.

    *strays* are runs that name a parent run of this folder which did not start them. *detached* are runs whose parent
    run has no bundle here; they and their child runs come last in *runs*.
    """

    bundles: dict[Path, BundleResult]
    runs: list[AuditedRun]
    strays: list[str]
    detached: list[str]

    @property
    def ok(self) -> bool:
        """True if each bundle is whole, no check of its audit failed, and parent and child runs agree."""
        whole = all(each.ok for each in self.bundles.values())
        return (
            whole and not self.strays and all(each.verification is None or each.verification.ok for each in self.runs)
        )

    @property
    def missing(self) -> list[str]:
        """The child runs that have no bundle here."""
        return [each.run_id for each in self.runs if each.audit is None]


def check_tree(folder: Path, *, public_key: Path | None = None, codec: PayloadCodec | None = None) -> BundleTreeResult:
    """Check all bundles of *folder* (`*.zip`) without a server, and compare parent and child runs.

    They must be of one run tree. Within an event loop, call it by `asyncio.to_thread`.

    Raises:
        BundleError: *folder* cannot be read or holds no bundle; two bundles are of one run, or they are of several run
            trees.
        HistoryError, ConfigurationError: as `assent.audit.bundles.check`.
    """
    bundles = {path: check(path, public_key=public_key, codec=codec) for path in _bundles(folder)}
    if not all(each.report.ok for each in bundles.values()):
        return BundleTreeResult(bundles, [], [], [])
    paths = _by_run(bundles)

    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        if run_id not in paths:
            raise RunNotFoundError(f"no bundle in {folder} is of run {run_id!r}")
        with ZipFile(paths[run_id]) as archive:
            return await audit_lines(run_id, event_lines(archive), observer, codec)

    async def all_of(tops: Sequence[str]) -> list[AuditedRun]:
        return [each for top in tops async for each in audits(read, top, verify=True)]

    top, *detached = _roots(folder, paths, bundles)
    runs = asyncio.run(all_of([top, *detached]))
    reached = {each.run_id for each in runs}
    return BundleTreeResult(bundles, runs, [each for each in paths if each not in reached], detached)


def _bundles(folder: Path) -> list[Path]:
    try:
        bundles = sorted(each for each in folder.iterdir() if each.suffix == SUFFIX)
    except OSError as error:
        raise BundleError(f"the folder {folder} cannot be read: {error.strerror}") from None
    if not bundles:
        raise BundleError(f"{folder} holds no bundle (*{SUFFIX})")
    return bundles


def _by_run(bundles: Mapping[Path, BundleResult]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path, checked in bundles.items():
        # A bundle that passed its checks has a predicate.
        run_id = checked.report.predicate.run_id if checked.report.predicate else ""
        if run_id in paths:
            raise BundleError(f"{paths[run_id]} and {path} are both of run {run_id!r}: remove one")
        paths[run_id] = path
    return paths


def _roots(folder: Path, paths: Mapping[str, Path], bundles: Mapping[Path, BundleResult]) -> list[str]:
    """Return the root of the run tree, then the runs of that tree whose parent run has no bundle here."""
    tops = [run_id for run_id, path in paths.items() if _parent(path) not in paths]
    detached = [run_id for run_id in tops if _claimed_parents(bundles[paths[run_id]]) & paths.keys()]
    roots = [run_id for run_id in tops if run_id not in detached]
    if len(roots) != 1:
        named = ", ".join(map(repr, roots)) or "none"
        raise BundleError(f"{folder} holds bundles of several run trees (roots: {named}): check each by itself")
    return roots + detached


def _claimed_parents(checked: BundleResult) -> set[str]:
    """Return the ids of the parent run and of its parents, as the run's request names them."""
    return set() if checked.audit is None else {each.run_id for each in checked.audit.run.parents}


def _parent(path: Path) -> str:
    """Return the id of the parent run that the server recorded in a bundle; empty if there is none."""
    with ZipFile(path) as archive:
        for line in event_lines(archive):
            first: dict[str, Any] = json.loads(line)
            if _STARTED in first:
                return str(first[_STARTED].get("parentWorkflowExecution", {}).get("workflowId", ""))
    return ""
