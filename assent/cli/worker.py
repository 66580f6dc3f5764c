"""`assent worker`: what `worker.py` does in a checkout, for users of the installed package."""

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
from assent.runtime.worker import installed, run_worker


def worker(
    context: typer.Context,
    *,
    agents: Annotated[list[str] | None, typer.Option(help="A module that defines agents; may be repeated.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="Where runs are served; also before the command.")] = None,
    deployment: Annotated[str | None, typer.Option(metavar="NAME", help="The Temporal deployment it is of.")] = None,
    build_id: Annotated[str | None, typer.Option(metavar="ID", help="Its build in that deployment.")] = None,
    versioning: Annotated[
        Literal["auto-upgrade", "pinned"] | None,
        typer.Option(help="What runs under way do when another build becomes the current one."),
    ] = None,
    max_activities_per_second: Annotated[
        float | None, typer.Option(metavar="N", help="Model and tool calls a second on the task queue, of all workers.")
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too, with its Web UI.")] = False,
) -> int:
    """Serve agents until SIGTERM or Ctrl-C. Also from ASSENT_AGENTS=module,module and ASSENT_WEBHOOKS."""
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
    say = partial(print, flush=True)
    found = load_agents(agents or settings.agents)
    asyncio.run(run_worker(found, settings, halves=installed(), with_server=embedded, say=say, reach=reach))
    return exit_codes.DONE
