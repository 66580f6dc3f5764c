"""Running a worker: its two halves wherever they are, and the loop around them.

`activities` and `workflows` lie at the top of a checkout, and below `assent` in an installed wheel: a wheel that ships
top-level packages of those names overwrites other people's, a checkout reads best with them.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from temporalio.client import Client
from temporalio.worker import Worker, WorkerDeploymentConfig

from assent.agents.agent import Agent, with_their_agents
from assent.runtime import embedded_server
from assent.runtime.connection import attributes_usable, check_namespace, connect
from assent.runtime.connection_errors import worker_stopped
from assent.runtime.deployments import advice, deployment_config
from assent.runtime.settings import Settings
from assent.runtime.webhooks import Webhook
from assent.wire.budget import Price
from assent.wire.errors import ConfigurationError

DATABASE: Final = Path(".assent/temporal.db")
GRACE: Final = timedelta(seconds=30)
"""How long running tools may finish once a worker is asked to stop."""


class Activities(Protocol):
    """What a worker needs of `activities.Activities`."""

    @property
    def all(self) -> list[Callable[..., object]]:
        """Every activity."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...


class MakeActivities(Protocol):
    """The class `activities.Activities`."""

    def check(
        self, agents: Sequence[Agent], webhooks: Sequence[Webhook] = (), prices: Mapping[str, Price] | None = None
    ) -> None:
        """Refuse agents that contradict each other, or lack a key, and webhooks that lack a secret."""
        ...

    def __call__(
        self,
        agents: Sequence[Agent],
        *,
        prefix_cache: int,
        attributes: bool,
        webhooks: Sequence[Webhook],
        continue_after: int,
        prices: Mapping[str, Price],
        requires_requester: bool,
    ) -> Activities:
        """The activities of these agents."""
        ...


class MakeWorker(Protocol):
    """`workflows.worker_for`."""

    def __call__(
        self,
        client: Client,
        *,
        task_queue: str,
        activities: Sequence[Callable[..., object]],
        cached_runs: int,
        grace: timedelta,
        deployment: WorkerDeploymentConfig | None,
        max_activities_per_second: float | None,
    ) -> Worker:
        """A worker with these activities."""
        ...


@dataclass(frozen=True)
class Halves:
    """The two halves of a worker: its activities, and the worker that runs `AgentRun` with them."""

    activities: MakeActivities
    worker: MakeWorker


def part(name: str, attribute: str) -> object:
    """An attribute of `activities` or `workflows`, from the wheel or from a checkout.

    Raises:
        ConfigurationError: it is in neither.
    """
    for candidate in (f"assent.{name}", name):
        try:
            module = import_module(candidate)
        except ModuleNotFoundError as error:
            if not f"{candidate}.".startswith(f"{error.name}."):
                raise
            continue
        if hasattr(module, attribute):
            return cast("object", getattr(module, attribute))
    message = f"Assent's package {name!r} cannot be found: install the wheel, or work in a checkout (pip install -e .)"
    raise ConfigurationError(message)


def installed() -> Halves:
    """The halves that are installed beside this module."""
    return Halves(
        activities=cast("MakeActivities", part("activities", "Activities")),
        worker=cast("MakeWorker", part("workflows.serving", "worker_for")),
    )


