"""The command `stats`: shows how people decide, in numbers."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from assent.audit.decision_statistics import RUBBER_STAMP, DeciderStatistics, Statistics, ToolStatistics
from assent.cli import exit_codes
from assent.cli.common import AsJson, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.console import PIPE_WIDTH, field, format_time, make_console, shorten
from assent.cli.parsing import seconds_of
from assent.client.client import AgentClient
from assent.wire.duration import largest_unit
from assent.wire.errors import MessageError
from assent.wire.text import one_line

NAME: Final = 24
"""Columns of the name of a tool or a person."""
ALL: Final = "all"
LIMIT: Final = 2_000
"""Runs whose histories are read where `--limit` is not given."""
_NONE: Final = "-"
_UNDER: Final = f"<{RUBBER_STAMP:g} s"


def stats(
    context: typer.Context,
    *,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only calls that began to wait since: 7d, 12h, or 2026-11-01T00:00Z."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Show the N people with the most decisions.")] = 10,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Read N runs, running ones first, then the newest.")
    ] = LIMIT,
    as_json: AsJson = False,
) -> int:
    """Show how people decide, by tool and by person: how many, how fast, how many too fast to have read the call."""
    begin = None if since is None else _parse_time("--since", since)

    async def work(client: AgentClient) -> int:
        figures = await client.statistics(agent=agent, tool=tool, since=begin, limit=limit)
        if as_json:
            emit(figures.model_copy(update={"deciders": figures.deciders[:top]}).model_dump(mode="json"))
        else:
            print_statistics(make_console(), figures, top)
        if figures.unreadable:
            warn(f"{figures.unreadable} runs could not be read, and are not counted")
        return exit_codes.NOT_FOUND if figures.unreadable else exit_codes.DONE

    return with_client(connection_options(context), work)


def print_statistics(console: Console, figures: Statistics, top: int) -> None:
    """Print a table with a row for each tool and for all, and one with a row for each person."""
    since = f" since {format_time(figures.since)}" if figures.since else ""
    total = figures.total
    field(console, "runs", f"{figures.runs:,} with {total.asked:,} call{'s' * (total.asked != 1)} to decide{since}")
    if figures.left_out:
        field(console, "left out", f"{figures.left_out:,} more runs; read more with --limit", style="yellow")
    if not figures.tools:
        return
    tools = [*figures.tools.items(), *([(ALL, total)] if len(figures.tools) > 1 else [])]
    _print(console, [_of_tool(name, each) for name, each in tools])
    if figures.deciders:
        _print(console, list(map(_of_person, figures.deciders[:top])))
        if len(figures.deciders) > top:
            field(console, "", f"{len(figures.deciders) - top} more people: --top {len(figures.deciders)}")


def _of_tool(name: str, each: ToolStatistics) -> dict[str, str]:
    return {
        "TOOL": name,
        "ASKED": _count(each.asked),
        "WAIT": _count(each.pending),
        "YES": _count(each.approved),
        "NO": _count(each.rejected),
        "EXPIRED": _count(each.expired),
        "GONE": _count(each.cancelled + each.superseded),
        "RATE": _NONE if each.approval_rate is None else f"{each.approval_rate:.0%}",
        "MEDIAN": _length(each.median_seconds),
        "P90": _length(each.p90_seconds),
        _UNDER: _stamps(each.rubber_stamps, each.decisions),
        "GRANTED": _count(each.granted),
        "NO EFFECT": _count(each.not_counted),
    }


def _of_person(each: DeciderStatistics) -> dict[str, str]:
    return {
        "PERSON": each.name,
        "DECIDED": _count(each.decisions),
        "YES": _count(each.approved),
        "NO": _count(each.rejected),
        "RESULTS": _count(each.submitted),
        "MEDIAN": _length(each.median_seconds),
        _UNDER: _stamps(each.rubber_stamps, each.decisions),
        "NO EFFECT": _count(each.not_counted),
    }


def _stamps(stamps: int, decisions: int) -> str:
    return f"{stamps:,} ({stamps / decisions:.0%})" if stamps else _NONE


def _count(number: int) -> str:
    return f"{number:,}" if number else _NONE


def _length(seconds: float | None) -> str:
    if seconds is None:
        return _NONE
    unit, size = largest_unit(seconds)
    return f"{seconds / size:.1f} {unit}"


def _print(console: Console, rows: Sequence[Mapping[str, str]]) -> None:
    """Print the columns that have values: in one table, or in several where the console is narrow."""
    first, *others = rows[0]
    columns = [each for each in others if any(row[each] != _NONE for row in rows)]
    while columns:
        number = len(columns)
        while number > 1 and _width(console, _table(rows, [first, *columns[:number]])) > console.width:
            number -= 1
        console.print()
        console.print(_table(rows, [first, *columns[:number]]))
        columns = columns[number:]


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update_width(PIPE_WIDTH)).maximum


def _table(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(columns):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(shorten(one_line(row[each]), NAME)) for each in columns))
    return table


def _parse_time(option: str, text: str) -> datetime:
    """Read a time, in UTC without an offset, or a duration before now."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is not None:
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds_of(option, text))
    except (MessageError, OverflowError):
        raise MessageError(f"{option} {text!r} is not a time; give e.g. 12h or 7d, or 2026-11-01T00:00Z") from None
