"""Reads histories from files that `temporal workflow show --output json` or the Temporal Web UI wrote.

A file holds one execution, at most 50 MiB by the server's limit; one file is in memory at a time. The files of a run
may come in any order.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from google.protobuf.json_format import ParseError
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadCodec

from assent.history import event_types
from assent.history.pages import MissingExecution, Page
from assent.history.payloads import decoded_events
from assent.history.resets import resets_of
from assent.runtime.files import open_regular
from assent.wire import protocol
from assent.wire.errors import HistoryError

FILE_LIMIT: Final = 1 << 30
"""Bytes of a file: a history has 50 MiB at most, and is some times as long as JSON."""
BATCH: Final = 500
"""Events of a page."""
_PLAIN_ENCODINGS: Final = ("json/", "binary/")
"""How the names of payload encodings begin, if they are not in base64."""
# Protobuf's reader passes on what Python raises for `1e999` as a number, or for half a surrogate pair in a name.
_UNREADABLE: Final = (
    *(ParseError, ValueError, TypeError, KeyError, AttributeError),
    *(OverflowError, SystemError, RecursionError),
)


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    run_id: str
    execution_id: str
    continued_from: str
    parent: str = ""


async def from_files(
    paths: Sequence[Path], codec: PayloadCodec | None = None
) -> AsyncIterator[Page | MissingExecution]:
    """Yield the history in *paths*, page by page, as `assent.history.pages.chain` does for a server.

    Raises:
        HistoryError: a file is not the history of a run, two files are of one execution, or they are of different runs.
            The message names the file.
    """
    for file in _in_order([_read_file(path) for path in paths]):
        if isinstance(file, MissingExecution):
            yield file
            continue
        events = _read_events(file.path)
        for start in range(0, len(events), BATCH):
            stored = _events(file.path, events[start : start + BATCH])
            yield Page(file.execution_id, await decoded_events(codec, stored), stored)


def named_run(paths: Sequence[Path], run_id: str = "") -> str:
    """Return the id of the run in *paths*, or *run_id* if an old server did not write it.

    Raises:
        HistoryError: as `from_files`.
    """
    for path in paths:
        file_run_id = _read_file(path).run_id
        if run_id and file_run_id and file_run_id != run_id:
            raise HistoryError(f"{path}: it is of run {file_run_id!r}, not {run_id!r}")
        run_id = run_id or file_run_id
    if not run_id:
        raise HistoryError(f"{', '.join(map(str, paths))}: the run id is missing; name the run")
    return run_id


def by_run(paths: Sequence[Path], run_id: str = "") -> tuple[str, dict[str, list[Path]]]:
    """Return the id of the root of a run tree, which *run_id* can name, and the files of each run by its id.

    Raises:
        HistoryError: as `from_files`; a file has no run id; there is not exactly one root.
    """
    files: dict[str, list[Path]] = {}
    parents: dict[str, str] = {}
    for file in map(_read_file, paths):
        if not file.run_id:
            raise HistoryError(f"{file.path}: the run id is missing")
        files.setdefault(file.run_id, []).append(file.path)
        parents[file.run_id] = file.parent
    roots = [run_id] if run_id else [each for each, parent in parents.items() if parent not in files]
    if len(roots) != 1 or roots[0] not in files:
        raise HistoryError(f"the files are of {', '.join(map(repr, files))}; name the RUN that is the root of the tree")
    return roots[0], files


def _read_file(path: Path) -> _File:
    events = _read_events(path)
    if not events:
        raise HistoryError(f"{path}: it has no events")
    if _is_human_readable(events[0]):
        raise HistoryError(f"{path}: it is the Web UI's download 'Human Readable', which lacks bytes; choose 'Encoded'")
    [first] = _events(path, events[:1])
    if first.event_type != event_types.STARTED or first.event_id != 1:
        message = f"{path}: it begins with event {first.event_id} instead of the start of a workflow: it is cut"
        raise HistoryError(message)
    begun = first.workflow_execution_started_event_attributes
    if begun.workflow_type.name != protocol.WORKFLOW:
        raise HistoryError(
            f"{path}: it is the history of a workflow of type {begun.workflow_type.name!r}, not of a run of Assent"
        )
    execution_id = begun.original_execution_run_id
    for each in events:
        if "workflowTaskFailedEventAttributes" in each:
            for reset in resets_of(_events(path, [each])):  # It made this execution, and names it here.
                execution_id = reset.execution_id or execution_id
    parent = begun.parent_workflow_execution.workflow_id
    return _File(path, begun.workflow_id, execution_id, begun.continued_execution_run_id, parent)


def _is_human_readable(event: Mapping[str, Any]) -> bool:
    """Return whether the payloads of an event are text instead of base64."""
    left: list[object] = [event]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += cast("list[object]", value)
        elif isinstance(value, dict):
            fields = cast("dict[str, object]", value)
            encoding = fields.get("encoding")
            if isinstance(encoding, str) and encoding.startswith(_PLAIN_ENCODINGS):
                return True
            left += fields.values()
    return False


def _read_events(path: Path) -> list[Mapping[str, Any]]:
    try:
        with open_regular(path, FILE_LIMIT) as file:
            data: object = json.load(file)
    except OSError as error:
        raise HistoryError(f"{path}: it cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{path}: it is not JSON: {error}") from None
    events: object = cast("dict[str, object]", data).get("events") if isinstance(data, dict) else data
    if not isinstance(events, list) or not all(isinstance(each, dict) for each in cast("list[object]", events)):
        message = f'{path}: it is not a history: {{"events": […]}}, as `temporal workflow show --output json` writes it'
        raise HistoryError(message)
    return cast("list[Mapping[str, Any]]", events)


def _events(path: Path, documents: Sequence[Mapping[str, Any]]) -> Sequence[HistoryEvent]:
    try:
        return WorkflowHistory.from_json("", {"events": list(documents)}).events
    except _UNREADABLE as error:
        message = f"{path}: an event cannot be read: {str(error).splitlines()[0] if str(error) else 'it has no type'}"
        raise HistoryError(message) from None


def _in_order(files: Sequence[_File]) -> list[_File | MissingExecution]:
    by_id = {file.execution_id: file for file in files}
    if len(by_id) < len(files):
        twice = next(file for file in files if by_id[file.execution_id] is not file)
        raise HistoryError(f"{twice.path} and {by_id[twice.execution_id].path} are of the same execution")
    other = next((file for file in files if file.run_id != files[0].run_id), None)
    if other is not None:
        raise HistoryError(f"{other.path} is of run {other.run_id!r}, and {files[0].path} of run {files[0].run_id!r}")
    heads = [file for file in files if file.continued_from not in by_id]
    if len(heads) != 1:
        named = ", ".join(str(file.path) for file in heads) or str(files[0].path)
        raise HistoryError(f"the files are not a whole run: the execution before {named} is missing")
    after = {file.continued_from: file for file in files}
    ordered: list[_File | MissingExecution] = (
        [MissingExecution(heads[0].continued_from)] if heads[0].continued_from else []
    )
    file: _File | None = heads[0]
    while file is not None and len(ordered) <= len(files):
        ordered.append(file)
        file = after.get(file.execution_id)
    return ordered
