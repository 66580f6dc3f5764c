"""How much one workflow task gives to the server: over 4 MiB at once, and the server terminates the run.

What is too much for one workflow task waits for the next, which a timer of a millisecond brings about.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Final

from pydantic import BaseModel, JsonValue
from temporalio import workflow

from .activity_options import Options

LIMIT: Final = 3_000_000
"""Bytes of activity inputs and accepted updates in one workflow task; the rest of 4 MiB is for the memo and codecs.

Another number changes the commands of runs that are under way (docs/why/changing-rules.md).
"""
_SOONEST: Final = timedelta(milliseconds=1)
_WHY: Final = "what exceeds one workflow task continues in the next"


class TaskSizeLimiter:
    """Admits what goes to the server, in order. *spawn* begins a task; *on_timer* is called when a timer has fired."""

    def __init__(
        self, spawn: Callable[[Coroutine[object, object, None]], None], on_timer: Callable[[], object]
    ) -> None:
        self._spawn = spawn
        self._on_timer = on_timer
        self._task = -1
        self._used = 0
        self._line: list[tuple[int, asyncio.Event]] = []

    def count(self, value: object) -> None:
        """Count what the server is given back in any case: an accepted update's input."""
        self._fits(size := size_in_json(value))
        self._used += size

    async def execute(
        self, activity: str, argument: BaseModel, options: Options, values: Sequence[JsonValue] | None = None
    ) -> object:
        """What an activity gives, as JSON, once it may be scheduled; with *values*, it is given these instead.

        Raises:
            ActivityError: it gives nothing.
        """
        await self.admit(argument)
        # Without a type: a result from an operator could fail to decode, and block the run for ever.
        result: object = await workflow.execute_activity(
            activity, args=[argument] if values is None else values, **options
        )
        return result

    async def admit(self, value: BaseModel) -> None:
        """Wait until this input of what is scheduled next may go out with the workflow task."""
        size = size_in_json(value.model_dump(mode="json", exclude_unset=True))
        if not self._line and self._fits(size):
            self._used += size
        else:
            self._line.append((size, turn := asyncio.Event()))
            if len(self._line) == 1:
                self._spawn(self._drain())
            await turn.wait()

    async def _drain(self) -> None:
        while self._line:
            await workflow.sleep(_SOONEST, summary=_WHY)
            self._on_timer()
            while self._line and self._fits(self._line[0][0]):
                size, turn = self._line.pop(0)
                self._used += size
                turn.set()

    def _fits(self, size: int) -> bool:
        """Whether so much more may go out with this workflow task; whatever it is, one may alone."""
        # Every workflow task finds a longer history than the one before, and the same one when it is replayed.
        task = workflow.info().get_current_history_length()
        if task != self._task:
            self._task, self._used = task, 0
        return self._used == 0 or self._used + size <= LIMIT


def size_in_json(value: object) -> int:
    """The bytes of *value* as JSON. Whatever was sent, its size can be told: an infinity, or what is no JSON at all."""
    return len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))
