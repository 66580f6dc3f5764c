"""The command `watch`: prints the events of a run, or of all runs, as they happen."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

import typer
from rich.text import Text
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig

from assent.cli import exit_codes
from assent.cli.common import AsJson, connection_options, emit, warn
from assent.cli.connect import with_client
from assent.cli.console import event_row, make_console, shorten
from assent.cli.terminal import can_ask, follow
from assent.client.client import AgentClient
from assent.client.run_handle import RunHandle
from assent.client.watch_all import MAX_FOLLOWED, RunAndEvent
from assent.client.watch_tree import TreeWatcher
from assent.wire.errors import MessageError
from assent.wire.requirements import RunState
from assent.wire.text import one_line

ID_SHOWN: Final = 40
"""Columns of a run's id in front of its events."""


def watch(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)] = None,
    *,
    all_runs: Annotated[bool, typer.Option("--all", help="Watch all runs until Ctrl-C.")] = False,
    agent: Annotated[str | None, typer.Option(help="With --all: only runs of this agent.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="With --all: active runs from their start.")] = False,
    at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="With --all: follow at most N runs at once.")
    ] = MAX_FOLLOWED,
    as_json: AsJson = False,
) -> int:
    """Print the events of a run until it ends; with --all, of all runs.

    Events of its child runs are included; these lines begin with the path to the child run.
    """
    place = connection_options(context)
    if all_runs == (run is not None) or (not all_runs and (agent is not None or from_start)):
        message = "give either a run: assent watch RUN; or all runs: assent watch --all [--agent A] [--from-start]"
        raise MessageError(message)
    # Without this, the SDK logs each try to reach a server that is away; we report that in one line.
    telemetry = TelemetryConfig(logging=LoggingConfig(filter="off"))
    Runtime.set_default(Runtime(telemetry=telemetry), error_if_already_set=False)

    async def work(client: AgentClient) -> int:
        if run is not None:
            return await watch_run(client.get_run(run), place.program, as_json=as_json)
        events = client.watch_all(agent, from_start=from_start, at_once=at_once, say=warn)
        return await _watch_all(events, as_json=as_json)

    return with_client(place, work)


async def watch_run(
    run: RunHandle, program: str, *, as_json: bool, approver: str | None = None, speaker: str | None = None
) -> int:
    """Print the events of a run until it ends, and return the exit code for its end.

    At a terminal, *approver* is asked about pending calls, and *speaker* for the next message of a conversation.
    """
    await run.state()  # Raises if there is no such run, or it is not one of Assent's.
    if not as_json:
        # No name is guessed: without one, the commands that decide are printed.
        ask = approver is not None and bool(approver.strip()) and can_ask()
        says = speaker if speaker is not None and speaker.strip() and can_ask() else None
        return exit_code_at_end(await follow(run, approver=approver or "", ask=ask, speaker=says, program=program))
    async with aclosing(TreeWatcher(run, run.other, warn).events()) as events:
        async for path, run_id, event in events:
            emit({"run_id": run_id, "path": list(path), **event.model_dump(mode="json")})
    return exit_code_at_end(await run.state())


async def _watch_all(events: AsyncGenerator[RunAndEvent], *, as_json: bool) -> int:
    console = make_console()
    async with aclosing(events):
        async for run_id, event in events:
            if as_json:
                emit({"run_id": run_id, **event.model_dump(mode="json")})
            else:
                lead = Text(f"{shorten(one_line(run_id), ID_SHOWN)}  ", style="bold")
                console.print(event_row(console, event, lead, answer=True)[0], soft_wrap=True)
    return exit_codes.DONE


def exit_code_at_end(state: RunState) -> int:
    """Return the exit code for the state of a run that is followed no more, and say so where it failed."""
    if state.status == "completed" or state.is_idle:
        return exit_codes.DONE
    warn(f"run {state.id!r} {state.status}" + (f": {one_line(state.error)}" if state.error else ""))
    return exit_codes.NO_EFFECT
