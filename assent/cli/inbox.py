"""The command `pending`: lists the pending calls of all runs, once or as they change."""

import asyncio
import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, get_args

import typer

from assent.audit.approval import Approval
from assent.cli import exit_codes, output
from assent.cli.common import AsJson, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.console import make_console, shorten
from assent.cli.parsing import seconds_of
from assent.client.client import AgentClient
from assent.client.filters import Filters, InboxChanges, Sort
from assent.client.paging import Page
from assent.wire.errors import MessageError, ServerUnreachableError
from assent.wire.protocol import RequirementKind
from assent.wire.text import one_line

INTERVAL: Final = 1.0
"""Seconds from one query to the next, or as long as the query takes."""
PAGE: Final = 100
"""Runs of a page where `--limit` is not given."""
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
        str | None, typer.Option(metavar="NAME", help="Only runs of this requester.")
    ] = None,
    kind: Annotated[RequirementKind | None, typer.Option(metavar="KIND", help=_KINDS)] = None,
    approver: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only calls that this person may decide, and has not approved.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Only calls that have waited at least this long: 30m, 2h, 7d.")
    ] = None,
    due_within: Annotated[
        str | None, typer.Option(metavar=_TIME, help="Only calls with a deadline within this time, or past.")
    ] = None,
    tree: Annotated[
        str | None, typer.Option(metavar="RUN", help="Only calls of this run or workflow, and of its child runs.")
    ] = None,
    sort: Annotated[Sort, typer.Option(help="Oldest first, or nearest deadline first.")] = "age",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="One page of N runs, newest runs first; --sort sorts within it.",
        ),
    ] = None,
    page_token: Annotated[
        str | None, typer.Option(metavar="TOKEN", help="The next page; the previous page prints its token.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep watching for changes.")] = False,
    as_json: AsJson = False,
) -> int:  # fmt: skip
    """List the calls of all runs that wait for a person. Needs no worker."""
    filters: Filters = {
        "agent": agent,
        "tool": tool,
        "requested_by": requested_by,
        "kind": kind,
        "approver": approver,
        "tree": tree,
        "older_than": _duration("--older-than", older_than),
        "due_within": _duration("--due-within", due_within),
    }
    place = connection_options(context)
    program = place.program
    if limit is None and page_token is None:
        show = _follow if follow else _list_all
        return with_client(place, lambda client: show(client, filters, sort, program, as_json=as_json))
    if follow:
        raise MessageError("--follow shows all pending calls; leave out --limit and --page-token")
    limit = limit or PAGE
    options = {
        "--agent": agent, "--tool": tool, "--requested-by": requested_by, "--kind": kind, "--approver": approver,
        "--older-than": older_than, "--due-within": due_within, "--tree": tree,
        "--sort": None if sort == "age" else sort,
    }  # fmt: skip
    typed = "".join(f"{name} {shlex.quote(value)} " for name, value in options.items() if value is not None)
    next_page = f"{program} pending {typed}--limit {limit} --page-token"

    async def page(client: AgentClient) -> int:
        page = await client.pending(sort=sort, limit=limit, page_token=page_token, **filters)
        if as_json:
            calls = [each.model_dump(mode="json") for each in page]
            document = {"calls": calls, "next_page_token": page.next_page_token, "total": page.total}
            emit({**document, "unreadable": page.unreadable})
        else:
            console = make_console()
            if page or page_token is None:
                output.print_pending(console, page, program)
            output.print_page(console, page, next_page)
        return _exit_code(page)

    return with_client(place, page)


async def _list_all(client: AgentClient, filters: Filters, sort: Sort, program: str, *, as_json: bool) -> int:
    approvals = await client.pending(sort=sort, **filters)
    if as_json:
        emit([each.model_dump(mode="json") for each in approvals])
    else:
        output.print_pending(make_console(), approvals, program)
    return _exit_code(approvals)


def _exit_code(page: Page[Approval]) -> int:
    """Name the runs that could not be read, and return the exit code."""
    if not page.unreadable:
        return exit_codes.DONE
    names = shorten(", ".join(map(one_line, page.unreadable)), NAMES)
    number = len(page.unreadable)
    warn(f"{number} run{'s' * (number != 1)} could not be read, and may wait: {names}")
    return exit_codes.NOT_FOUND


async def _follow(client: AgentClient, filters: Filters, sort: Sort, program: str, *, as_json: bool) -> int:
    changes, console, unreachable = InboxChanges(), make_console(), False
    if not as_json:
        approvals = await client.pending(sort=sort, **filters)
        changes.update(approvals)
        output.print_pending(console, approvals, program)
        console.print()
    while True:
        begun = time.monotonic()
        try:
            approvals = await client.pending(**filters)
        except ServerUnreachableError as error:
            if not unreachable:
                warn(f"{error}; still trying")
            unreachable = True
        else:
            unreachable = False
            for change, each in changes.update(approvals):
                at = datetime.now(UTC)
                if as_json:
                    emit({"change": change, "at": at.isoformat(), **each.model_dump(mode="json")})
                else:
                    output.print_change(console, change, at, each)
        await asyncio.sleep(max(INTERVAL, time.monotonic() - begun))


def _duration(option: str, text: str | None) -> timedelta | None:
    return None if text is None else timedelta(seconds=seconds_of(option, text))
