"""Assent in a Temporal worker: a plugin for a worker of your own, and the worker that `assent worker` runs."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, cast
from weakref import WeakKeyDictionary

from temporalio.client import Client, ClientConfig
from temporalio.converter import CompositePayloadConverter, DataConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import ReplayerConfig, Worker, WorkerConfig, WorkerDeploymentConfig

from assent.activities import Activities
from assent.activities.guard import Guard, unknown_activity
from assent.activities.history_check import live_call
from assent.activities.nexus_service import AssentServiceHandler
from assent.activities.proofs import Proofs
from assent.agents.agent import Agent, with_their_agents
from assent.agents.gates import is_members
from assent.client.waiting import report_waiting
from assent.proof.approvers import Approvers, ApproversFile
from assent.runtime import embedded_server, tracing
from assent.runtime.connection import attributes_usable, check_namespace, connect
from assent.runtime.connection_errors import worker_stopped
from assent.runtime.deployments import deployment_config, promotion_hint
from assent.runtime.metrics import METRICS_BUCKETS, SWITCH, Metrics, serve_metrics
from assent.runtime.settings import Settings
from assent.runtime.webhooks import Webhook
from assent.wire import protocol
from assent.wire.budget import Price
from assent.wire.errors import ConfigurationError
from assent.wire.proofs import ProofLevel
from assent.workflows.agent_run import LIVE_CALL, AgentRun
from assent.workflows.sandbox import ExternFunctions, configure_runners

__all__ = ["METRICS_BUCKETS", "AssentPlugin", "Price", "Webhook"]

DATABASE: Final = Path(".assent/temporal.db")
GRACE: Final = timedelta(seconds=30)
"""How long running tools may finish once a worker is asked to stop."""
STICKY_TIMEOUT: Final = timedelta(seconds=3)
"""How long a run waits for the worker that has it in memory, before another takes it up. (The SDK's 10 s is how long
every waiting run would stand still after a worker's sudden death.)"""
HEARTBEAT_THROTTLE: Final = timedelta(seconds=0.5)
"""How often the SDK passes an activity's heartbeats on, at most. (Its own 0.8 of the heartbeat timeout would keep the
text of a model call back for 24 s.)"""


class AssentPlugin(SimplePlugin):
    """Adds Assent to a Temporal worker: give it to `Worker(plugins=[…])`, `Client.connect(plugins=[…])` or `Replayer`.

    The worker then serves *agents*, and `assent.workflow` works in its other workflows. These, its activities,
    interceptors, sandbox, payload converter and options stay as they are. The client's payload codec, failure converter
    and external storage are in force for Assent's values too; these are always JSON by pydantic.

    Args:
        agents: the agents that it serves, and those that they ask or hand over to.
        groups: who is in the groups that `assent.workflow` names as approvers: a mapping of a name to names of people.
        gated_activities: names of activities that run only through `execute_gated_activity`.
        webhooks: where notices go: the same on every worker of a task queue.
        prices: what models cost, by their id.
        prefix_cache: bytes of conversation that the worker keeps, so that a model call carries only what is new.
        continue_after: events of its history after which a run continues as new, in addition to when the server
            suggests it; 0: only then.
        requires_requester: runs without a `requested_by` fail, and workflow code may not ask without one.
        trace_content: spans hold prompts, answers, arguments and results too (docs/guides/observability.md).
        approvers: who may prove a decision, and with which keys: the path of an approvers file, which is read again
            when it changes. Its groups count beside *groups*.
        require_proof: every decision needs a proof of this level: `person` or `service` (docs/guides/proof.md).
        nexus: the worker serves the Nexus service `assent`, whose operation `run_agent` runs an agent.

    Example:
        `worker = Worker(client.temporal, task_queue="orders", plugins=[AssentPlugin([agent])])`

    Live text of a model call comes as often as the worker passes heartbeats on: `max_heartbeat_throttle_interval`.

    Raises:
        ConfigurationError: two agents have one name, or two different tools do; the environment holds no key for an
            agent's model, or no usable secret for a webhook; and, from the worker or client that it is given to: its
            payload converter cannot stand beside Assent's, it has a second plugin of this kind, or a tool has the name
            of one of its activities; or a group is no list of names.
    """

    def __init__(
        self,
        agents: Sequence[Agent] = (),
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        gated_activities: Sequence[str] = (),
        webhooks: Sequence[Webhook] = (),
        prices: Mapping[str, Price] | None = None,
        prefix_cache: int = 64 * 1024 * 1024,
        continue_after: int = 0,
        requires_requester: bool = False,
        trace_content: bool = False,
        nexus: bool = False,
        approvers: str | Path | Approvers | None = None,
        require_proof: ProofLevel | None = None,
    ) -> None:
        super().__init__("assent.AssentPlugin", nexus_service_handlers=[AssentServiceHandler()] if nexus else None)
        self._proofs = _proofs(approvers, require_proof)
        Activities.check(agents, webhooks, prices, self._proofs)
        self._activities = partial(
            Activities, agents, webhooks=webhooks, prices=prices, prefix_cache=prefix_cache,
            continue_after=continue_after, requires_requester=requires_requester, proofs=self._proofs,
        )  # fmt: skip
        for name, members in (groups or {}).items():
            if not is_members(members):
                raise ConfigurationError(f"AssentPlugin: groups has {members!r} for {name!r}: give a list of names")
        self._groups = {name: list(members) for name, members in (groups or {}).items()}
        self._gated = list(gated_activities)
        self._continue_after = continue_after
        self._requires_requester = requires_requester
        self._trace_content = trace_content
        self._workers: WeakKeyDictionary[Guard, tuple[Activities, Metrics | None]] = WeakKeyDictionary()

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Refuse a payload converter that cannot stand beside Assent's; nothing is changed."""
        check_converter(config["data_converter"])
        return super().configure_client(config)

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """Add the workflow, the activities and what runs them; everything else stays."""
        config = super().configure_worker(config)
        client = config["client"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        converter = client.data_converter
        check_converter(converter)
        workflows = list(config.get("workflows") or ())
        if AgentRun in workflows:
            raise ConfigurationError("the worker has two Assent plugins: give one AssentPlugin all the agents")
        activities = self._activities()
        theirs = cast("list[Callable[..., object]]", [*(config.get("activities") or ())])
        types = [_activity_name(each) for each in theirs]
        names = [name for name in types if name]
        _check_names(activities, names, self._gated)
        guard = activities.guard(client, names, self._gated, trace_content=self._trace_content)
        config["activities"] = [*theirs, *activities.functions, *([] if None in types else [unknown_activity])]
        config["workflows"] = [*workflows, AgentRun]
        facts: dict[str, Callable[..., object]] = {LIVE_CALL: live_call}
        facts["assent_facts"] = lambda: self._facts(activities, converter)
        metrics = Metrics.of(client, config.get("task_queue") or "", activities.agents.values(), names)
        if metrics is not None:
            facts[SWITCH] = metrics.record
        self._workers[guard] = activities, metrics
        if tracing.is_replay_safe():
            facts[tracing.SWITCH] = tracing.is_replay_safe
        config["interceptors"] = [guard, ExternFunctions(facts), *(config.get("interceptors") or ())]
        configure_runners(config)
        return config

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Add the workflow, and what runs it."""
        config = super().configure_replayer(config)
        converter = config.get("data_converter") or DataConverter.default
        check_converter(converter)
        config["workflows"] = [*(config.get("workflows") or ()), AgentRun]
        config["interceptors"] = [ExternFunctions({"assent_facts": dict}), *(config.get("interceptors") or ())]
        configure_runners(config)
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Look the search attributes up, run the worker, report what waits, and let go of connections and threads.

        Raises:
            ServerUnreachableError: the server does not answer.
        """
        config = worker.config(active_config=True)
        [guard] = [each for each in config.get("interceptors") or () if isinstance(each, Guard)]
        (activities, metrics), reading = self._workers[guard], None
        try:
            registered = activities.attributes = await attributes_usable(worker.client)
            if metrics is not None:
                report = report_waiting(worker.client, worker.task_queue, metrics, registered=registered)
                reading = asyncio.create_task(report)
            await next(worker)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])
            await activities.close()

    def _facts(self, activities: Activities, converter: DataConverter) -> dict[str, object]:
        """What workflow code gives with a request, of this worker; and whether what is large has a storage."""
        return {
            "stored": converter.external_storage is not None,
            "attributes": activities.attributes,
            "notices": activities.sends_notices,
            "continue_after": self._continue_after,
            "groups": {**self._proofs.groups, **self._groups},
            "proof": self._proofs.level,
            "requires_requester": self._requires_requester,
        }


