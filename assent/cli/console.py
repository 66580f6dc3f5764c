"""Prints requirements and events in a terminal: fields, exact text, and commands to copy.

Text from a model, a tool or a sender goes through `assent.wire.text` and is never read as markup. A bar stands before
each of its lines, so that none can pass for a line of Assent's own. Text that does not fit is counted, never cut
silently.
"""

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
    format_json,
    revoke_command,
    show_command,
    talking_commands,
    watch_command,
)
from assent.views.facts import (
    Fact,
    approval_options,
    changes,
    edit_of,
    facts_of,
    grant_words,
    may_reject_further,
    read_as,
)
from assent.views.run_events import RunEvent, RunEventKind, event_text
from assent.wire.conversation import ToolCall
from assent.wire.duration import largest_unit
from assent.wire.limits import RESULT_SHOWN
from assent.wire.protocol import RequirementKind
from assent.wire.requirements import Grant, IgnoredMessage, Requirement, RunState, Vote
from assent.wire.text import UntrustedText, bounded, one_line, plain, visible

LABEL: Final = 11
"""Columns of a label."""
PIPE_WIDTH: Final = 100_000
"""Columns where the output is no terminal and `COLUMNS` is not set: long lines stay whole, for `grep`."""
NARROWEST: Final = 40
_STYLES: Final[dict[RunEventKind, str]] = {
    "waiting": "bold yellow", "decided": "bold", "not_counted": "yellow", "completed": "bold green",
    "idle": "green", "failed": "bold red", "cancelled": "bold red", "expired": "bold red", "lost": "bold red",
    "granted": "bold", "remembered": "bold", "revoked": "bold", "superseded": "bold", "escalated": "yellow",
    "reminded": "yellow", "handed_over": "bold", "reset": "bold yellow",
}  # fmt: skip
_WHOLE: Final[frozenset[RunEventKind]] = frozenset(
    {"decided", "not_counted", "remembered", "revoked", "expired", "escalated"}
)
"""Events that are never shortened: acts of people, and deadlines."""
_OPTIONS: Final = (
    "--arguments JSON, all of them, which replace these",
    "--remember-uses N, --remember-for 2h, to approve further calls too",
)
GROWING: Final = 8
"""Lines shown of an answer that the model is writing."""
BEFORE: Final = 10
"""Earlier calls shown with a pending one."""
BEFORE_SHOWN: Final = 500
"""Characters shown of each earlier call's arguments, and of its answer."""
_STATUS_STYLES: Final = {
    "waiting": "bold yellow", "pending": "bold yellow", "completed": "green", "approved": "green", "failed": "red",
    "rejected": "red", "cancelled": "red", "expired": "red",
}  # fmt: skip


def make_console() -> Console:
    """Return a console on standard output that reads no markup; off a terminal, without colours and line limit."""
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console


# -- text -------------------------------------------------------------------------------------------------------------


