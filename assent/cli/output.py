"""Prints the inbox and single runs, and makes the same as JSON documents."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from pydantic import JsonValue
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assent.audit.approval import Approval
from assent.cli.console import (
    LABEL,
    age,
    field,
    format_name,
    format_time,
    print_facts,
    print_grants,
    print_ignored,
    print_past,
    print_requirement,
    print_talking,
    print_words,
    quoted,
    shorten,
)
from assent.client.filters import Change
from assent.client.paging import Page
from assent.client.progress import Progress, describe_progress
from assent.client.run_tree import RunTree
from assent.core.approvals import EFFECTS
from assent.core.run_state import Run
from assent.history.resets import Reset
from assent.views.commands import assent_command, choices, format_json, show_command
from assent.views.facts import (
    caller_words,
    context_of,
    format_duration,
    model_words,
    not_started,
    path_text,
    previous_calls,
)
from assent.wire.budget import Budget
from assent.wire.protocol import RequirementKind
from assent.wire.requirements import RunState
from assent.wire.text import one_line, plain

HEADINGS: Final = ("ID", "AGE", "RUN", "AGENT", "TOOL", "KIND", "REQUESTED BY")
UNTIL: Final = "UNTIL"
DECIDES: Final = "MAY DECIDE"
ARGUMENTS: Final = 24
"""Columns that the arguments must have in the table; if there are fewer, each call gets a few lines of its own."""
NAMES: Final = 24
"""Columns of the approvers' names in the table."""
_CHANGES: Final[dict[Change, str]] = {"opened": "bold yellow", "closed": "green"}
_HINTS: Final[tuple[tuple[str, frozenset[RequirementKind], str], ...]] = (
    ("approve", frozenset({"confirmation"}), "approve RUN ID --by YOUR_NAME"),
    ("result", frozenset({"external"}), "submit-result RUN ID --by YOUR_NAME --output JSON"),
    ("fill in", frozenset({"input"}), "submit-input RUN ID --by YOUR_NAME --values JSON"),
)


# -- the inbox --------------------------------------------------------------------------------------------------------


def print_pending(console: Console, approvals: Sequence[Approval], program: str) -> None:
    """Print the pending calls: as a table if it fits the console, otherwise in a few lines for each."""
    if not approvals:
        console.print("nothing waits")
        return
    terms = _terms(approvals)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in (*HEADINGS, *terms):
        table.add_column(heading, no_wrap=True, style="bold yellow" if heading == "ID" else "")
    rows = [[*_cells(each), *(cell for _, cell in _term_cells(each, terms))] for each in approvals]
    widths = [max(map(cell_len, column)) for column in zip((*HEADINGS, *terms), *rows, strict=True)]
    room = console.width - sum(widths) - 2 * len(widths)
    table.add_column("ARGUMENTS", no_wrap=True)
    for each, row in zip(approvals, rows, strict=True):
        table.add_row(*map(Text, row), Text(_arguments(each, room, program)))
    if room >= ARGUMENTS:
        console.print(table)
        console.print()
    else:
        for each in approvals:
            _print_card(console, each, program)
    kinds: set[RequirementKind] = {each.kind for each in approvals}
    for label, these, command in _HINTS:
        if kinds & these:
            field(console, label, f"{program} {command}")
    _print_verdicts(console, kinds, program)
    field(console, "details", f"{program} show RUN")


def _print_verdicts(console: Console, kinds: set[RequirementKind], program: str) -> None:
    """Print what each decision does, for the kinds where its name does not say it."""
    for kind in sorted(kinds):
        for choice in choices(kind):
            if choice.means:
                command = assent_command(program, "RUN", "ID", choice)
                field(console, choice.label, f"{command}  # of kind {kind}: {choice.means}")


def _terms(approvals: Sequence[Approval]) -> list[str]:
    """Return the columns that are not empty: the deadline, and the approvers."""
    due = any(each.expires_at is not None for each in approvals)
    limited = any(each.approvers is not None or each.approvers_left_out or each.needed > 1 for each in approvals)
    return [*([UNTIL] if due else []), *([DECIDES] if limited else [])]