@asynccontextmanager
async def serving(
    client: Client,
    agents: Sequence[Agent],
    settings: Settings,
    *,
    halves: Halves | None = None,
    grace: timedelta = GRACE,
) -> AsyncGenerator[Worker]:
    """A worker that serves *agents* for as long as the block runs, and then lets running tools finish (*grace*).

    Raises:
        ConfigurationError: the agents contradict each other, a webhook has no usable secret, or the settings name a
            payload codec or storage that *client* has not, or a deployment without a build.
        ServerUnreachableError: the server does not answer, has not the client's namespace, or does not accept its
            credentials, at first or later.
    """
    if settings.payload_codec and client.data_converter.payload_codec is None:
        message = "the settings name a payload codec, and the client has none: set ASSENT_PAYLOAD_CODEC to connect"
        raise ConfigurationError(message)
    if settings.storage and client.data_converter.external_storage is None:
        message = "the settings name an external storage, and the client has none: set ASSENT_STORAGE to connect"
        raise ConfigurationError(message)
    found, deployment = halves or installed(), _deployment(settings)
    await check_namespace(client)
    attributes = await attributes_usable(client)
    activities = found.activities(
        agents,
        prefix_cache=settings.prefix_cache,
        attributes=attributes,
        webhooks=settings.webhooks,
        continue_after=settings.continue_after,
        prices=settings.prices,
        requires_requester=settings.requires_requester,
    )
    try:
        async with found.worker(
            client,
            task_queue=settings.task_queue,
            activities=activities.all,
            cached_runs=settings.cached_runs,
            grace=grace,
            deployment=deployment,
            max_activities_per_second=settings.max_activities_per_second,
        ) as worker:
            yield worker
    except RuntimeError as error:
        if (told := worker_stopped(error)) is None:
            raise
        raise told from error
    finally:
        await activities.close()


async def run_worker(
    agents: Sequence[Agent],
    settings: Settings,
    *,
    halves: Halves,
    with_server: bool,
    say: Callable[[str], None],
    reach: Callable[[], Awaitable[Client]] = connect,
) -> None:
    """Serve *agents* until SIGTERM or SIGINT, then let running tools finish.

    *say* prints what is served and where. *reach* connects to Temporal, unless *with_server* starts one.

    Raises:
        ConfigurationError: the agents contradict each other, a webhook has no usable secret, or there is no
            `temporal` binary for *with_server*.
        ServerUnreachableError: no Temporal server answers, or it cannot be used. As `connect` and `serving`.
    """
    # What is wrong with the agents and webhooks is said before anything is started.
    halves.activities.check(agents, settings.webhooks, settings.prices)
    deployment = _deployment(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        if with_server:
            server = await stack.enter_async_context(_server())
            client, web_ui = server.client, server.ui_url
            say(f"Temporal server at {server.address}, its runs kept in {DATABASE}")
            if not server.address.endswith(f":{embedded_server.PORT}"):
                say(
                    f"Port {embedded_server.PORT} is taken; for other commands:"
                    f" export TEMPORAL_ADDRESS={server.address}"
                )
        else:
            client, web_ui = await reach(), None
        await stack.enter_async_context(serving(client, agents, settings, halves=halves))
        served = ", ".join(agent.name for agent in with_their_agents(agents))
        say(f"Serving {served} on task queue {settings.task_queue!r}")
        for line in asked_elsewhere(agents, settings.task_queue):
            say(line)
        if deployment is not None:
            say(f"Build {settings.build_id!r} of deployment {settings.deployment!r}, {settings.versioning}")
            if (told := await advice(client, deployment.version)) is not None:
                say(told)
        say(f"Web UI: {web_ui or 'of your Temporal server'}; stop with Ctrl-C or SIGTERM")
        await stop.wait()
        say("Stopping: running tools may finish")


def asked_elsewhere(agents: Sequence[Agent], task_queue: str) -> Iterator[str]:
    """Yield a line for each other task queue with model calls: a run waits while no worker serves it."""
    found: dict[str, list[str]] = {}
    for agent in with_their_agents(agents):
        if agent.model_task_queue not in {None, task_queue}:
            found.setdefault(str(agent.model_task_queue), []).append(agent.name)
    for queue, names in found.items():
        yield f"The model of {', '.join(names)} is asked on task queue {queue!r}: a worker must serve that too"


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    return deployment_config(settings.deployment, settings.build_id, settings.versioning)


def _server() -> embedded_server.Embedded:
    log = DATABASE.with_name("server.log")
    return embedded_server.embedded_server(
        DATABASE, port=embedded_server.PORT, ui_port=embedded_server.UI_PORT, log=log
    )