def _proofs(approvers: str | Path | Approvers | None, level: ProofLevel | None) -> Proofs:
    if approvers is None:
        return Proofs(None, level)
    if isinstance(approvers, Approvers):
        return Proofs(lambda: approvers, level)
    return Proofs(ApproversFile(approvers).current, level)


def check_converter(converter: DataConverter) -> None:
    """Refuse a data converter that could do something to values which would not be done to Assent's.

    Raises:
        ConfigurationError: its payload converter is not made of encodings. One line.
    """
    kind = converter.payload_converter_class
    if not issubclass(kind, CompositePayloadConverter):
        message = (
            f"the payload converter {kind.__module__}.{kind.__qualname__} cannot stand beside Assent's JSON: make it a "
            "CompositePayloadConverter; what encrypts or compresses belongs into payload_codec"
        )
        raise ConfigurationError(message)


def _activity_name(function: object) -> str | None:
    """The type of an activity; None for a dynamic one."""
    name: str | None = getattr(getattr(function, "__temporal_activity_definition", None), "name", None)
    return name


def _check_names(activities: Activities, theirs: Sequence[str], gated: Sequence[str]) -> None:
    own = {_activity_name(each) for each in activities.functions}
    for name in theirs:
        if name in own:
            kind = "Assent itself" if name in protocol.RESERVED_TOOL_NAMES else "a tool of an agent"
            message = f"two activities of the worker are named {name!r}, one of {kind}: rename one (@tool(name=…))"
            raise ConfigurationError(message)
        if activities.servers.serves(name):
            server = name.partition(".")[0]
            message = f"an activity of the worker is named {name!r}, as a tool of the MCP server {server!r}: rename one"
            raise ConfigurationError(message)
    for name in gated:
        if name not in theirs:
            known = ", ".join(sorted(theirs)) or "none"
            message = f"gated_activities has {name!r}, which is no activity of the worker; it has: {known}"
            raise ConfigurationError(message)


