"""The notices of a run on their way out: some activities at a time, however many notices there are.

A webhook that is down keeps an activity under way for hours, and the server lets no run have more than 2,000.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError

from assent.core.notices import BATCH, Notice, NoticesInput
from assent.wire import protocol

from . import activity_options

AT_ONCE: Final = 20
"""Activities under way; what comes meanwhile waits, and goes out in batches."""


class NoticeQueue:
    """Sends notices in the order in which they came up. *finished* is told of each activity that is over."""

    def __init__(self, finished: Callable[[asyncio.Task[None]], None]) -> None:
        self._finished = finished
        self._waiting: list[Notice] = []
        self._tasks: dict[asyncio.Task[None], NoticesInput] = {}
        self._given: NoticesInput | None = None
        self._batches = 0

    @property
    def is_empty(self) -> bool:
        """Whether everything has been sent, or given up."""
        return not self._tasks and not self._waiting

    @property
    def unsent(self) -> list[NoticesInput]:
        """Notices that wait to be sent, and active ones, of which it is unknown whether they were sent."""
        notices = [notice for batch in self._tasks.values() for notice in batch.notices] + self._waiting
        return [self._given.model_copy(update={"notices": notices})] if self._given and notices else []

    def send(self, notices: NoticesInput) -> None:
        """Send these notices, at once or when others have gone."""
        self._given = notices
        self._waiting.extend(notices.notices)
        self._send_next(notices)

    def _send_next(self, notices: NoticesInput) -> None:
        while self._waiting and len(self._tasks) < AT_ONCE:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            self._batches += 1
            sent = notices.model_copy(update={"notices": batch})
            task = asyncio.create_task(self._batch(sent, self._batches))
            self._tasks[task] = sent
            task.add_done_callback(lambda done: self._on_done(done, notices))

    def _on_done(self, task: asyncio.Task[None], notices: NoticesInput) -> None:
        del self._tasks[task]
        self._finished(task)
        self._send_next(notices)

    async def _batch(self, notices: NoticesInput, number: int) -> None:
        # A notice that could not be sent changes nothing; the history has why.
        with contextlib.suppress(ActivityError):
            options = activity_options.for_notices(number)
            await workflow.execute_activity(protocol.SEND_NOTICES, notices, **options)
