"""The dashboard and the alerts in `deploy/`: their queries parse, and name metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import temporalio.bridge

from assent.core.measurements import METRICS
from assent.runtime.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "assent.json").read_text())
PARTS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
SERIES = {f"{metric.name}{part}": set(metric.labels) for metric in METRICS for part in PARTS[metric.kind]}
EVERYWHERE = {"namespace", "task_queue", "le"}
QUERIES = [str(target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
WITH_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@WITH_PROMTOOL
def test_the_alerts_are_valid_and_fire_when_they_should() -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert f"{len(names)} rules found" in promtool("check", "rules", str(ALERTS))
    tests = ALERTS.with_name("alerts_test.yml")
    promtool("test", "rules", str(tests))
    assert set(re.findall(r"alertname: (\w+)", tests.read_text())) == set(names)


@WITH_PROMTOOL
def test_every_query_of_the_dashboard_parses(tmp_path: Path) -> None:
    written = [re.sub(r"\$__\w+", "5m", query) for query in QUERIES]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(written)]
    file = tmp_path / "queries.yml"  # JSON is YAML, too.
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(QUERIES)} rules found" in promtool("check", "rules", str(file))


def test_queries_name_series_of_assent_that_exist_with_labels_that_they_have() -> None:
    for query in [*QUERIES, ALERTS.read_text()]:
        for name, labels in re.findall(r"\b(assent_\w+)(?:\{([^}]*)\})?", query):
            used = set(re.findall(r"(\w+)=", labels))
            assert used <= SERIES[name] | EVERYWHERE, (name, used)
    assert {name for query in QUERIES for name in re.findall(r"assent_[a-z_]+?(?=_total|_bucket|\{)", query)} == {
        metric.name for metric in METRICS
    }


def test_queries_name_metrics_of_temporal_that_its_sdk_has() -> None:
    # The SDK has no list of its metrics; their names are in its library.
    [file] = Path(temporalio.bridge.__path__[0]).glob("temporal_sdk_bridge.*")
    library = file.read_bytes()
    found = {each for query in [*QUERIES, ALERTS.read_text()] for each in re.findall(r"\btemporal_(\w+)", query)}
    assert len(found) > 2
    for name in found:
        assert re.sub("_(total|count|bucket)$", "", name).encode() in library, name
    for reason in ("NonDeterminismError", "failure_reason"):
        assert reason.encode() in library


def test_panels_of_the_dashboard_lie_side_by_side() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_the_manifests_fit_the_image_and_the_settings() -> None:
    base = {path.stem: path.read_text() for path in (DEPLOY / "kubernetes" / "base").glob("*.yaml")}
    image = (DEPLOY.parent / "Dockerfile").read_text()
    variables = re.findall(r"- ASSENT_(\w+)=", base["kustomization"])
    assert len(variables) == 3
    assert {name.lower() for name in variables} <= Settings.model_fields.keys()
    [port] = re.findall(r"METRICS_ADDRESS=0.0.0.0:(\d+)", base["kustomization"])
    assert f"containerPort: {port}" in base["deployment"]
    [probe] = re.findall(r"command: \[python, (\S+)\]", base["deployment"])
    assert f" {probe}\n" in image
    [user] = re.findall(r"runAsUser: (\d+)", base["deployment"])
    assert f"USER {user}:" in image
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", base["deployment"])
    assert int(grace) > 30, "what a stopping worker gives running tools"
