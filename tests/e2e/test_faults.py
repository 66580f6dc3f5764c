"""Faults at the worst moment: between a tool's end and its report, in the network, of the server, at a memory limit.

The agents below are served by real worker processes: this module is the one that they import. Workers that are killed
inside a tool or a model call are in `test_kills` and `test_kills_inside_calls`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.service import RetryConfig

from assent import Agent, AgentClient, OpenAIResponses, Requirement, RunHandle, ToolContext, approval, tool
from assent.runtime.connection import attributes_usable, connect
from assent.runtime.embedded_server import free_port
from assent.testing import Approved, Environment, ModelServer, call, calls, check_replay, drive
from assent.wire.errors import ServerUnreachableError
from tests.e2e.agents import note
from tests.e2e.processes import WORKER, Running, reachable, server, start
from tests.e2e.tcp_proxy import proxy
from tests.support.run_probes import PATIENCE, content, lines, told, until

BEAT = timedelta(seconds=1)
MIB = 1024 * 1024
HEADROOM = 768 * MIB
"""Of a worker at its memory limit: threads that it has yet to start reserve much that they never use."""


async def _when_told(to: str) -> str:
    note(f"begins to pay {to}")
    while not Path(os.environ["LEDGER"]).with_name("go").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    note(f"paid {to}")
    return f"paid {to}"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=3 * BEAT)  # its worker is to be dead before the server says so
async def pay(to: str) -> str:
    """Pay somebody, as soon as the test says so."""
    return await _when_told(to)


@approval
@tool(requires_confirmation=True, idempotent=True, heartbeat_timeout=BEAT)
async def settle(context: ToolContext, to: str) -> str:
    """Settle with somebody, which may be done again, as soon as the test says so."""
    note(f"settles with {to}, {context.idempotency_key}")
    return await _when_told(to)


@approval
@tool(requires_confirmation=True, heartbeat_timeout=BEAT)
def post(to: str) -> str:
    """Post a letter, in a thread, which nothing can stop."""
    note(f"begins to post to {to}")
    while not Path(os.environ["LEDGER"]).with_name("go").exists():
        time.sleep(0.02)
    note(f"posted to {to}")
    return f"posted to {to}"


@approval
@tool(requires_confirmation=True)
async def transfer(to: str) -> str:
    """Pay somebody, as soon as the test says so; its worker may be silent for long."""
    return await _when_told(to)


@approval
@tool(requires_confirmation=True)
def stamp(number: int) -> str:
    """Stamp a page."""
    note(f"stamped {number}, {os.getpid()}")
    return f"stamped {number}"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=20 * BEAT)  # to take it takes seconds on a busy machine
def devour() -> str:
    """Take all the memory that there is."""
    note("devours")
    hoard: list[bytearray] = []
    while True:
        hoard.append(bytearray(16 * MIB))


@tool(heartbeat_timeout=20 * BEAT, idempotent=True)
async def nibble() -> str:
    """Take all the memory that there is, in the loop of the worker."""
    note("nibbles")
    hoard: list[bytearray] = []
    while True:
        hoard.append(bytearray(16 * MIB))


TOOLS: list[Callable[..., object]] = [pay, settle, post, transfer, stamp, devour, nibble]
faulty = Agent(name="faulty", model=OpenAIResponses(id="faulty"), tools=TOOLS)


@dataclass(frozen=True)
class Place:
    """Where runs are served by processes that fail."""

    address: str
    client: AgentClient
    models: ModelServer
    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def go(self) -> None:
        """Let the tools that wait for it end."""
        (self.folder / "go").touch()

    @asynccontextmanager
    async def worker(self, address: str | None = None, *, is_forked: bool = True) -> AsyncGenerator[Running]:
        """A worker process, killed at the end if it still runs. Only if it is not forked, its process id is known."""
        env = {
            "TEMPORAL_ADDRESS": address or self.address,
            "OPENAI_BASE_URL": self.models.url,
            "LEDGER": str(self.ledger),
            # Nothing is cached, so nothing waits until the server notices that the worker with the cache is dead.
            "ASSENT_CACHED_RUNS": "0",
        }
        queue = self.client.task_queue
        command = WORKER() if is_forked else [sys.executable, "worker.py"]
        running = await start(*command, "--agents", __name__, "--task-queue", queue, env=env)
        try:
            await running.until("Serving")
            yield running
        finally:
            await running.end(signal.SIGKILL)

    async def waits(self) -> tuple[RunHandle, Requirement]:
        """A run that waits, and for what."""
        run = await self.client.start("faulty", f"Go. {uuid.uuid4().hex}", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        return run, requirement

    async def approved(self) -> RunHandle:
        """A run whose call was approved."""
        run, requirement = await self.waits()
        await run.approve(requirement, by="carol")
        return run

    async def until(self, *wanted: str) -> None:
        """Wait until these lines are in the ledger."""
        async with asyncio.timeout(PATIENCE):
            while not set(wanted) <= set(lines(self.ledger)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def place(environment: Environment, folder: Path) -> AsyncGenerator[Place]:
    async with ModelServer() as models:
        address = environment.server.address
        yield Place(address, environment.client(f"fault-{uuid.uuid4().hex[:6]}"), models, folder)


async def asked(run: RunHandle) -> Requirement:
    """What a run asks of people once the worker of its call is lost."""
    state = await until(run, lambda state: any(each.kind == "outcome" for each in state.active_requirements))
    [outcome] = state.active_requirements
    return outcome


async def test_a_kill_between_the_end_of_a_tool_and_its_report_is_put_to_a_person(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """The tool has done all its work; the worker cannot report it any more, and is killed. It runs once."""
    async with place(assent_environment, tmp_path) as it, proxy(int(it.address.partition(":")[2])) as way:
        it.models.script("faulty", calls(call("pay", to="bob")), told)
        async with it.worker(f"127.0.0.1:{way.port}") as first:
            run = await it.approved()
            await it.until("begins to pay bob")
            await way.becomes("silent")
            before = way.cut
            it.go()
            await it.until("paid bob")
            # Its report goes nowhere.
            async with asyncio.timeout(PATIENCE):
                while way.cut == before:  # noqa: ASYNC110 - another process sends it
                    await asyncio.sleep(0.02)
            await first.end(signal.SIGKILL)
        async with it.worker():
            outcome = await asked(run)
            assert (await run.submit_result(outcome, by="carol", output="paid, says the bank")).status == "executed"
            assert await content(run) == '["paid, says the bank"]'
        assert lines(it.ledger) == ["begins to pay bob", "paid bob"]
        assert (await run.verify()).ok


async def test_an_idempotent_tool_is_run_again_with_its_key_and_its_approval_when_its_worker_was_killed(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """One approval is enough, nobody is asked what came of it, and the key is that of the first time."""
    async with place(assent_environment, tmp_path) as it:
        it.models.script("faulty", calls(call("settle", to="bob")), told)
        async with it.worker() as first:
            run = await it.approved()
            await it.until("begins to pay bob")
            await first.end(signal.SIGKILL)
        it.go()
        async with it.worker():
            assert await content(run) == '["paid bob"]'
        [key, begun, again, *rest] = lines(it.ledger)
        assert (again, [begun, *rest]) == (key, ["begins to pay bob", "begins to pay bob", "paid bob"])
        [record] = await run.audit()
        assert (record.kind, record.status, record.execution) == ("confirmation", "approved", "executed")
        assert (await run.verify()).ok


async def test_a_worker_that_was_cut_off_and_thought_dead_cannot_report_any_more(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """A person gives the call up, and the worker comes back and its tool ends: what was decided stays."""
    async with place(assent_environment, tmp_path) as it, proxy(int(it.address.partition(":")[2])) as way:
        it.models.script("faulty", calls(call("post", to="bob")), told)
        async with it.worker(f"127.0.0.1:{way.port}") as first:
            run = await it.approved()
            await it.until("begins to post to bob")
            await way.becomes("refused")
            async with it.worker():
                outcome = await asked(run)
                assert (await run.reject(outcome, by="carol", reason="too long")).status == "rejected"
                answer = await content(run)
            await way.becomes("open")
            it.go()
            await it.until("posted to bob")
            assert await first.end(signal.SIGTERM) == 0, "it ends once it has reported"
        assert "may or may not" in answer
        assert lines(it.ledger) == ["begins to post to bob", "posted to bob"]
        found = [(each.status, each.execution) for each in await run.audit()]
        assert found == [("approved", "unknown"), ("rejected", None)]
        assert await content(run) == answer
        assert (await run.verify()).ok


async def test_a_tool_that_runs_while_the_server_is_killed_reports_once_it_is_back(tmp_path: Path) -> None:
    """The server is killed under a running tool, and comes back with its database file; the worker lives on."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    async with ModelServer() as models, AsyncExitStack() as stack:
        models.script("faulty", calls(call("transfer", to="bob")), told)
        serving = await server(tmp_path / "temporal.db", port)
        stack.push_async_callback(serving.end, signal.SIGKILL)
        it = Place(address, await reachable(address, "fault"), models, tmp_path)
        async with it.worker():
            run = await it.approved()
            await it.until("begins to pay bob")
            assert await serving.end(signal.SIGKILL) == -signal.SIGKILL
            it.go()
            await it.until("paid bob")
            again = await server(tmp_path / "temporal.db", port)
            stack.push_async_callback(again.end, signal.SIGKILL)
            run = (await reachable(address, "fault")).get_run(run.id)
            assert await content(run) == '["paid bob"]'
            assert lines(it.ledger) == ["begins to pay bob", "paid bob"]
            [record] = await run.audit()
            assert (record.status, record.execution, record.runs[0].attempts) == ("approved", "executed", 1)


