"""The command `worker`: serves agents, as `worker.py` does in a checkout."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Literal

import typer

from assent.cli import exit_codes
from assent.cli.common import place_of
from assent.runtime.connection import connect, exit_cleanly
from assent.runtime.logs import configure_logs
from assent.runtime.settings import Settings, load_agents
from assent.worker import run_worker


def worker(
    context: typer.Context,
    *,
    agents: Annotated[list[str] | None, typer.Option(help="A module that defines agents (repeatable).")] = None,
    task_queue: Annotated[str | None, typer.Option(help="The task queue to serve.")] = None,
    deployment: Annotated[
        str | None, typer.Option(metavar="NAME", help="The Temporal deployment of this worker.")
    ] = None,
    build_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The build of this worker in the deployment.")
    ] = None,
    versioning: Annotated[
        Literal["auto-upgrade", "pinned"] | None,
        typer.Option(help="What active runs do when another build becomes current."),
    ] = None,
    max_activities_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="Limit of model and tool calls per second, for all workers of the task queue."),
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too, with its Web UI.")] = False,
) -> int:
    """Serve agents until SIGTERM or Ctrl-C. Reads ASSENT_AGENTS=module,module and ASSENT_WEBHOOKS too."""
    place = place_of(context)
    exit_cleanly()
    configure_logs()
    settings = Settings.read(
        task_queue=task_queue or place.task_queue,
        deployment=deployment,
        build_id=build_id,
        versioning=versioning,
        max_activities_per_second=max_activities_per_second,
    )
    reach = partial(connect, place.address, namespace=place.namespace, profile=place.profile)
    serve = run_worker(
        load_agents(agents or settings.agents),
        settings,
        with_server=embedded,
        say=partial(print, flush=True),
        reach=reach,
    )
    asyncio.run(serve)
    return exit_codes.DONE