def _term_cells(each: Approval, terms: Sequence[str]) -> Iterator[tuple[str, str]]:
    if UNTIL in terms:
        yield "until", "-" if each.expires_at is None else format_time(each.expires_at)
    if DECIDES in terms:
        names = "anyone" if each.approvers is None else ", ".join(map(one_line, each.approvers)) or "no one"
        if each.approvers_left_out:
            names = f"({each.approvers_left_out} people: show)"
        votes = f" ({len(each.approved_by)} of {each.needed})" if each.needed > 1 else ""
        yield "decides", shorten(names, NAMES) + votes


def print_page(console: Console, page: Page[Approval], command: str) -> None:
    """Print how much of the inbox a page was, and the *command* that shows the next."""
    of = "" if page.total is None else f" of {page.total:,}"
    runs = len({each.run_id for each in page})
    field(console, "shown", f"{runs:,}{of} runs with pending calls" if page else "no more runs with pending calls")
    if page.next_page_token is not None:
        field(console, "next page", f"{command} {page.next_page_token}")


def print_change(console: Console, change: Change, at: datetime, each: Approval) -> None:
    """Print in one line that a call began to wait, or stopped waiting."""
    _, _, run_id, agent, tool, kind, requester = _cells(each)
    row = Text.assemble((f"{at.astimezone(UTC):%H:%M:%SZ}  ", "dim"), (f"{change}  ", _CHANGES[change]))
    row.append(each.id[:8], style="bold").append(f"  {tool} in run {run_id}")
    if change == "opened":
        row.append(f": {kind}, {agent}, requested by {requester}, ")
        arguments = (
            f"({each.arguments_size} bytes)" if each.arguments is None else _arguments_text(each.arguments, each)
        )
        row.append(shorten(arguments, max(console.width - cell_len(row.plain), ARGUMENTS)))
        for signal, effect in EFFECTS.get(each.kind, {}).items():
            row.append(f"\n           {signal.replace('_', '-')}: {effect}", style="dim")
    console.print(row, soft_wrap=True)


def _cells(each: Approval) -> tuple[str, ...]:
    requester = format_name(each.requested_by) if each.requested_by else "-"
    asks = path_text(each.path) if each.caller is None else plain(caller_words(each.agent, each.caller))
    parts = (each.id[:8], age(each.created_at), each.run_id, asks, each.tool, each.kind, requester)
    return tuple(map(one_line, parts))


def _arguments(each: Approval, room: int, program: str) -> str:
    if each.arguments is None:
        return f"({each.arguments_size} bytes: {show_command(program, each.run_id)})"
    return shorten(_arguments_text(each.arguments, each), room)


def _arguments_text(arguments: str, each: Approval) -> str:
    """The arguments in one line, and what the tool gets where that is something else: first, as the rest may be cut."""
    in_effect = f"in effect {format_json(each.read_as, ', ')}, written " if each.read_as else ""
    return one_line(in_effect + arguments)


def _print_card(console: Console, each: Approval, program: str) -> None:
    short_id, since, run_id, agent, tool, kind, requester = _cells(each)
    title = Text.assemble((tool, "bold"), f": {kind}, for {since}; {agent}, requested by {requester}")
    field(console, short_id, title)
    field(console, "run", run_id)
    for label, text in _term_cells(each, _terms([each])):
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
    children: Sequence[RunTree] = (),
    resets: Sequence[Reset] = (),
) -> None:
    """Print one run in full, with the pending calls of its child runs, *children*, and the *resets* that it had.

    With *run*, also its earlier calls, and last the model's own words.
    """
    _print_head(console, state, progress)
    print_parents(console, state, program)
    for reset in resets:
        field(console, "reset", f"{format_time(reset.at)} {reset.text}", style="bold yellow")
    waits = not_started(run) if run is not None and progress else ()
    for text in (*(describe_progress(progress) if progress else ()), *waits):
        field(console, "now", text, style="yellow")
    if state.is_idle:
        print_talking(console, state.id, program)
    for requirement in state.requirements:
        console.print()
        print_requirement(console, state, requirement, program if not state.is_finished else None)
    print_children(console, children, program)
    if state.grants:
        console.print()
        print_grants(console, state, program)
    if state.ignored_messages or state.ignored_dropped:
        console.print()
        print_ignored(console, state.ignored_messages, state.ignored_dropped)
    if run is not None and state.active_requirements:
        console.print()
        print_past(console, previous_calls(run), state.id, program)
        print_words(console, model_words(run))
    answer = "answer" if state.caller is None else "decision"
    ending = [(label, text) for label, text in ((answer, state.content), ("error", state.error)) if text is not None]
    if ending:
        console.print()
    for label, text in ending:
        quoted(console, label, text)


