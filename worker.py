"""Run a worker: `python worker.py --agents MODULE [--task-queue NAME] [--embedded]`. Ends gracefully on SIGTERM.

`--deployment NAME --build-id ID` switch worker versioning on: see docs/guides/deployment.md.
"""

import asyncio
import sys
from functools import partial
from typing import Annotated

import typer

from assent.cli.errors import exit_code
from assent.cli.worker import models
from assent.runtime.connection import exit_cleanly
from assent.runtime.logs import configure_logs
from assent.runtime.settings import Settings, Versioning, load_agents
from assent.wire.errors import AssentError
from assent.worker import run_worker


def main(
    agents: Annotated[list[str] | None, typer.Option(help="A module that defines agents; may be repeated.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="Where runs are served.")] = None,
    *,
    deployment: Annotated[str | None, typer.Option(metavar="NAME", help="The Temporal deployment it is of.")] = None,
    build_id: Annotated[str | None, typer.Option(metavar="ID", help="Its build in that deployment.")] = None,
    versioning: Annotated[
        Versioning | None, typer.Option(help="What runs under way do when another build becomes the current one.")
    ] = None,
    max_activities_per_second: Annotated[
        float | None, typer.Option(metavar="N", help="Model and tool calls a second on the task queue, of all workers.")
    ] = None,
    metrics_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus here.")
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too, with its Web UI.")] = False,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Follow each module's list `script` instead of asking its models.")
    ] = False,
) -> None:
    """Serve the agents of these modules. Settings also from ASSENT_AGENTS, ASSENT_WEBHOOKS, … and TEMPORAL_*."""
    exit_cleanly()
    configure_logs()
    say = partial(print, flush=True)
    try:
        settings = Settings.read(
            task_queue=task_queue or None,
            deployment=deployment,
            build_id=build_id,
            versioning=versioning,
            max_activities_per_second=max_activities_per_second,
            metrics_address=metrics_address,
        )
        modules = agents or settings.agents
        with models(modules, scripted=scripted):
            asyncio.run(run_worker(load_agents(modules), settings, with_server=embedded, say=say))
    except AssentError as error:
        print(f"worker: {error}", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None


if __name__ == "__main__":
    typer.run(main)
