"""What people see of runs in a terminal: fields, exact text, events, and the commands to copy.

Text that a model, a tool or a sender made goes through `assent.render`, is never read as markup, and is set apart by a
bar on every line, so that nothing in it can pass for a line of Assent's own. What does not fit is counted, not cut.

Pure but for the printing; not in workflow code.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from assent.approvals import RESULT_SHOWN
from assent.render import one_line, visible
from assent.requirements import Attempt, Requirement, RunState, Vote
from assent.watching import RESULT_SHOWN as EVENT_SHOWN
from assent.watching import RunEvent, RunEventKind

LABEL: Final = 11
"""Columns of a label."""
PIPE_WIDTH: Final = 100_000
"""Columns where the output is no terminal and `COLUMNS` is not set: one thing a line, for `grep`."""
NARROWEST: Final = 40
_STYLES: Final[dict[RunEventKind, str]] = {
    "waiting": "bold yellow", "decided": "bold", "not_counted": "yellow", "completed": "bold green",
    "failed": "bold red", "cancelled": "bold red",
}  # fmt: skip
_WHOLE: Final[frozenset[RunEventKind]] = frozenset({"decided", "not_counted"})
"""Events that are never shortened: what people did."""
_STATUS_STYLES: Final = {
    "waiting": "bold yellow", "pending": "bold yellow", "completed": "green", "approved": "green", "failed": "red",
    "rejected": "red", "cancelled": "red", "expired": "red",
}  # fmt: skip


def make_console() -> Console:
    """A console on standard output that reads no markup; without colours and without bounds where it is no terminal."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


# -- text -------------------------------------------------------------------------------------------------------------


