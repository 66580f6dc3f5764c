"""What waits, as the page shows it: one read of visibility for all who look at the same moment."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from cachetools import LRUCache
from temporalio.service import RPCError

from assent.audit.approval import Approval
from assent.client.client import AgentClient
from assent.client.filters import Sort, may_decide, sort_approvals
from assent.client.paging import Page
from assent.web.access import may_see
from assent.web.sign_in import Person
from assent.wire.errors import AssentError

FRESH: Final = 1.0
"""Seconds for which a read is not repeated."""
STALE: Final = 600.0
"""Seconds for which a page that is opened shows a read at once, while the next one is made."""
PATIENCE: Final = 0.1
"""Seconds that such a page waits for the next one, where it is older than `RECENT`."""
RECENT: Final = 10.0
WARM: Final = 240.0
"""Seconds between reads that are made so that the first person to look does not wait."""
START: Final = 10.0
"""Seconds that the page waits, as it starts, for its first read before it answers anyone."""
_CHOICES: Final = 1_000
RUNS: Final = 1_000
"""Runs of one read: the most that the server returns at once. All of them are sorted."""
SHOWN: Final = 50
"""Requests on one page."""

Show = Literal["mine", "all"]
_Key = tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Query:
    """What a person wants to see. *token* is that of the next 1,000 runs, *page* counts from 1 within them."""

    show: Show = "mine"
    sort: Sort = "age"
    agent: str | None = None
    tool: str | None = None
    token: str | None = None
    page: int = 1


@dataclass(frozen=True, slots=True)
class Inbox:
    """One page of requests. *mine* and *all* count those that were read, *at* is when, if that is some time ago."""

    query: Query
    shown: Sequence[Approval]
    mine: int
    all: int
    pages: int
    next_token: str | None
    unreadable: Sequence[str]
    agents: Sequence[str] = field(default_factory=list[str])
    tools: Sequence[str] = field(default_factory=list[str])
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What waits, as it was *at* this time of the monotonic clock."""

    page: Page[Approval]
    at: float

    @property
    def age(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at


def inbox_of(person: Person, read: Read, query: Query) -> Inbox:
    """Return what *person* sees of a read."""
    page = read.page
    visible = [each for each in page if may_see(person, each)]
    mine = [each for each in visible if may_decide(each, person.name)]
    chosen = sort_approvals(mine if query.show == "mine" else visible, query.sort)
    begin = (query.page - 1) * SHOWN
    return Inbox(
        query,
        chosen[begin : begin + SHOWN],
        len(mine),
        len(visible),
        max(1, -(-len(chosen) // SHOWN)),
        page.next_page_token,
        page.unreadable,
        sorted({each.agent for each in visible}),
        sorted({each.tool for each in visible}),
        None if read.age < RECENT else datetime.now(UTC) - timedelta(seconds=read.age),
    )


class InboxReader:
    """Reads the inbox, at most once a second for each choice of agent and tool, however many look."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._reads = LRUCache[_Key, Read](_CHOICES)
        self._tasks = LRUCache[_Key, asyncio.Task[Read]](_CHOICES)

    async def read(self, query: Query, *, fresh: bool) -> Read:
        """Return what waits: of the last second if it must be *fresh*, otherwise what is known, while it is read again.

        Raises as `AgentClient.pending`.
        """
        key = (query.agent, query.tool, query.token)
        known = self._reads.get(key) or self._chosen(query)
        if known is not None and known.age < FRESH:
            return known
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = asyncio.create_task(self._read(key))
            task.add_done_callback(_retrieve)
        # One who leaves must not end the read of the others.
        if known is None or known.age > STALE or fresh:
            return await asyncio.shield(task)
        if known.age > RECENT:
            await asyncio.wait([task], timeout=PATIENCE)
        return task.result() if task.done() and task.exception() is None else known

    def _chosen(self, query: Query) -> Read | None:
        """Return what was read without a choice of agent and tool, as far as it is chosen, if that was all."""
        whole = self._reads.get((None, None, None))
        if whole is None or whole.page.next_page_token is not None or query.token is not None:
            return None
        chosen = [each for each in whole.page if query.agent in {None, each.agent} and query.tool in {None, each.tool}]
        return Read(Page(chosen, None, None, whole.page.unreadable), whole.at)

    async def _read(self, key: _Key) -> Read:
        agent, tool, token = key
        begun = time.monotonic()
        page = await self._client.pending(limit=RUNS, page_token=token, agent=agent, tool=tool)
        read = self._reads[key] = Read(page, begun)
        return read

    def forget(self, requirement_id: str) -> None:
        """Leave out a request that was decided, until what waits is read again."""
        for key, read in list(self._reads.items()):
            others = [each for each in read.page if each.id != requirement_id]
            if len(others) < len(read.page):
                page = Page(others, read.page.next_page_token, None, read.page.unreadable)
                self._reads[key] = Read(page, read.at - FRESH)
                self._tasks.pop(key, None)  # It may have begun before the decision.

    async def start(self) -> asyncio.Task[None]:
        """Read what waits, and return the task that reads it again now and then, for ever."""
        first = asyncio.create_task(self._warm())
        await asyncio.wait([first], timeout=START)
        return asyncio.create_task(self._keep_warm(first))

    async def _warm(self) -> None:
        with contextlib.suppress(AssentError, RPCError):
            await self.read(Query(), fresh=True)

    async def _keep_warm(self, first: asyncio.Task[None]) -> None:
        await first
        while True:
            await asyncio.sleep(WARM)
            await self._warm()


def _retrieve(task: asyncio.Task[Read]) -> None:
    """Take note of an error that no one waits for any more."""
    if not task.cancelled():
        task.exception()
