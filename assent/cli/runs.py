"""`assent start`, `show`, `watch`, `audit`, `cancel` and `setup`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from assent import protocol
from assent.cli import exits, pages
from assent.cli.context import AsJson, RunId, complain, emit, place_of, with_client
from assent.client import AgentClient
from assent.console import field, make_console
from assent.decisions import fold
from assent.errors import RunNotFoundError
from assent.handle import RunHandle
from assent.policy import PermissionPolicy
from assent.progress import progress_of
from assent.records import is_recorded
from assent.render import one_line
from assent.requirements import RunState
from assent.terminal import can_ask, follow

_ATTRIBUTES: Final = (
    protocol.ATTRIBUTE_AGENT,
    protocol.ATTRIBUTE_STATUS,
    protocol.ATTRIBUTE_PENDING,
    protocol.ATTRIBUTE_WAITING_ON,
    protocol.ATTRIBUTE_REQUESTED_BY,
)


def start(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What it is to do.", show_default=False)],
    *,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, and may not approve then.")] = None,
    run_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="The run's id; once for each id.")] = None,
    max_turns: Annotated[int | None, typer.Option(metavar="N", min=1, help="At most so many turns.")] = None,
    max_tool_calls: Annotated[int | None, typer.Option(metavar="N", min=0, help="At most so many tool calls.")] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="FILE.toml", help="Rules besides the agent's own; the stricter hold.")
    ] = None,
    follow_it: Annotated[bool, typer.Option("--follow", help="Watch it to its end.")] = False,
    approver: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --follow, at a terminal: who is asked about what waits.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Start a run of an agent. With an id that a run has already, nothing is started and that run is meant.

    --max-turns, --max-tool-calls and --policy can only tighten what the agent has of its own.
    """
    place = place_of(context)
    rules = None if policy is None else PermissionPolicy.from_file(policy)

    async def work(client: AgentClient) -> int:
        known = run_id is not None and await _exists(client.run(run_id))
        run = await client.start(
            agent,
            prompt,
            requested_by=by,
            id=run_id,
            max_turns=max_turns,
            max_tool_calls=max_tool_calls,
            policy=rules,
        )
        if as_json:
            emit({"run_id": run.id, "started": not known})
        else:
            console = make_console()
            field(console, "run", run.id, style="bold")
            if known:
                field(console, "", "a run of this id was there already; nothing was started", style="yellow")
        return await _watch(run, place.program, as_json=as_json, approver=approver) if follow_it else exits.DONE

    return with_client(place, work)


def show(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Everything about one run: what waits, what was decided, what did not count. Needs no worker."""
    place = place_of(context)

    async def work(client: AgentClient) -> int:
        handle = client.run(run)
        state = await handle.state()
        progress = None if state.is_finished else await progress_of(handle)
        if as_json:
            emit(pages.state_document(state, progress))
        else:
            pages.print_state(make_console(), state, progress, place.program, await fold(handle))
        return exits.DONE

    return with_client(place, work)


def watch(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """What happens in a run, from its beginning to its end, as it happens."""
    place = place_of(context)

    async def work(client: AgentClient) -> int:
        return await _watch(client.run(run), place.program, as_json=as_json)

    return with_client(place, work)


def audit(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """The records of a run's approvals, from its history alone. With --json, one record a line."""

    async def work(client: AgentClient) -> int:
        records = [record for record in await client.audit(run) if is_recorded(record)]
        if as_json:
            for record in records:
                emit(record.model_dump(mode="json"))
        else:
            pages.print_records(make_console(), run, records)
        return exits.DONE

    return with_client(place_of(context), work)


def cancel(context: typer.Context, run: RunId, *, as_json: AsJson = False) -> int:
    """Cancel a run: what waits is cancelled, and nothing starts after."""

    async def work(client: AgentClient) -> int:
        handle = client.run(run)
        state = await handle.state()
        if state.is_finished:  # the server takes a cancellation of a run that has ended, and does nothing
            complain(f"run {run!r} has ended already: {state.status}; there is nothing to cancel")
            return exits.NOT_TAKEN
        await handle.cancel()
        if as_json:
            emit({"run_id": run, "status": "requested"})
        else:
            field(make_console(), "requested", "its worker cancels it, as soon as one runs")
        return exits.DONE

    return with_client(place_of(context), work)


def setup(context: typer.Context, *, as_json: AsJson = False) -> int:
    """Register the search attributes that the inbox uses. Once for each namespace; again does no harm."""

    async def work(client: AgentClient) -> int:
        added = await client.setup()
        there = [name for name in _ATTRIBUTES if name not in added]
        if as_json:
            emit({"added": added, "present": there})
        else:
            console = make_console()
            field(console, "added", ", ".join(added) or "none")
            field(console, "there", ", ".join(there) or "none")
        return exits.DONE

    return with_client(place_of(context), work)


async def _exists(run: RunHandle) -> bool:
    try:
        await run.description()
    except RunNotFoundError:
        return False
    return True


async def _watch(run: RunHandle, program: str, *, as_json: bool, approver: str | None = None) -> int:
    await run.state()  # there is such a run, and it is one of Assent's
    if not as_json:
        # Nobody decides under a guessed name: without one, the commands are printed.
        ask = approver is not None and bool(approver.strip()) and can_ask()
        return _end_of(await follow(run, approver=approver or "", ask=ask, program=program))
    async for event in run.watch():
        emit(event.model_dump(mode="json"))
    return _end_of(await run.state())


def _end_of(state: RunState) -> int:
    if state.status == "completed":
        return exits.DONE
    complain(f"run {state.id!r} {state.status}" + (f": {one_line(state.error)}" if state.error else ""))
    return exits.NOT_TAKEN