def _print_head(console: Console, state: RunState, progress: Progress | None) -> None:
    field(console, "run", one_line(state.id), style="bold")
    field(console, "status", status(state))
    agent = state.agent or (progress.agent if progress else None)
    requester = state.requested_by or (progress.requested_by if progress else None)
    if state.caller is not None:
        field(console, "workflow", f"{format_name(state.agent)} {one_line(state.caller)}".rstrip())
    else:
        field(console, "agent", format_name(agent) if agent else "not known yet: no worker has begun the run")
    field(console, "requester", format_name(requester) if requester else "none named")
    if state.input:
        quoted(console, "prompt", state.input)
    print_facts(console, context_of(state.context))
    usage = state.usage
    counts = f"{state.turns} turn{'s' * (state.turns != 1)}, {usage.requests} request{'s' * (usage.requests != 1)}"
    failed = f" and {usage.failed} failed" if usage.failed else ""
    if state.caller is None:
        field(console, "usage", f"{counts}{failed}, {usage.input_tokens} tokens in, {usage.output_tokens} out")
    if state.budget is not None:
        field(console, "budget", _limits(state.budget))
    if state.requirements_dropped:
        field(console, "decided", f"{state.requirements_dropped:,} older calls, which the audit has")


def _limits(budget: Budget) -> str:
    limits = [
        f"time {format_duration(value)}"
        if name == "max_time"
        else f"{name.removeprefix('max_').replace('_', ' ')} {value:,.6f}".rstrip("0").rstrip(".")
        for name, value in budget.bounds.items()
    ]
    then = "asks for more" if budget.on_reached == "ask" else "ends"
    return f"{', '.join(limits)}; then the run {then}"


def status(state: RunState) -> str:
    """Return the status of a run, with what it waits for."""
    if state.is_idle:
        return "idle: waits for the next message"
    pending, children = len(state.active_requirements), len(state.children)
    if state.is_finished or not (pending or children):
        return state.status
    active = state.running - children
    parts = [
        *(["1 call waits for a person" if pending == 1 else f"{pending} calls wait for a person"] if pending else []),
        *([f"{children} child run{'s are' if children != 1 else ' is'} active"] if children else []),
        *([f"{active} other call{'s run' if active != 1 else ' runs'}"] if active > 0 else []),
    ]
    return f"{state.status}: {', '.join(parts)}"


def print_parents(console: Console, state: RunState, program: str) -> None:
    """Print the path to a child run, and its parent runs."""
    if state.parents:
        field(console, "path", path_text([*(each.agent for each in state.parents), state.agent]))
    for each in state.parents:
        call = f"{one_line(each.agent)} calls {one_line(each.tool)}"
        field(console, "parent run", f"{call}: {show_command(program, each.run_id)}")


def print_children(console: Console, children: Sequence[RunTree], program: str) -> None:
    """Print the pending calls of each child run, with the commands that decide them there."""
    for child in (each for tree in children for each in tree.runs()):
        console.print()
        field(console, "child run", Text.assemble((path_text(child.path), "bold"), f": {status(child.state)}"))
        field(console, "details", show_command(program, child.state.id))
        if child.error is not None:
            field(console, "unreadable", one_line(child.error), style="red")
        for requirement in child.state.active_requirements:
            print_requirement(console, child.state, requirement, program)


def state_document(
    state: RunState, progress: Progress | None, children: Sequence[RunTree] = (), resets: Sequence[Reset] = ()
) -> dict[str, JsonValue]:
    """Return one run as JSON: its state, under `progress` what holds it up until it ends, its child runs and resets."""
    return {
        **state.model_dump(mode="json"),
        "progress": None if progress is None else progress.model_dump(mode="json"),
        "child_runs": child_documents(children),
        "resets": [each.model_dump(mode="json") for each in resets],
    }


def child_documents(children: Sequence[RunTree]) -> list[JsonValue]:
    """Return the child runs as JSON: the pending calls of each, and its own child runs."""
    return [
        {
            "run_id": each.state.id,
            "agent": each.state.agent,
            "status": each.state.status,
            "unreadable": each.error,
            "requirements": [one.model_dump(mode="json") for one in each.state.active_requirements],
            "child_runs": child_documents(each.children),
        }
        for each in children
    ]
