"""What the commands print: the inbox, one run; and the same as JSON documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assent.audit.approval import Approval
from assent.cli import tree_output
from assent.cli.console import (
    LABEL,
    age,
    field,
    fit,
    moment,
    named,
    print_attempts,
    print_grants,
    print_past,
    print_requirement,
    print_talking,
    print_words,
    quoted,
)
from assent.client.filters import Change
from assent.client.paging import Page
from assent.client.progress import Progress, describe_progress
from assent.client.run_tree import RunTree
from assent.core.state_machine import Run
from assent.views.facts import model_words, path_text, ran_before
from assent.wire.budget import Budget
from assent.wire.protocol import RequirementKind
from assent.wire.requirements import RunState
from assent.wire.text import one_line

HEADINGS: Final = ("ID", "AGE", "RUN", "AGENT", "TOOL", "KIND", "REQUESTED BY", "ARGUMENTS")
GAP: Final = 2
ARGUMENTS: Final = 24
"""Columns that arguments must at least have in the table; else each call gets a few lines of its own."""
_CHANGES: Final[dict[Change, str]] = {"opened": "bold yellow", "closed": "green"}
NAMES: Final = 24
"""Columns of the names of those who may decide, in the table."""
_HINTS: Final[tuple[tuple[str, frozenset[RequirementKind], str], ...]] = (
    ("approve", frozenset({"confirmation", "outcome", "budget"}), "approve RUN ID --by YOUR_NAME"),
    ("hand in", frozenset({"external", "outcome"}), "submit-result RUN ID --by YOUR_NAME --output JSON"),
    ("fill in", frozenset({"input"}), "submit-input RUN ID --by YOUR_NAME --values JSON"),
)


# -- the inbox --------------------------------------------------------------------------------------------------------


def print_pending(console: Console, waiting: Sequence[Approval], program: str) -> None:
    """Print what waits: a table where there is room for one, else a few lines for each."""
    if not waiting:
        console.print("nothing waits")
        return
    terms = _terms(waiting)
    rows = [[*_cells(each), *(cell for _, cell in _told(each, terms))] for each in waiting]
    headings = [*HEADINGS[:-1], *terms, HEADINGS[-1]]
    widths = [max(cell_len(row[column]) for row in [headings, *rows]) for column in range(len(headings) - 1)]
    room = console.width - sum(widths) - GAP * len(widths)
    if room >= ARGUMENTS:
        last = [_arguments(each, room, program) for each in waiting]
        _print_table(console, headings, rows, widths, last)
        console.print()
    else:
        for each in waiting:
            _print_card(console, each, program)
    kinds = {each.kind for each in waiting}
    for label, these, command in _HINTS:
        if kinds & these:
            field(console, label, f"{program} {command}")
    field(console, "see all", f"{program} show RUN")


UNTIL: Final = "UNTIL"
DECIDES: Final = "MAY DECIDE"


def _terms(waiting: Sequence[Approval]) -> list[str]:
    """The columns that are not empty: by when something must be decided, and by whom."""
    due = any(each.expires_at is not None for each in waiting)
    return [*([UNTIL] if due else []), *([DECIDES] if any(map(_is_bound, waiting)) else [])]


def _is_bound(each: Approval) -> bool:
    return each.approvers is not None or bool(each.approvers_left_out) or each.needed > 1


def _told(each: Approval, terms: Sequence[str]) -> Iterator[tuple[str, str]]:
    if UNTIL in terms:
        yield "until", "-" if each.expires_at is None else moment(each.expires_at)
    if DECIDES in terms:
        yield "decides", _who(each)


def _who(each: Approval) -> str:
    names = "anybody" if each.approvers is None else ", ".join(map(one_line, each.approvers)) or "nobody"
    if each.approvers_left_out:
        names = f"({each.approvers_left_out} people: show)"
    votes = f" ({len(each.approved_by)} of {each.needed})" if each.needed > 1 else ""
    return fit(names, NAMES) + votes


def print_page(console: Console, page: Page[Approval], command: str) -> None:
    """How much of the inbox a page was, and the *command* that shows the next."""
    of = "" if page.total is None else f" of {page.total:,}"
    runs = len({each.run_id for each in page})
    field(console, "shown", f"{runs:,}{of} runs that wait" if page else "no more runs that wait")
    if page.next_page_token is not None:
        field(console, "next page", f"{command} {page.next_page_token}")


def print_change(console: Console, change: Change, at: datetime, each: Approval) -> None:
    """One line: what is new, or has gone."""
    _, _, run_id, agent, tool, kind, requester = _cells(each)
    row = Text.assemble((f"{at.astimezone(UTC):%H:%M:%SZ}  ", "dim"), (f"{change}  ", _CHANGES[change]))
    row.append(each.id[:8], style="bold").append(f"  {tool} in run {run_id}")
    if change == "opened":
        row.append(f": {kind}, {agent}, requested by {requester}, ")
        given = f"({each.arguments_size} bytes)" if each.arguments is None else one_line(each.arguments)
        row.append(fit(given, max(console.width - cell_len(row.plain), ARGUMENTS)))
    console.print(row, soft_wrap=True)


def _cells(each: Approval) -> tuple[str, ...]:
    requester = named(each.requested_by) if each.requested_by else "-"
    parts = (each.id[:8], age(each.created_at), each.run_id, path_text(each.path), each.tool, each.kind, requester)
    return tuple(one_line(part) for part in parts)


def _arguments(each: Approval, room: int, program: str) -> str:
    if each.arguments is None:
        return f"({each.arguments_size} bytes: {program} show {one_line(each.run_id)})"
    return fit(one_line(each.arguments), room)


def _print_table(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    last: Sequence[str],
) -> None:
    for number, (row, text) in enumerate(zip([headings[:-1], *rows], [headings[-1], *last], strict=True)):
        cells = [cell + " " * (width - cell_len(cell) + GAP) for cell, width in zip(row, widths, strict=False)]
        line = Text("".join(cells) + text, style="" if number else "dim")
        if number:
            line.stylize("bold yellow", 0, len(row[0]))
        console.print(line, soft_wrap=True)


def _print_card(console: Console, each: Approval, program: str) -> None:
    _, since, run_id, agent, tool, kind, requester = _cells(each)
    field(
        console, each.id[:8], Text.assemble((tool, "bold"), f": {kind}, for {since}; {agent}, requested by {requester}")
    )
    field(console, "run", run_id)
    for label, text in _told(each, _terms([each])):
        field(console, label, text)
    field(console, "arguments", _arguments(each, console.width - LABEL, program))
    console.print()


# -- one run ----------------------------------------------------------------------------------------------------------


def print_state(
    console: Console,
    state: RunState,
    progress: Progress | None,
    program: str,
    run: Run | None = None,
    below: Sequence[RunTree] = (),
) -> None:
    """One run, whole, with what waits in those *below*.

    With *run*, also what ran before what waits, and last the model's own words.
    """
    _print_head(console, state, progress)
    tree_output.print_above(console, state, program)
    for text in describe_progress(progress) if progress else ():
        field(console, "now", text, style="yellow")
    if state.is_idle:
        print_talking(console, state.id, program)
    for requirement in state.requirements:
        console.print()
        print_requirement(console, state, requirement, program if not state.is_finished else None)
    tree_output.print_below(console, below, program)
    if state.grants:
        console.print()
        print_grants(console, state, program)
    if state.attempts or state.attempts_dropped:
        console.print()
        print_attempts(console, state.attempts, state.attempts_dropped)
    if run is not None and state.active_requirements:
        console.print()
        print_past(console, ran_before(run), state.id, program)
        print_words(console, model_words(run))
    if state.content is not None or state.error is not None:
        console.print()
    if state.content is not None:
        quoted(console, "answer", state.content)
    if state.error is not None:
        quoted(console, "error", state.error)


def _bounds(budget: Budget) -> str:
    bounds = [
        f"{name.removeprefix('max_').replace('_', ' ')} {value:,.6f}".rstrip("0").rstrip(".")
        for name, value in budget.bounds.items()
    ]
    then = "asks for more" if budget.on_reached == "ask" else "ends"
    return f"{', '.join(bounds)}; then the run {then}"


def state_document(state: RunState, progress: Progress | None, below: Sequence[RunTree] = ()) -> dict[str, JsonValue]:
    """One run as JSON: its state, under `progress` what holds it up while it has not ended, and the runs `below`."""
    held = None if progress is None else progress.model_dump(mode="json")
    return {**state.model_dump(mode="json"), "progress": held, "child_runs": tree_output.documents(below)}


def _print_head(console: Console, state: RunState, progress: Progress | None) -> None:
    field(console, "run", one_line(state.id) or "", style="bold")
    field(console, "status", tree_output.status(state))
    agent = state.agent or (progress.agent if progress else None)
    asker = state.requested_by or (progress.requested_by if progress else None)
    field(console, "agent", f"{named(agent) if agent else 'unknown'}, asked by {named(asker)}")
    if state.input:
        quoted(console, "prompt", state.input)
    usage = state.usage
    asked = f"{state.turns} turn{'s' * (state.turns != 1)}, {usage.requests} request{'s' * (usage.requests != 1)}"
    field(console, "usage", f"{asked}, {usage.input_tokens} tokens in, {usage.output_tokens} out")
    if state.budget is not None:
        field(console, "budget", _bounds(state.budget))
