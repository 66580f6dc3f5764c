"""`kill -9` of the worker and of the server while runs wait: nothing is lost, and what is sent counts.

The agents below are served by real worker processes: this module is the one that they import.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue

from assent import (
    Agent,
    AgentClient,
    OpenAIResponses,
    Remember,
    Requirement,
    RunHandle,
    RunState,
    approval,
    ask_user,
    tool,
)
from assent.runtime.embedded_server import free_port
from assent.testing import Conversation, ModelServer, Reply, call, calls, check_replay, says
from tests.e2e.agents import note
from tests.e2e.processes import WORKER, Running, reachable, server, start

QUEUE = "kills"
DEADLINE = timedelta(seconds=8)
LONG = timedelta(days=30)


@approval(approvals=2, expires_after=LONG)
@tool
def wire(to: str) -> str:
    """Wire money; takes two people."""
    note(f"wired to {to}")
    return f"wired to {to}"


@approval(expires_after=DEADLINE)
@tool
def hurry(what: str) -> str:
    """Do something for which there is little time."""
    note(f"hurried {what}")
    return f"hurried {what}"


@tool(requires_confirmation=True)
def restart(service: str) -> str:
    """Restart a service."""
    note(f"restarted {service}")
    return f"restarted {service}"


@tool(requires_confirmation=True, heartbeat_timeout=timedelta(seconds=1))
async def slowly(to: str) -> str:
    """Pay somebody, slowly."""
    note(f"begins to pay {to}")
    await asyncio.sleep(60)
    note(f"paid {to}")
    return f"paid {to}"


TOOLS: list[Callable[..., object]] = [wire, hurry, restart, slowly, ask_user]
quorum = Agent(name="quorum", model=OpenAIResponses(id="quorum"), tools=TOOLS)
deadline = Agent(name="deadline", model=OpenAIResponses(id="deadline"), tools=TOOLS)
grant = Agent(name="grant", model=OpenAIResponses(id="grant"), tools=TOOLS)
question = Agent(name="question", model=OpenAIResponses(id="question"), tools=TOOLS)
outcome = Agent(name="outcome", model=OpenAIResponses(id="outcome"), tools=TOOLS)


def told(seen: Conversation) -> Reply:
    return says(f"told: {seen.last_output}")


def scripted() -> ModelServer:
    models = ModelServer()
    models.script("quorum", calls(call("wire", to="bob")), told)
    models.script("deadline", calls(call("hurry", what="up")), told)
    models.script(
        "grant",
        calls(call("restart", service="a")),
        calls(call("wire", to="carol")),
        calls(call("restart", service="b")),
        told,
    )
    models.script("question", calls(call("ask_user", question="Sure?")), told)
    models.script("outcome", calls(call("slowly", to="dave")), told)
    return models


@dataclass
class House:
    """A server on a database file, a scripted model, and workers; each can be killed and started again."""

    folder: Path
    port: int
    models: ModelServer
    process: Running
    client: AgentClient

    @property
    def ledger(self) -> list[str]:
        file = self.folder / "ledger"
        return file.read_text().splitlines() if file.exists() else []

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[None]:
        """A worker process, killed with -9 at the end of the block."""
        env = {
            "TEMPORAL_ADDRESS": f"127.0.0.1:{self.port}",
            "OPENAI_BASE_URL": self.models.url,
            "LEDGER": str(self.folder / "ledger"),
        }
        command = (*WORKER(), "--agents", __name__, "--task-queue", QUEUE)
        running = await start(*command, env=env)
        try:
            await running.until("Serving")
            yield
        finally:
            assert await running.end(signal.SIGKILL) == -signal.SIGKILL

    async def kill_the_server(self) -> None:
        """Kill the server with -9, and start another on its database file."""
        assert await self.process.end(signal.SIGKILL) == -signal.SIGKILL
        self.process = await server(self.folder / "temporal.db", self.port)
        self.client = await reachable(f"127.0.0.1:{self.port}", QUEUE)

    async def waits(self, agent: str) -> tuple[RunHandle, Requirement]:
        """A run of this agent that waits, and what for."""
        run = await self.client.start(agent, "Go.", requested_by="alice", id=agent)
        [requirement] = (await run.until_paused()).active_requirements
        return run, requirement

    async def states(self, *names: str) -> dict[str, RunState]:
        return {name: await self.client.get_run(name).state() for name in names}

    async def sends(self, name: str, signal_name: str, **more: JsonValue) -> None:
        """Decide what a run waits for by a signal; no worker is needed for it."""
        [requirement] = (await self.client.get_run(name).state()).active_requirements
        await self.client.get_run(name).send(signal_name, {"id": requirement.short_id, **more})

    async def content(self, name: str) -> str:
        """What the model said at the end of a run, whose history then replays."""
        result = await self.client.get_run(name).result()
        await check_replay(await self.client.get_run(name).history())
        return result.content


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    port = free_port()
    async with scripted() as models:
        process = await server(folder / "temporal.db", port)
        made: House | None = None
        try:
            made = House(folder, port, models, process, await reachable(f"127.0.0.1:{port}", QUEUE))
            yield made
        finally:
            await (made.process if made else process).end(signal.SIGKILL)


async def until(condition: str, it: House) -> None:
    async with asyncio.timeout(60):
        while condition not in it.ledger:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)


async def begin(it: House) -> None:
    """Runs that wait in four ways, and one that is killed inside its approved tool."""
    async with it.worker():
        run, requirement = await it.waits("quorum")
        assert (await run.approve(requirement, by="ann")).status == "recorded"
        run, requirement = await it.waits("grant")
        await run.approve(requirement, by="ann", remember=Remember(uses=3, expires_after=timedelta(seconds=86_400)))
        [wiring] = (await run.until_paused()).active_requirements
        assert wiring.tool == "wire"
        await it.waits("question")
        run, requirement = await it.waits("outcome")
        await run.approve(requirement, by="ann")
        await until("begins to pay dave", it)


async def test_runs_that_wait_in_every_way_outlive_the_kill_of_worker_and_server(tmp_path: Path) -> None:
    """A quorum half reached, a grant, a question, an outcome: all there after `kill -9`, and can be decided."""
    async with house(tmp_path) as it:
        await begin(it)
        async with it.worker():
            state = await it.client.get_run("outcome").until_paused()
            assert [each.kind for each in state.active_requirements] == ["outcome"]
        before = await it.states("quorum", "grant", "question", "outcome")
        await it.kill_the_server()
        # With no worker at all, everything is as it was: votes, deadline, grant, fields, the outcome that is asked.
        assert await it.states(*before) == before
        assert before["quorum"].active_requirements[0].approved_by == ["ann"]
        assert before["grant"].grants[0].uses == 3
        assert before["question"].active_requirements[0].fields[0].name == "answer"
        # Sent while every worker is down, and the server is killed once more before one comes up.
        await it.sends("quorum", "approve", by="ben")
        await it.sends("grant", "approve", by="ann")
        await it.sends("question", "submit_input", by="alice", values={"answer": "yes"})
        await it.sends("outcome", "submit_result", by="ann", output="the bank says that it was paid")
        await it.kill_the_server()
        async with it.worker():
            assert await it.content("quorum") == "told: wired to bob"
            assert await it.content("question") == "told: yes"
            assert await it.content("outcome") == "told: the bank says that it was paid"
            # The half of the other quorum is still missing; the grant then lets the third call go ahead.
            run = it.client.get_run("grant")
            [wiring] = (await run.until_paused()).active_requirements
            assert wiring.approved_by == ["ann"]
            assert (await run.approve(wiring, by="ben")).status == "approved"
            assert await it.content("grant") == "told: restarted b"
            [given] = (await run.state()).grants
            assert given.used == 1
        done = ["begins to pay dave", "restarted a", "restarted b", "wired to bob", "wired to carol"]
        assert sorted(it.ledger) == done


async def test_a_deadline_that_was_set_before_the_kill_fires_after_the_restart(tmp_path: Path) -> None:
    """A deadline outlives the `kill -9` of both, also where no worker runs at its time; silence is a rejection."""
    async with house(tmp_path) as it:
        async with it.worker():
            _, requirement = await it.waits("deadline")
        assert requirement.expires_at is not None
        await it.kill_the_server()
        [still] = (await it.client.get_run("deadline").state()).active_requirements
        assert still == requirement
        async with it.worker():
            content = await it.content("deadline")
        assert content.startswith("told: Expired: no one decided about this call by ")
        [record] = await it.client.get_run("deadline").audit()
        assert (record.status, record.execution) == ("expired", None)
        assert record.resolved_at is not None
        assert record.resolved_at >= requirement.expires_at
        assert it.ledger == []


async def test_an_approval_sent_before_the_deadline_and_handled_after_it_is_late(tmp_path: Path) -> None:
    """With the worker down past the deadline, an approval sent in time is handled too late, and runs nothing."""
    async with house(tmp_path) as it:
        async with it.worker():
            run, requirement = await it.waits("deadline")
        await it.sends("deadline", "approve", by="ann")
        await it.kill_the_server()
        await asyncio.sleep(DEADLINE.total_seconds())
        async with it.worker():
            assert (await it.content("deadline")).startswith("told: Expired")
        state = await it.client.get_run(run.id).state()
        assert [(each.id, each.status) for each in state.requirements] == [(requirement.id, "expired")]
        assert [(each.by, each.status) for each in state.ignored_messages] == [("ann", "late")]
        assert it.ledger == []
