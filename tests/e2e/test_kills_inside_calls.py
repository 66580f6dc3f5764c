"""Section A of the abuse cases, where a process is killed with `kill -9`. The docstrings name the rows."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from assent import AgentClient, RunHandle
from assent.testing import Environment, ModelServer, Step, call, calls, hangs
from assent.wire.activity_ids import model_activity_id
from tests.e2e.processes import WORKER, Running, start
from tests.support.run_probes import PATIENCE, calls_of, content, lines, told, until
from tests.workflows.test_wire import temporal


@dataclass(frozen=True)
class Doomed:
    """A model, a queue, and worker processes that die; *ledger* is what their tools did."""

    environment: Environment
    client: AgentClient
    models: ModelServer
    ledger: Path

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[Running]:
        """A worker process; killed at the end if it still runs."""
        env = {
            "TEMPORAL_ADDRESS": self.environment.server.address,
            "OPENAI_BASE_URL": self.models.url,
            "LEDGER": str(self.ledger),
            # Nothing is cached, so nothing waits until the server notices that the worker with the cache is dead.
            "ASSENT_CACHED_RUNS": "0",
        }
        queue = self.client.task_queue
        command = (*WORKER(), "--agents", "tests.support.run_probes", "--task-queue", queue)
        running = await start(*command, env=env)
        try:
            await running.until("Serving")
            yield running
        finally:
            await running.end(signal.SIGKILL)

    async def waits(self) -> tuple[RunHandle, str]:
        """A run that waits for one call, and the id of that."""
        run = await self.client.start("doomed", f"Go. {self.client.task_queue}", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        return run, requirement.id


async def dead(worker: Running) -> None:
    """Wait until the process was killed."""
    async with asyncio.timeout(PATIENCE):
        assert await worker.process.wait() == -signal.SIGKILL


@asynccontextmanager
async def doomed(environment: Environment, folder: Path, *steps: Step) -> AsyncGenerator[Doomed]:
    """A model that follows *steps*, and a queue that nobody serves yet."""
    async with ModelServer() as models:
        models.script("doomed", *steps)
        yield Doomed(environment, environment.client(f"kill-{uuid.uuid4().hex[:6]}"), models, folder / "ledger")


async def test_a_kill_inside_an_approved_tool_is_put_to_a_person_and_not_run_again(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """At most once; the unknown outcome waits for a person, who says what came of it."""
    async with doomed(assent_environment, tmp_path, calls(call("pay_and_die", to="bob")), told) as it:
        async with it.worker() as first:
            run, waiting = await it.waits()
            await run.send("approve", {"id": waiting, "by": "carol"})
            await dead(first)
        async with it.worker():
            state = await until(run, lambda state: state.is_paused)
            lost, outcome = state.requirements
            assert (lost.status, lost.execution, lost.id) == ("approved", "unknown", waiting)
            assert (outcome.kind, outcome.status, outcome.follows) == ("outcome", "pending", waiting)
            assert (outcome.tool, outcome.tool_args) == ("pay_and_die", {"to": "bob"})
            assert lines(it.ledger) == ["paid bob"]
            await run.submit_result(outcome, by="carol", output="the bank has it: paid", evidence="statement 7")
            assert await content(run) == '["the bank has it: paid"]'
            assert lines(it.ledger) == ["paid bob"]
            assert len(calls_of(await run.history(), "pay_and_die")) == 1


async def test_a_kill_in_the_model_call_after_an_approved_tool_keeps_its_result(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """The tool's result is kept, and the tool does not run again."""
    async with doomed(assent_environment, tmp_path, calls(call("pay", to="bob")), hangs(60), told) as it:
        async with it.worker() as first:
            run, waiting = await it.waits()
            await run.send("approve", {"id": waiting, "by": "carol"})
            async with asyncio.timeout(PATIENCE):
                while len(it.models.requests) < 2:  # noqa: ASYNC110 - the model's server counts them
                    await asyncio.sleep(0.01)
            await first.end(signal.SIGKILL)
        # The server would give the dead worker 30 seconds more; an operator need not.
        await temporal(
            it.environment, "activity", "update-options", "--workflow-id", run.id,
            "--activity-id", model_activity_id(2), "--heartbeat-timeout", "5s",
        )  # fmt: skip
        async with it.worker():
            assert await content(run) == '["paid bob"]'
        assert lines(it.ledger) == ["paid bob"]
        history = await run.history()
        assert len(calls_of(history, "pay")) == 1
        assert len(it.models.requests) == 3


async def test_an_audited_tool_whose_process_dies_is_in_the_history(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """Who approved what is in the history, and that it was about to run, though nobody ever reported on it."""
    async with doomed(assent_environment, tmp_path, calls(call("wipe_and_die", user="u1")), told) as it:
        async with it.worker() as first:
            run, waiting = await it.waits()
            await run.send("approve", {"id": waiting, "by": "carol", "reason": "asked for"})
            await dead(first)
        assert lines(it.ledger) == ["wipes u1"]
        [attempt] = calls_of(await run.history(), "wipe_and_die")
        assert attempt.arguments == '{"user": "u1"}'
        [record] = await run.audit()
        assert (record.approval_type, record.status, record.execution) == ("audit", "approved", "running")
        assert (record.resolved_by, record.reason, record.requested_by) == ("carol", "asked for", "alice")
        assert record.arguments == '{"user": "u1"}'
        async with it.worker():
            lost, outcome = (await until(run, lambda state: state.is_paused)).requirements
            assert (lost.execution, outcome.kind, outcome.approval_type) == ("unknown", "outcome", "audit")
            await run.reject(outcome, by="carol", reason="the data are still there")
            await content(run)
            assert lines(it.ledger) == ["wipes u1"]
