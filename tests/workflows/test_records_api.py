"""The record API across runs: pages and totals, the pending count, and who loses a race to decide."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator

import pytest
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
)
from typing_extensions import override

from assent import Agent, AgentClient, Approval, MessageError, RunHandle, approval, tool
from assent.testing import Approved, Environment, Rejected, call, calls, drive, environment, says
from tests.support import tools
from tests.support.visibility import soon


@approval(type="audit")
@tool(requires_confirmation=True)
def wipe(user: str) -> str:
    """Wipe a user's data."""
    return f"wiped {user}"


@pytest.fixture(scope="module")
async def alone() -> AsyncGenerator[Environment]:
    """A server of its own, so that totals over all runs are known."""
    async with environment() as running:
        yield running


class Reads(Interceptor):
    """Counts the histories that a client reads, by run."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    @override
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        reads = self

        class Counting(OutboundInterceptor):
            @override
            def fetch_workflow_history_events(
                self, input: FetchWorkflowHistoryEventsInput
            ) -> WorkflowHistoryEventAsyncIterator:
                reads.runs.append(input.id)
                return self.next.fetch_workflow_history_events(input)

        return Counting(next)


def counting(client: Client) -> tuple[AgentClient, Reads]:
    reads, config = Reads(), client.config()
    config["interceptors"] = [reads]
    return AgentClient(Client(**config)), reads


def name() -> str:
    return f"records-{uuid.uuid4().hex[:6]}"


def ids(records: list[Approval]) -> list[str]:
    return [record.id for record in records]


async def test_records_come_in_pages_newest_first_with_a_true_total_and_ended_runs_are_read_once(
    alone: Environment,
) -> None:
    agent = name()
    two = calls(call("pay", to="a", amount=1), call("restart", service="db"))
    async with alone.serve(Agent(name=agent, model=alone.responses(two, says("Done.")), tools=tools.ALL)) as serving:
        runs: list[RunHandle] = []
        for asker in ("ann", "ann", "dan"):
            runs.append(await serving.start(agent, "Go.", requested_by=asker))
            await runs[-1].until_paused()
        for run in runs[:2]:
            await drive(run, lambda _: Approved(), by="bob")
        client, reads = counting(alone.server.client)
        found, total = await soon(lambda: client.get_approvals(agent=agent, limit=4), lambda found: found[1] == 6)
        assert ([each.run_id for each in found], total) == ([runs[2].id] * 2 + [runs[1].id] * 2, 6)
        before = len(reads.runs)
        rest, total = await client.get_approvals(agent=agent, limit=4, page_token=found.next_page_token)
        assert ([each.run_id for each in rest], total, rest.next_page_token) == ([runs[0].id] * 2, 6, None)
        assert reads.runs[before:] == [runs[2].id]
        assert sorted(ids([*found, *rest])) == sorted(ids((await client.get_approvals(agent=agent))[0]))

        assert (await client.get_approvals(agent=agent, requested_by="dan"))[1] == 2
        assert (await client.get_approvals(agent=agent, requested_by="dan", status="approved")) == ([], 0)
        assert (await client.get_approvals(agent=agent, tool="pay", status="approved"))[1] == 2
        assert (await client.get_approvals(agent=agent, approval_type="required"))[1] == 3
        assert (await client.get_approvals(run_id=runs[0].id, limit=1))[1] == 2
        assert (await client.get_approvals(agent=agent, limit=0)) == ([], 6)
        with pytest.raises(MessageError, match="same filters"):
            await client.get_approvals(agent=agent, tool="pay", page_token=found.next_page_token)
        with pytest.raises(MessageError, match="the limit is -1"):
            await client.get_approvals(limit=-1)
        await runs[2].cancel()
        await runs[2].until_paused()


async def test_pending_records_and_their_count_need_no_worker_and_no_history(alone: Environment) -> None:
    agent = name()
    asked = calls(call("pay", to="a", amount=1), call("wipe", user="u"), call("restart", service="db"))
    model = alone.responses(asked, says("Done."))
    async with alone.serve(Agent(name=agent, model=model, tools=[*tools.ALL, wipe])) as serving:
        run = await serving.start(agent, "Go.", requested_by="ann")
        await run.until_paused()
    client, reads = counting(alone.server.client)
    found, total = await soon(lambda: client.get_approvals(status="pending", agent=agent), lambda found: found[1] == 2)
    assert ({each.tool_name for each in found}, total) == ({"pay", "restart"}, 2)
    assert [each.approval_type for each in await run.audit()] == ["required", "audit", None]
    page, total = await client.get_approvals(status="pending", requested_by="ann", agent=agent, limit=1)
    rest, _ = await client.get_approvals(
        status="pending", requested_by="ann", agent=agent, limit=1, page_token=page.next_page_token
    )
    assert (total, sorted(ids([*page, *rest]))) == (2, sorted(ids(found)))
    assert await soon(client.get_pending_approval_count, lambda count: count == 2) == 2
    assert reads.runs == []
    await client.temporal.get_workflow_handle(run.id).terminate()


async def two_clients(environment: Environment) -> tuple[AgentClient, AgentClient]:
    first, second = [await AgentClient.connect(environment.server.address) for _ in range(2)]
    return first, second


async def attempts_of(run: RunHandle) -> list[tuple[str | None, str]]:
    return [(each.by, each.status) for each in (await run.state()).ignored_messages]


async def test_of_two_clients_that_resolve_at_once_one_gets_none_and_is_recorded(
    assent_environment: Environment,
) -> None:
    agent = name()
    asked = calls(*(call("pay", to=to, amount=1) for to in "abcdef"))
    model = assent_environment.responses(asked, says("Done."))
    async with assent_environment.serve(Agent(name=agent, model=model, tools=tools.ALL)) as client:
        run = await client.start(agent, "Go.")
        state = await run.until_paused()
        first, second = await two_clients(assent_environment)
        for requirement in state.requirements[:-1]:
            by_bob, by_eve = await asyncio.gather(
                first.resolve_approval(requirement.id, status="approved", resolved_by="bob"),
                second.resolve_approval(requirement.id, status="rejected", resolved_by="eve", reason="no"),
            )
            assert [by_bob, by_eve].count(None) == 1
            won = by_bob or by_eve
            assert won is not None
            assert (won.id, won.status) == (requirement.id, "approved" if by_bob else "rejected")
            assert won.resolved_by == ("bob" if by_bob else "eve")
            [attempt] = [each for each in (await run.state()).ignored_messages if each.requirement_id == requirement.id]
            assert (attempt.by, attempt.status) == ("eve" if by_bob else "bob", "late")
        assert len(await attempts_of(run)) == 5
        await drive(run, lambda _: Rejected("no"))
        records = await run.audit()
        assert sum(each.status == "approved" for each in records) == len(tools.ran(run.id))


async def test_who_comes_too_late_is_recorded_in_the_run_too(assent_environment: Environment) -> None:
    agent = name()
    asked = calls(call("pay", to="a", amount=1), call("pay", to="b", amount=1))
    model = assent_environment.responses(asked, says("Done."))
    async with assent_environment.serve(Agent(name=agent, model=model, tools=tools.ALL)) as client:
        run = await client.start(agent, "Go.")
        state = await run.until_paused()
        first = state.requirements[0]
        assert await client.resolve_approval(first.id, status="approved", resolved_by="bob", run_id=run.id)
        # Once visibility shows it as waiting no more, its run is found by its history.
        await soon(lambda: client.get_approvals(status="pending", agent=agent), lambda found: found[1] == 1)
        assert await client.resolve_approval(first.short_id, status="rejected", resolved_by="eve") is None
        assert await client.resolve_approval(first.id, status="approved", resolved_by="dan", run_id=run.id) is None
        assert await attempts_of(run) == [("eve", "late"), ("dan", "duplicate")]
        assert await client.resolve_approval("f" * 64, status="approved", resolved_by="bob") is None
        with pytest.raises(MessageError, match="too short"):
            await client.resolve_approval("", status="approved", resolved_by="bob")
        await drive(run, lambda _: Rejected("no"))
        [ended] = [each for each in (await run.state()).requirements if each.status == "rejected"]
        assert await client.resolve_approval(ended.id, status="approved", resolved_by="dan") is None


async def test_a_run_that_goes_on_in_new_executions_has_each_record_once(alone: Environment) -> None:
    agent = name()
    turns = [calls(call("pay", to=to, amount=1)) for to in "abc"]
    model = alone.responses(*turns, says("Done."))
    async with alone.serve(Agent(name=agent, model=model, tools=tools.ALL), continue_after=5) as serving:
        run = await serving.start(agent, "Go.")
        for number in range(1, 4):
            await run.until_paused()
            [waiting] = await soon(
                lambda: serving.pending(agent=agent),
                lambda found: len(found) == 1 and found[0].context.turn == number,  # noqa: B023 - used at once
            )
            assert waiting.run_id == run.id
            # While it goes on, visibility may have it in neither execution for a moment.
            found, total = await soon(lambda: serving.get_approvals(agent=agent), lambda found: found[1] > 0)
            assert (total, len(set(ids(found)))) == (number, number)
            resolved = await serving.resolve_approval(waiting.id, status="approved", resolved_by="bob")
            assert resolved is not None
        await run.result()
        query = f"WorkflowId = '{run.id}' AND ExecutionStatus = 'ContinuedAsNew'"
        assert (await alone.server.client.count_workflows(query)).count > 0
        found, total = await soon(lambda: serving.get_approvals(agent=agent), lambda found: found[1] > 0)
        assert ([each.status for each in found], total) == (["approved"] * 3, 3)
        assert await soon(lambda: serving.pending(agent=agent), lambda left: not left) == []
