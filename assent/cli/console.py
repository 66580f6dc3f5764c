"""What people see of runs in a terminal: fields, exact text, events, and the commands to copy.

Text that a model, a tool or a sender made goes through `assent.wire.text`, is never read as markup, and is set
apart by a bar on every line, so that nothing in it can pass for a line of Assent's own. What does not fit is counted,
not cut.

Pure but for the printing; not in workflow code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.text import Text

from assent.audit.approval import Approval
from assent.views.commands import (
    assent_command,
    choices,
    revoke_command,
    show_command,
    talking_commands,
    typed,
    watch_command,
)
from assent.views.facts import Fact, edit_of, facts_of, grant_words, more_to_approve
from assent.views.run_events import RunEvent, RunEventKind
from assent.wire.conversation import ToolCall
from assent.wire.limits import EVENT_TEXT_SHOWN, RESULT_SHOWN
from assent.wire.protocol import InputField, RequirementKind
from assent.wire.requirements import Attempt, Grant, Requirement, RunState, Vote
from assent.wire.text import Said, bounded, one_line, plain, visible

LABEL: Final = 11
"""Columns of a label."""
PIPE_WIDTH: Final = 100_000
"""Columns where the output is no terminal and `COLUMNS` is not set: one thing a line, for `grep`."""
NARROWEST: Final = 40
_STYLES: Final[dict[RunEventKind, str]] = {
    "waiting": "bold yellow", "decided": "bold", "not_counted": "yellow", "completed": "bold green",
    "idle": "green", "failed": "bold red", "cancelled": "bold red", "expired": "bold red", "lost": "bold red",
    "granted": "bold", "remembered": "bold", "revoked": "bold", "superseded": "bold", "escalated": "yellow",
    "reminded": "yellow", "handed_over": "bold",
}  # fmt: skip
_WHOLE: Final[frozenset[RunEventKind]] = frozenset(
    {"decided", "not_counted", "remembered", "revoked", "expired", "escalated"}
)
"""Events that are never shortened: what people and time did."""
_OPTIONS: Final = (
    "--arguments JSON, all of them, which run instead",
    "--remember-uses N, --remember-for 2h: for further calls",
)
GROWING: Final = 8
"""Lines of an answer that are shown while it is written."""
BEFORE: Final = 10
BEFORE_SHOWN: Final = 500
"""Calls that ran before, and characters of each, that stand with what waits."""
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
    for name, command in decision_commands(run_id, requirement.short_id, requirement.kind, program, requirement.fields):
        field(console, name, command)
    for option in _OPTIONS[: len(more_to_approve(requirement))]:
        field(console, "", f"approve also takes {option}")


def decision_commands(
    run_id: str, short_id: str, kind: RequirementKind, program: str, fields: Sequence[InputField] = ()
) -> list[tuple[str, str]]:
    """The commands that decide a requirement of this kind, each with its name."""
    ways = choices(kind, fields)
    return [(way.label, assent_command(program, run_id, short_id, way)) for way in ways]


# -- requirements -----------------------------------------------------------------------------------------------------


def print_requirement(console: Console, state: RunState, requirement: Requirement, program: str | None) -> None:
    """One requirement, whole: what exactly, who may decide, what was decided, what came of it.

    With *program*, also the commands that decide it.
    """
    standing = (_standing(requirement), _STATUS_STYLES.get(requirement.status, ""))
    title = Text.assemble((one_line(requirement.tool), "bold"), f": {requirement.kind}, ", standing)
    field(console, requirement.short_id, title)
    quoted(console, "arguments", requirement.arguments)
    if requirement.status == "pending":
        print_facts(console, facts_of(requirement, state.requirements, state.requested_by))
        print_votes(console, requirement.votes)
        if program is not None:
            print_commands(console, state.id, requirement, program)
    else:
        _print_outcome(console, state, requirement)


def print_facts(console: Console, facts: Iterable[Fact]) -> None:
    """Facts about a call, one line each; what others wrote at length has lines and a bar of its own."""
    for fact in facts:
        label, words = fact.label, fact.words
        if not fact.at_length:
            label, lead = (label, "") if len(label) < LABEL else ("", fact.lead)
            field(console, label, lead + plain(words))
        elif label == "edited":
            editor, _, before, *_ = [part.text if isinstance(part, Said) else part for part in words]
            field(console, label, f"by {named(editor)}")
            quoted(console, "before", before)
        else:
            quoted(console, label, "".join(part.text if isinstance(part, Said) else part for part in words))


def _standing(requirement: Requirement) -> str:
    if requirement.status == "pending":
        return f"waits for {age(requirement.created_at)}"
    by = f" by {named(requirement.resolved_by)}" if requirement.resolved_by else ""
    at = f" at {moment(requirement.resolved_at)}" if requirement.resolved_at else ""
    granted = f", let through by grant {requirement.grant[:8]}: it did not wait" if requirement.grant else ""
    return f"{requirement.status}{by}{at}{granted}"


def _print_outcome(console: Console, state: RunState, requirement: Requirement) -> None:
    if requirement.note:
        quoted(console, "note", requirement.note)
    edit = edit_of(requirement, state.requirements)
    if edit is not None:
        print_facts(console, [edit])
    print_votes(console, requirement.votes)
    print_given(console, requirement)
    if requirement.execution:
        field(console, "came to", requirement.execution)
    if requirement.result is not None:
        quoted(console, "result", requirement.result)
        if len(requirement.result) >= RESULT_SHOWN:
            field(console, "", f"(the first {RESULT_SHOWN} characters; the whole is in the history)")


def print_given(console: Console, given: Requirement | Approval) -> None:
    """What a person filled in or handed in with a decision."""
    if given.values is not None:
        quoted(console, "values", typed(given.values, ", "))
    if given.evidence is not None:
        quoted(console, "evidence", typed(given.evidence, ", "))


def print_votes(console: Console, votes: Sequence[Vote]) -> None:
    """Who said what, when and by which way."""
    for vote in votes:
        field(console, "vote", f"{vote.verdict} by {named(vote.by)} at {moment(vote.at)} ({vote.channel})")
        if vote.reason:
            quoted(console, "reason", vote.reason)


def print_grants(console: Console, state: RunState, program: str, now: datetime | None = None) -> None:
    """The approvals that were remembered: what each lets through, and how to end it, or how it ended."""
    at = now or datetime.now(UTC)
    for grant in state.grants:
        active = grant.is_active(at) and not state.is_finished
        field(console, grant.short_id, Text.assemble(("grant ", "bold"), plain(grant_words(grant))))
        if grant.reason:
            quoted(console, "reason", grant.reason)
        if active:
            field(console, "revoke", revoke_command(program, state.id, grant.short_id))
        else:
            field(console, "ended", _end_of(grant, at))


def _end_of(grant: Grant, at: datetime) -> str:
    if grant.revoked_at is not None:
        by = "" if grant.revoked_by is None else f"revoked by {named(grant.revoked_by)} "
        return f"{by}at {moment(grant.revoked_at)}"
    if grant.uses is not None and grant.used >= grant.uses:
        return "all its uses were made"
    return "its time is over" if not grant.is_active(at) else "with its run"


def print_past(console: Console, past: Sequence[tuple[ToolCall, str]], run_id: str, program: str) -> None:
    """What ran before, the newest calls last."""
    if len(past) > BEFORE:
        field(console, "before", f"{len(past) - BEFORE} more calls, before these: {watch_command(program, run_id)}")
    for call, answer in past[-BEFORE:]:
        arguments, came = bounded(call.arguments, BEFORE_SHOWN), bounded(answer, BEFORE_SHOWN)
        quoted(console, "before", f"{call.tool}({arguments}) → {came}")


def print_words(console: Console, words: str) -> None:
    """The model's own words, as what they are."""
    if words:
        field(console, "untrusted", "what the model itself said:", style="yellow")
        quoted(console, "", words)


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


