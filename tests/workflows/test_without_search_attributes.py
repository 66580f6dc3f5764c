"""Where nobody may register search attributes, runs work all the same, and the inbox finds them."""

from __future__ import annotations

import pytest
from temporalio.client import Client

from assent import Agent
from assent.runtime.connection import missing_attributes, register_attributes
from assent.testing import Approved, call, calls, drive, environment, says
from tests.support import tools
from tests.support.visibility import soon


async def not_permitted(_: Client) -> bool:
    return False


async def test_a_run_waits_and_is_found_without_search_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assent.worker.attributes_usable", not_permitted)
    async with environment() as running:
        model = running.responses(calls(call("pay", to="a", amount=1)), says("done"))
        async with running.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
            run = await client.start("ops", "Go.", requested_by="alice")
            await run.until_paused()
            [found] = await soon(lambda: client.pending(agent="ops", tool="pay"))
            assert (found.run_id, found.requested_by) == (run.id, "alice")
            assert await client.get_pending_approval_count() == 1
            # Somebody who may registers them while the run waits: it is still found, and still ends.
            assert len(await missing_attributes(running.server.client)) == 5
            assert len(await register_attributes(running.server.client)) == 5
            assert await register_attributes(running.server.client) == []
            assert [each.run_id for each in await running.client("other").pending()] == [run.id]
            await drive(run, lambda _: Approved(), by="bob")
            [record], total = await client.get_approvals(status="approved")
            assert (total, record.resolved_by) == (1, "bob")
            assert await soon(client.get_pending_approval_count, lambda count: count == 0) == 0
