"""Searches approvals across runs: reads the records of decided ones, and finds the run of an approval."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, get_args

from cachetools import LRUCache

from assent.audit.approval import Approval, is_recorded
from assent.client.inbox import ERROR_SHOWN, ListedRun
from assent.client.paging import Page, token_of
from assent.core.approvals import SHORTEST_PREFIX
from assent.wire.errors import HistoryError, MessageError, RunNotFoundError
from assent.wire.protocol import ApprovalType
from assent.wire.requirements import RequirementStatus
from assent.wire.text import bounded, one_line

SIDE_BY_SIDE: Final = 8
"""Histories that are read at the same time."""
KEPT: Final = 20_000
"""Approvals of ended runs that are kept in memory: such runs do not change, and are read once."""
SEARCHED: Final = 1_000
"""Runs whose histories are searched for an approval that is not pending."""
_log = logging.getLogger(__name__)

Read = Callable[[str], Awaitable[Sequence[Approval]]]
"""Reads the records of one run, by its id."""


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """Which approvals a query selects; None is any."""

    status: RequirementStatus | None = None
    approval_type: ApprovalType | None = None
    agent: str | None = None
    tool: str | None = None
    run_id: str | None = None
    requested_by: str | None = None

    def check(self) -> None:
        """Refuse words that no approval has: the answer would be empty without a reason.

        Raises:
            MessageError: there is no such status or type.
        """
        for name, wanted, known in (
            ("status", self.status, get_args(RequirementStatus)),
            ("approval_type", self.approval_type, get_args(ApprovalType)),
        ):
            if wanted is not None and wanted not in known:
                raise MessageError(f"{name} is {wanted!r}; there are: {', '.join(known)}")

    def matches(self, record: Approval) -> bool:
        """Return whether a record is selected. One of type `audit` is a record only once it is decided."""
        return (
            is_recorded(record)
            and self.status in {None, record.status}
            and self.approval_type in {None, record.approval_type}
            and self.agent in {None, record.agent}
            and self.tool in {None, record.tool}
            and self.run_id in {None, record.run_id}
            and self.requested_by in {None, record.requested_by}
        )


class ApprovalReader:
    """Reads the approvals of many runs, a few at a time, and those of an ended run only once."""

    def __init__(self, approvals: Read) -> None:
        self._approvals = approvals
        self._ended: LRUCache[str, Sequence[Approval]] = LRUCache(KEPT, getsizeof=lambda known: len(known) + 1)

    async def read(self, runs: Iterable[ListedRun]) -> list[Approval]:
        """Read the approvals of these runs. A run that cannot be read is left out, with a warning."""
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def one(run: ListedRun) -> Sequence[Approval]:
            async with gate:
                return await self._of(run)

        return [record for records in await asyncio.gather(*map(one, runs)) for record in records]

    async def find(self, runs: Sequence[ListedRun], approval_id: str) -> str | None:
        """Return the first of these runs with an approval whose id begins with *approval_id*."""
        for begin in range(0, len(runs), SIDE_BY_SIDE):
            records = await self.read(runs[begin : begin + SIDE_BY_SIDE])
            matches = _matching(((each.run_id, each.id) for each in records), approval_id)
            if matches is not None:
                return matches
        return None

    async def _of(self, run: ListedRun) -> Sequence[Approval]:
        known = self._ended.get(run.execution_id)
        if known is not None:
            return known
        records = await read_or_warn(run, self._approvals)
        if records is not None and run.closed and len(records) < KEPT:
            self._ended[run.execution_id] = records
        return records or []


async def read_or_warn(run: ListedRun, read: Read) -> Sequence[Approval] | None:
    """Return the records of a run; None, with a warning, if it cannot be read."""
    try:
        return await read(run.run_id)
    except (HistoryError, RunNotFoundError) as error:
        _log.warning("run %r is left out: %s", run.run_id, bounded(one_line(str(error)), ERROR_SHOWN))
        return None


def approval_prefix(approval_id: str) -> str:
    """Return an id, or a prefix of one, as ids are written.

    Raises:
        MessageError: it is too short to name one.
    """
    wanted = approval_id.strip().lower()
    if len(wanted) < SHORTEST_PREFIX:
        raise MessageError(f"the approval id {approval_id!r} is too short; give at least {SHORTEST_PREFIX} digits")
    return wanted


def run_of_approval(pending: Iterable[Approval], approval_id: str) -> str | None:
    """Return the id of the run in which the approval waits.

    Raises:
        MessageError: *approval_id* is the beginning of ids of several runs.
    """
    return _matching(((each.run_id, each.id) for each in pending), approval_id)


def paged(records: Iterable[Approval], query: ApprovalFilter, limit: int, after: bytes) -> tuple[Page[Approval], int]:
    """Return at most *limit* records that *query* selects, newest first, after *after*; and how many there are."""
    wanted = sorted(filter(query.matches, records), key=_order, reverse=True)
    last = after.decode("utf-8", "replace").partition(" ")
    left = wanted
    if after:
        at = _time(last[0])
        left = [record for record in wanted if _order(record) < (at, last[2])]
    page = left[:limit]
    if not page or len(left) <= limit:
        return Page(page), len(wanted)
    position = f"{page[-1].created_at.isoformat()} {page[-1].id}".encode()
    return Page(page, token_of(query, position)), len(wanted)


def _order(record: Approval) -> tuple[datetime, str]:
    return record.created_at, record.id


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise MessageError("the page token cannot be read")
    return at


def _matching(ids: Iterable[tuple[str, str]], approval_id: str) -> str | None:
    matches = {run_id for run_id, each in ids if each.startswith(approval_id)}
    if len(matches) > 1:
        raise MessageError(f"the approval id {approval_id!r} matches in {len(matches)} runs; give more digits")
    return matches.pop() if matches else None
