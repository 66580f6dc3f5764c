"""The runs of a task queue and what they wait for, and for how long: read from visibility for a worker's metrics.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from assent.audit.approval import Approval
from assent.client import inbox
from assent.client.filters import Wanted
from assent.core.measurements import OLDEST, OPEN, WAITING, Measurement
from assent.runtime.connection import with_own_converter
from assent.runtime.metrics import Metrics

INTERVAL: Final = 60.0
"""Seconds for each page of waiting runs that was read: every worker reads, and servers limit such requests."""
_log = logging.getLogger(__name__)


async def report_waiting(client: Client, task_queue: str, metrics: Metrics, *, registered: bool) -> None:
    """Read the open runs of a task queue and what waits about once a minute, and record it, until cancelled.

    While the server does not answer, the last values stay. *registered* says whether the namespace has the Assent
    search attributes.
    """
    client, known, unreadable = with_own_converter(client), set[tuple[str, ...]](metrics.asking), set[str]()
    while True:
        waiting: list[Approval] = []
        runs = 0
        try:
            found = inbox.pending(client, Wanted(), unreadable, registered=registered, task_queue=task_queue)
            async for run in found:
                waiting += run
                runs += 1
            opened = [
                Measurement(OPEN, await inbox.count_open(client, status, task_queue), (status,))
                for status in ("running", "waiting", "idle")
                if registered
            ]
        except RPCError as error:
            _log.warning("what waits could not be read for the metrics: %s", error)
        else:
            gauges = waiting_gauges(waiting, datetime.now(UTC), known)
            known |= {each.labels for each in gauges}
            metrics.record([*gauges, *opened])
        await asyncio.sleep(INTERVAL * max(1, ceil(runs / inbox.PAGE)))


def waiting_gauges(waiting: Iterable[Approval], now: datetime, known: Iterable[tuple[str, ...]]) -> list[Measurement]:
    """Return the gauges of what waits by agent and tool; *known* are pairs of which nothing may wait any more."""
    counts, oldest = Counter[tuple[str, ...]](), dict.fromkeys(known, now)
    for each in waiting:
        labels = each.agent, each.tool
        counts[labels] += 1
        oldest[labels] = min(oldest.get(labels, now), each.created_at)
    gauges = [Measurement(WAITING, counts[labels], labels) for labels in oldest]
    return gauges + [Measurement(OLDEST, (now - at).total_seconds(), labels) for labels, at in oldest.items()]
