"""Run a worker: `python worker.py --agents MODULE [--task-queue NAME] [--embedded]`. Ends gracefully on SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import Annotated

import typer

from activities import Activities
from assent.connection import exit_cleanly
from assent.errors import AssentError
from assent.logs import configure_logs
from assent.runtime import Halves, run_worker
from assent.settings import Settings, load_agents
from workflows import worker_for

HALVES = Halves(activities=Activities, worker=worker_for)


def main(
    agents: Annotated[list[str] | None, typer.Option(help="A module that defines agents; may be repeated.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="Where runs are served.")] = None,
    *,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too, with its Web UI.")] = False,
) -> None:
    """Serve the agents of these modules. Settings also from ASSENT_AGENTS, ASSENT_WEBHOOKS, … and TEMPORAL_*."""
    exit_cleanly()
    configure_logs()
    say = partial(print, flush=True)
    try:
        settings = Settings.read()
        if task_queue:
            settings.task_queue = task_queue
        found = load_agents(agents or settings.agents)
        asyncio.run(run_worker(found, settings, halves=HALVES, with_server=embedded, say=say))
    except AssentError as error:
        print(f"worker: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    typer.run(main)
