"""What a long run leaves behind, over all executions that it went on in, and whether its last turns are slower."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from assent.history.pages import executions
from assent.wire.protocol import CALL_MODEL

PART: Final = 100
"""Turns at either end of a run that are measured."""
KIB: Final = 1024
_SCHEDULED: Final = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED


@dataclass(frozen=True)
class Left:
    """What the server counts: KiB and events of all *executions* of a run together."""

    kib: float
    events: int
    executions: int


async def left_behind(client: Client, run: str) -> Left:
    """What a run has left behind that has ended."""
    kib, events, chain = 0.0, 0, await _executions(client, run)
    for each in chain:
        handle = client.get_workflow_handle(run, run_id=each)
        info = (await handle.describe()).raw_description.workflow_execution_info
        kib, events = kib + info.history_size_bytes / KIB, events + info.history_length
    return Left(kib, events, len(chain))


async def early_and_late(client: Client, run: str) -> tuple[float, float]:
    """Milliseconds a turn, of the first hundred turns and of the last hundred, by the times of the server's events.

    From one model call's scheduling to that of the hundredth after it: the last words are of no turn.
    """
    asked = [moment async for moment in _model_calls(client, run)]
    return _a_turn(asked[: PART + 1]), _a_turn(asked[-PART - 1 :])


def _a_turn(moments: list[datetime]) -> float:
    return (moments[-1] - moments[0]).total_seconds() * 1_000 / (len(moments) - 1)


async def _model_calls(client: Client, run: str) -> AsyncIterator[datetime]:
    async for event in events(client, run):
        activity = event.activity_task_scheduled_event_attributes.activity_type.name
        # Both sides' activity has the same name.
        if event.event_type == _SCHEDULED and activity == CALL_MODEL:
            yield event.event_time.ToDatetime()


async def events(client: Client, run: str) -> AsyncIterator[HistoryEvent]:
    """All events of a run, of every execution that it went on in."""
    for each in await _executions(client, run):
        async for event in client.get_workflow_handle(run, run_id=each).fetch_history_events():
            yield event


async def _executions(client: Client, run: str) -> list[str]:
    newest = (await client.get_workflow_handle(run).describe()).run_id
    return [each for each in await executions(client, run, newest) if isinstance(each, str)]
