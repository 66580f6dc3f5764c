"""Somebody who works with the `assent` command in real processes, and agents whose runs wait for them."""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assent import Agent, AgentClient, approval, tool
from assent.testing import Environment, call, calls, fails, says

from .preloaded import assent_command

HERE = Path(__file__).resolve().parents[2]


@approval
@tool(requires_confirmation=True)
async def deploy(target: str) -> str:
    """Deploy to a target."""
    return f"deployed to {target[:20]}"


@approval
@tool(external_execution=True)
def ship(version: str) -> str:
    """Ship a version; carried out elsewhere."""
    raise NotImplementedError


@dataclass(frozen=True)
class Ran:
    """What a process came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Operator:
    """Somebody with the `assent` command, and a client to set things up with."""

    environment: Environment
    client: AgentClient

    def variables(self, columns: int | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        queue = {"ASSENT_TASK_QUEUE": self.client.task_queue, "TEMPORAL_ADDRESS": self.environment.server.address}
        return {**kept, **queue, "LC_ALL": "C.UTF-8", **({"COLUMNS": str(columns)} if columns else {})}

    async def start(self, *arguments: str, columns: int | None = None) -> Process:
        return await asyncio.create_subprocess_exec(
            *assent_command(),
            *arguments,
            cwd=HERE,
            env=self.variables(columns),
            stdout=PIPE,
            stderr=PIPE,
        )

    async def assent(self, *arguments: str, columns: int | None = None) -> Ran:
        process = await self.start(*arguments, columns=columns)
        out, err = await asyncio.wait_for(process.communicate(), 30)
        ran = Ran(process.returncode or 0, out.decode(), err.decode())
        assert "Traceback" not in ran.err
        assert "\x1b" not in ran.out
        return ran

    async def records(self, run_id: str) -> list[Any]:
        """The approval records that `assent audit RUN --json` writes."""
        ran = await self.assent("audit", run_id, "--json")
        return [each for each in map(json.loads, ran.out.splitlines()) if each["record"] == "approval"]

    async def waits(self, agent: str) -> tuple[str, str]:
        """A run of this agent that waits: its id, and the short id of the call."""
        run = await self.client.start(agent, "Do it.")
        state = await run.until_paused()
        return run.id, state.active_requirements[0].short_id


@asynccontextmanager
async def operating(
    environment: Environment, *, agent: str = "deployer", arguments: str = '{"target": "prod"}'
) -> AsyncGenerator[Operator]:
    """An operator, and a worker that serves *agent*, `shipper` (its call runs elsewhere) and `locked` (no key)."""
    gated, out = calls(call("deploy", raw=arguments)), calls(call("ship", version="1.2"))
    agents = [
        Agent(name=agent, model=environment.responses(gated, says("It [b]is[/b] done.\x1b[2J")), tools=[deploy]),
        Agent(name="shipper", model=environment.chat(out, says("Shipped.")), tools=[ship]),
        Agent(name="locked", model=environment.chat(fails(401, times=None, message="no such key")), tools=[deploy]),
    ]
    async with environment.serve(*agents) as client:
        yield Operator(environment, client)
