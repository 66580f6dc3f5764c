"""The metrics of a worker: its Runtime's meter, with names in labels that stay few; and the address to scrape."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from temporalio.client import Client
from temporalio.common import MetricCounter, MetricGaugeFloat, MetricHistogramFloat, MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from assent.agents.agent import Agent
from assent.agents.tool import Tool
from assent.core.budget_rules import EXTEND
from assent.core.measurements import DECISION_TIME, METRICS, Measurement, Metric, zeros
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import RequirementKind
from assent.wire.text import bounded, one_line

SWITCH: Final = "assent_metrics"
"""The extern function that workflow code finds where the worker has a meter: it takes the measurements of a step."""
METRICS_BUCKETS: Final[Mapping[str, Sequence[float]]] = {
    DECISION_TIME.name: [10, 60, 300, 900, 3_600, 4 * 3_600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400]
}
"""For a Runtime's `histogram_bucket_overrides`: seconds to days, for the time to a decision."""
OTHER: Final = "other"
NAMES_LIMIT: Final = 500
"""Pairs of agent and tool, beyond those that the worker serves, that are labels: a client can begin any name."""
_NAME_LENGTH: Final = 80
_COUNTER_MAX: Final = 2**53

Instrument = MetricCounter | MetricHistogramFloat | MetricGaugeFloat


class Metrics:
    """Records measurements with a meter. It may be used from several threads.

    Names of agents and tools that the worker serves are always labels, and so are the first 500 other pairs.
    """

    def __init__(self, meter: MetricMeter, agents: Collection[Agent], others: Collection[str] = ()) -> None:
        """Create every metric, and the counters of *agents*, at 0. *others* are further names of tools."""
        self._instruments = {metric.name: _created(meter, metric) for metric in METRICS}
        tools = {agent.name: [each.name for each in agent.all_tools] for agent in agents}
        self._agents = frozenset([*tools, ""])
        self._tools = frozenset([*chain.from_iterable(tools.values()), *others, EXTEND, ""])
        self._others: set[tuple[str, str]] = set()
        self.asking: set[tuple[str, str]] = set()
        """The agents and tools that wait for people, whatever their policies say."""
        for agent in agents:
            asking: dict[str, RequirementKind] = {
                each.name: kind for each in agent.all_tools if (kind := _kind(each)) is not None
            }
            self.asking |= {(agent.name, tool) for tool in asking}
            self.record(zeros(agent.name, tools[agent.name], asking))

    @classmethod
    def of(cls, client: Client, task_queue: str, agents: Collection[Agent], others: Collection[str]) -> Metrics | None:
        """Return the metrics of a worker with this *client*; None if its Runtime has no metrics."""
        meter = (client.service_client.config.runtime or Runtime.default()).metric_meter
        if meter is MetricMeter.noop:
            return None
        labels = {"namespace": client.namespace, "task_queue": task_queue}
        return cls(meter.with_additional_attributes(labels), agents, others)

    def record(self, measurements: Iterable[Measurement]) -> None:
        """Add to counters and histograms, and set gauges. What no counter can hold is left out."""
        for metric, value, labels in measurements:
            attributes = self._labels(metric, labels)
            match self._instruments[metric.name]:
                case MetricCounter() as counter if 0 <= value < _COUNTER_MAX:
                    counter.add(int(value), attributes)
                case MetricHistogramFloat() as histogram:
                    histogram.record(value, attributes)
                case MetricGaugeFloat() as gauge:
                    gauge.set(value, attributes)
                case _:
                    pass

    def names(self, agent: str, tool: str) -> tuple[str, str]:
        """Return an agent and a tool as they are in labels; these stay as they are."""
        if (agent in self._agents and tool in self._tools) or (agent, tool) in self._others:
            return agent, tool
        pair = _readable(agent), _readable(tool)
        if len(self._others) < NAMES_LIMIT:
            self._others.add(pair)
        if pair in self._others:
            return pair
        return agent if agent in self._agents else OTHER, tool if tool in self._tools else OTHER

    def _labels(self, metric: Metric, labels: tuple[str, ...]) -> dict[str, str | int | float | bool]:
        named: dict[str, str | int | float | bool] = dict(zip(metric.labels, labels, strict=True))
        if "agent" in named:
            agent, tool = self.names(str(named["agent"]), str(named.get("tool", "")))
            named["agent"] = agent
            if "tool" in named:
                named["tool"] = tool
        return named


def _kind(tool: Tool) -> RequirementKind | None:
    if tool.external_execution:
        return "external"
    if tool.requires_user_input:
        return "input"
    return "confirmation" if tool.requires_confirmation else None


def _created(meter: MetricMeter, metric: Metric) -> Instrument:
    match metric.kind:
        case "counter":
            return meter.create_counter(metric.name, metric.text)
        case "histogram":
            return meter.create_histogram_float(metric.name, metric.text)
        case "gauge":
            return meter.create_gauge_float(metric.name, metric.text)


def _readable(name: str) -> str:
    """Return a name that came from a client: short, in one line, of whole characters."""
    return bounded(one_line(name.encode("utf-8", "replace").decode()), _NAME_LENGTH)


# -- where Prometheus scrapes -----------------------------------------------------------------------------------------


def serve_metrics(address: str) -> str:
    """Serve the metrics of this process at *address*, `HOST:PORT`, and return their URL.

    Call it before the first client is made: it sets the process's default Runtime. Without a host it is every address
    of the machine.

    Raises:
        ConfigurationError: *address* is none, its host has no address here, or its port is taken. One line.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"the metrics address {address!r} is not HOST:PORT, for example 127.0.0.1:9464")
    host = host.removeprefix("[").removesuffix("]")
    try:
        # The exporter takes numbers only. Where a name has addresses of both kinds, IPv4 is what others try first.
        addresses = socket.getaddrinfo(host or "0.0.0.0", int(port), type=socket.SOCK_STREAM)  # noqa: S104 - as asked for
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"the host of the metrics address {address!r} is not known: {error}") from None
    number = str(min(addresses, key=lambda each: each[0] != socket.AF_INET)[4][0])
    bind = f"[{number}]:{port}" if ":" in number else f"{number}:{port}"
    config = PrometheusConfig(
        bind_address=bind,
        counters_total_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=METRICS_BUCKETS,
    )
    try:
        runtime = Runtime(telemetry=TelemetryConfig(metrics=config, attach_service_name=False))
    except ValueError as error:
        raise ConfigurationError(f"metrics cannot be served at {address}: {one_line(str(error))}") from None
    Runtime.set_default(runtime, error_if_already_set=False)
    return f"http://{bind}/metrics"
