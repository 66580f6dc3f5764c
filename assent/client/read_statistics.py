"""Reads the histories of many runs, a few at a time, and counts their decisions."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime

from assent.audit.approval import Approval
from assent.audit.decision_statistics import Statistics, StatisticsCounter
from assent.client.approval_search import SIDE_BY_SIDE, Read, read_or_warn
from assent.client.inbox import ListedRun
from assent.client.read import cancel_all


async def read_statistics(
    runs: AsyncIterator[ListedRun],
    read: Read,
    *,
    agent: str | None,
    tool: str | None,
    since: datetime | None,
    limit: int | None = None,
) -> Statistics:
    """Return the statistics of *runs*: of requirements of *agent* and *tool* that were opened since *since*.

    A run that cannot be read is counted as such, with a warning; so are the runs after the first *limit*.

    Raises:
        RPCError, ServerUnreachableError: as *runs* and *read*.
    """
    tally = StatisticsCounter(tool, since)
    async with aclosing(_side_by_side(_first(runs, limit, tally), read)) as histories:
        async for records in histories:
            if records is None:
                tally.unreadable += 1
            elif agent is None or any(each.agent == agent for each in records):
                tally.add(records)
    return tally.statistics()


async def _first(
    runs: AsyncIterator[ListedRun], limit: int | None, tally: StatisticsCounter
) -> AsyncIterator[ListedRun]:
    number = 0
    async for run in runs:
        number += 1
        if limit is None or number <= limit:
            yield run
        else:
            tally.left_out += 1


async def _side_by_side(runs: AsyncIterator[ListedRun], read: Read) -> AsyncGenerator[Sequence[Approval] | None]:
    """Yield the records of each run as they are read; at most `SIDE_BY_SIDE` histories are in memory."""
    reading: set[asyncio.Task[Sequence[Approval] | None]] = set()
    try:
        async for run in runs:
            reading.add(asyncio.create_task(read_or_warn(run, read)))
            if len(reading) == SIDE_BY_SIDE:
                done, reading = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        for coming in asyncio.as_completed(reading):
            yield await coming
    finally:
        await cancel_all(reading)