def fit(text: str, width: int) -> str:
    """*text*, or as much of it as fits into *width* columns, with how many characters there are more."""
    if cell_len(text) <= width:
        return text
    kept = text
    while kept:
        suffix = f"… (+{len(text) - len(kept)})"
        over = cell_len(kept) + len(suffix) - width
        if over <= 0 and kept != text:
            return kept + suffix
        kept = kept[: -max(1, over // 2)]
    return f"… (+{len(text)})"


def folded(text: str, width: int) -> list[str]:
    """The lines of *text*, made visible and folded into *width* columns, with nothing added and nothing left out."""
    lines: list[str] = []
    for line in visible(text).expandtabs(4).split("\n"):
        chunks = chop_cells(line, max(width, NARROWEST // 2))
        lines += chunks if "".join(chunks) == line and chunks else [line]
    return lines


def age(since: datetime, now: datetime | None = None) -> str:
    """How long ago *since* is, in its largest unit."""
    seconds = max(0, int(((now or datetime.now(UTC)) - since).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def named(text: str | None) -> str:
    """A name that somebody gave, in one bounded line."""
    return fit(one_line(text), 60) if text else "nobody named"


# -- lines ------------------------------------------------------------------------------------------------------------


def field(console: Console, label: str, text: str | Text, *, style: str = "") -> None:
    """One line of Assent's own words. It is not folded, so that a command in it can be copied."""
    line = Text.assemble((f"{label:<{LABEL}}", "dim"), text if isinstance(text, Text) else (text, style))
    console.print(line, soft_wrap=True)


def quoted(console: Console, label: str, text: str) -> None:
    """Text of somebody else's making, whole, with a bar before each line."""
    bar = "| " if console.options.ascii_only else "│ "
    width = console.width - LABEL - len(bar)
    for number, line in enumerate(folded(text, width)):
        row = Text.assemble((f"{label if number == 0 else '':<{LABEL}}{bar}", "dim"), line)
        console.print(row, soft_wrap=True)


# -- what to type -----------------------------------------------------------------------------------------------------


def print_commands(console: Console, run_id: str, requirement: Requirement, program: str) -> None:
    """The commands that decide *requirement*, ready to copy."""
    for name, command in decision_commands(run_id, requirement.short_id, requirement.kind, program):
        field(console, name, command)


def decision_commands(run_id: str, short_id: str, kind: str, program: str) -> list[tuple[str, str]]:
    """The commands that decide a requirement of this kind, each with its name."""
    where = f"{one_line(shlex.quote(run_id))} {short_id} --by YOUR_NAME"
    reject = ("reject", f"{program} reject {where} --reason WHY")
    if kind == "external":
        return [("result", f"{program} submit-result {where} --output '\"THE RESULT\"'"), reject]
    if kind == "input":
        return [reject]
    return [("approve", f"{program} approve {where}"), reject]


# -- requirements -----------------------------------------------------------------------------------------------------


def print_requirement(console: Console, state: RunState, requirement: Requirement, program: str | None) -> None:
    """One requirement, whole: what exactly, who may decide, what was decided, what came of it.

    With *program*, also the commands that decide it.
    """
    standing = (_standing(requirement), _STATUS_STYLES.get(requirement.status, ""))
    title = Text.assemble((one_line(requirement.tool), "bold"), f": {requirement.kind}, ", standing)
    field(console, requirement.short_id, title)
    quoted(console, "arguments", requirement.arguments)
    if requirement.note:
        quoted(console, "note", requirement.note)
    if requirement.status == "pending":
        _print_terms(console, state, requirement)
        if program is not None:
            print_commands(console, state.id, requirement, program)
    else:
        _print_outcome(console, requirement)


def may_decide(requirement: Requirement, requested_by: str | None) -> str:
    """Who may decide, in words."""
    names = requirement.approvers
    who = "anyone" if names is None else "one of " + ", ".join(named(name) for name in names)
    if requirement.kind == "confirmation" and not requirement.self_approval:
        if requested_by is None:
            who += " (nobody is named as having asked)"
        else:
            who += f"; {named(requested_by)}, who asked, may only reject"
    return who


def _standing(requirement: Requirement) -> str:
    if requirement.status == "pending":
        return f"pending for {age(requirement.created_at)}"
    by = f" by {named(requirement.resolved_by)}" if requirement.resolved_by else ""
    at = f" at {moment(requirement.resolved_at)}" if requirement.resolved_at else ""
    return f"{requirement.status}{by}{at}"


def _print_terms(console: Console, state: RunState, requirement: Requirement) -> None:
    field(console, "decides", may_decide(requirement, state.requested_by))
    if requirement.needed > 1 or requirement.votes:
        field(console, "votes", f"{len(requirement.votes)} of {requirement.needed} people so far")
        _print_votes(console, requirement.votes)
    if requirement.expires_at:
        field(console, "until", f"{moment(requirement.expires_at)}; then silence is a rejection")


def _print_outcome(console: Console, requirement: Requirement) -> None:
    _print_votes(console, requirement.votes)
    if requirement.execution:
        field(console, "came to", requirement.execution)
    if requirement.result is not None:
        quoted(console, "result", requirement.result)
        if len(requirement.result) >= RESULT_SHOWN:
            field(console, "", f"(the first {RESULT_SHOWN} characters; the whole is in the history)")


def _print_votes(console: Console, votes: Sequence[Vote]) -> None:
    for vote in votes:
        field(console, "vote", f"{vote.verdict} by {named(vote.by)} at {moment(vote.at)} ({vote.channel})")
        if vote.reason:
            quoted(console, "reason", vote.reason)


def print_attempts(console: Console, attempts: Sequence[Attempt], dropped: int) -> None:
    """The messages that did not count, oldest first."""
    for attempt in attempts:
        by = f" by {named(attempt.by)}" if attempt.by else ""
        about = f" on {attempt.requirement_id[:8]}" if attempt.requirement_id else ""
        what = f"{attempt.status}: {named(attempt.name)}{about}{by} at {moment(attempt.at)}"
        field(console, "no effect", what, style="yellow")
        quoted(console, "why", attempt.detail)
    if dropped:
        field(console, "no effect", f"{dropped} older messages, which the history still has", style="yellow")


# -- events -----------------------------------------------------------------------------------------------------------


def print_event(console: Console, event: RunEvent, run_id: str, program: str | None) -> None:
    """One event, in one line; after the end the whole answer; with *program*, how to decide a call that waits."""
    label = event.kind.replace("_", " ")
    time = f"{event.at.astimezone(UTC):%H:%M:%SZ}  "
    row = Text.assemble((time, "dim"), (f"{label:<15}", _STYLES.get(event.kind, "")))
    whole = one_line(_meaning(event))
    room = max(console.width - cell_len(row.plain), NARROWEST // 2)
    shown = whole if event.kind in _WHOLE else fit(whole, room)
    row.append(shown)
    console.print(row, soft_wrap=True)
    if event.kind == "waiting" and program is not None:
        for name, command in _to_type(event, run_id, program, whole=shown == whole):
            field(console, name, command)
    elif event.kind in {"completed", "failed"} and event.text:
        quoted(console, "answer" if event.kind == "completed" else "error", event.text)


def _to_type(event: RunEvent, run_id: str, program: str, *, whole: bool) -> Iterator[tuple[str, str]]:
    if not whole:
        yield "exactly", f"{program} show {one_line(shlex.quote(run_id))}"
    yield from decision_commands(run_id, (event.requirement_id or "")[:8], event.text, program)


def _meaning(event: RunEvent) -> str:
    call = f"{event.requirement_id[:8]} {event.tool}" if event.requirement_id else f"{event.tool}"
    more = " …" if len(event.text) >= EVENT_SHOWN else ""
    meanings: dict[RunEventKind, str] = {
        "model_called": f"turn {event.turn}",
        "model_answered": event.text or "no words, only calls",
        "waiting": f"{call} ({event.text}) {event.arguments}",
        "tool_started": f"{call} {event.arguments}",
        "tool_finished": f"{call}: {event.text}{more}",
        "decided": f"{call}: {event.text}",
        "completed": f"after turn {event.turn}",
        "failed": f"in turn {event.turn}",
        "cancelled": f"in turn {event.turn}",
    }
    return meanings.get(event.kind, event.text)
