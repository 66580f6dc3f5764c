"""`assent pending`: what waits for a person, over all runs, once or as it changes."""

from __future__ import annotations

import asyncio
import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, get_args

import typer

from assent.audit.approval import Approval
from assent.cli import exit_codes, output
from assent.cli.common import AsJson, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import fit, make_console
from assent.cli.parsing import seconds_of
from assent.client.client import AgentClient
from assent.client.filters import Changes, Filters, Sort
from assent.client.paging import Page
from assent.wire.errors import MessageError, ServerUnreachableError
from assent.wire.protocol import RequirementKind
from assent.wire.text import one_line

INTERVAL: Final = 1.0
"""Seconds between two looks; longer where a look itself takes longer."""
PAGE: Final = 100
NAMES: Final = 500
"""Columns of the ids of runs that could not be read."""
_TIME: Final = "TIME"
_KINDS: Final = f"Only calls of this kind: {', '.join(get_args(RequirementKind))}."


def pending(
    context: typer.Context,
    *,
    agent: Annotated[str | None, typer.Option(help="Only runs of this agent.")] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    requested_by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only runs that this person requested.")
    ] = None,
    kind: Annotated[RequirementKind | None, typer.Option(metavar="KIND", help=_KINDS)] = None,
    approver: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this person may decide, and has not approved yet.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Only what has waited so long: 30m, 2h, 7d.")
    ] = None,
    due_within: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Only what has a deadline so near, or past.")
    ] = None,
    tree: Annotated[
        str | None, typer.Option(metavar="RUN", help="Only what waits in this run, and in the runs below it.")
    ] = None,
    sort: Annotated[Sort, typer.Option(help="Oldest first, or soonest deadline first.")] = "age",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="One page of so many runs: newest runs first, sorted within the page. "
            "Without it all is read, and sorted as a whole.",
        ),
    ] = None,
    page_token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The next page; the page before says which.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on to show what is new and what has gone.")] = False,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """What waits for a person, over all runs. Works with every worker stopped."""
    filters: Filters = {"agent": agent, "tool": tool, "requested_by": requested_by, "kind": kind, "approver": approver}
    filters["tree"] = tree
    filters["older_than"] = _length("--older-than", older_than)
    filters["due_within"] = _length("--due-within", due_within)
    paged = limit is not None or page_token is not None
    if follow and paged:
        message = "--follow shows all that waits: it goes without --limit and --page-token"
        raise MessageError(message)
    place = place_of(context)
    if paged:
        options = {
            "--agent": agent, "--tool": tool, "--requested-by": requested_by, "--kind": kind, "--approver": approver,
            "--older-than": older_than, "--due-within": due_within, "--tree": tree,
            "--sort": None if sort == "age" else sort,
        }  # fmt: skip
        command = f"{place.program} pending {_typed(options)}--limit {limit or PAGE} --page-token"
        return with_client(
            place,
            lambda client: _page(
                client, filters, sort, limit or PAGE, page_token, command, place.program, as_json=as_json
            ),
        )
    if follow:
        return with_client(place, lambda client: _follow(client, filters, sort, place.program, as_json=as_json))
    return with_client(place, lambda client: _all(client, filters, sort, place.program, as_json=as_json))


async def _all(client: AgentClient, filters: Filters, sort: Sort, program: str, *, as_json: bool) -> int:
    waiting = await client.pending(sort=sort, **filters)
    if as_json:
        emit([each.model_dump(mode="json") for each in waiting])
    else:
        output.print_pending(make_console(), waiting, program)
    return _end_of(waiting)


async def _page(
    client: AgentClient,
    filters: Filters,
    sort: Sort,
    limit: int,
    token: str | None,
    command: str,
    program: str,
    *,
    as_json: bool,
) -> int:
    page = await client.pending(sort=sort, limit=limit, page_token=token, **filters)
    if as_json:
        calls = [each.model_dump(mode="json") for each in page]
        emit(
            {
                "calls": calls,
                "next_page_token": page.next_page_token,
                "total": page.total,
                "unreadable": page.unreadable,
            }
        )
    else:
        console = make_console()
        if page or token is None:
            output.print_pending(console, page, program)
        output.print_page(console, page, command)
    return _end_of(page)


def _end_of(page: Page[Approval]) -> int:
    """Name the runs that could not be read, and return the exit code."""
    if not page.unreadable:
        return exit_codes.DONE
    names = fit(", ".join(map(one_line, page.unreadable)), NAMES)
    number = len(page.unreadable)
    complain(f"{number} run{'s' * (number != 1)} could not be read, and may wait: {names}")
    return exit_codes.NOT_FOUND


async def _follow(client: AgentClient, filters: Filters, sort: Sort, program: str, *, as_json: bool) -> int:
    changes, console, told = Changes(), make_console(), False
    if not as_json:
        waiting = await client.pending(sort=sort, **filters)
        changes.seen(waiting)
        output.print_pending(console, waiting, program)
        console.print()
    while True:
        begun = time.monotonic()
        try:
            waiting, told = await client.pending(**filters), False
        except ServerUnreachableError as error:
            if not told:
                complain(f"{error}; still trying")
            told = True
        else:
            for change, each in changes.seen(waiting):
                at = datetime.now(UTC)
                if as_json:
                    emit({"change": change, "at": at.isoformat(), **each.model_dump(mode="json")})
                else:
                    output.print_change(console, change, at, each)
        await asyncio.sleep(max(INTERVAL, time.monotonic() - begun))


def _length(option: str, text: str | None) -> timedelta | None:
    return None if text is None else timedelta(seconds=seconds_of(option, text))


def _typed(options: dict[str, str | None]) -> str:
    return "".join(f"{name} {shlex.quote(value)} " for name, value in options.items() if value is not None)
