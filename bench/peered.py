"""Assent and the bare workflow beside peers that do the same: `pydantic-ai` and the OpenAI Agents SDK on Temporal."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError
from typing_extensions import override

from bench.comparison import Comparison
from bench.environments import Environment, NotInstalledError
from bench.long import KIB, events, left_behind
from bench.processes import cpu_seconds
from bench.sides import Contender
from bench.stage import Stage
from bench.storm import each
from bench.task import Task

RESULT: Final = 2 * KIB
"""Bytes of a tool result."""
AT_ONCE: Final = 32
SHORT: Final = 4
"""Turns of a run, where many are run at once."""
PATIENCE: Final = 240.0
"""Seconds that a run may take: a peer that cannot go on lets its workflow task fail for ever."""
SOON: Final = 60.0
"""Seconds that its first run may take, a new worker's start included."""
_COMPLETED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
_TASK_FAILED: Final = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED


@dataclass(frozen=True)
class Program:
    """A peer: the name of its side, which is as long as the others', its environment, workflow and worker."""

    name: str
    environment: Environment
    workflow: str
    worker: str


PROGRAMS: Final = (
    Program(
        "pyai",
        Environment("pydantic-ai", ("pydantic-ai-slim[openai,temporal]==2.68.0",)),
        "PydanticAI",
        "bench.peers.pydantic_ai_worker",
    ),
    Program(
        "oaia",
        Environment("openai-agents", ("temporalio-openai-agents==1.1.0", "openai-agents==0.22.3")),
        "OpenAIAgent",
        "bench.peers.openai_agents_worker",
    ),
)


class Peer(Contender):
    """A peer in its own environment, started by the bare side's client: a prompt and the last words are plain text."""

    def __init__(self, program: Program, python: str, client: Client, variables: Mapping[str, str]) -> None:
        """*python* is that of its environment."""
        self.name = program.name
        super().__init__(variables)
        self.python = python
        self._program = program
        self._client = client

    @property
    @override
    def command(self) -> Sequence[str]:
        return ["-m", self._program.worker, self.variables["TEMPORAL_ADDRESS"], self.queue]

    @override
    async def start(self, task: Task) -> str:
        run = self.id()
        await self._client.start_workflow(self._program.workflow, task.prompt, id=run, task_queue=self.queue)
        return run

    @override
    async def result(self, run: str) -> str:
        words: str = await self._client.get_workflow_handle(run, result_type=str).result()
        return words

    @property
    @override
    def temporal(self) -> Client:
        return self._client


@dataclass
class Field:
    """Everybody who takes part, by the report's name, with the process of their worker; and what is to be said."""

    sides: dict[str, tuple[Contender, Process]]
    remarks: list[str] = field(default_factory=list[str])

    def in_turns(self, rounds: int) -> Iterable[tuple[str, Contender, Process]]:
        """Everybody, then everybody in the other order, and so on."""
        for number in range(rounds):
            for name in list(self.sides)[:: 1 if number % 2 == 0 else -1]:
                yield name, *self.sides[name]


@asynccontextmanager
async def everybody(stage: Stage) -> AsyncGenerator[Field]:
    """Both sides, and the peers that could be installed and serve, for as long as the block runs."""
    async with AsyncExitStack() as stack:
        found = Field({
            "Assent": (stage.assent, stage.worker(stage.assent)),
            "bare": (stage.bare, stage.worker(stage.bare)),
        })  # fmt: skip
        for program in PROGRAMS:
            name = program.environment.name
            try:
                python = await program.environment.python()
            except NotInstalledError as error:
                found.remarks.append(f"{name} is missing, it could not be installed: {error}")
                continue
            peer = Peer(program, python, stage.bare.temporal, stage.bare.variables)
            process = await stack.enter_async_context(peer.worker())
            if failure := (await ran(peer, Task(turns=2), SOON)).failure:
                found.remarks.append(f"{name} is missing: {failure}")
            else:
                found.sides[name] = peer, process
                found.remarks.append(f"{name}: {', '.join(program.environment.packages)}")
        yield found


