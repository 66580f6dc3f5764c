"""A team's worker with the plugin: the turns of its agents, and the memory of workflows that wait for an approval."""

from __future__ import annotations

from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from bench.asking_workflows import Asking, BareAsking, BareQuestion
from bench.memory import GENTLY, resident
from bench.processes import running, until
from bench.sides import Assent, is_waiting
from bench.storm import each

OTHERS: Final = 20
_KIB: Final = 1_024


class Team(Assent):
    """Assent in the worker of a team."""

    name = "team"

    @property
    @override
    def command(self) -> Sequence[str]:
        return ["-m", "bench.team_worker", self.queue]

    @override
    async def warm_up(self) -> None:
        await self._started(BareQuestion, OTHERS)
        await super().warm_up()

    async def _started(self, kind: type[Asking | BareAsking | BareQuestion], number: int) -> list[str]:
        async def start(name: str) -> str:
            await self.temporal.start_workflow(kind.__name__, id=name, task_queue=self.queue)
            return name

        return await each(start, [self.id() for _ in range(number)])

    async def memory(self, kind: type[Asking | BareAsking], number: int) -> float:
        """KiB that each of *number* workflows adds to a new worker, which wait with their children."""
        async with self.aside(), running(self.command, self.variables) as worker:
            first = await self._waiting(kind, 10, worker)
            every = await self._waiting(kind, number, worker)
        return (every - first) * _KIB / number

    async def _waiting(self, kind: type[Asking | BareAsking], number: int, worker: Process) -> float:
        """MiB of the worker once so many more wait."""
        begun = await self._started(kind, number)

        async def at_rest(name: str) -> None:
            async def waits() -> bool:
                found = [each.id async for each in self.temporal.list_workflows(f'WorkflowId STARTS_WITH "{name}"')]
                return len(found) == 2 and all([is_waiting(await self.handle(run).describe(), 4) for run in found])

            await until(waits, GENTLY)

        await each(at_rest, begun)
        return resident(worker)
