"""`assent audit RUN --tree`: the audits of a run and of all runs below it, one after the other."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import typer

from assent.audit.approval import is_recorded
from assent.audit.audit_tree import AuditedRun, AuditReader, audits
from assent.audit.bundles import recorded
from assent.audit.csv_export import COLUMNS, rows
from assent.audit.observer import AuditObserver
from assent.audit.offline import audit_files
from assent.audit.records import Audit
from assent.cli import audit_output, exit_codes, verify_output
from assent.cli.common import complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import make_console
from assent.client.client import AgentClient
from assent.history.files import by_run
from assent.runtime.payload_codec import configured_codec
from assent.views.facts import path_text
from assent.wire.errors import RunNotFoundError
from assent.wire.text import one_line

Written = Literal["page", "json", "csv"]


def records_of_tree(
    context: typer.Context, run: str, files: Sequence[Path] | None, *, verify: bool, written: Written
) -> int:
    """Write the records of *run* and of the runs below it, from the server or from *files*.

    Raises:
        AssentError: as the audit of one run.
    """
    program = place_of(context).program

    async def work(read: AuditReader, run_id: str) -> int:
        return await _written(read, run_id, verify=verify, written=written, program=program)

    return with_histories(context, run, files, work)


def with_histories(
    context: typer.Context, run: str, files: Sequence[Path] | None, work: Callable[[AuditReader, str], Awaitable[int]]
) -> int:
    """Do *work* on the histories that *files* hold, else on the server's; it is given the id of the topmost run."""
    if files:
        top, found = by_run(files, run)
        return asyncio.run(_on_files(found, top, work))

    async def on_server(client: AgentClient) -> int:
        async def read(run_id: str, observer: AuditObserver | None) -> Audit:
            return await client.get_run(run_id).audit(observer)

        return await work(read, run)

    return with_client(place_of(context), on_server)


async def _on_files(
    found: Mapping[str, Sequence[Path]], run_id: str, work: Callable[[AuditReader, str], Awaitable[int]]
) -> int:
    return await work(_of_files(found), run_id)


def _of_files(found: Mapping[str, Sequence[Path]]) -> AuditReader:
    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        if run_id not in found:
            message = f"no file is of run {run_id!r}"
            raise RunNotFoundError(message)
        return await audit_files(found[run_id], run_id, observer=observer, codec=configured_codec())

    return read


async def _written(read: AuditReader, run_id: str, *, verify: bool, written: Written, program: str) -> int:
    code, document = exit_codes.DONE, list[dict[str, object]]()
    if written == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(COLUMNS)
    async for each in audits(read, run_id, verify=verify):
        match written:
            case "page":
                _print(each, program, first=each.run_id == run_id)
            case "csv":
                _write_rows(each)
            case "json":
                document.append(_document(each))
        code = max(code, _judged(each))
    if written == "json":
        emit({"record": "tree", "run_id": run_id, "runs": document})
    return code


def _print(each: AuditedRun, program: str, *, first: bool) -> None:
    console = make_console()
    if not first:
        console.print()
        console.rule(characters="-" if console.options.ascii_only else "─", style="dim")
    page = audit_output.Page(console, program=program)
    page.say("path", path_text(each.path), style="bold")
    if each.audit is None:
        page.say("MISSING", f"the history of run {one_line(each.run_id)} cannot be had", style="bold red")
        return
    audit_output.print_audit(console, each.audit, program)
    if each.verification is not None:
        verify_output.print_verification(console, each.verification, each.audit.run.executions, again=not first)


def _write_rows(each: AuditedRun) -> None:
    if each.audit is not None:
        _, *found = rows(record for record in each.audit if is_recorded(record))
        csv.writer(sys.stdout, lineterminator="\n").writerows(found)


def _document(each: AuditedRun) -> dict[str, object]:
    return {
        "run_id": each.run_id,
        "path": list(each.path),
        "missing": each.audit is None,
        "records": [] if each.audit is None else [one.model_dump(mode="json") for one in recorded(each.audit)],
        "verification": None if each.verification is None else each.verification.model_dump(mode="json"),
    }


def _judged(each: AuditedRun) -> int:
    """The exit code that one run makes, and on standard error what nobody may miss."""
    if each.audit is None:
        told = f"run {each.run_id!r} ({path_text(each.path)}) is missing"
        complain(f"INCOMPLETE: {told}: its history is gone, or in no file that was given")
        return exit_codes.DONE
    if each.audit.run.missing and each.verification is None:
        complain(f"INCOMPLETE: {len(each.audit.run.missing)} executions of run {each.run_id!r} are gone")
    return exit_codes.DONE if each.verification is None else verify_output.judged(each.verification)
