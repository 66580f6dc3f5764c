"""What waits, as the page shows it: one read of visibility for all who look at the same moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from cachetools import TTLCache

from assent.audit.approval import Approval
from assent.client.client import AgentClient
from assent.client.filters import Sort, in_order, may_decide
from assent.client.paging import Page
from assent.web.access import may_see
from assent.web.sign_in import Person

FRESH: Final = 1.0
"""Seconds for which a read serves everyone."""
RUNS: Final = 1_000
"""Runs of one read: the most that the server returns at once. All of them are sorted."""
SHOWN: Final = 50
"""Requests on one page."""

Show = Literal["mine", "all"]
_Key = tuple[str | None, str | None, str | None]
_Read = asyncio.Task[Page[Approval]]


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


class InboxReader:
    """Reads the inbox, at most once a second for each choice of agent and tool, however many look."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._reads = TTLCache[_Key, _Read](1_000, FRESH, timer=time.monotonic)

    async def read(self, query: Query) -> Page[Approval]:
        """Return what waits. Raises as `AgentClient.pending`."""
        key = (query.agent, query.tool, query.token)
        task = self._reads.get(key)
        if task is None:
            agent, tool, token = key
            task = asyncio.create_task(self._client.pending(limit=RUNS, page_token=token, agent=agent, tool=tool))
            self._reads[key] = task
        # One who leaves must not end the read of the others.
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Read again, because a decision was sent."""
        self._reads.clear()
