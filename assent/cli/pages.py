"""What the commands print: the inbox, one run, the records; and the same as JSON documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydantic import JsonValue
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from assent.approvals import RESULT_SHOWN
from assent.console import (
    LABEL,
    age,
    field,
    fit,
    moment,
    named,
    print_attempts,
    print_requirement,
    quoted,
)
from assent.progress import Progress, told
from assent.records import Approval, PendingRun
from assent.render import one_line
from assent.requirements import PendingRequirement, RunState

HEADINGS: Final = ("ID", "AGE", "RUN", "AGENT", "TOOL", "KIND", "ASKED BY", "ARGUMENTS")
GAP: Final = 2
ARGUMENTS: Final = 24
"""Columns that arguments must at least have in the table; else each call gets a few lines of its own."""


# -- the inbox --------------------------------------------------------------------------------------------------------


def print_pending(console: Console, runs: Sequence[PendingRun], program: str) -> None:
    """What waits, oldest first: a table where there is room for one, else a few lines for each."""
    waiting = [(run, each) for run in runs for each in run.requirements]
    if not waiting:
        console.print("nothing waits")
        return
    rows = [_cells(run, each) for run, each in waiting]
    widths = [max(cell_len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS) - 1)]
    room = console.width - sum(widths) - GAP * len(widths)
    if room >= ARGUMENTS:
        _print_table(console, rows, widths, [_arguments(run, each, room, program) for run, each in waiting])
        console.print()
    else:
        for run, each in waiting:
            _print_card(console, run, each, program)
    field(console, "approve", f"{program} approve RUN ID --by YOUR_NAME")
    if any(each.kind == "external" for _, each in waiting):
        field(console, "hand in", f"{program} submit-result RUN ID --by YOUR_NAME --output JSON")
    field(console, "see all", f"{program} show RUN")


def pending_document(runs: Sequence[PendingRun]) -> list[dict[str, JsonValue]]:
    """What waits, one object for each call."""
    return [
        {"run_id": run.run_id, "agent": run.agent, "requested_by": run.requested_by, **each.model_dump(mode="json")}
        for run in runs
        for each in run.requirements
    ]


def _cells(run: PendingRun, each: PendingRequirement) -> tuple[str, ...]:
    asker = named(run.requested_by) if run.requested_by else "-"
    parts = (each.id[:8], age(each.created_at), run.run_id, run.agent, each.tool, each.kind, asker)
    return tuple(one_line(part) for part in parts)


def _arguments(run: PendingRun, each: PendingRequirement, room: int, program: str) -> str:
    if each.arguments is None:
        return f"({each.arguments_size} bytes: {program} show {one_line(run.run_id)})"
    return fit(one_line(each.arguments), room)


def _print_table(console: Console, rows: Sequence[Sequence[str]], widths: Sequence[int], last: Sequence[str]) -> None:
    for number, (row, text) in enumerate(zip([HEADINGS[:-1], *rows], [HEADINGS[-1], *last], strict=True)):
        cells = [cell + " " * (width - cell_len(cell) + GAP) for cell, width in zip(row, widths, strict=False)]
        line = Text("".join(cells) + text, style="" if number else "dim")
        if number:
            line.stylize("bold yellow", 0, len(row[0]))
        console.print(line, soft_wrap=True)


def _print_card(console: Console, run: PendingRun, each: PendingRequirement, program: str) -> None:
    _, since, run_id, agent, tool, kind, asker = _cells(run, each)
    field(console, each.id[:8], Text.assemble((tool, "bold"), f": {kind}, for {since}; {agent}, asked by {asker}"))
    field(console, "run", run_id)
    field(console, "arguments", _arguments(run, each, console.width - LABEL, program))
    console.print()


# -- one run ----------------------------------------------------------------------------------------------------------


def print_state(console: Console, state: RunState, progress: Progress | None, program: str) -> None:
    """One run, whole."""
    _print_head(console, state, progress)
    for text in told(progress) if progress else ():
        field(console, "now", text, style="yellow")
    for requirement in state.requirements:
        console.print()
        print_requirement(console, state, requirement, program if not state.is_finished else None)
    if state.attempts or state.attempts_dropped:
        console.print()
        print_attempts(console, state.attempts, state.attempts_dropped)
    if state.content is not None or state.error is not None:
        console.print()
    if state.content is not None:
        quoted(console, "answer", state.content)
    if state.error is not None:
        quoted(console, "error", state.error)


def state_document(state: RunState, progress: Progress | None) -> dict[str, JsonValue]:
    """One run as JSON: its state, and under `progress` what holds it up while it has not ended."""
    held = None if progress is None else progress.model_dump(mode="json")
    return {**state.model_dump(mode="json"), "progress": held}


def _print_head(console: Console, state: RunState, progress: Progress | None) -> None:
    field(console, "run", one_line(state.id) or "", style="bold")
    field(console, "status", _status(state))
    agent = state.agent or (progress.agent if progress else None)
    asker = state.requested_by or (progress.requested_by if progress else None)
    field(console, "agent", f"{named(agent) if agent else 'unknown'}, asked by {named(asker)}")
    if state.input:
        quoted(console, "prompt", state.input)
    usage = state.usage
    asked = f"{state.turns} turn{'s' * (state.turns != 1)}, {usage.requests} request{'s' * (usage.requests != 1)}"
    field(console, "usage", f"{asked}, {usage.input_tokens} tokens in, {usage.output_tokens} out")


def _status(state: RunState) -> str:
    waiting = len(state.active_requirements)
    if state.is_finished or not waiting:
        return state.status
    calls = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
    more = f", {state.running} under way" if state.running else ""
    return f"{state.status}: {calls} for a person{more}"


# -- the records ------------------------------------------------------------------------------------------------------


def print_records(console: Console, run_id: str, records: Sequence[Approval]) -> None:
    """The records of a run, oldest first."""
    if not records:
        console.print(f"run {one_line(run_id)} has no records: no call in it was decided or waits")
    for number, record in enumerate(records):
        if number:
            console.print()
        _print_record(console, record)


def _print_record(console: Console, record: Approval) -> None:
    field(console, record.short_id, f"{one_line(record.tool_name)}: {record.kind}, {record.status}", style="bold")
    for label, text in _facts(record):
        field(console, label, text)
    if record.arguments is not None:
        quoted(console, "arguments", record.arguments)
    for vote in record.votes:
        field(console, "vote", f"{vote.verdict} by {named(vote.by)} at {moment(vote.at)} by {vote.channel}")
        if vote.reason:
            quoted(console, "reason", vote.reason)
    if record.result is not None:
        quoted(console, record.execution or "result", record.result)
        if len(record.result) >= RESULT_SHOWN:
            field(console, "", f"(the first {RESULT_SHOWN} characters; the whole is in the history)")
    print_attempts(console, record.attempts, 0)


def _facts(record: Approval) -> Iterator[tuple[str, str]]:
    yield "id", record.id
    plain = "a call made elsewhere" if record.kind == "external" else "a plain confirmation"
    yield "type", record.approval_type or f"none: {plain}"
    yield "asked", f"{moment(record.created_at)} by {named(record.agent)} in turn {record.context.turn}"
    yield "run", f"{one_line(record.run_id)}, asked for by {named(record.requested_by)}"
    if record.resolved_at is not None:
        by = f" by {named(record.resolved_by)}" if record.resolved_by else ""
        handed_in = record.kind == "external" and record.execution is not None
        yield "resolved", f"{'result handed in' if handed_in else record.status}{by} at {moment(record.resolved_at)}"
    if record.execution is not None and record.result is None:
        yield "came to", record.execution
