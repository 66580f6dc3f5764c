"""The processes of the soak: a Temporal server on a database file, a model, three workers; each may be killed."""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import sys
from asyncio.subprocess import STDOUT, Process
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from assent import AgentClient
from assent.runtime.embedded_server import free_port, temporal_binary
from tests.e2e.processes import ROOT, reachable

QUEUE: Final = "soak"
CONTINUE_AFTER: Final = ("15", "0", "40")
"""Of each worker; what the one that makes a run's first turn says holds for the run."""
_PR_SET_PDEATHSIG: Final = 1
_WEIGHTS: Final[Mapping[str, int]] = {"worker 0": 10, "worker 1": 10, "worker 2": 10, "server": 4, "model": 3}


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Town:
    """The processes by name, how each is started, how often it was killed, and how often it ended by itself."""

    folder: Path
    port: int
    commands: Mapping[str, tuple[str, ...]]
    env: Mapping[str, Mapping[str, str]]
    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    kills: Counter[str] = field(default_factory=Counter[str])
    ends: Counter[str] = field(default_factory=Counter[str])

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    async def start(self, name: str) -> None:
        """Start a process. What it prints goes to a file of its name; the kernel ends it should this one be killed."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *self.commands[name],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=STDOUT,
                cwd=ROOT,
                env={**os.environ, **self.env.get(name, {})},
                preexec_fn=_end_with_parent,
            )

    async def kill(self, name: str) -> None:
        """Kill a process of ours, by its own id, and start it again at once."""
        process = self.processes[name]
        if process.returncode is None:
            process.kill()
            self.kills[name] += await process.wait() == -signal.SIGKILL
            await self.start(name)

    async def supervising(self, done: asyncio.Event) -> None:
        """Start again what ended by itself, as whoever runs workers does: one that finds no server says so and ends."""
        while not done.is_set():
            for name, process in list(self.processes.items()):
                if process.returncode is not None:
                    self.ends[f"{name}: {process.returncode}"] += 1
                    await self.start(name)
            await asyncio.sleep(0.5)

    async def client(self) -> AgentClient:
        return await reachable(f"127.0.0.1:{self.port}", QUEUE)

    async def killing(self, chance: random.Random, seconds: float) -> None:
        """Kill something every one to three seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            await asyncio.sleep(chance.uniform(1, 3))
            [name] = chance.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))
            await self.kill(name)


@asynccontextmanager
async def town(folder: Path) -> AsyncGenerator[Town]:
    """All processes, for as long as the block runs; none is left after, however it ends."""
    port, model_port = free_port(), free_port()
    # As `assent.runtime.embedded_server` starts it, whose server cannot be killed from outside.
    server = (
        temporal_binary(), "server", "start-dev", "--headless", "--port", str(port), "--log-level", "error",
        "--db-filename", str(folder / "temporal.db"), "--sqlite-pragma", "journal_mode=WAL",
        "--sqlite-pragma", "synchronous=NORMAL",
        "--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000",
        "--dynamic-config-value", 'history.timerProcessorMaxTimeShift="1ms"',
    )  # fmt: skip
    commands: dict[str, tuple[str, ...]] = {
        "server": server,
        "model": (sys.executable, "-m", "tests.soak.model_process", str(model_port)),
    }
    env: dict[str, dict[str, str]] = {}
    for number, after in enumerate(CONTINUE_AFTER):
        name = f"worker {number}"
        commands[name] = (sys.executable, "worker.py", "--agents", "tests.soak.agents", "--task-queue", QUEUE)
        env[name] = {
            "TEMPORAL_ADDRESS": f"127.0.0.1:{port}",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1",
            "LEDGER": str(folder / "ledger"),
            "ASSENT_CONTINUE_AFTER": after,
        }
    made = Town(folder, port, commands, env)
    try:
        for name in commands:
            await made.start(name)
        yield made
    finally:
        for process in made.processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