def plugin_for(agents: Sequence[Agent], settings: Settings) -> AssentPlugin:
    """The plugin of the worker that `assent worker` runs."""
    return AssentPlugin(
        agents,
        webhooks=settings.webhooks,
        prices=settings.prices,
        prefix_cache=settings.prefix_cache,
        continue_after=settings.continue_after,
        requires_requester=settings.requires_requester,
        approvers=settings.approvers or None,
        require_proof=settings.require_proof,
    )


@asynccontextmanager
async def serving(
    client: Client, agents: Sequence[Agent], settings: Settings, *, grace: timedelta = GRACE
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
    plugin, deployment = plugin_for(agents, settings), _deployment(settings)
    await check_namespace(client)
    try:
        async with Worker(
            client,
            plugins=[plugin, *tracing.plugins()],
            task_queue=settings.task_queue,
            max_cached_workflows=settings.cached_runs,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            graceful_shutdown_timeout=grace,
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            deployment_config=deployment,
            max_task_queue_activities_per_second=settings.max_activities_per_second,
        ) as worker:
            yield worker
    except RuntimeError as error:
        if (stopped := worker_stopped(error)) is None:
            raise
        raise stopped from error


async def run_worker(
    agents: Sequence[Agent],
    settings: Settings,
    *,
    with_server: bool,
    say: Callable[[str], None],
    reach: Callable[[], Awaitable[Client]] = connect,
) -> None:
    """Serve *agents* until SIGTERM or SIGINT, then let running tools finish.

    *say* prints what is served and where. *reach* connects to Temporal, unless *with_server* starts one.

    Raises:
        ConfigurationError: the agents contradict each other, a webhook has no usable secret, there is no `temporal`
            binary for *with_server*, or metrics cannot be served at their address.
        ServerUnreachableError: no Temporal server answers, or it cannot be used. As `connect` and `serving`.
    """
    # What is wrong with the agents and webhooks is said before anything is started.
    Activities.check(agents, settings.webhooks, settings.prices)
    deployment = _deployment(settings)
    if settings.metrics_address:
        say(f"Metrics at {serve_metrics(settings.metrics_address)}")
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
        await stack.enter_async_context(serving(client, agents, settings))
        served = ", ".join(agent.name for agent in with_their_agents(agents))
        say(f"Serving {served} on task queue {settings.task_queue!r}")
        for line in other_model_queues(agents, settings.task_queue):
            say(line)
        if deployment is not None:
            say(f"Build {settings.build_id!r} of deployment {settings.deployment!r}, {settings.versioning}")
            if (hint := await promotion_hint(client, deployment.version)) is not None:
                say(hint)
        say(f"Web UI: {web_ui or 'of your Temporal server'}; stop with Ctrl-C or SIGTERM")
        await stop.wait()
        say("Stopping: running tools may finish")


def other_model_queues(agents: Sequence[Agent], task_queue: str) -> Iterator[str]:
    """Yield a line for each other task queue with model calls: a run waits while no worker serves it."""
    owners: dict[str, list[str]] = {}
    for agent in with_their_agents(agents):
        if agent.model_task_queue not in {None, task_queue}:
            owners.setdefault(str(agent.model_task_queue), []).append(agent.name)
    for queue, names in owners.items():
        yield f"The model of {', '.join(names)} is asked on task queue {queue!r}: a worker must serve that too"


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    return deployment_config(settings.deployment, settings.build_id, settings.versioning)


def _server() -> embedded_server.Embedded:
    log = DATABASE.with_name("server.log")
    return embedded_server.embedded_server(
        DATABASE, port=embedded_server.PORT, ui_port=embedded_server.UI_PORT, log=log
    )
