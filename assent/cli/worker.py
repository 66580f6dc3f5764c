"""The command `worker`: serves agents, as `worker.py` does in a checkout."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from assent.cli import exit_codes
from assent.cli.common import connection_options
from assent.runtime.connection import connect, exit_cleanly
from assent.runtime.logs import configure_logs
from assent.runtime.settings import Settings, Versioning, load_agents
from assent.wire.errors import ConfigurationError
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
        Versioning | None, typer.Option(help="What active runs do when another build becomes current.")
    ] = None,
    max_activities_per_second: Annotated[
        float | None,
        typer.Option(metavar="N", help="Limit of model and tool calls per second, for all workers of the task queue."),
    ] = None,
    metrics_address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve metrics for Prometheus here.")
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Start a Temporal server too, with its Web UI.")] = False,
    scripted: Annotated[
        bool, typer.Option("--scripted", help="Follow each module's list `script` instead of asking its models.")
    ] = False,
) -> int:
    """Serve agents until SIGTERM or Ctrl-C. Reads ASSENT_AGENTS=module,module and ASSENT_WEBHOOKS too."""
    place = connection_options(context)
    elsewhere = {"--address": place.address, "--namespace": place.namespace, "--profile": place.profile}
    if embedded and (named := ", ".join(option for option, value in elsewhere.items() if value is not None)):
        message = f"--embedded starts a server of its own, with the namespace 'default': leave out {named}"
        raise ConfigurationError(message)
    exit_cleanly()
    configure_logs()
    settings = Settings.read(
        task_queue=task_queue or place.task_queue,
        deployment=deployment,
        build_id=build_id,
        versioning=versioning,
        max_activities_per_second=max_activities_per_second,
        metrics_address=metrics_address,
    )
    modules = agents or settings.agents
    reach = partial(connect, place.address, namespace=place.namespace, profile=place.profile)
    say = partial(print, flush=True)
    with models(modules, scripted=scripted):
        asyncio.run(run_worker(load_agents(modules), settings, with_server=embedded, say=say, reach=reach))
    return exit_codes.DONE


@contextmanager
def models(modules: Sequence[str], *, scripted: bool) -> Generator[None]:
    """Let the models of *modules* be what they are or, if *scripted*, a script.

    Raises:
        ConfigurationError: the extra `testing` is not installed, or as `assent.testing.scripted`. One line.
    """
    if not scripted:
        yield
        return
    try:
        from assent.testing.scripted import scripted as play
    except ModuleNotFoundError as error:
        message = f"--scripted needs {error.name}, which is not installed: pip install 'assent-agents[testing]'"
        raise ConfigurationError(message) from None
    with play(modules) as url:
        print(f"No model is asked: scripts of {', '.join(modules)} answer at {url}", flush=True)
        yield
