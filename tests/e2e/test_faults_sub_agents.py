"""Faults while agents work for agents: whichever process dies, each gated call runs at most once, and all runs end.

The agents below are served by real worker processes: this module is the one that they import.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from assent import Agent, AgentClient, OpenAIResponses, RunHandle, approval, tool
from assent.audit.audit_tree import audits
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.client.start import exists
from assent.runtime.embedded_server import free_port
from assent.testing import Environment, ModelServer, call, calls, check_replay, says
from tests.e2e.agents import note
from tests.e2e.processes import WORKER, Running, reachable, server, start
from tests.e2e.tcp_proxy import Proxy
from tests.support.pending import pending_with_runs
from tests.support.run_probes import PATIENCE, events, lines, until
from tests.support.visibility import soon

ELSEWHERE: Final = "fault-elsewhere"
"""A task queue of its own, for an agent that other workers serve."""


async def _told_to_go_on() -> None:
    while not Path(os.environ["LEDGER"]).with_name("go").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)


@approval
@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    note(f"paid {to}")
    return f"paid {to}"


@approval
@tool(requires_confirmation=True, heartbeat_timeout=timedelta(seconds=1))
async def wire(to: str) -> str:
    """Wire money to somebody, as soon as the test says so."""
    note(f"begins to wire to {to}")
    await _told_to_go_on()
    note(f"wired to {to}")
    return f"wired to {to}"


async def _ask_when_told(input: str) -> str:
    note("asks")
    await _told_to_go_on()
    return input


teller = Agent(name="teller", model=OpenAIResponses(id="teller"), tools=[pay, wire])
abroad = Agent(name="abroad", model=OpenAIResponses(id="abroad"), tools=[pay])
closer = Agent(name="closer", model=OpenAIResponses(id="closer"), tools=[pay])
clerk = Agent(name="clerk", model=OpenAIResponses(id="clerk"), tools=[pay, teller.as_tool()], handoffs=[closer])
slow = replace(teller.as_tool(name="ask_slowly"), function=_ask_when_told, is_async=True)
boss = Agent(
    name="boss",
    model=OpenAIResponses(id="boss"),
    tools=[pay, slow, teller.as_tool(), clerk.as_tool(), abroad.as_tool(task_queue=ELSEWHERE)],
)


@dataclass
class Deaf(Proxy):
    """A proxy that, once `silent`, still passes on what is sent, and nothing that comes back."""

    async def _pass(self, source: StreamReader, target: StreamWriter, *, answers: bool) -> None:
        while data := await source.read(65_536):
            if self.line == "silent" and answers:
                continue
            target.write(data)
            await target.drain()
        raise ConnectionAbortedError


@dataclass(frozen=True)
class Place:
    """Where agents work for agents, served by processes that fail."""

    address: str
    client: AgentClient
    models: ModelServer
    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def go(self) -> None:
        """Let what waits for it go on."""
        (self.folder / "go").touch()

    @asynccontextmanager
    async def worker(self, address: str | None = None, *, queue: str | None = None) -> AsyncGenerator[Running]:
        """A worker process, killed at the end if it still runs."""
        env = {
            "TEMPORAL_ADDRESS": address or self.address,
            "OPENAI_BASE_URL": self.models.url,
            "LEDGER": str(self.ledger),
            # Nothing is cached, so nothing waits until the server notices that the worker with the cache is dead.
            "ASSENT_CACHED_RUNS": "0",
        }
        queue = queue or self.client.task_queue
        running = await start(*WORKER(), "--agents", __name__, "--task-queue", queue, env=env)
        try:
            await running.until("Serving")
            yield running
        finally:
            await running.end(signal.SIGKILL)

    async def begin(self) -> RunHandle:
        return await self.client.start("boss", f"Go. {uuid.uuid4().hex}", requested_by="alice")

    async def below(self, run: RunHandle) -> RunHandle:
        """The run that *run* asked, once there is one."""
        state = await until(run, lambda state: bool(state.children))
        child = self.client.get_run(state.children[0].run_id)
        assert await soon(lambda: exists(child), bool), "the server begins it a moment after the run above says so"
        return child

    async def noted(self, *wanted: str) -> None:
        """Wait until these lines are in the ledger."""
        async with asyncio.timeout(PATIENCE):
            while not set(wanted) <= set(lines(self.ledger)):  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.02)

    async def ends(self, run: RunHandle, content: str) -> None:
        """Wait for the end; the audits of the run and of those below it are in order, and all of them replay."""
        async with asyncio.timeout(2 * PATIENCE):
            assert (await run.result()).content == content

        async def read(run_id: str, observer: AuditObserver | None) -> Audit:
            return await self.client.get_run(run_id).audit(observer)

        async for each in audits(read, run.id, verify=True):
            assert each.verification is not None
            assert each.verification.ok, (each.path, each.verification)
            await check_replay(await self.client.get_run(each.run_id).history())


@asynccontextmanager
async def place(environment: Environment, folder: Path) -> AsyncGenerator[Place]:
    async with ModelServer() as models:
        address = environment.server.address
        yield Place(address, environment.client(f"fault-{uuid.uuid4().hex[:6]}"), models, folder)


async def approving(run: RunHandle) -> None:
    """Approve whatever waits, by signals, which no worker has to answer."""
    sent = set[str]()
    while not (await run.until_paused()).is_finished:
        for where, requirement, _ in await pending_with_runs(run):
            if requirement.id not in sent:
                sent.add(requirement.id)
                await where.send("approve", {"id": requirement.id, "by": "bob"})
        await asyncio.sleep(0.05)


async def test_workers_are_killed_while_a_run_below_waits_and_while_its_tool_runs(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """A person is asked at the run below what came of the call, and both runs end."""
    async with place(assent_environment, tmp_path) as it:
        it.models.script("boss", calls(call("ask_teller", input="Wire.")), says("Done."))
        it.models.script("teller", calls(call("wire", to="bob")), says("Wired."))
        async with it.worker() as first:
            run = await it.begin()
            below = await it.below(run)
            [waiting] = (await below.until_paused()).active_requirements
            await first.end(signal.SIGKILL)
        await below.send("approve", {"id": waiting.id, "by": "bob"})
        async with it.worker() as second:
            await it.noted("begins to wire to bob")
            await second.end(signal.SIGKILL)
        async with it.worker():
            state = await until(below, lambda state: any(each.kind == "outcome" for each in state.active_requirements))
            assert not (await run.state()).active_requirements, "it is asked where the call was made"
            await below.submit_result(state.active_requirements[0], by="bob", output="wired, says the bank")
            await it.ends(run, "Done.")
        assert lines(it.ledger) == ["begins to wire to bob"]


async def test_a_worker_is_killed_between_the_end_of_the_call_and_the_beginning_of_the_run_below(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """The answer that the agent may be asked is in the history, and one run of it begins."""
    async with place(assent_environment, tmp_path) as it:
        it.models.script("boss", calls(call("ask_slowly", input="Pay.")), says("Done."))
        it.models.script("teller", calls(call("pay", to="bob")), says("Paid."))
        way = Deaf(int(it.address.partition(":")[2]))
        await way.becomes("open")
        try:
            async with it.worker(f"127.0.0.1:{way.port}") as first:
                run = await it.begin()
                await it.noted("asks")
                await way.becomes("silent")
                it.go()
                completed = "ACTIVITY_TASK_COMPLETED"
                await soon(run.history, lambda history: len(events(history, completed)) == 2)
                assert not (await run.state()).children
                await first.end(signal.SIGKILL)
        finally:
            await way.close()
        async with it.worker():
            await approving(run)
            await it.ends(run, "Done.")
        assert lines(it.ledger) == ["asks", "paid bob"]
        assert len((await run.audit()).children) == 1


async def test_a_worker_is_dead_from_when_a_run_below_was_asked_until_after_its_end(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """The server keeps the answer for the run above, also when the worker below is killed right after it."""
    async with place(assent_environment, tmp_path) as it:
        it.models.script("boss", calls(call("ask_abroad", input="Pay.")), says("Done."))
        it.models.script("abroad", calls(call("pay", to="bob")), says("Paid."))
        async with it.worker() as above:
            run = await it.begin()
            below = await it.below(run)
            await above.end(signal.SIGKILL)
        async with it.worker(queue=ELSEWHERE) as other:
            [waiting] = (await below.until_paused()).active_requirements
            await below.send("approve", {"id": waiting.id, "by": "bob"})
            assert (await below.result()).content == "Paid."
            await other.end(signal.SIGKILL)
        async with it.worker():
            await it.ends(run, "Done.")
        assert lines(it.ledger) == ["paid bob"]


async def test_the_server_is_killed_with_its_database_file_while_the_tool_of_a_run_below_runs(tmp_path: Path) -> None:
    """The worker lives on; its report, the answer to the run above, and what that does then are all kept."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    async with ModelServer() as models, AsyncExitStack() as stack:
        models.script("boss", calls(call("ask_clerk", input="Wire.")), says("Done."))
        models.script("clerk", calls(call("ask_teller", input="Wire.")), says("Ok."))
        models.script("teller", calls(call("pay", to="bob")), says("Paid."))
        serving = await server(tmp_path / "temporal.db", port)
        stack.push_async_callback(serving.end, signal.SIGKILL)
        it = Place(address, await reachable(address, "fault"), models, tmp_path)
        async with it.worker():
            run = await it.begin()
            middle = await it.below(run)
            below = await it.below(middle)
            [waiting] = (await below.until_paused()).active_requirements
            await below.send("approve", {"id": waiting.id, "by": "bob"})
            await it.noted("paid bob")
            assert await serving.end(signal.SIGKILL) == -signal.SIGKILL
            again = await server(tmp_path / "temporal.db", port)
            stack.push_async_callback(again.end, signal.SIGKILL)
            it = replace(it, client=await reachable(address, "fault"))
            await it.ends(it.client.get_run(run.id), "Done.")
        assert lines(it.ledger) == ["paid bob"]


