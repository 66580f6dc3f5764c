"""What every figure is measured on: one server, one model server, and a warm worker of each side."""

from __future__ import annotations

import os
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from assent.runtime.embedded_server import embedded_server
from bench.asking import APPROVERS
from bench.processes import end, first_line, running
from bench.sides import Assent, Bare, Side
from bench.task import URL_VARIABLE, Task

KIB: Final = 1024


@dataclass(frozen=True)
class Stage:
    """Both sides, their workers' processes by side name, and the server's address."""

    assent: Assent
    bare: Bare
    workers: dict[str, Process]
    _finished: dict[tuple[str, int], str] = field(default_factory=dict[tuple[str, int], str])

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both, Assent first."""
        return self.assent, self.bare

    def worker(self, side: Side) -> Process:
        """The process of a side's worker."""
        return self.workers[side.name]

    async def finished(self, side: Side, turns: int) -> str:
        """The id of a side's run of so many turns of 1 KiB results, which has ended: made once for all figures."""
        key = side.name, turns
        if key not in self._finished:
            run = await side.start(Task(turns=turns, size=KIB))
            await side.result(run)
            self._finished[key] = run
        return self._finished[key]

    async def stop_worker(self, side: Side) -> None:
        """End a side's worker for good."""
        await end(self.worker(side))


@asynccontextmanager
async def stage() -> AsyncGenerator[Stage]:
    """A stage for as long as the block runs; every process ends with it, and the database goes.

    Raises:
        ConfigurationError: there is no `temporal` binary.
        RuntimeError: a process ended before it was ready.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="assent-bench-", ignore_cleanup_errors=True))
        server = await stack.enter_async_context(embedded_server(Path(folder) / "temporal.db", ui=False))
        model = await stack.enter_async_context(running(["-m", "bench.model"], {}))
        os.environ[URL_VARIABLE] = await first_line(model)
        variables = {"TEMPORAL_ADDRESS": server.address, "TEMPORAL_NAMESPACE": server.client.namespace}
        approvers = Path(folder) / "approvers.toml"
        approvers.write_text(APPROVERS)
        assent = Assent(server.client, {**variables, "ASSENT_APPROVERS": str(approvers)})
        bare = await Bare.connect(server.address, variables)
        await assent.agents.setup()
        workers = {side.name: await stack.enter_async_context(side.worker()) for side in (assent, bare)}
        for side in (assent, bare):
            await side.warm_up()
        yield Stage(assent, bare, workers)
