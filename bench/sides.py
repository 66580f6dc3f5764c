"""The sides, seen alike: a worker process, and a way to start its runs and to read what they come to."""

from __future__ import annotations

import sys
import uuid
from abc import ABC, abstractmethod
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from pydantic import JsonValue
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from typing_extensions import override

from assent import AgentClient
from bench.agents import AGENT
from bench.asking import proof_of
from bench.bare_workflow import BareRun
from bench.processes import running, until
from bench.task import Task


class Contender(ABC):
    """Whatever is measured. *queue* is its task queue; names are of one length, as histories hold them."""

    name: str
    python: str = sys.executable

    def __init__(self, variables: Mapping[str, str]) -> None:
        """*variables* are the environment of its worker."""
        self.queue = f"bench-{self.name}-{uuid.uuid4().hex[:8]}"
        self.variables = variables

    def worker(self) -> AbstractAsyncContextManager[Process]:
        """Its worker process, for as long as the block runs. Ready once it completes a run."""
        return running(self.command, self.variables, self.python)

    def id(self) -> str:
        """A new run's id."""
        return f"{self.queue}-{uuid.uuid4().hex[:12]}"

    @asynccontextmanager
    async def aside(self) -> AsyncGenerator[None]:
        """A task queue of its own, which nobody serves yet, for as long as the block runs."""
        before = self.queue
        self.queue = f"bench-{self.name}-{uuid.uuid4().hex[:8]}"
        try:
            yield
        finally:
            self.queue = before

    @property
    @abstractmethod
    def command(self) -> Sequence[str]:
        """What Python is to run for its worker."""

    @abstractmethod
    async def start(self, task: Task) -> str:
        """Start a run; its id."""

    @abstractmethod
    async def result(self, run: str) -> str:
        """The last words of a run, once it has said them."""

    @property
    @abstractmethod
    def temporal(self) -> Client:
        """Its client of Temporal."""

    def handle(self, run: str) -> WorkflowHandle[object, object]:
        """The run as Temporal's client knows it."""
        return self.temporal.get_workflow_handle(run)

    async def run(self, task: Task) -> str:
        """A run from start to end; its last words."""
        return await self.result(await self.start(task))

    async def warm_up(self) -> None:
        """A first run, which is not measured."""
        await self.run(Task(turns=2))


class Side(Contender):
    """One of the two that stop at a guarded tool until they are told to go on."""

    @abstractmethod
    async def approve(self, run: str) -> None:
        """Send the signal that lets the guarded tool run."""

    async def until_waiting(self, run: str) -> None:
        """Until the run waits for the signal, and `approve` can send it."""
        await self.until_at_rest(run)

    async def until_at_rest(self, run: str, interval: float = 0.005) -> None:
        """Until the run waits for the signal: it has called the model, and nothing of it is under way."""

        async def waits() -> bool:
            return is_waiting(await self.handle(run).describe())

        await until(waits, interval)


class Assent(Side):
    """Assent as it is used: `worker.py`, `AgentClient`, and the wire's own signal."""

    name = "asst"

    def __init__(self, client: Client, variables: Mapping[str, str], module: str = "bench.agents") -> None:
        """*client* has Assent's data converter. *module* has the agent."""
        super().__init__(variables)
        self.module = module
        self.agents = AgentClient(client)
        self._approvals: dict[str, dict[str, JsonValue]] = {}

    @property
    @override
    def command(self) -> Sequence[str]:
        return ["worker.py", "--agents", self.module, "--task-queue", self.queue]

    @override
    async def start(self, task: Task) -> str:
        self.agents.task_queue = self.queue
        return (await self.agents.start(AGENT, task.prompt, id=self.id())).id

    @override
    async def result(self, run: str) -> str:
        return (await self.agents.get_run(run).result()).content

    @override
    async def until_waiting(self, run: str) -> None:
        await super().until_waiting(run)
        state = await self.agents.get_run(run).state()
        self._approvals[run] = {"id": state.active_requirements[0].id, "by": "bench"}

    async def sign(self, run: str) -> None:
        """Give the approval of a run that waits a proof: the word of a service that signed bob in."""
        body: dict[str, JsonValue] = {**self._approvals[run], "by": "bob"}
        statement = await self.agents.get_run(run).statement("approve", body)
        self._approvals[run] = {**body, "proof": proof_of(statement).model_dump()}

    @override
    async def approve(self, run: str) -> None:
        await self.agents.get_run(run).send("approve", self._approvals[run])

    @property
    @override
    def temporal(self) -> Client:
        return self.agents.temporal


class Bare(Side):
    """The bare workflow."""

    name = "bare"

    def __init__(self, client: Client, address: str, variables: Mapping[str, str]) -> None:
        """*client* has the pydantic data converter."""
        super().__init__(variables)
        self._client = client
        self._address = address

    @classmethod
    async def connect(cls, address: str, variables: Mapping[str, str]) -> Bare:
        """A side with a client of its own."""
        return cls(await Client.connect(address, data_converter=pydantic_data_converter), address, variables)

    @property
    @override
    def command(self) -> Sequence[str]:
        return ["-m", "bench.bare_worker", self._address, self.queue]

    @override
    async def start(self, task: Task) -> str:
        run = self.id()
        await self._client.start_workflow(BareRun.run, task.prompt, id=run, task_queue=self.queue)
        return run

    @override
    async def result(self, run: str) -> str:
        words: str = await self._client.get_workflow_handle(run, result_type=str).result()
        return words

    @override
    async def approve(self, run: str) -> None:
        await self.handle(run).signal("approve", "bench")

    @property
    @override
    def temporal(self) -> Client:
        return self._client


def is_waiting(run: WorkflowExecutionDescription, events: int = 8) -> bool:
    """Whether a run has at least so many events, and nothing of it is under way."""
    raw = run.raw_description
    return run.history_length >= events and not raw.pending_activities and not raw.HasField("pending_workflow_task")
