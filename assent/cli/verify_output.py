"""Prints verifications and bundles: the checks, their problems, and what no check can show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from assent.audit.bundle_checker import BundleReport
from assent.audit.bundle_trees import BundleTreeResult, RunExport
from assent.audit.bundles import BundleExport, BundleResult
from assent.audit.checks import Verification
from assent.cli import exit_codes
from assent.cli.audit_output import STYLES, Page, print_path, print_separator
from assent.cli.common import warn
from assent.cli.console import LABEL, field
from assent.views.facts import path_text
from assent.wire.text import one_line

_VERDICTS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("unchecked", "yellow")}


# -- one verification -------------------------------------------------------------------------------------------------


def print_verification(
    console: Console, verification: Verification, executions: Sequence[str], *, again: bool = False
) -> None:
    """Print each check with its problems, the chain head, and what no check can show unless printed *again*."""
    page = Page(console, executions)
    console.print()
    for check in verification.checks:
        known = check.verdict in {"ok", "unverified"}
        style = "bold red" if check.verdict == "failed" else STYLES.get(check.verdict, "")
        label = check.verdict if known else check.verdict.upper()
        page.say(label, f"{check.name}: {check.text} ({check.looked_at:,})", label_style=style)
        for problem in check.problems:
            events = f" ({page.cited(problem.events)})" if problem.events else ""
            page.quote("", f"{problem.text}{events}")
        if check.more:
            page.say("", f"and {check.more:,} more")
    page.say("chain head", verification.head, f"over {verification.events:,} events")
    for number, text in enumerate(() if again else verification.not_proven):
        page.say("" if number else "not proven", f"- {text}")
    verdict, style = verdict_of(verification)
    page.say("verdict", verdict, style=style)


def verdict_of(verification: Verification) -> tuple[str, str]:
    """Return the verdict over all checks in one line, and its style."""
    failed = [check.name for check in verification.checks if check.verdict in {"failed", "differs"}]
    gap = (
        ""
        if verification.complete
        else "INCOMPLETE: a part of the history is missing, so it is not known what happened there"
    )
    if not verification.ok:
        return f"NOT VERIFIED: {', '.join(failed)}{f'; {gap}' if gap else ''}", "bold red"
    if gap:
        return f"{gap}; the rest passes the checks", "bold red"
    passed = "every check passed, as far as a history can show"
    if _has_unverified_names(verification):
        proven = any(check.name == "proofs" and check.looked_at for check in verification.checks)
        names = "the names that no proof shows" if proven else "the names of who decided"
        return f"{passed}; UNVERIFIED: {names}, which are claims", "bold yellow"
    return passed, "bold green"


def _has_unverified_names(verification: Verification) -> bool:
    return any(check.name == "names" and check.verdict != "ok" for check in verification.checks)


def exit_code(verification: Verification, *, require_names: bool = False) -> int:
    """Return the exit code, and print to standard error what must not be missed.

    With *require_names*, names that no server authenticated fail.
    """
    nameless = require_names and _has_unverified_names(verification)
    if nameless or not (verification.ok and verification.complete):
        warn(f"run {verification.run_id!r}: {verdict_of(verification)[0]}")
    return exit_codes.DONE if verification.ok and not nameless else exit_codes.NO_EFFECT


def warn_missing(run_id: str, path: Sequence[str], where: str) -> None:
    """Print to standard error that a run of a tree has no history."""
    warn(f"INCOMPLETE: run {run_id!r} ({path_text(path)}) is missing: its history is gone, or {where}")


# -- exported bundles -------------------------------------------------------------------------------------------------


def print_export(console: Console, bundle: Path, run_id: str, exported: BundleExport, keyid: str | None) -> None:
    """Print what was written to a bundle."""
    field(console, "bundle", one_line(str(bundle)), style="bold")
    _print_predicate(console, run_id, exported)
    field(console, "signed", f"by the key {keyid}" if keyid else "no; to sign it, give --key PRIVATE.pem")


def _print_predicate(console: Console, run_id: str, exported: BundleExport) -> None:
    predicate = exported.predicate
    executions = len(predicate.executions)
    of = f"{executions:,} execution{'s' * (executions != 1)}"
    field(console, "run", f"{one_line(run_id)}: {predicate.events:,} events of {of}")
    field(console, "chain head", predicate.chain_head)


def print_tree_export(console: Console, folder: Path, runs: Sequence[RunExport], keyid: str | None) -> None:
    """Print what was written to a folder of bundles."""
    field(console, "folder", one_line(str(folder)), style="bold")
    for each in runs:
        console.print()
        field(console, "path", path_text(each.path), style="bold")
        if each.exported is None or each.bundle is None:
            field(console, "MISSING", f"the history of run {one_line(each.run_id)} is gone")
        else:
            field(console, "bundle", each.bundle)
            _print_predicate(console, each.run_id, each.exported)
    console.print()
    field(console, "signed", f"by the key {keyid}" if keyid else "no; to sign them, give --key PRIVATE.pem")


def export_document(folder: Path, runs: Sequence[RunExport], keyid: str | None) -> Mapping[str, object]:
    """Return the same as JSON."""
    documents = [
        {
            "run_id": each.run_id,
            "path": list(each.path),
            "bundle": each.bundle,
            "predicate": each.exported and each.exported.predicate.model_dump(mode="json", by_alias=True),
        }
        for each in runs
    ]
    return {"folder": str(folder), "keyid": keyid, "runs": documents}


def judge_export(run: RunExport) -> int:
    """Return the exit code of one run of a folder, and print to standard error what must not be missed."""
    if run.exported is not None:
        return exit_code(run.exported.verification)
    warn_missing(run.run_id, run.path, "in no bundle here")
    return exit_codes.DONE


# -- checked bundles --------------------------------------------------------------------------------------------------


def print_bundle(console: Console, result: BundleResult) -> None:
    """Print the checks of a bundle, and the verification of its records."""
    report = result.report
    _print_checks(console, report)
    if result.verification is not None and report.ok and report.predicate is not None:
        executions = [each.execution_id for each in report.predicate.executions if not each.missing]
        print_verification(console, result.verification, executions)


def _print_checks(console: Console, report: BundleReport) -> None:
    for check in report.checks:
        label, style = _VERDICTS[check.ok]
        text = one_line(f"{check.name}: {check.detail}")
        console.print(Text.assemble((f"{label:<{LABEL}}", style), text), soft_wrap=True)


def bundle_document(result: BundleResult) -> Mapping[str, object]:
    """Return the same as JSON."""
    report, verification = result.report, result.verification
    return {
        "ok": result.ok,
        "checks": list(map(asdict, report.checks)),
        "keyid": report.keyid,
        "predicate": report.predicate.model_dump(mode="json", by_alias=True) if report.predicate else None,
        "verification": verification.model_dump(mode="json") if verification else None,
    }


def judge_bundle(bundle: Path, result: BundleResult, *, require_names: bool = False) -> int:
    """Return the exit code, and print to standard error what must not be missed. *require_names*: as `exit_code`."""
    code = exit_codes.DONE if result.ok else exit_codes.NO_EFFECT
    if not result.report.ok:
        _warn_failed(bundle, result.report)
    elif result.verification is not None:
        return max(code, exit_code(result.verification, require_names=require_names))
    return code


def _warn_failed(bundle: Path, report: BundleReport) -> None:
    """Print to standard error which check of a bundle failed first. It need not be a change: a codec may be missing."""
    first = next(check for check in report.checks if check.ok is False)
    warn(f"{bundle}: NOT VERIFIED: {one_line(f'{first.name}: {first.detail}')}")


def print_tree(console: Console, result: BundleTreeResult) -> None:
    """Print the checks of each bundle of a folder, and the verification of each run."""
    for path, bundle in result.bundles.items():
        field(console, "bundle", one_line(path.name), style="bold")
        _print_checks(console, bundle.report)
        console.print()
    for each in result.runs:
        print_separator(console)
        print_path(console, each, "no bundle is of run")
        if each.audit is not None and each.verification is not None:
            field(console, "run", one_line(each.run_id))
            executions = each.audit.run.executions
            print_verification(console, each.verification, executions, again=each is not result.runs[0])


def tree_document(result: BundleTreeResult) -> Mapping[str, object]:
    """Return the same as JSON."""
    bundles = [
        {
            "bundle": path.name,
            "run_id": bundle.report.predicate.run_id if bundle.report.predicate else None,
            "ok": bundle.ok,
            "checks": list(map(asdict, bundle.report.checks)),
            "keyid": bundle.report.keyid,
        }
        for path, bundle in result.bundles.items()
    ]
    runs = [
        {
            "run_id": each.run_id,
            "path": list(each.path),
            "missing": each.audit is None,
            "verification": each.verification.model_dump(mode="json") if each.verification else None,
        }
        for each in result.runs
    ]
    return {"ok": result.ok, "bundles": bundles, "runs": runs, "strays": result.strays, "detached": result.detached}


def judge_tree(result: BundleTreeResult, *, require_names: bool = False) -> int:
    """Return the exit code, and print to standard error what must not be missed. *require_names*: as `exit_code`."""
    code = exit_codes.DONE if result.ok else exit_codes.NO_EFFECT
    for path, bundle in result.bundles.items():
        if not bundle.report.ok:
            _warn_failed(path, bundle.report)
    for run_id in result.strays:
        warn(f"run {run_id!r}: NOT VERIFIED: its parent run never started it")
    for run_id in result.detached:
        warn(f"INCOMPLETE: the parent run of {run_id!r} has no bundle here, so it is not compared")
    for each in result.runs:
        if each.verification is None:
            warn_missing(each.run_id, each.path, "in no bundle here")
        else:
            code = max(code, exit_code(each.verification, require_names=require_names))
    return code
