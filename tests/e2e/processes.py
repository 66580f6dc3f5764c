"""Real processes for tests: workers, and servers on a database file. Each is ended by its own id."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from assent.client.client import AgentClient
from assent.runtime.connection import connect
from assent.runtime.embedded_server import temporal_binary
from assent.wire.errors import ServerUnreachableError
from tests.support.preloaded import python_command

ROOT = Path(__file__).parents[2]
WORKER = partial(python_command, ROOT / "worker.py")
"""The command that runs `worker.py`."""


@dataclass
class Running:
    """A process, and the lines that it has printed."""

    process: Process
    lines: list[str]

    async def until(self, text: str) -> str:
        """Read on until a line holds *text*."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line.rstrip())
                if text in line:
                    return line
        message = f"the process ended before it printed {text!r}: {self.lines}"
        raise AssertionError(message)

    async def end(self, number: signal.Signals) -> int:
        """Send a signal, and wait for the end."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(40):
            rest, _ = await self.process.communicate()
        self.lines += rest.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode


async def start(*command: str, env: Mapping[str, str] | None = None) -> Running:
    """Start a process in the checkout's folder."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=PIPE, stderr=STDOUT, cwd=ROOT, env={**os.environ, **(env or {})}
    )
    return Running(process, [])


@asynccontextmanager
async def worker(address: str, models: str, ledger: Path, *, queue: str) -> AsyncGenerator[Running]:
    """A worker process for the agents of `tests.e2e.agents`; killed at the end if it still runs."""
    env = {"TEMPORAL_ADDRESS": address, "OPENAI_BASE_URL": models, "LEDGER": str(ledger)}
    running = await start(*WORKER(), "--agents", "tests.e2e.agents", "--task-queue", queue, env=env)
    try:
        await running.until("Serving")
        yield running
    finally:
        await running.end(signal.SIGKILL)


async def server(database: Path, port: int) -> Running:
    """A Temporal server on a database file."""
    flags = (
        "--sqlite-pragma",
        "journal_mode=WAL",
        "--dynamic-config-value",
        "history.transferProcessorMaxPollRPS=2000",
    )
    command = ("server", "start-dev", "--headless", "--port", str(port), "--db-filename", str(database), *flags)
    return await start(temporal_binary(), *command)


async def reachable(address: str, queue: str) -> AgentClient:
    """A client, once the server at *address* answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                return AgentClient(await connect(address), task_queue=queue)
            except ServerUnreachableError:
                await asyncio.sleep(0.1)
