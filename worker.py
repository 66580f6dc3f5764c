"""Run a worker: `python worker.py --agents MODULE [--task-queue NAME] [--embedded]`. Ends gracefully on SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from activities import Activities
from assent import embedded
from assent.agent import Agent
from assent.connection import attributes_usable, connect, exit_cleanly
from assent.errors import AssentError
from assent.logs import configure_logs
from assent.settings import Settings, load_agents
from workflows import worker_for

DATABASE = Path(".assent/temporal.db")


async def serve(agents: list[Agent], settings: Settings, *, with_server: bool) -> None:
    """Serve *agents* until SIGTERM or SIGINT, then let running tools finish."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        web_ui = None
        if with_server:
            port, ui_port = embedded.free_port(embedded.PORT), embedded.free_port(embedded.UI_PORT)
            running = embedded.embedded_server(DATABASE, port=port, ui_port=ui_port)
            server = await stack.enter_async_context(running)
            client, web_ui = server.client, server.ui_url
            print(f"Temporal server at {server.address}, its runs kept in {DATABASE}", flush=True)
        else:
            client = await connect()
        attributes = await attributes_usable(client)
        activities = Activities(agents, prefix_cache=settings.prefix_cache, attributes=attributes)
        stack.push_async_callback(activities.close)
        worker = worker_for(
            client,
            task_queue=settings.task_queue,
            activities=activities.all,
            cached_runs=settings.cached_runs,
        )
        async with worker:
            names = ", ".join(agent.name for agent in agents)
            print(f"Serving {names} on task queue {settings.task_queue!r}", flush=True)
            print(f"Web UI: {web_ui or 'of your Temporal server'}; stop with Ctrl-C or SIGTERM", flush=True)
            await stop.wait()
            print("Stopping: running tools may finish", flush=True)


def main(
    agents: Annotated[list[str] | None, typer.Option(help="A module that defines agents; may be repeated.")] = None,
    task_queue: Annotated[str | None, typer.Option(help="Where runs are served.")] = None,
    *,
    embedded_server: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too.")] = False,
) -> None:
    """Serve the agents of these modules; settings also from ASSENT_AGENTS, ASSENT_TASK_QUEUE and TEMPORAL_*."""
    exit_cleanly()
    configure_logs()
    settings = Settings()
    if task_queue:
        settings.task_queue = task_queue
    try:
        found = load_agents(agents or settings.agents)
        asyncio.run(serve(found, settings, with_server=embedded_server))
    except AssentError as error:
        print(f"worker: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    typer.run(main)
