"""The text of a model's answer while the model writes it, read from the heartbeat details of the pending activity."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowExecutionDescription
from temporalio.converter import DataConverter
from temporalio.service import RPCError

from assent.views.run_events import RunEvent
from assent.wire import protocol
from assent.wire.errors import AssentError
from assent.wire.live_text import LiveText
from assent.wire.protocol import Stored

EVERY: Final = 0.5
"""Seconds between two polls of a model call under way."""
_ENDS: Final = frozenset({"model_answered", "completed", "failed", "cancelled"})

Heartbeat = TypeVar("Heartbeat", bound=Stored)
Describe = Callable[[], Awaitable[WorkflowExecutionDescription]]
"""Asks the server for the description of a run."""


async def live_text(info: PendingActivityInfo, converter: DataConverter) -> LiveText | None:
    """Return the answer so far of the activity *info*; None before it has begun, and for any other activity."""
    if info.activity_type.name != protocol.CALL_MODEL:
        return None
    live = await heartbeat_of(info, converter, LiveText)
    return live if live is not None and live.begun and live.attempt == info.attempt else None


async def heartbeat_of(info: PendingActivityInfo, converter: DataConverter, kind: type[Heartbeat]) -> Heartbeat | None:
    """Return what the newest heartbeat of *info* says; None where it does not run, or says something else."""
    # The server keeps the heartbeat of an attempt that failed until the next one sends some.
    running = info.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    if not running or not info.HasField("heartbeat_details"):
        return None
    try:
        [heartbeat] = await converter.decode(list(info.heartbeat_details.payloads), [kind])
    except Exception:  # Written by another version, or by a codec whose key is missing
        return None
    return heartbeat if isinstance(heartbeat, kind) else None


async def with_live_text(events: AsyncGenerator[RunEvent], describe: Describe) -> AsyncGenerator[RunEvent]:
    """Add to *events* a `model_text` between `model_called` and `model_answered`, whenever there is more text.

    While a model call is under way and nothing else happens, *describe* asks the server for the worker's heartbeat: no
    load on the run, and no event added to it.
    """
    looker: _LiveTextPoller | None = None
    async with aclosing(events):
        while True:
            following = asyncio.ensure_future(anext(events, None))
            try:
                if looker is not None:
                    async for text in looker.until(following):
                        yield text
                event = await following
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait({following})
            if event is None:
                return
            yield event
            if event.kind == "model_called":
                looker = _LiveTextPoller(event.turn, describe)
            elif event.kind in _ENDS:
                looker = None


@dataclass
class _LiveTextPoller:
    """Polls one model call while it is under way."""

    turn: int
    describe: Describe
    last: LiveText | None = None

    async def until(self, following: asyncio.Future[RunEvent | None]) -> AsyncIterator[RunEvent]:
        """Yield the answer as it grows, until *following* is done: no text may follow the whole answer."""
        while True:
            await asyncio.wait({following}, timeout=EVERY)
            if following.done():
                return
            look = asyncio.ensure_future(self._look())
            try:
                await asyncio.wait({following, look}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    return
                text = look.result()
            finally:
                look.cancel()
            if text is not None:
                yield text

    async def _look(self) -> RunEvent | None:
        try:
            description = await self.describe()
        except (AssentError, RPCError):
            return None  # If that matters, reading the history says so
        for info in description.raw_description.pending_activities:
            live = await live_text(info, description.data_converter)
            if live is not None and live.turn == self.turn and live != self.last:
                self.last = live
                return _event(live, info.last_heartbeat_time.ToDatetime(UTC))
        return None


def _event(live: LiveText, at: datetime) -> RunEvent:
    tool = live.calls[-1] if live.calls else None
    return RunEvent(kind="model_text", at=at, turn=live.turn, text=live.text, left_out=live.left_out, tool=tool)