@dataclass(frozen=True)
class Ran:
    """One run: what it took, what it left, and how it failed if it did, after so many turns."""

    milliseconds: float
    kib: float
    executions: int
    failure: str | None = None


async def ran(side: Contender, task: Task, patience: float = PATIENCE) -> Ran:
    """A run from start to end, or as far as it goes."""
    begun, run, failure = time.perf_counter(), await side.start(task), None
    try:
        async with asyncio.timeout(patience):
            await side.result(run)
    except WorkflowFailureError as error:
        failure = str(error.cause)
    except TimeoutError:
        failure = f"not done in {patience:.0f} s"
        await side.handle(run).terminate()
    took = time.perf_counter() - begun
    left = await left_behind(side.temporal, run)
    if failure:
        failure = f"{await _how_far(side, run)}, at {left.kib / KIB:.1f} MiB: {failure}"
    return Ran(took * 1_000, left.kib, left.executions, failure)


async def _how_far(side: Contender, run: str) -> str:
    """After how many turns, of two activities each, a run went no further; and what its workflow tasks failed of."""
    completed, reason = 0, ""
    async for event in events(side.temporal, run):
        completed += event.event_type == _COMPLETED
        if event.event_type == _TASK_FAILED:
            reason = event.workflow_task_failed_event_attributes.failure.message
    return f"after {completed // 2} turns" + (f" ({reason[:200]})" if reason else "")


async def runs_of(everyone: Field, turns: int, rounds: int) -> list[Comparison]:
    """Runs of so many turns, one at a time."""
    wall, size, cpu, parts = (dict[str, list[float]]() for _ in range(4))
    for name, side, worker in everyone.in_turns(rounds):
        before = cpu_seconds(worker)
        run = await ran(side, Task(turns=turns, size=RESULT))
        if run.failure:
            everyone.remarks.append(f"{name}, run of {turns} turns: {run.failure}")
            continue
        wall.setdefault(name, []).append(run.milliseconds / turns)
        cpu.setdefault(name, []).append((cpu_seconds(worker) - before) * 1_000 / turns)
        size.setdefault(name, []).append(run.kib)
        parts.setdefault(name, []).append(run.executions)
    found = [
        Comparison("peers", f"a turn, run of {turns}", "ms", wall),
        Comparison("peers", "processor time of the worker, a turn", "ms", cpu),
        Comparison("peers", f"history, {turns} turns of 2 KiB results", "KiB", size),
    ]
    if max((max(values) for values in parts.values()), default=1) > 1:
        found.append(Comparison("peers", "executions that the run went on in", "", parts))
    return found


async def many(everyone: Field, runs: int, rounds: int) -> list[Comparison]:
    """Many short runs at once."""
    rate, cpu = dict[str, list[float]](), dict[str, list[float]]()
    for name, side, worker in everyone.in_turns(rounds):
        before, begun = cpu_seconds(worker), time.perf_counter()
        await each(side.run, [Task(turns=SHORT, size=RESULT) for _ in range(runs)], at_once=AT_ONCE)
        rate.setdefault(name, []).append(runs / (time.perf_counter() - begun))
        cpu.setdefault(name, []).append((cpu_seconds(worker) - before) * 1_000 / runs)
    return [
        Comparison("peers", f"runs of {SHORT} turns, {AT_ONCE} at once", "/s", rate),
        Comparison("peers", "processor time of the worker, a run", "ms", cpu),
    ]


async def compared(stage: Stage, turns: Mapping[int, int], runs: int) -> list[Comparison]:
    """Many *runs* at once, then single runs of so many *turns*, each so often. The last line has the remarks."""
    async with everybody(stage) as everyone:
        found = await many(everyone, runs, 2)
        for length, rounds in turns.items():
            found += await runs_of(everyone, length, rounds)
    found[-1].remarks.extend(everyone.remarks)
    return found
