"""`assent audit export --tree` and `assent audit verify FOLDER`: the bundles of a run and of all runs below it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from assent.audit.bundle_trees import BundleTreeResult, RunExport, check_tree
from assent.cli import exit_codes, verify_output
from assent.cli.audit_output import Page
from assent.cli.common import complain, emit
from assent.cli.console import field, make_console
from assent.runtime.payload_codec import configured_codec
from assent.views.facts import path_text
from assent.wire.text import one_line


def told_of_export(folder: Path, runs: list[RunExport], keyid: str | None, *, as_json: bool) -> int:
    """Say what was written, and the exit code that it makes: the worst of the runs'."""
    if as_json:
        emit({"folder": str(folder), "keyid": keyid, "runs": [_exported(each) for each in runs]})
    else:
        console = make_console()
        field(console, "folder", one_line(str(folder)), style="bold")
        for each in runs:
            console.print()
            field(console, "path", path_text(each.path), style="bold")
            if each.exported is None or each.bundle is None:
                field(console, "MISSING", f"the history of run {one_line(each.run_id)} cannot be had")
                continue
            told = each.exported.predicate
            field(console, "bundle", each.bundle)
            executions = len(told.executions)
            of = f"{executions:,} execution{'s' * (executions != 1)}"
            field(console, "run", f"{one_line(each.run_id)}: {told.events:,} events of {of}")
            field(console, "chain head", told.chain_head)
        console.print()
        field(console, "signed", f"by the key {keyid}" if keyid else "no; to sign them, give --key PRIVATE.pem")
    code = exit_codes.DONE
    for each in runs:
        if each.exported is None:
            _missing(each.run_id, each.path)
        else:
            code = max(code, verify_output.judged(each.exported.verification))
    return code


def _exported(run: RunExport) -> dict[str, object]:
    told = run.exported.predicate.model_dump(mode="json", by_alias=True) if run.exported else None
    return {"run_id": run.run_id, "path": list(run.path), "bundle": run.bundle, "predicate": told}


def verify_folder(folder: Path, key: Path | None, *, as_json: bool) -> int:
    """Check all bundles of a folder, say what that came to, and give the exit code.

    Raises:
        BundleError, ConfigurationError, HistoryError: as `assent.audit.bundle_trees.check_tree`.
    """
    found = check_tree(folder, public_key=key, codec=configured_codec())
    if as_json:
        emit(_document(found))
    else:
        _print(make_console(), found)
    for path, checked in found.bundles.items():
        if not checked.report.ok:
            complain(f"{path}: NOT VERIFIED: it is not a bundle as it was exported")
    for run_id in found.strays:
        complain(f"run {run_id!r}: NOT VERIFIED: the run above never began it")
    for run_id in found.detached:
        complain(f"INCOMPLETE: the run above run {run_id!r} has no bundle here: what it tells is not compared")
    for each in found.runs:
        if each.verification is None:
            _missing(each.run_id, each.path)
        else:
            verify_output.judged(each.verification)
    return exit_codes.DONE if found.ok else exit_codes.NOT_TAKEN


def _missing(run_id: str, path: tuple[str, ...]) -> None:
    complain(f"INCOMPLETE: run {run_id!r} ({path_text(path)}) is missing: its history is gone, or in no bundle here")


def _print(console: Console, found: BundleTreeResult) -> None:
    for path, checked in found.bundles.items():
        page = Page(console)
        page.say("bundle", one_line(path.name), style="bold")
        verify_output.print_bundle(console, checked.report.checks)
        console.print()
    for each in found.runs:
        console.rule(characters="-" if console.options.ascii_only else "─", style="dim")
        page = Page(console)
        page.say("path", path_text(each.path), style="bold")
        if each.audit is None or each.verification is None:
            page.say("MISSING", f"no bundle is of run {one_line(each.run_id)}", style="bold red")
        else:
            page.say("run", one_line(each.run_id))
            verify_output.print_verification(
                console, each.verification, each.audit.run.executions, again=each is not found.runs[0]
            )


def _document(found: BundleTreeResult) -> dict[str, object]:
    bundles = [
        {
            "bundle": path.name,
            "run_id": checked.report.predicate.run_id if checked.report.predicate else None,
            "ok": checked.ok,
            "checks": [{"name": each.name, "ok": each.ok, "detail": each.detail} for each in checked.report.checks],
            "keyid": checked.report.keyid,
        }
        for path, checked in found.bundles.items()
    ]
    runs = [
        {
            "run_id": each.run_id,
            "path": list(each.path),
            "missing": each.audit is None,
            "verification": each.verification.model_dump(mode="json") if each.verification else None,
        }
        for each in found.runs
    ]
    return {"ok": found.ok, "bundles": bundles, "runs": runs, "strays": found.strays, "detached": found.detached}
