"""The inbox of ten thousand runs, beside the server's own list of the same pages."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from typing import Final

from httpx import ASGITransport, AsyncClient
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from assent import AgentClient, RunRequest
from assent.web.app import application
from assent.web.settings import WebSettings
from assent.wire import protocol, visibility
from assent.wire.requirements import PendingRequirement
from bench.processes import until
from bench.storm import each
from bench.task import GUARDED

AGENT: Final = "inbox"
REST: Final = 1.0
"""Seconds between two readings: the dev server limits its reads, and the SDK would retry in silence."""
PAGE: Final = 100
LARGEST: Final = 1_000
_QUERY: Final = (
    f"WorkflowType = '{protocol.WORKFLOW}' AND ExecutionStatus = 'Running' "
    f"AND {protocol.ATTRIBUTE_PENDING} > 0 AND {protocol.ATTRIBUTE_AGENT} = '{AGENT}'"
)
_ATTRIBUTES: Final = TypedSearchAttributes([
    SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT), AGENT),
    SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_STATUS), "waiting"),
    SearchAttributePair(SearchAttributeKey.for_int(protocol.ATTRIBUTE_PENDING), 1),
    SearchAttributePair(SearchAttributeKey.for_keyword_list(protocol.ATTRIBUTE_WAITING_ON), [GUARDED]),
])  # fmt: skip


async def page(client: Client, times: int) -> tuple[list[float], list[float]]:
    """Seconds to the first byte of the approvals page, as a person opens it; and of the server's own list of its rows.

    The page has read what waits once before, as it does when it starts.
    """
    settings = WebSettings.read(demo_sign_in="bench")
    transport = ASGITransport(application(AgentClient(client), settings))
    took: tuple[list[float], list[float]] = ([], [])
    async with AsyncClient(transport=transport, base_url=settings.base) as http:
        for number in range(times + 1):
            begun = time.perf_counter()
            answer = await http.get("/?show=all")
            answer.raise_for_status()
            seconds = time.perf_counter() - begun
            await asyncio.sleep(REST)
            if number:
                took[0].append(seconds)
                took[1].append((await bare(client, LARGEST, LARGEST))[0])
                await asyncio.sleep(REST)
    return took


async def fill(client: Client, runs: int, known: int = 0) -> None:
    """So many rows of runs that wait, *known* included, without the runs: on a task queue that nobody serves.

    Memo and search attributes are given at the start, as a run upserts them when it begins to wait; visibility then
    has the same rows, and what reads it cannot tell them from others. Real runs would take five minutes.
    """

    async def start(number: int) -> None:
        text = f'{{"size": {number}}}'
        waiting = PendingRequirement(
            id=hashlib.sha256(text.encode()).hexdigest(),
            kind="confirmation",
            call_id=f"call_{number:024d}",
            tool=GUARDED,
            nonce=f"{number:032x}",
            created_at=datetime.now(UTC),
            turn=1,
            arguments=text,
            arguments_size=len(text),
            policy_version="60ce809352fa588c",
        )
        request = RunRequest(agent=AGENT, input="Do what the prompt asks for.")
        memo = {protocol.MEMO_STATUS: "waiting", protocol.MEMO_REQUEST: visibility.request_memo(request)}
        await client.start_workflow(
            protocol.WORKFLOW,
            request,
            id=f"{AGENT}-{number:06d}",
            task_queue=f"{AGENT}-of-nobody",
            memo={**memo, visibility.pending_key(0): waiting.model_dump(mode="json", exclude_defaults=True)},
            search_attributes=_ATTRIBUTES,
        )

    await each(start, range(known, runs))

    async def listed() -> bool:
        return (await client.count_workflows(_QUERY)).count == runs

    await until(listed, 0.5)


async def bare(client: Client, size: int, most: int) -> tuple[float, int]:
    """What the server itself takes for its list, in pages of *size*, nothing of it decoded: seconds, and rows."""
    begun, rows, token = time.perf_counter(), 0, b""
    while True:
        request = ListWorkflowExecutionsRequest(
            namespace=client.namespace, page_size=size, query=_QUERY, next_page_token=token
        )
        # As the client's own calls: a server that is asked for too much at once says so, and is asked again.
        answer = await client.workflow_service.list_workflow_executions(request, retry=True)
        rows, token = rows + len(answer.executions), answer.next_page_token
        if not token or rows >= most:
            return time.perf_counter() - begun, rows


async def ours(client: Client, size: int | None) -> tuple[float, int]:
    """What a new `AgentClient` takes for a page of *size*, or for all that waits: seconds, and runs with arguments."""
    begun = time.perf_counter()
    agents = AgentClient(client)
    waiting = await agents.pending(agent=AGENT, limit=size)
    return time.perf_counter() - begun, sum(bool(each.arguments) for each in waiting)


async def both(client: Client, runs: int, lists: int, *, paged: bool) -> tuple[list[float], list[float]]:
    """Seconds of ours and of the server's own list, in turns: the first page, or everything.

    Raises:
        RuntimeError: one of them did not list what it should.
    """
    expected = PAGE if paged else runs
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(lists * 2):
        await asyncio.sleep(REST)
        side = (number + number // 2) % 2
        if side == 0:
            seconds, found = await ours(client, PAGE if paged else None)
        else:
            seconds, found = await bare(client, PAGE if paged else LARGEST, expected)
        took[side].append(seconds)
        if found != expected:
            message = f"{found} of {expected} pending approvals were listed"
            raise RuntimeError(message)
    return took
