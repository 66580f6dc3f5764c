"""Agents of other frameworks, each run by its own Temporal plugin in an environment of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from temporalio.client import Client

from assent.testing import Environment, call, calls, says
from tests.e2e.processes import ROOT, Running, start

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(180)]

IBAN: Final = "DE02120300000000202051"
FRAMEWORKS: Final = {
    "openai_agents": "OpenAIAgentsPayer",
    "pydantic_ai": "PydanticAIPayer",
    "langgraph": "LangGraphPayer",
}


@dataclass(frozen=True)
class Payer:
    """A worker of one framework."""

    client: Client
    workflow: str
    queue: str
    ledger: Path
    worker: Running

    @property
    def sent(self) -> list[str]:
        """The transfers that really ran."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    async def run(self, prompt: str) -> str:
        handle = await self.client.start_workflow(
            self.workflow, prompt, id=f"payer-{uuid.uuid4().hex[:8]}", task_queue=self.queue, result_type=str
        )
        return await asyncio.wait_for(handle.result(), 60)


@asynccontextmanager
async def serving(environment: Environment, framework: str, folder: Path) -> AsyncGenerator[Payer]:
    queue, model, ledger = f"{framework}-{uuid.uuid4().hex[:8]}", f"scripted-{framework}", folder / "ledger"
    pay = calls(call("wire_transfer", to=IBAN, cents=500_000))
    environment.models.script(
        model, calls(call("look_up_invoice", number="4711")), pay, lambda seen: says(f"done: {seen.last_output}")
    )
    python = ROOT / f".venv-integrations-{framework}" / "bin" / "python"
    assert python.exists(), f"{python} is missing: `make test-integrations` makes it"
    variables = {
        "TEMPORAL_ADDRESS": environment.server.address,
        "OPENAI_BASE_URL": environment.models.url,
        "OPENAI_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "MODEL": model,
        "LEDGER": str(ledger),
        "PATH": os.environ["PATH"],
    }
    worker = await start(str(python), "-m", f"examples.integrations.{framework}.worker", queue, env=variables)
    try:
        await worker.until("Serving")
        yield Payer(environment.server.client, FRAMEWORKS[framework], queue, ledger, worker)
    finally:
        await worker.end(signal.SIGTERM)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_agent_of_another_framework_runs(
    assent_environment: Environment, framework: str, tmp_path: Path
) -> None:
    async with serving(assent_environment, framework, tmp_path) as payer:
        assert await payer.run("Pay invoice 4711.") == f"done: sent 500000 cents to {IBAN}"
        assert payer.sent == [f"{IBAN} 500000"]
