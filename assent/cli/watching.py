"""`assent watch`: what happens in a run, or in all of them, as it happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig

from assent.cli import exit_codes
from assent.cli.common import AsJson, complain, emit, place_of
from assent.cli.connect import with_client
from assent.cli.console import event_row, fit, make_console
from assent.cli.terminal import can_ask, follow
from assent.client.client import AgentClient
from assent.client.run_handle import RunHandle
from assent.client.watch_all import MAX_FOLLOWED, RunAndEvent
from assent.client.watch_tree import TreeWatcher
from assent.views.run_events import RunEvent
from assent.wire.errors import MessageError
from assent.wire.requirements import RunState
from assent.wire.text import one_line

ID_SHOWN: Final = 40
"""Columns of a run's id before its events."""


def watch(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)] = None,
    *,
    all_runs: Annotated[bool, typer.Option("--all", help="All runs, from now on; Ctrl-C ends it.")] = False,
    agent: Annotated[str | None, typer.Option(help="With --all: only runs of this agent.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="With --all: from their beginning.")] = False,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="With --all: follow N at once.")] = MAX_FOLLOWED,
    as_json: AsJson = False,
) -> int:
    """What happens in a run, from its beginning to its end, as it happens; or, with --all, in all runs.

    What happens in the runs below it, of agents that work for it, is told too: each line begins with the path to it.
    """
    place = place_of(context)
    if all_runs == (run is not None) or (not all_runs and (agent is not None or from_start)):
        message = "name one run: assent watch RUN; or all: assent watch --all [--agent A] [--from-start]"
        raise MessageError(message)
    _quiet()

    async def work(client: AgentClient) -> int:
        if run is not None:
            return await watch_run(client.get_run(run), place.program, as_json=as_json)
        return await _all(
            client.watch_all(agent, from_start=from_start, at_once=at_once, say=complain), as_json=as_json
        )

    return with_client(place, work)


async def watch_run(
    run: RunHandle, program: str, *, as_json: bool, approver: str | None = None, speaker: str | None = None
) -> int:
    """Print what happens in one run until it ends; the exit code says how it ended.

    At a terminal *approver* is asked about what waits, and *speaker* for the next message of a conversation.
    """
    await run.state()  # there is such a run, and it is one of Assent's
    if not as_json:
        # Nobody decides under a guessed name: without one, the commands are printed.
        ask = approver is not None and bool(approver.strip()) and can_ask()
        says = speaker if speaker is not None and speaker.strip() and can_ask() else None
        return _end_of(await follow(run, approver=approver or "", ask=ask, speaker=says, program=program))
    async with aclosing(TreeWatcher(run, run.other, complain).events()) as told:
        async for path, run_id, event in told:
            emit({"run_id": run_id, "path": list(path), **event.model_dump(mode="json")})
    return _end_of(await run.state())


async def _all(told: AsyncGenerator[RunAndEvent], *, as_json: bool) -> int:
    console = make_console()
    async with aclosing(told):
        async for run_id, event in told:
            if as_json:
                emit({"run_id": run_id, **event.model_dump(mode="json")})
            else:
                _print(console, run_id, event)
    return exit_codes.DONE


def _print(console: Console, run_id: str, event: RunEvent) -> None:
    lead = Text(f"{fit(one_line(run_id), ID_SHOWN)}  ", style="bold")
    row, _ = event_row(console, event, lead, answer=True)
    console.print(row, soft_wrap=True)


def _end_of(state: RunState) -> int:
    if state.status == "completed" or state.is_idle:
        return exit_codes.DONE
    complain(f"run {state.id!r} {state.status}" + (f": {one_line(state.error)}" if state.error else ""))
    return exit_codes.NOT_TAKEN


def _quiet() -> None:
    """Keep the SDK from logging each try to reach a server that is away: that is said in one line."""
    telemetry = TelemetryConfig(logging=LoggingConfig(filter="off"))
    Runtime.set_default(Runtime(telemetry=telemetry), error_if_already_set=False)
