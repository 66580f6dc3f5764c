"""Audits a history without a server: from downloaded files, or from the lines of a bundle."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Final

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from assent.audit.auditor import Auditor
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.history.files import from_files, named_run
from assent.history.pages import MissingExecution, Page
from assent.history.payloads import decoded_events
from assent.wire.errors import BundleError

BATCH: Final = 500
"""Events of a bundle that are audited at once."""


async def audit_files(
    paths: Sequence[Path], run_id: str = "", *, observer: AuditObserver | None = None, codec: PayloadCodec | None = None
) -> Audit:
    """Return the audit of the run whose history *paths* hold, as `RunHandle.audit` does for a run on a server.

    *run_id* is the id that the run must have; only histories of old servers need it.

    Raises:
        HistoryError: as `from_files` and `named_run`.
    """
    auditor = Auditor(named_run(paths, run_id), observer)
    async for page in from_files(paths, codec):
        auditor.add(page)
    return auditor.audit()


async def audit_lines(
    run_id: str, lines: Iterable[bytes], observer: AuditObserver | None = None, codec: PayloadCodec | None = None
) -> Audit:
    """Return the audit of a run from the lines of a bundle's events.

    Raises:
        BundleError: an event cannot be read.
        HistoryError: the lines are not a history of a run of Assent, or the payload codec fails.
    """
    auditor = Auditor(run_id, observer)
    async for page in _pages(lines, codec):
        auditor.add(page)
    return auditor.audit()


async def _pages(lines: Iterable[bytes], codec: PayloadCodec | None) -> AsyncIterator[Page | MissingExecution]:
    current, batch = "", list[object]()
    for line in lines:
        read: object = json.loads(line)
        match read:
            case {"execution": str(execution_id)}:
                if batch:
                    yield await _page(current, batch, codec)
                current, batch = execution_id, []
            case {"missing": str(execution_id)}:
                if batch:
                    yield await _page(current, batch, codec)
                current, batch = "", []
                yield MissingExecution(execution_id)
            case _:
                batch.append(read)
                if len(batch) == BATCH:
                    yield await _page(current, batch, codec)
                    batch = []
    if batch:
        yield await _page(current, batch, codec)


async def _page(execution_id: str, batch: list[object], codec: PayloadCodec | None) -> Page:
    try:
        stored: list[HistoryEvent] = list(WorkflowHistory.from_json("", {"events": batch}).events)
    except Exception as error:  # An untrusted file may fail anywhere in the library
        raise BundleError(f"an event cannot be read: {type(error).__name__}") from None
    return Page(execution_id, await decoded_events(codec, stored), stored)