def print_event(console: Console, event: RunEvent, run_id: str, program: str | None, lead: Text | None = None) -> None:
    """One event, in one line, behind *lead*; after the end the whole answer; with *program*, how to decide a call."""
    row, is_whole = event_row(console, event, lead)
    console.print(row, soft_wrap=True)
    if event.kind == "waiting" and program is not None:
        for term in event.terms:
            field(console, "", term)
        for name, command in _to_type(event, run_id, program, whole=is_whole):
            field(console, name, command)
    elif event.kind == "remembered" and program is not None and event.grant is not None:
        field(console, "revoke", revoke_command(program, run_id, event.grant[:8]))
    elif event.kind in {"completed", "failed", "idle"} and event.text:
        quoted(console, "error" if event.kind == "failed" else "answer", event.text)
    if event.kind == "idle" and program is not None:
        print_talking(console, run_id, program)


def print_talking(console: Console, run_id: str, program: str, by: str = "YOUR NAME") -> None:
    """How to go on with an idle conversation, and how to end it."""
    for name, command in talking_commands(program, run_id, by):
        field(console, name, command)


def event_row(
    console: Console, event: RunEvent, lead: Text | None = None, *, answer: bool = False
) -> tuple[Text, bool]:
    """One event as one line, and whether it is whole; *lead* stands before it, and with *answer* an answer in it."""
    label = event.kind.replace("_", " ")
    time = f"{event.at.astimezone(UTC):%H:%M:%SZ}  "
    row = Text.assemble(lead or "", (time, "dim"), (f"{label:<15}", _STYLES.get(event.kind, "")))
    more = f": {event.text}" if answer and event.text and event.kind in {"completed", "failed", "idle"} else ""
    whole = one_line(_meaning(event) + more)
    room = max(console.width - cell_len(row.plain), NARROWEST // 2)
    shown = whole if event.kind in _WHOLE else fit(whole, room)
    row.append(shown)
    return row, shown == whole


def growing(console: Console, event: RunEvent) -> Text:
    """The end of an answer that is being written, to be drawn over again: as many lines as leave room for others."""
    time = f"{event.at.astimezone(UTC):%H:%M:%SZ}  "
    tool = f", calls {named(event.tool)}" if event.tool else ""
    head = Text.assemble((time, "dim"), f"{'model text':<15}", f"turn {event.turn}{tool}")
    bar = "| " if console.options.ascii_only else "│ "
    lines = folded(event.text, console.width - LABEL - len(bar)) if event.text else []
    shown = lines[-max(1, min(GROWING, console.height - 4)) :]
    rows = [Text.assemble((f"{'':<{LABEL}}{bar}", "dim"), line) for line in shown]
    return Text("\n").join([head, *rows])


def _to_type(event: RunEvent, run_id: str, program: str, *, whole: bool) -> Iterator[tuple[str, str]]:
    if not whole:
        yield "exactly", show_command(program, run_id)
    kind = cast("RequirementKind", event.text)
    yield from decision_commands(run_id, (event.requirement_id or "")[:8], kind, program, event.fields)


def _meaning(event: RunEvent) -> str:
    call = f"{event.requirement_id[:8]} {event.tool}" if event.requirement_id else f"{event.tool}"
    more = " …" if len(event.text) >= EVENT_TEXT_SHOWN else ""
    grant = f"grant {event.grant[:8]}" if event.grant else "a grant"
    meanings: dict[RunEventKind, str] = {
        "model_called": f"turn {event.turn}",
        "model_answered": event.text or "no words, only calls",
        "waiting": f"{call} ({event.text}) {event.arguments}",
        "granted": f"{call}, {event.text}: {event.arguments}",
        "remembered": f"{grant}: {event.text}",
        "revoked": f"{grant} of {event.tool}: {event.text}",
        "superseded": f"{call}, {event.text}: {event.arguments}",
        "tool_started": f"{call} {event.arguments}",
        "tool_finished": f"{call}: {event.text}{more}",
        "completed": f"after turn {event.turn}",
        "idle": f"after turn {event.turn}; waits for the next message",
        "agent_started": f"{call}: {event.text}",
        "agent_finished": f"{call}: {event.child.agent if event.child else ''}: {event.text}{more}",
        "failed": f"in turn {event.turn}",
        "cancelled": f"in turn {event.turn}",
    }
    meanings |= dict.fromkeys(("decided", "escalated", "reminded", "expired", "lost"), f"{call}: {event.text}")
    return meanings.get(event.kind, event.text)