def shorten(text: str, width: int) -> str:
    """Shorten *text* to *width* columns, and append the number of hidden characters."""
    if cell_len(text) <= width:
        return text
    beginning = text
    while beginning:
        suffix = f"… (+{len(text) - len(beginning)})"
        over = cell_len(beginning) + len(suffix) - width
        if over <= 0 and beginning != text:
            return beginning + suffix
        beginning = beginning[: -max(1, over // 2)]
    return f"… (+{len(text)})"


def folded(text: str, width: int) -> list[str]:
    """Make *text* visible and fold it into lines of *width* columns, with nothing added and nothing left out."""
    lines: list[str] = []
    for line in visible(text).expandtabs(4).split("\n"):
        chunks = chop_cells(line, max(width, NARROWEST // 2))
        lines += chunks if "".join(chunks) == line and chunks else [line]
    return lines


def age(since: datetime, now: datetime | None = None) -> str:
    """Return how long ago *since* is, in its largest unit."""
    seconds = max(0, int(((now or datetime.now(UTC)) - since).total_seconds()))
    unit, size = largest_unit(seconds)
    return f"{seconds // size} {unit}"


def format_time(at: datetime) -> str:
    """Format a time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def format_name(text: str | None) -> str:
    """Format a name from outside in one bounded line."""
    return shorten(one_line(text), 60) if text else "(no name)"


# -- lines ------------------------------------------------------------------------------------------------------------


def field(console: Console, label: str, text: str | Text, *, style: str = "") -> None:
    """Print one line of Assent's own words. It is not folded, so that a command in it can be copied."""
    line = Text.assemble((f"{label:<{LABEL}}", "dim"), text if isinstance(text, Text) else (text, style))
    console.print(line, soft_wrap=True)


def quoted(console: Console, label: str, text: str) -> None:
    """Print text from outside, whole, with a bar before each line."""
    for line in _barred(console, text):
        console.print(Text.assemble((f"{label:<{LABEL}}", "dim"), line), soft_wrap=True)
        label = ""


def _barred(console: Console, text: str) -> Iterator[Text]:
    bar = "| " if console.options.ascii_only else "│ "
    for line in folded(text, console.width - LABEL - len(bar)):
        yield Text.assemble((bar, "dim"), line)


# -- requirements -----------------------------------------------------------------------------------------------------


def print_commands(console: Console, state: RunState, requirement: Requirement, program: str) -> None:
    """Print the commands that decide *requirement*, ready to copy."""
    for choice in choices(requirement.kind, requirement.fields):
        sign = requirement.proof is not None
        field(console, choice.label, assent_command(program, state.id, requirement.short_id, choice, sign=sign))
    for option in _OPTIONS[: len(approval_options(requirement, state.caller))]:
        field(console, "", f"approve also takes {option}")
    if may_reject_further(requirement, state.caller):
        field(console, "", "reject also takes --remember-uses N, --remember-for 2h, to reject further calls too")


def print_requirement(console: Console, state: RunState, requirement: Requirement, program: str | None) -> None:
    """Print one requirement in full: its arguments, approvers, decision and result.

    With *program*, also the commands that decide it.
    """
    standing = (_status_text(requirement), _STATUS_STYLES.get(requirement.status, ""))
    title = Text.assemble((one_line(requirement.tool), "bold"), f": {requirement.kind}, ", standing)
    field(console, requirement.short_id, title)
    if requirement.shortened:
        field(console, "arguments", "only in the history of an earlier execution; see: assent audit")
    else:
        quoted(console, "arguments", requirement.arguments)
    if requirement.status == "pending":
        print_facts(console, facts_of(requirement, state.requirements, state.requested_by))
        print_votes(console, requirement.votes)
        if program is not None:
            print_commands(console, state, requirement, program)
    else:
        _print_outcome(console, state, requirement)


def print_facts(console: Console, facts: Iterable[Fact]) -> None:
    """Print facts about a call, one line each. Long text from outside gets lines and a bar of its own."""
    for fact in facts:
        label, words = fact.label, fact.words
        if not fact.at_length:
            label, lead = (label, "") if len(label) < LABEL else ("", fact.lead)
            field(console, label, lead + plain(words))
        elif label == "edited":
            editor, _, *changed, _, before = [part.text if isinstance(part, UntrustedText) else part for part in words]
            field(console, label, f"by {format_name(editor)}")
            if changed:
                quoted(console, "changed", "".join(changed).removesuffix("; "))
            quoted(console, "before", before)
        else:
            quoted(console, label, "".join(part.text if isinstance(part, UntrustedText) else part for part in words))


def print_edit(console: Console, before: str, now: str) -> None:
    """Print an edit of arguments: each field that it changes, and both wholes."""
    for change in changes(before, now):
        quoted(console, "changed", plain(change).removesuffix("; "))
    quoted(console, "before", before)
    quoted(console, "now", now)


def _status_text(requirement: Requirement) -> str:
    if requirement.status == "pending":
        return f"waits for {age(requirement.created_at)}"
    by = f" by {format_name(requirement.resolved_by)}" if requirement.resolved_by else ""
    at = f" at {format_time(requirement.resolved_at)}" if requirement.resolved_at else ""
    granted = f", by grant {requirement.grant[:8]}: it did not wait" if requirement.grant else ""
    return f"{requirement.status}{by}{at}{granted}"


def _print_outcome(console: Console, state: RunState, requirement: Requirement) -> None:
    print_facts(console, read_as(requirement))
    if requirement.note:
        quoted(console, "note", requirement.note)
    edit = edit_of(requirement, state.requirements)
    if edit is not None:
        print_facts(console, [edit])
    print_votes(console, requirement.votes)
    print_given(console, requirement)
    if requirement.execution:
        field(console, "outcome", requirement.execution)
    if requirement.result is not None:
        quoted(console, "result", requirement.result)
        if len(requirement.result) >= RESULT_SHOWN:
            field(console, "", f"(the first {RESULT_SHOWN} characters; the history has all)")


def print_given(console: Console, requirement: Requirement | Approval) -> None:
    """Print the values or the evidence that a person gave with a decision."""
    if requirement.values is not None:
        quoted(console, "values", format_json(requirement.values, ", "))
    if requirement.evidence is not None:
        quoted(console, "evidence", format_json(requirement.evidence, ", "))


def print_votes(console: Console, votes: Sequence[Vote]) -> None:
    """Print each vote: the verdict, by whom, when, through which channel, and why."""
    for vote in votes:
        proof = f"; {vote.proof.verified.text}" if vote.proof else ""
        field(
            console,
            "vote",
            f"{vote.verdict} by {format_name(vote.by)} at {format_time(vote.at)} ({vote.channel}){proof}",
        )
        if vote.reason:
            quoted(console, "reason", vote.reason)


def print_grants(console: Console, state: RunState, program: str) -> None:
    """Print each remembered decision: the calls that it decides, and how to end it, or how it ended."""
    now = datetime.now(UTC)
    for grant in state.grants:
        field(console, grant.short_id, Text.assemble(("grant ", "bold"), plain(grant_words(grant))))
        if grant.reason:
            quoted(console, "reason", grant.reason)
        if grant.is_active(now) and not state.is_finished:
            field(console, "revoke", revoke_command(program, state.id, grant.short_id))
        else:
            field(console, "ended", _end_of(grant, now))


def _end_of(grant: Grant, at: datetime) -> str:
    if grant.revoked_at is not None:
        by = "" if grant.revoked_by is None else f"revoked by {format_name(grant.revoked_by)} "
        return f"{by}at {format_time(grant.revoked_at)}"
    if grant.uses is not None and grant.used >= grant.uses:
        return "all uses are spent"
    return "with its run" if grant.is_active(at) else "it has expired"


def print_past(console: Console, past: Sequence[tuple[ToolCall, str]], run_id: str, program: str) -> None:
    """Print the earlier calls of a run, newest last."""
    if len(past) > BEFORE:
        field(console, "before", f"{len(past) - BEFORE} earlier calls: {watch_command(program, run_id)}")
    for call, answer in past[-BEFORE:]:
        shown = f"{call.tool}({bounded(call.arguments, BEFORE_SHOWN)}) → {bounded(answer, BEFORE_SHOWN)}"
        quoted(console, "before", shown)


def print_words(console: Console, words: str) -> None:
    """Print the model's own words, marked as untrusted."""
    if words:
        field(console, "untrusted", "the model's own words:", style="yellow")
        quoted(console, "", words)


def print_ignored(console: Console, messages: Sequence[IgnoredMessage], dropped: int) -> None:
    """Print the messages that had no effect, oldest first."""
    for message in messages:
        by = f" by {format_name(message.by)}" if message.by else ""
        about = f" on {message.requirement_id[:8]}" if message.requirement_id else ""
        text = f"{message.status}: {format_name(message.name)}{about}{by} at {format_time(message.at)}"
        field(console, "ignored", text, style="yellow")
        quoted(console, "why", message.detail)
    if dropped:
        field(console, "ignored", f"{dropped} older messages; the history has them", style="yellow")


# -- events -----------------------------------------------------------------------------------------------------------


def print_event(console: Console, event: RunEvent, run_id: str, program: str | None, lead: Text | None = None) -> None:
    """Print one event in one line behind *lead*; with *program*, also the commands that decide a call.

    An answer, an error and the reason of a decision follow whole.
    """
    row, is_whole = event_row(console, event, lead)
    console.print(row, soft_wrap=True)
    if event.kind == "waiting" and program is not None:
        for term in event.terms:
            field(console, "", term)
        if not is_whole:
            field(console, "exactly", show_command(program, run_id))
        for choice in choices(cast("RequirementKind", event.text), event.fields):
            short_id = (event.requirement_id or "")[:8]
            field(console, choice.label, assent_command(program, run_id, short_id, choice))
    elif event.kind == "remembered" and program is not None and event.grant is not None:
        field(console, "revoke", revoke_command(program, run_id, event.grant[:8]))
    elif event.kind in {"completed", "failed", "idle"} and event.text:
        quoted(console, "error" if event.kind == "failed" else "answer", event.text)
    elif event.reason:
        quoted(console, "reason", event.reason)
    if event.kind == "idle" and program is not None:
        print_talking(console, run_id, program)


def print_talking(console: Console, run_id: str, program: str, by: str = "YOUR NAME") -> None:
    """Print the commands that continue and that end an idle conversation."""
    for name, command in talking_commands(program, run_id, by):
        field(console, name, command)


def event_row(
    console: Console, event: RunEvent, lead: Text | None = None, *, answer: bool = False
) -> tuple[Text, bool]:
    """Return one event as one line behind *lead*, and whether it is whole.

    With *answer*, the line includes the answer of a run, or the reason of a decision.
    """
    row = Text.assemble(lead or "", _event_head(event))
    more = event.text if event.kind in {"completed", "failed", "idle"} else event.reason
    whole = one_line(event_text(event) + (f": {more}" if answer and more else ""))
    room = max(console.width - cell_len(row.plain), NARROWEST // 2)
    shown = whole if event.kind in _WHOLE else shorten(whole, room)
    row.append(shown)
    return row, shown == whole


def live_lines(console: Console, event: RunEvent) -> Text:
    """Return the last lines of an answer that the model is writing; the caller draws the next version over it."""
    tool = f", calls {format_name(event.tool)}" if event.tool else ""
    lines = list(_barred(console, event.text)) if event.text else []
    shown = lines[-max(1, min(GROWING, console.height - 4)) :]
    head = Text.assemble(_event_head(event), f"turn {event.turn}{tool}")
    return Text("\n").join([head, *(Text.assemble(" " * LABEL, line) for line in shown)])


def _event_head(event: RunEvent) -> Text:
    label = f"{event.kind.replace('_', ' '):<15}"
    return Text.assemble((f"{event.at.astimezone(UTC):%H:%M:%SZ}  ", "dim"), (label, _STYLES.get(event.kind, "")))