async def test_two_workers_take_turns_and_are_killed_at_any_moment(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """Runs three deep, of which one hands over: every payment is made once, and all runs end."""
    chance = random.Random(7)  # noqa: S311 - no secret
    async with place(assent_environment, tmp_path) as it:
        asks = (call("ask_clerk", input="Pay."), call("ask_teller", input="Pay."), call("pay", to="boss"))
        it.models.script("boss", calls(*asks), says("Done."))
        it.models.script(
            "clerk", calls(call("ask_teller", input="Pay.")), calls(call("pay", to="clerk"), call("transfer_to_closer"))
        )
        it.models.script("closer", says("-"), says("-"), calls(call("pay", to="closer")), says("Closed."))
        it.models.script("teller", calls(call("pay", to="teller")), says("Paid."))
        run = await it.begin()
        done = asyncio.create_task(approving(run))
        for _ in range(3):
            async with it.worker() as running:
                await asyncio.sleep(chance.uniform(0, 1.2))
                await running.end(signal.SIGKILL)
        async with it.worker():
            async with asyncio.timeout(2 * PATIENCE):
                await done
            await it.ends(run, "Done.")
        made = sorted(line for line in lines(it.ledger) if line.startswith("paid"))
        assert made == sorted(f"paid {to}" for to in ("boss", "clerk", "closer", "teller", "teller"))