async def test_two_workers_take_turns_and_each_is_killed_in_its_own(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """Each call is approved while no worker lives; each tool runs once, on the next worker."""
    turns = 2
    async with place(assent_environment, tmp_path) as it:
        it.models.script("faulty", *(calls(call("stamp", number=number)) for number in range(turns)), told)
        async with it.worker(is_forked=False) as first:
            run, requirement = await it.waits()
            workers = [first.process.pid]
            await first.end(signal.SIGKILL)
        for number in range(turns):
            # Durable, with no worker there at all.
            await run.send("approve", {"id": requirement.id, "by": "carol"})
            async with it.worker(is_forked=False) as running:
                workers.append(running.process.pid)
                await it.until(f"stamped {number}, {running.process.pid}")
                state = await run.until_paused()
                assert state.turns == number + 2
                requirement = (*state.active_requirements, requirement)[0]
                await running.end(signal.SIGKILL)
        assert await content(run) == json.dumps([f"stamped {number}" for number in range(turns)])
        assert lines(it.ledger) == [f"stamped {number}, {workers[number + 1]}" for number in range(turns)]
        await check_replay(await run.history())


def limit_memory(process: int) -> None:
    """Let a process have little more memory than it has now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + HEADROOM
    resource.prlimit(process, resource.RLIMIT_AS, (limit, limit))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
async def test_a_worker_at_its_memory_limit_runs_a_gated_tool_once(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """The model is told of the tool's `MemoryError`; the worker lives, and neither tool is run again."""
    async with place(assent_environment, tmp_path) as it:
        it.models.script("faulty", calls(call("devour")), calls(call("nibble")), calls(call("stamp", number=1)), told)
        async with it.worker(is_forked=False) as first:
            limit_memory(first.process.pid)
            run, _ = await it.waits()
            state = await drive(run, lambda _: Approved(), by="carol")
            assert first.process.returncode is None
        devoured, nibbled, stamped = json.loads(state.content or "")
        assert [devoured, nibbled, stamped] == ["Error: MemoryError: ", "Error: MemoryError: ", "stamped 1"]
        assert lines(it.ledger)[:2] == ["devours", "nibbles"]
        assert len(lines(it.ledger)) == 3


async def test_a_worker_that_finds_its_server_gone_does_not_take_that_for_a_refusal(
    assent_environment: Environment,
) -> None:
    """Else the runs that it begins would have no search attributes, and no inbox would show them."""
    async with proxy(int(assent_environment.server.address.partition(":")[2])) as way:
        client = await connect(f"127.0.0.1:{way.port}")
        impatient = await Client.connect(f"127.0.0.1:{way.port}", retry_config=RetryConfig(max_elapsed_time_millis=500))
        await way.becomes("refused")
        asking = asyncio.create_task(attributes_usable(client))
        await asyncio.sleep(0.5)
        await way.becomes("open")
        assert await asking
        await way.becomes("refused")
        with pytest.raises(ServerUnreachableError, match="does not answer"):
            await attributes_usable(impatient)
