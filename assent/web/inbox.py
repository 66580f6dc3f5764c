"""What waits, as the page shows it: one read of visibility for all who look at the same moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cachetools import LRUCache

from assent.audit.approval import Approval
from assent.client.client import AgentClient
from assent.client.filters import Sort, in_order, may_decide
from assent.client.paging import Page
from assent.web.access import may_see
from assent.web.sign_in import Person

FRESH: Final = 1.0
"""Seconds for which a read is not repeated."""
STALE: Final = 10.0
"""Seconds for which a page that is opened shows a read at once, while the next one is made."""
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
    """One page of requests. *mine* and *all* count those that were read, *more* says whether the server has others."""

    query: Query
    shown: Sequence[Approval]
    mine: int
    all: int
    pages: int
    next_token: str | None
    unreadable: Sequence[str]
    agents: Sequence[str] = field(default_factory=list[str])
    tools: Sequence[str] = field(default_factory=list[str])


def inbox_of(person: Person, read: Page[Approval], query: Query) -> Inbox:
    """Return what *person* sees of a read."""
    visible = [each for each in read if may_see(person, each)]
    mine = [each for each in visible if may_decide(each, person.name)]
    chosen = in_order(mine if query.show == "mine" else visible, query.sort)
    begin = (query.page - 1) * SHOWN
    return Inbox(
        query,
        chosen[begin : begin + SHOWN],
        len(mine),
        len(visible),
        max(1, -(-len(chosen) // SHOWN)),
        read.next_page_token,
        read.unreadable,
        sorted({each.agent for each in visible}),
        sorted({each.tool for each in visible}),
    )


@dataclass(slots=True)
class _Read:
    """The newest read for one choice, and the one under way."""

    page: Page[Approval] | None = None
    at: float = 0.0
    task: asyncio.Task[Page[Approval]] | None = None


class InboxReader:
    """Reads the inbox, at most once a second for each choice of agent and tool, however many look."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._reads = LRUCache[_Key, _Read](_CHOICES)

    async def read(self, query: Query, *, fresh: bool) -> Page[Approval]:
        """Return what waits: of the last second if it must be *fresh*, otherwise of the last ten.

        Raises as `AgentClient.pending`.
        """
        key = (query.agent, query.tool, query.token)
        known = self._reads.get(key)
        if known is None:
            known = self._reads[key] = _Read()
        age = time.monotonic() - known.at
        if known.page is not None and age < FRESH:
            return known.page
        if known.task is None or known.task.done():
            known.task = asyncio.create_task(self._read(known, key))
            known.task.add_done_callback(_retrieve)
        if known.page is not None and age < STALE and not fresh:
            return known.page
        # One who leaves must not end the read of the others.
        return await asyncio.shield(known.task)

    async def _read(self, known: _Read, key: _Key) -> Page[Approval]:
        agent, tool, token = key
        known.page = await self._client.pending(limit=RUNS, page_token=token, agent=agent, tool=tool)
        known.at = time.monotonic()
        return known.page

    def forget(self) -> None:
        """Read again, because a decision was sent."""
        self._reads.clear()


def _retrieve(task: asyncio.Task[Page[Approval]]) -> None:
    """Take note of an error that no one waits for any more."""
    if not task.cancelled():
        task.exception()
