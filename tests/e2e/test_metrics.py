"""Metrics of real worker processes, scraped over HTTP as Prometheus does."""

from __future__ import annotations

import asyncio
import base64
import re
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from assent.runtime.embedded_server import free_port
from assent.testing import Environment, ModelServer, call, calls, says
from assent.wire.errors import DecisionError
from tests.e2e.processes import WORKER, Running, start

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
Series = dict[tuple[str, ...], float]


async def scraped(url: str, queue: str) -> dict[str, Series]:
    """The series of Assent by their name, each by the values of its labels, but for namespace and task queue.

    What is 0 is left out.
    """
    async with httpx.AsyncClient() as client:
        text = (await client.get(url)).text
    found: dict[str, Series] = {}
    for name, labels, value in re.findall(r"^(assent_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert (named.pop("namespace"), named.pop("task_queue")) == ("default", queue)
        if float(value) != 0:
            found.setdefault(name, {})[tuple(named[each] for each in sorted(named))] = float(value)
    return found


@asynccontextmanager
async def worker(models: str, address: str, queue: str, ledger: Path) -> AsyncGenerator[tuple[Running, str]]:
    """A worker that replays every run at every step and continues it as new, and the URL of its metrics."""
    variables = {"OPENAI_BASE_URL": models, "LEDGER": str(ledger), "TEMPORAL_ADDRESS": address}
    variables |= {
        "ASSENT_CACHED_RUNS": "0",
        "ASSENT_CONTINUE_AFTER": "8",
        "ASSENT_PRICES": '{"e2e": {"input": 1, "output": 2}}',
    }
    variables |= {"ASSENT_WEBHOOKS": f'[{{"url": "{models}/nothing", "secret_env": "HOOK"}}]', "HOOK": SECRET}
    place = f"localhost:{free_port()}"
    options = ("--agents", "tests.e2e.agents", "--task-queue", queue, "--metrics-address", place)
    running = await start(*WORKER(), *options, env=variables)
    try:
        url = (await running.until("Metrics at")).split()[-1]
        await running.until("Serving")
        yield running, url
    finally:
        await running.end(signal.SIGKILL)


async def test_what_is_scraped_is_what_happened_once_over_replays_and_a_restart(
    assent_environment: Environment, tmp_path: Path
) -> None:
    queue = f"metrics-{uuid.uuid4().hex[:6]}"
    client, address = assent_environment.client(queue), assent_environment.server.address
    async with ModelServer() as models:
        models.script("e2e", calls(call("pay", to="bob"), call("invented", x=1), call("count")), says("done"))
        async with worker(models.url, address, queue, tmp_path / "ledger") as (first, url):
            run = await client.start("payer", "Pay.", requested_by="alice")
            [requirement] = (await run.until_paused()).active_requirements
            with pytest.raises(DecisionError):
                await run.approve(requirement, by="alice")
            await run.send("aprove", {"id": requirement.id})
            async with asyncio.timeout(10):
                while len((await run.state()).ignored_messages) < 2:  # noqa: ASYNC110 - another process writes it
                    await asyncio.sleep(0.02)
            await client.temporal.get_workflow_handle(run.id).query("state")
            async with asyncio.timeout(10):
                while "assent_notices_refused_total" not in (before := await scraped(url, queue)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert await first.end(signal.SIGTERM) == 0
        async with worker(models.url, address, queue, tmp_path / "ledger") as (_, url):
            async with asyncio.timeout(10):
                while "assent_approvals_waiting" not in (gauges := await scraped(url, queue)):  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            await run.approve(requirement, by="bob")
            usage = (await run.result()).usage
            after = await scraped(url, queue)
    assert before["assent_runs_total"] == {("payer", "started"): 1}
    assert before["assent_approvals_requested_total"] == {("payer", "confirmation", "pay"): 1}
    assert before["assent_tool_calls_total"] == {("payer", "denied", ""): 1, ("payer", "executed", "count"): 1}
    assert before["assent_decisions_total"] == {("payer", "person", "refused", "pay"): 1}
    assert before["assent_messages_ignored_total"] == {
        ("payer", "approve", "refused"): 1,
        ("payer", "other", "unreadable"): 1,
    }
    [(labels, refused)] = before["assent_notices_refused_total"].items()
    assert models.url.startswith(labels[1])
    assert refused == 1
    assert gauges["assent_runs_open"] == {("waiting",): 1}
    assert gauges["assent_approvals_waiting"] == {("payer", "pay"): 1}
    assert 0 < gauges["assent_approvals_oldest_seconds"]["payer", "pay"] < 60
    assert after["assent_runs_total"] == {("payer", "completed"): 1}
    assert "assent_approvals_requested_total" not in after
    assert after["assent_approvals_closed_total"] == {("payer", "confirmation", "approved", "pay"): 1}
    assert after["assent_decisions_total"] == {("payer", "person", "approved", "pay"): 1}
    assert after["assent_tool_calls_total"] == {("payer", "executed", "pay"): 1}
    assert after["assent_decision_seconds_bucket"]["payer", "confirmation", "2592000", "pay"] == 1
    both = [each["assent_tokens_total"] for each in (before, after)]
    assert sum(each["payer", "input"] for each in both) == usage.input_tokens > 0
    assert sum(each["payer", "output"] for each in both) == usage.output_tokens > 0
    cost = sum(each["assent_cost_micros_total"]["payer",] for each in (before, after))
    assert cost == round(usage.cost * 1_000_000) > 0
    assert sum(each["assent_model_calls_total"]["payer", "answered"] for each in (before, after)) == 2
