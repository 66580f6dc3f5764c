"""Rows of runs that wait, which no run stands behind: started where no worker is, with the memo of a run that waits."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from assent.audit.approval import Approval, pending_approval
from assent.wire import protocol, visibility
from assent.wire.requirements import PendingRequirement
from tests.support.visibility import soon

NOW = datetime(2026, 1, 2, 3, tzinfo=UTC)


def requirement(name: str, **fields: Any) -> PendingRequirement:
    """Something that waits; *name* makes its id."""
    given: dict[str, Any] = {"kind": "confirmation", "tool": "pay", "created_at": NOW, "arguments": "{}", **fields}
    return PendingRequirement(
        id=hashlib.sha256(name.encode()).hexdigest(), call_id=name, nonce=name, arguments_size=2, **given
    )


def pending_memos(entries: Sequence[object]) -> dict[str, object]:
    """The memos of a run for which these entries wait."""
    return {visibility.pending_key(slot): entry for slot, entry in enumerate(entries)}


def approvals_in(*waiting: PendingRequirement, run_id: str = "run", requested_by: str | None = None) -> list[Approval]:
    """What waits in one run of the inbox."""
    asked = visibility.RequestMemo(agent="agent", requested_by=requested_by)
    return [pending_approval(run_id, asked, each) for each in waiting]


@asynccontextmanager
async def rows(client: Client, agent: str, waiting: Sequence[Sequence[object]]) -> AsyncGenerator[list[str]]:
    """One row for each of *waiting*, of this agent, oldest first, for as long as the block runs; their run ids."""
    ids = [f"{agent}-{number:03d}-{uuid.uuid4().hex[:6]}" for number in range(len(waiting))]
    for run_id, entries in zip(ids, waiting, strict=True):
        tools = [each.tool for each in entries if isinstance(each, PendingRequirement)]
        attributes = TypedSearchAttributes([
            SearchAttributePair(SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT), agent),
            SearchAttributePair(SearchAttributeKey.for_int(protocol.ATTRIBUTE_PENDING), len(entries)),
            SearchAttributePair(SearchAttributeKey.for_keyword_list(protocol.ATTRIBUTE_WAITING_ON), tools),
        ])  # fmt: skip
        await client.start_workflow(
            protocol.WORKFLOW,
            id=run_id,
            task_queue="of-nobody",
            memo={protocol.MEMO_REQUEST: {"agent": agent}, **pending_memos(entries)},
            search_attributes=attributes,
        )
    query = f"ExecutionStatus = 'Running' AND {protocol.ATTRIBUTE_AGENT} = '{agent}'"
    await soon(lambda: client.count_workflows(query), lambda found: found.count == len(ids))
    try:
        yield ids
    finally:
        for run_id in ids:
            await client.get_workflow_handle(run_id).terminate()
