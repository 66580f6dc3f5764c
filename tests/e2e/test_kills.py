"""`kill -9` of real processes: nothing is lost, and no gated tool runs twice unless a person says so."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assent import Requirement, RunHandle, RunState
from assent.runtime.embedded_server import free_port
from assent.testing import Approved, Environment, ModelServer, call, calls, check_replay, drive, says
from tests.e2e.processes import reachable, server, worker
from tests.support.visibility import soon


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines() if ledger.exists() else []


async def until(ledger: Path, line: str) -> None:
    async with asyncio.timeout(60):
        while line not in lines(ledger):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)


async def test_a_worker_killed_while_a_run_waits_loses_nothing(assent_environment: Environment, tmp_path: Path) -> None:
    ledger, queue = tmp_path / "ledger", f"kill-{uuid.uuid4().hex[:6]}"
    address, models = assent_environment.server.address, assent_environment.models
    models.script("e2e", calls(call("pay", to="bob")), lambda seen: says(f"told: {seen.last_output}"))
    client = assent_environment.client(queue)
    async with worker(address, models.url, ledger, queue=queue) as first:
        run = await client.start("payer", f"Pay. {queue}")
        [requirement] = (await run.until_paused()).active_requirements
        assert await first.end(signal.SIGKILL) == -signal.SIGKILL
    # With every worker dead the inbox still answers, and the decision is kept.
    assert run.id in [each.run_id for each in await soon(client.pending)]
    await run.send("approve", {"id": requirement.short_id, "by": "carol"})
    async with worker(address, models.url, ledger, queue=queue) as second:
        assert (await run.result()).content == "told: paid bob"
        assert lines(ledger) == ["paid bob"]
        assert await second.end(signal.SIGTERM) == 0


@asynccontextmanager
async def lost(running: Environment, ledger: Path) -> AsyncGenerator[tuple[RunHandle, Requirement]]:
    """A run whose worker was killed inside an approved tool, and what it asks of people once another worker serves."""
    queue = f"kill-{uuid.uuid4().hex[:6]}"
    async with ModelServer() as models:
        models.script("e2e", calls(call("pay_slowly", to="bob")), lambda seen: says(str(seen.last_output)))
        client = running.client(queue)
        async with worker(running.server.address, models.url, ledger, queue=queue) as first:
            run = await client.start("payer", f"Pay. {queue}", requested_by="alice")
            [requirement] = (await run.until_paused()).active_requirements
            await run.approve(requirement, by="carol")
            await until(ledger, "begins to pay bob")
            await first.end(signal.SIGKILL)
        async with worker(running.server.address, models.url, ledger, queue=queue), asyncio.timeout(60):
            state = await run.until_paused()
            [asked] = state.active_requirements
            assert (state.status, asked.kind, asked.tool, asked.follows) == (
                "waiting",
                "outcome",
                "pay_slowly",
                requirement.id,
            )
            assert "its worker was lost" in (asked.note or "")
            assert lines(ledger) == ["begins to pay bob"]
            yield run, asked
            queried = await client.temporal.get_workflow_handle(run.id).query("state")
            assert await run.state() == RunState.model_validate(queried)
            await check_replay(await run.history())


async def test_a_tool_whose_worker_was_killed_is_not_run_again_when_a_person_knows_what_came_of_it(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with lost(assent_environment, ledger) as (run, asked):
        own = await run.approve(asked, by="alice", check=False)
        assert (own.status, lines(ledger)) == ("refused", ["begins to pay bob"])
        result = await run.submit_result(asked, by="dave", output="paid bob", evidence={"statement": 12})
        assert result.status == "executed"
        assert (await run.result()).content == "paid bob"
        assert lines(ledger) == ["begins to pay bob"]
        approved, outcome = await run.audit()
        assert (approved.status, approved.execution, approved.resolved_by) == ("approved", "unknown", "carol")
        assert (outcome.status, outcome.execution, outcome.resolved_by) == ("approved", "executed", "dave")


async def test_a_tool_whose_worker_was_killed_runs_again_when_a_person_says_so(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with lost(assent_environment, ledger) as (run, asked):
        (tmp_path / "quick").touch()
        assert (await run.approve(asked, by="dave")).status == "approved"
        assert (await run.result()).content == "paid bob"
        assert lines(ledger) == ["begins to pay bob", "begins to pay bob", "paid bob"]
        approved, outcome = await run.audit()
        assert (approved.status, approved.execution) == ("approved", "unknown")
        assert (outcome.status, outcome.execution, outcome.resolved_by) == ("approved", "executed", "dave")


async def test_a_tool_whose_worker_was_killed_is_given_up_when_a_person_says_so(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with lost(assent_environment, ledger) as (run, asked):
        assert (await run.reject(asked, by="dave", reason="leave it")).status == "rejected"
        content = (await run.result()).content
        assert "leave it" in content
        assert "may or may not" in content, "nobody knows, so the model is not told that it was not run"
        assert lines(ledger) == ["begins to pay bob"]
        approved, outcome = await run.audit()
        assert (approved.status, approved.execution) == ("approved", "unknown")
        assert (outcome.status, outcome.execution) == ("rejected", None)


async def test_an_ungated_tool_is_run_once_though_its_worker_died(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger, queue = tmp_path / "ledger", f"kill-{uuid.uuid4().hex[:6]}"
    address, models = assent_environment.server.address, ModelServer()
    async with models:
        models.script("e2e", calls(call("send_email")), lambda seen: says(str(seen.last_output)))
        client = assent_environment.client(queue)
        async with worker(address, models.url, ledger, queue=queue) as first:
            run = await client.start("payer", f"Send. {queue}")
            await until(ledger, "sends")
            await first.end(signal.SIGKILL)
        async with worker(address, models.url, ledger, queue=queue):
            content = (await run.result()).content
            assert content.startswith("Error: its worker was lost while it ran")
            assert "may or may not have taken effect" in content
            assert lines(ledger) == ["sends"]


async def test_an_idempotent_tool_is_run_again_after_its_worker_died(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger, queue = tmp_path / "ledger", f"kill-{uuid.uuid4().hex[:6]}"
    address, models = assent_environment.server.address, ModelServer()
    async with models:
        models.script("e2e", calls(call("count")), lambda seen: says(str(seen.last_output)))
        client = assent_environment.client(queue)
        async with worker(address, models.url, ledger, queue=queue) as first:
            run = await client.start("payer", f"Count. {queue}")
            await until(ledger, "counts")
            await first.end(signal.SIGKILL)
        async with worker(address, models.url, ledger, queue=queue):
            assert (await run.result()).content == "counted"
            assert lines(ledger) == ["counts", "counts", "counted"]


async def test_sigterm_lets_a_running_tool_finish(assent_environment: Environment, tmp_path: Path) -> None:
    ledger, queue = tmp_path / "ledger", f"kill-{uuid.uuid4().hex[:6]}"
    address, models = assent_environment.server.address, ModelServer()
    async with models:
        models.script("e2e", calls(call("count")), says("done"))
        client = assent_environment.client(queue)
        async with worker(address, models.url, ledger, queue=queue) as first:
            run = await client.start("payer", f"Count. {queue}")
            await until(ledger, "counts")
            assert await first.end(signal.SIGTERM) == 0
            assert lines(ledger) == ["counts", "counted"]
            assert any("Web UI" in line for line in first.lines)
        async with worker(address, models.url, ledger, queue=queue):
            assert (await run.result()).content == "done"
            assert lines(ledger) == ["counts", "counted"]


async def test_server_and_worker_killed_while_a_run_waits_lose_nothing(tmp_path: Path) -> None:
    ledger, queue, port = tmp_path / "ledger", "killed", free_port()
    address = f"127.0.0.1:{port}"
    async with ModelServer() as models:
        models.script("e2e", calls(call("pay", to="bob")), says("done"))
        serving = await server(tmp_path / "temporal.db", port)
        try:
            client = await reachable(address, queue)
            async with worker(address, models.url, ledger, queue=queue) as first:
                run = await client.start("payer", "Pay.")
                await run.until_paused()
                await first.end(signal.SIGKILL)
            await serving.end(signal.SIGKILL)
            serving = await server(tmp_path / "temporal.db", port)
            client = await reachable(address, queue)
            async with worker(address, models.url, ledger, queue=queue):
                state = await drive(client.get_run(run.id), lambda _: Approved(), by="carol")
                assert state.content == "done"
                assert lines(ledger) == ["paid bob"]
        finally:
            await serving.end(signal.SIGKILL)


async def test_an_answer_counts_where_its_gate_ends_the_worker_at_once(
    assent_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_HEARTBEAT", "2")
    ledger, queue = tmp_path / "ledger", f"kill-{uuid.uuid4().hex[:6]}"
    address = assent_environment.server.address
    async with ModelServer() as models:
        models.script("banker", calls(call("withdraw", amount=5)), says("done"))
        run = await assent_environment.client(queue).start("banker", f"Withdraw. {queue}")
        for _ in range(2):
            async with worker(address, models.url, ledger, queue=queue) as dying:
                await asyncio.wait_for(dying.process.wait(), 60)
        async with worker(address, models.url, ledger, queue=queue):
            assert (await asyncio.wait_for(run.result(), 60)).content == "done"
            assert (await run.state()).usage.requests == len(models.requests) == 4
