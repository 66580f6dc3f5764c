"""Metrics of a worker: names in labels stay few, and an address that cannot be served is one line."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from assent import Agent, OpenAIResponses, tool
from assent.core.measurements import COST, DECISION_TIME, METRICS, REQUESTED, RUNS, WAITING, Measurement
from assent.runtime.metrics import NAMES_LIMIT, Metrics, serve_metrics
from assent.wire.errors import ConfigurationError


@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay."""
    return to


@tool
def look(at: str) -> str:
    """Look."""
    return at


PAYER = Agent(name="payer", model=OpenAIResponses("m"), tools=[pay, look])


@pytest.fixture(scope="module")
def runtime() -> tuple[Runtime, MetricBuffer]:
    buffer = MetricBuffer(10_000)
    return Runtime(telemetry=TelemetryConfig(metrics=buffer, attach_service_name=False)), buffer


def test_names_that_nobody_serves_are_few_in_labels(runtime: tuple[Runtime, MetricBuffer]) -> None:
    metrics, buffer = Metrics(runtime[0].metric_meter, [PAYER]), runtime[1]
    assert buffer.retrieve_updates()
    for number in range(NAMES_LIMIT + 100):
        metrics.record([Measurement(RUNS, 1, (f"junk-{number}", "started"))])
    metrics.record([Measurement(REQUESTED, 1, ("payer", "pay", "confirmation"))])
    metrics.record([Measurement(REQUESTED, 1, ("payer", "more junk", "confirmation"))])
    metrics.record([Measurement(RUNS, 1, ("junk-1", "started"))])
    found = [dict(each.attributes) for each in buffer.retrieve_updates()]
    assert {"payer", "other"} < {each["agent"] for each in found}
    assert len({each["agent"] for each in found}) == NAMES_LIMIT + 2
    assert [each["agent"] for each in found[-3:]] == ["payer", "payer", "junk-1"]
    assert [each["tool"] for each in found[-3:-1]] == ["pay", "other"]
    # What waits is summed under the names of the labels, and these stay as they are.
    for pair in [("junk-1", ""), ("x" * 500, "pay"), ("payer", "y"), ("z", "z")]:
        assert metrics.names(*metrics.names(*pair)) == metrics.names(*pair)


def test_counters_of_the_agents_are_there_from_the_start_at_0(runtime: tuple[Runtime, MetricBuffer]) -> None:
    metrics, buffer = Metrics(runtime[0].metric_meter, [PAYER]), runtime[1]
    found = [(each.metric.name, {*each.attributes.values()}) for each in buffer.retrieve_updates() if each.value == 0]
    assert ("assent_runs", {"payer", "completed"}) in found
    assert ("assent_tool_calls", {"payer", "look", "executed"}) in found
    requested = [labels for name, labels in found if name == "assent_approvals_requested"]
    assert requested == [{"payer", "pay", "confirmation"}]
    assert metrics.asking == {("payer", "pay")}


def test_a_name_from_a_client_is_short_and_shows(runtime: tuple[Runtime, MetricBuffer]) -> None:
    metrics, buffer = Metrics(runtime[0].metric_meter, []), runtime[1]
    metrics.record([Measurement(RUNS, 1, ("\ud800" + "x" * 500 + "\n", "started"))])
    [update] = buffer.retrieve_updates()
    label = str(update.attributes["agent"])
    assert len(label) < 120
    assert metrics.names(label, "") == (label, "")


def test_what_no_counter_can_hold_is_left_out(runtime: tuple[Runtime, MetricBuffer]) -> None:
    metrics, buffer = Metrics(runtime[0].metric_meter, []), runtime[1]
    metrics.record([Measurement(COST, 1e300, ("a",)), Measurement(COST, -1, ("a",)), Measurement(COST, 7, ("a",))])
    metrics.record([Measurement(DECISION_TIME, 0.5, ("a", "t", "input")), Measurement(WAITING, 2, ("a", "t"))])
    assert [each.value for each in buffer.retrieve_updates()] == [7, 0.5, 2]


@pytest.mark.parametrize("address", ["9464", "localhost", "localhost:", "localhost:0", "localhost:65536", "h:p", ""])
def test_an_address_that_is_none_is_one_line(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not HOST:PORT, for example 127\.0\.0\.1:9464$"):
        serve_metrics(address)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "999.1.1.1", "a" * 70 + ".invalid"])
def test_a_host_that_is_not_known_is_one_line(host: str) -> None:
    with pytest.raises(ConfigurationError, match="the host of the metrics address") as raised:
        serve_metrics(f"{host}:9464")
    assert "\n" not in str(raised.value)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"metrics cannot be served at {address}: ") as raised:
            serve_metrics(address)
    assert "\n" not in str(raised.value)


def test_the_page_lists_every_metric_with_its_labels() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(assent_\w+)` \| (.*?) \|", page, re.MULTILINE)
    listed = {name.removesuffix("_total"): tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert listed == {metric.name: metric.labels for metric in METRICS}
    assert {name for name, _ in rows if name.endswith("_total")} == {
        f"{metric.name}_total" for metric in METRICS if metric.kind == "counter"
    }
