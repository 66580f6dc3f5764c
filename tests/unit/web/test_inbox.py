"""What the inbox shows while it is read: at once what is known, and nothing that was decided."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from assent import AgentClient
from assent.audit.approval import Approval
from assent.client.paging import Page
from assent.web import inbox
from assent.web.inbox import InboxReader, Query


def waiting(identity: str, tool: str = "pay") -> Approval:
    fields = {"run_id": f"run-{identity}", "id": identity, "agent": "a", "tool": tool, "created_at": datetime.now(UTC)}
    return cast("Approval", cast("Any", Approval).model_construct(**fields))


class Server:
    """A client whose server takes its time: it answers when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        self.waits = [waiting("1"), waiting("2", "refund")]
        self.more: str | None = None
        self.let = asyncio.Event()
        self.let.set()

    async def pending(
        self, *, limit: int, page_token: str | None, agent: str | None, tool: str | None
    ) -> Page[Approval]:
        assert (limit, page_token) == (inbox.RUNS, None)
        self.asked.append((agent, tool))
        await self.let.wait()
        return Page(list(self.waits), self.more)


async def ids(reader: InboxReader, *, fresh: bool = False, tool: str | None = None) -> list[str]:
    async with asyncio.timeout(5):
        read = await reader.read(Query(tool=tool), fresh=fresh)
    return [each.id for each in read.page]


async def test_what_is_known_is_shown_at_once_while_it_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server, now = Server(), time.monotonic()
    reader = InboxReader(cast("AgentClient", server))

    def at(moment: float) -> None:
        monkeypatch.setattr(inbox, "time", SimpleNamespace(monotonic=lambda: moment))

    assert await ids(reader) == ["1", "2"]
    server.waits.append(waiting("3"))
    server.let.clear()
    at(now + inbox.STALE / 2)
    assert await ids(reader) == ["1", "2"]
    assert await ids(reader) == ["1", "2"]
    assert len(server.asked) == 2
    server.let.set()
    assert await ids(reader, fresh=True) == ["1", "2", "3"]
    at(now + 2 * inbox.STALE)
    server.waits.pop()
    assert await ids(reader) == ["1", "2"]
    assert len(server.asked) == 3


async def test_the_page_starts_with_what_waits_and_does_not_wait_for_a_server_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Server()
    reader = InboxReader(cast("AgentClient", server))
    warm = await reader.start()
    assert len(server.asked) == 1
    assert await ids(reader) == ["1", "2"]
    assert len(server.asked) == 1
    warm.cancel()
    monkeypatch.setattr(inbox, "START", 0.01)
    server.let.clear()
    async with asyncio.timeout(5):
        warm = await InboxReader(cast("AgentClient", server)).start()
    assert not warm.done()
    warm.cancel()
    server.let.set()


async def test_a_request_that_was_decided_is_gone_though_the_server_still_lists_it() -> None:
    server = Server()
    reader = InboxReader(cast("AgentClient", server))
    assert await ids(reader) == ["1", "2"]
    reader.forget("1")
    server.let.clear()
    assert await ids(reader) == ["2"]
    assert await ids(reader, tool="refund") == ["2"]
    server.let.set()


async def test_a_choice_of_a_tool_is_made_of_what_was_read_if_that_was_all() -> None:
    server = Server()
    reader = InboxReader(cast("AgentClient", server))
    assert await ids(reader) == ["1", "2"]
    assert await ids(reader, tool="refund") == ["2"]
    assert server.asked == [(None, None)]
    server.more = "token"
    reader = InboxReader(cast("AgentClient", server))
    assert await ids(reader) == ["1", "2"]
    await ids(reader, tool="refund")
    assert server.asked[1:] == [(None, None), (None, "refund")]
