"""The runs of a task queue and what they wait for, and for how long: read from visibility for a worker's metrics."""

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
    client, known, unreadable = with_own_converter(client), set[tuple[str, str]](metrics.asking), set[str]()
    fails = False
    while True:
        waiting: list[Approval] = []
        runs = 0
        try:
            waiting_runs = inbox.pending(client, Wanted(), unreadable, registered=registered, task_queue=task_queue)
            async for run in waiting_runs:
                waiting += run
                runs += 1
            opened = [
                Measurement(OPEN, await inbox.count_open(client, status, task_queue), (status,))
                for status in ("running", "waiting", "idle")
                if registered
            ]
        except RPCError as error:
            if not fails:
                _log.warning("what waits cannot be read for the metrics, and is tried again: %s", error)
            fails = True
        else:
            fails = False
            since = [(metrics.names(each.agent, each.tool), each.created_at) for each in waiting]
            known |= {names for names, _ in since}
            metrics.record([*waiting_gauges(since, datetime.now(UTC), known), *opened])
        await asyncio.sleep(INTERVAL * max(1, ceil(runs / inbox.PAGE)))


def waiting_gauges(
    since: Iterable[tuple[tuple[str, str], datetime]], now: datetime, known: Iterable[tuple[str, str]]
) -> list[Measurement]:
    """Return the gauges of what waits *since* when, by agent and tool; of some *known* ones nothing may wait."""
    counts, oldest = Counter[tuple[str, str]](), dict.fromkeys(known, now)
    for names, at in since:
        counts[names] += 1
        oldest[names] = min(oldest[names], at)
    gauges = [Measurement(WAITING, counts[names], names) for names in oldest]
    return gauges + [Measurement(OLDEST, (now - at).total_seconds(), names) for names, at in oldest.items()]
