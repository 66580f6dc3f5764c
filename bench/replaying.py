"""How long a worker takes to rebuild a run from its history, beside the bare workflow's history of as many events."""

from __future__ import annotations

import time

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from assent.worker import AssentPlugin
from bench.bare_workflow import BareRun
from bench.sides import Side
from bench.stage import Stage


class Replays:
    """The histories of a run of either side, and what replays them: by the code and the sandbox of its worker."""

    def __init__(self, histories: dict[str, WorkflowHistory], assent: Side) -> None:
        """*histories* are by the name of their side."""
        self._histories = histories
        self._assent = assent.name

    @classmethod
    async def of(cls, stage: Stage, turns: int) -> Replays:
        """Replays of runs of so many turns, each once done: imports and the first sandbox are not measured."""
        histories = {
            side.name: await side.handle(await stage.finished(side, turns)).fetch_history() for side in stage.sides
        }
        found = cls(histories, stage.assent)
        for side in stage.sides:
            await found.milliseconds(side)
        return found

    def events(self, side: Side) -> int:
        """How many events a side's history has."""
        return len(self._histories[side.name].events)

    async def milliseconds(self, side: Side) -> float:
        """One replay of a side's history, whole."""
        if side.name == self._assent:
            replayer = Replayer(workflows=[], plugins=[AssentPlugin()])
        else:
            replayer = Replayer(workflows=[BareRun], data_converter=pydantic_data_converter)
        begun = time.perf_counter()
        await replayer.replay_workflow(self._histories[side.name])
        return (time.perf_counter() - begun) * 1_000
