"""`assent stats`: how people decide, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assent.audit.decision_statistics import RUBBER_STAMP, Decider, Figures, Statistics
from assent.cli import exit_codes
from assent.cli.common import AsJson, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import PIPE_WIDTH, field, fit, make_console, moment
from assent.cli.parsing import seconds_of
from assent.client.client import AgentClient
from assent.wire.errors import MessageError
from assent.wire.text import one_line

NAME: Final = 24
"""Columns of a tool's or a person's name."""
ALL: Final = "all"
_NONE: Final = "-"
_UNDER: Final = f"<{RUBBER_STAMP:g} s"


def stats(
    context: typer.Context,
    *,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only what was asked since: 7d, 12h, or 2026-11-01T00:00Z.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="So many people, those who decided most.")] = 10,
    as_json: AsJson = False,
) -> int:
    """How people decide: by tool and by person, how much, how fast, and how often too fast to have read it."""
    begin = None if since is None else _moment("--since", since)

    async def work(client: AgentClient) -> int:
        found = await client.statistics(agent=agent, tool=tool, since=begin)
        if as_json:
            emit(found.model_copy(update={"deciders": found.deciders[:top]}).model_dump(mode="json"))
        else:
            print_statistics(make_console(), found, top)
        if found.unreadable:
            complain(f"{found.unreadable} runs could not be read, and are not counted")
        return exit_codes.NOT_FOUND if found.unreadable else exit_codes.DONE

    return with_client(place_of(context), work)


def print_statistics(console: Console, found: Statistics, top: int) -> None:
    """The tables: a row for each tool and for all, and a row for each person."""
    since = f", asked since {moment(found.since)}" if found.since else ""
    total = found.total
    field(console, "runs", f"{found.runs:,} with {total.asked:,} call{'s' * (total.asked != 1)} to decide{since}")
    if not found.tools:
        return
    rows = [*found.tools.items(), *([(ALL, total)] if len(found.tools) > 1 else [])]
    _print(console, _BY_TOOL, [_cells(name, each) for name, each in rows])
    if found.deciders:
        _print(console, _BY_PERSON, [_person(each) for each in found.deciders[:top]])
        if len(found.deciders) > top:
            field(console, "", f"{len(found.deciders) - top} more people: --top {len(found.deciders)}")


_BY_TOOL: Final = (
    "TOOL", "ASKED", "WAIT", "YES", "NO", "EXPIRED", "GONE", "RATE", "MEDIAN", "P90", _UNDER, "GRANTED", "NO EFFECT",
)  # fmt: skip
_BY_PERSON: Final = ("PERSON", "DECIDED", "YES", "NO", "RESULTS", "MEDIAN", _UNDER, "NO EFFECT")


def _cells(name: str, each: Figures) -> list[str]:
    gone = each.cancelled + each.superseded
    counts = (each.asked, each.pending, each.approved, each.rejected, each.expired, gone)
    return [
        name,
        *map(_count, counts),
        _NONE if each.approval_rate is None else f"{each.approval_rate:.0%}",
        _length(each.median_seconds),
        _length(each.p90_seconds),
        _stamps(each.rubber_stamps, each.decisions),
        _count(each.granted),
        _count(each.not_counted),
    ]


def _person(each: Decider) -> list[str]:
    counts = (each.decisions, each.approved, each.rejected, each.submitted)
    stamps = _stamps(each.rubber_stamps, each.decisions)
    return [each.name, *map(_count, counts), _length(each.median_seconds), stamps, _count(each.not_counted)]


def _stamps(stamps: int, decisions: int) -> str:
    return f"{stamps:,} ({stamps / decisions:.0%})" if stamps else _NONE


def _count(number: int) -> str:
    return f"{number:,}" if number else _NONE


def _length(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _print(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The columns that say anything, in one table, or in several below each other where the terminal is narrow."""
    left = [column for column in range(1, len(headings)) if any(row[column] != _NONE for row in rows)]
    while left:
        tables = [_table(headings, rows, left[:number]) for number in range(len(left), 0, -1)]
        fits = (number for number, table in enumerate(tables) if _width(console, table) <= console.width)
        number = next(fits, len(tables) - 1)
        console.print()
        console.print(tables[number])
        left = left[len(tables) - number :]


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update_width(PIPE_WIDTH)).maximum


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in (0, *columns):
        table.add_column(headings[column], justify="right" if column else "left", no_wrap=True)
    for row in rows:
        table.add_row(Text(fit(one_line(row[0]), NAME)), *(Text(row[column]) for column in columns))
    return table


def _moment(option: str, text: str) -> datetime:
    """The time that is meant by a length of time before now, or by itself; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is not None:
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds_of(option, text))
    except (MessageError, OverflowError):
        message = f"{option} {text!r} is no time; give e.g. 12h or 7d, or 2026-11-01T00:00Z"
        raise MessageError(message) from None
