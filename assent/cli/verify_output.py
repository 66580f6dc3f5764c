"""What `assent audit --verify` prints: the checks, what they found, and what no check can show."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from assent.audit.bundle_checker import BundleCheck
from assent.audit.checks import Check, Verification
from assent.cli import exit_codes
from assent.cli.audit_output import STYLES, Page
from assent.cli.common import complain
from assent.cli.console import LABEL
from assent.wire.text import one_line


def print_verification(
    console: Console, found: Verification, executions: Sequence[str], *, again: bool = False
) -> None:
    """Each check, what it found, the head of the chain, and what no check can show, if that was not said before."""
    page = Page(console, executions)
    console.print()
    for check in found.checks:
        _print_check(page, check)
    page.say("chain head", found.head, f"over {found.events:,} events")
    for number, words in enumerate(() if again else found.not_proven):
        page.prose("not proven" if not number else "", f"- {words}")
    verdict, style = verdict_of(found)
    page.prose("verdict", verdict, style=style)


def verdict_of(found: Verification) -> tuple[str, str]:
    """What all checks came to, in one line, and how it is printed."""
    failed = [check.name for check in found.checks if check.verdict in {"failed", "differs"}]
    lack = "" if found.complete else "INCOMPLETE: a part of the history is missing, so what happened there is not known"
    if not found.ok:
        return f"NOT VERIFIED: {', '.join(failed)}{f'; {lack}' if lack else ''}", "bold red"
    if lack:
        return f"{lack}; what is left passes the checks", "bold red"
    return "every check passed, as far as a history can show", "bold green"


def _print_check(page: Page, check: Check) -> None:
    said = check.verdict if check.verdict in {"ok", "unverified"} else check.verdict.upper()
    style = STYLES.get(check.verdict, "") if check.verdict != "failed" else "bold red"
    page.prose(said, f"{check.name}: {check.text} ({check.looked_at:,})", label_style=style)
    for problem in check.problems:
        events = f" ({page.cited(problem.events)})" if problem.events else ""
        page.quote("", f"{problem.text}{events}")
    if check.more:
        page.say("", f"and {check.more:,} more")


def print_bundle(console: Console, checks: Sequence[BundleCheck]) -> None:
    """The checks of a bundle, one line each."""
    words = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("unchecked", "yellow")}
    for check in checks:
        said, style = words[check.ok]
        console.print(
            Text.assemble((f"{said:<{LABEL}}", style), one_line(f"{check.name}: {check.detail}")), soft_wrap=True
        )


def judged(verification: Verification) -> int:
    """The exit code, and on standard error what nobody may miss."""
    if not (verification.ok and verification.complete):
        complain(f"run {verification.run_id!r}: {verdict_of(verification)[0]}")
    return exit_codes.DONE if verification.ok else exit_codes.NOT_TAKEN
