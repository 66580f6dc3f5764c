"""`kill -9` of the server while a run is watched: its events go on, none lost and none twice."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from assent import AgentClient
from assent.runtime.embedded_server import free_port
from assent.testing import ModelServer, call, calls, says
from assent.views.run_events import RunEvent
from tests.e2e.processes import ROOT, Running, reachable, server, worker
from tests.support.preloaded import assent_command

QUEUE = "watched"
CALL = ["model_called", "model_answered", "waiting", "decided", "tool_started", "tool_finished"]
STORY = ["started", *CALL * 3, "model_called", "model_answered", "completed"]


@dataclass
class Site:
    """A server on a database file that is killed and started again, and a client of it."""

    database: Path
    port: int
    serving: Running
    client: AgentClient
    tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def killed(self, *, away: float) -> None:
        """Kill the server, and start it again after *away* seconds."""
        await self.serving.end(signal.SIGKILL)
        await asyncio.sleep(away)
        self.serving = await server(self.database, self.port)
        self.client = await reachable(f"127.0.0.1:{self.port}", QUEUE)

    async def approve(self, run_id: str) -> None:
        """Approve what waits in a run, by a signal: it is kept whether or not a worker is there."""
        run = self.client.get_run(run_id)
        async with asyncio.timeout(60):
            [requirement] = (await run.until_paused()).active_requirements
        await run.send("approve", {"id": requirement.id, "by": "carol"})

    def collect(self, events: AsyncIterator[RunEvent]) -> list[RunEvent]:
        """What comes of *events* from now on; live text is left out."""
        found: list[RunEvent] = []

        async def collected() -> None:
            async for event in events:
                found.extend([event] if event.kind != "model_text" else [])

        self.tasks.append(asyncio.create_task(collected()))
        return found


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[Site]:
    """A site whose worker serves an agent that asks three times."""
    database, port = folder / "temporal.db", free_port()
    async with ModelServer() as models:
        models.script("e2e", *(calls(call("pay", to=name)) for name in ("bob", "ann", "eve")), says("done"))
        serving = await server(database, port)
        at = Site(database, port, serving, await reachable(f"127.0.0.1:{port}", QUEUE))
        try:
            async with worker(f"127.0.0.1:{port}", models.url, folder / "ledger", queue=QUEUE):
                yield at
        finally:
            for task in at.tasks:
                task.cancel()
            await asyncio.gather(*at.tasks, return_exceptions=True)
            await at.serving.end(signal.SIGKILL)


async def seen(events: list[RunEvent], kind: str) -> None:
    async with asyncio.timeout(60):
        while kind not in [event.kind for event in events]:  # noqa: ASYNC110 - another task fills it
            await asyncio.sleep(0.05)


async def test_a_watch_goes_on_when_the_server_is_killed_and_comes_back(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        run = await at.client.start("payer", "Pay.")
        every_run = at.client.watch_all("payer", from_start=True)
        one, every = at.collect(run.watch()), at.collect(event async for _, event in every_run)
        await at.approve(run.id)
        await at.killed(away=3)
        await at.approve(run.id)
        await at.killed(away=0)
        await at.approve(run.id)
        await seen(one, "completed")
        await seen(every, "completed")
        assert [event.kind for event in one] == STORY
        assert [event.kind for event in every] == STORY
        assert one == every


async def watching(at: Site, *arguments: str) -> Process:
    """The command `assent watch`, in a process of its own."""
    return await asyncio.create_subprocess_exec(
        *assent_command(),
        *("--address", f"127.0.0.1:{at.port}", "watch", *arguments),
        cwd=ROOT,
        env=os.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def first_line(watch: Process) -> str:
    """What a watch prints first: from then on, it is connected."""
    assert watch.stdout is not None
    return (await asyncio.wait_for(watch.stdout.readline(), 30)).decode().rstrip()


def kinds(lines: list[str]) -> list[str]:
    """The kinds of the events on these lines, each of which begins with a time."""
    return [line[11:26].strip().replace(" ", "_") for line in lines if line[8:11] == "Z  "]


async def test_the_command_says_in_one_line_that_the_server_is_away_and_goes_on(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        run = await at.client.start("payer", "Pay.")
        one, every = await watching(at, run.id), await watching(at, "--all", "--from-start")
        heard = [await first_line(each) for each in (one, every)]
        await run.until_paused()
        await at.killed(away=16)
        for _ in range(3):
            await at.approve(run.id)
        out, err = await asyncio.wait_for(one.communicate(), 60)
        assert (one.returncode, err) == (0, b"")
        lines = [heard[0], *out.decode().splitlines()]
        assert sum("the Temporal server does not answer" in line for line in lines) == 1
        assert kinds(lines) == STORY
        await asyncio.sleep(2)
        every.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(every.communicate(), 60)
        assert every.returncode == 130
        lines = [heard[1], *out.decode().splitlines()]
        assert kinds([line.removeprefix(f"{run.id}  ") for line in lines]) == STORY
        [said] = err.decode().splitlines()
        assert said.startswith("assent: the Temporal server does not answer")
