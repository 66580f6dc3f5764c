"""Runs that go on in a new execution: nothing is asked again, nothing that was said is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from pydantic import JsonValue
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.common import SearchAttributeKey

from assent import (
    Agent,
    Remember,
    Requirement,
    RunFailedError,
    RunHandle,
    RunState,
    ToolContext,
    approval,
    tool,
)
from assent.client.client import AgentClient
from assent.testing import Environment, call, calls, check_replay, says
from tests.support import tools
from tests.support.run_probes import at_once
from tests.support.updates import by_update


async def executions(client: AgentClient, run: RunHandle) -> list[WorkflowHistory]:
    """The histories of all executions of a run, the first one first."""
    description = await client.temporal.get_workflow_handle(run.id).describe()
    found: list[WorkflowHistory] = []
    wanted = description.run_id
    while wanted:
        history = await client.temporal.get_workflow_handle(run.id, run_id=wanted).fetch_history()
        found.insert(0, history)
        wanted = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return found


async def live(client: AgentClient, run: RunHandle) -> RunState:
    """What the run says of itself."""
    return RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))


async def replay(client: AgentClient, run: RunHandle) -> int:
    """Replay all executions of a run; how many there are."""
    found = await executions(client, run)
    for history in found:
        await check_replay(history)
    return len(found)


async def test_a_run_continues_between_turns(assent_environment: Environment) -> None:
    turns = [calls(call("look_up", key=key)) for key in "abc"]
    agent = Agent(name="ops", model=assent_environment.responses(*turns, says("done")), tools=tools.ALL)
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        assert (await run.result()).content == "done"
        assert await replay(client, run) == 4
        assert tools.ran(run.id) == ["look_up(a)", "look_up(b)", "look_up(c)"]
        state = await run.state()
        assert (state.status, state.turns, state.tool_calls) == ("completed", 4, 3)
        assert state == await live(client, run)


async def number_of_executions(client: AgentClient, run: RunHandle) -> int:
    """How many executions a run has had."""
    return len(await executions(client, run))


async def paused(client: AgentClient, run: RunHandle, *, after: int = 0) -> RunState:
    """The run as it says itself, once it waits in its execution of number *after*, or a later one."""
    async with asyncio.timeout(60):
        while True:
            if await number_of_executions(client, run) >= after:
                state = await live(client, run)
                if state.status == "waiting":
                    return state
            await asyncio.sleep(0.05)


async def moved_on(client: AgentClient, run: RunHandle, by: Callable[[], Awaitable[object]]) -> RunState:
    """Do something, by which the run goes on in a new execution, and wait until it waits there."""
    before = await number_of_executions(client, run)
    await by()
    return await paused(client, run, after=before + 1)


SOON = timedelta(seconds=15)


@tool(requires_confirmation=True)
def refund(context: ToolContext, order: int) -> str:
    """Refund an order."""
    tools.note(context, f"refund({order})")
    return f"refunded {order}"


@approval(approvals=2)
@tool
def wire_money(context: ToolContext, to: str, amount: int) -> str:
    """Send money; two people decide."""
    tools.note(context, f"wire_money({to}, {amount})")
    return f"sent {amount} to {to}"


@approval(expires_after=SOON)
@tool
def delete(context: ToolContext, name: str) -> str:
    """Delete something; soon nobody may any more."""
    tools.note(context, f"delete({name})")
    return f"deleted {name}"


MINE: list[Callable[..., object]] = [*tools.ALL, refund, wire_money, delete]


async def test_what_waits_is_kept_in_every_execution(assent_environment: Environment) -> None:
    """A run that continues as new keeps what waits: nothing is asked again, no vote is lost, the ids stay."""
    everything = calls(
        call("refund", order=1),
        call("wire_money", to="shop", amount=5),
        call("wire_money", to="bank", amount=7),
        call("delete", name="backup"),
        call("refund", order=2),
    )
    model = assent_environment.responses(
        everything, calls(call("refund", order=3)), lambda seen: says(json.dumps(list(seen.tool_outputs.values())))
    )
    agent = Agent(name="ops", model=model, tools=MINE)
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        # It goes on anew as soon as it waits, without anybody saying anything.
        state = await paused(client, run, after=2)
        first, wire, edited, deleted, _ = asked = state.requirements
        assert [each.status for each in asked] == ["pending"] * 5
        state = await moved_on(client, run, lambda: run.approve(wire, by="bob"))
        state = await moved_on(client, run, lambda: run.send_message("Hurry.", by="alice"))
        state = await moved_on(client, run, lambda: run.approve(first, by="bob", remember=Remember(uses=1)))
        changed: dict[str, JsonValue] = {"to": "bank", "amount": 6}
        state = await moved_on(client, run, lambda: run.approve(edited, by="bob", arguments=changed))
        state = await moved_on(client, run, lambda: run.send("approve", {"id": "ffffffff", "by": "eve"}))
        assert [each.id for each in state.requirements[:5]] == [each.id for each in asked]
        assert [each.status for each in state.requirements] == [
            "approved", "pending", "superseded", "pending", "pending", "pending",
        ]  # fmt: skip
        assert state.requirements[1].approved_by == state.requirements[5].approved_by == ["bob"]
        assert state.requirements[3].expires_at == deleted.expires_at
        assert [(each.uses, each.used) for each in state.grants] == [(1, 0)]
        assert [each.status for each in state.ignored_messages] == ["unknown"]
        assert await run.state() == state
        await run.approve(wire, by="carol")
        await run.approve(state.requirements[5], by="carol")
        await run.reject(asked[4], by="bob", reason="once is enough")
        told = json.loads((await run.result()).content)
        assert told[:2] == ["refunded 1", "sent 5 to shop"]
        assert told[2].endswith("sent 6 to bank")
        assert told[3].startswith("Expired: ")
        assert told[4:] == ["Rejected: once is enough", "refunded 3"]
        assert sorted(tools.ran(run.id)) == [
            "refund(1)", "refund(3)", "wire_money(bank, 6)", "wire_money(shop, 5)",
        ]  # fmt: skip
        end = await run.state()
        assert end == await live(client, run)
        assert end.requirements[3].status == "expired"
        assert [(each.uses, each.used) for each in end.grants] == [(1, 1)]
        assert await replay(client, run) >= 8


async def test_no_signal_is_lost_while_a_run_continues(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("refund", order=1)), says("done"))
    agent = Agent(name="ops", model=model, tools=MINE)
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [requirement] = (await paused(client, run, after=2)).requirements
        slots = asyncio.Semaphore(3)

        async def odd(number: int) -> None:
            async with slots:
                await run.send("approve", {"id": "ffffffff", "by": f"eve {number}"})

        await asyncio.gather(*(odd(number) for number in range(300)))
        await run.approve(requirement, by="bob")
        assert (await run.result()).content == "done"
        state = await live(client, run)
        assert len(state.ignored_messages) + state.ignored_dropped == 300
        assert tools.ran(run.id) == ["refund(1)"]
        assert await replay(client, run) > 3
        assert await run.state() == state


async def test_decisions_by_update_count_once_each_while_a_run_continues(assent_environment: Environment) -> None:
    many = calls(*(call("refund", order=number) for number in range(20)))
    agent = Agent(name="ops", model=assent_environment.responses(many, says("done")), tools=MINE)
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await paused(client, run, after=2)
        slots = asyncio.Semaphore(4)

        async def approve(requirement: Requirement) -> str:
            async with slots:
                return (await by_update(run, requirement.id, "bob")).status

        found = await asyncio.gather(*(approve(each) for each in state.requirements))
        assert found == ["approved"] * 20
        assert (await run.result()).content == "done"
        assert sorted(tools.ran(run.id)) == sorted(f"refund({number})" for number in range(20))
        await replay(client, run)


async def test_a_continued_run_goes_on_with_another_worker_that_remembers_nothing(
    assent_environment: Environment,
) -> None:
    turns = [calls(call("look_up", key="a")), calls(call("refund", order=1)), calls(call("look_up", key="b"))]
    model = assent_environment.responses(*turns, lambda seen: says(json.dumps(seen.tool_outputs)))
    agent = Agent(name="ops", model=model, tools=MINE)
    async with assent_environment.serve(agent, continue_after=4, prefix_cache=0, cached_runs=0) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await paused(client, run, after=3)
    async with assent_environment.serve(
        agent, task_queue=client.task_queue, continue_after=4, prefix_cache=0, cached_runs=0
    ):
        await run.approve(state.requirements[0], by="bob")
        content = json.loads((await run.result()).content)
        assert list(content.values()) == ["value of a", "refunded 1", "value of b"]
        assert tools.ran(run.id) == ["look_up(a)", "refund(1)", "look_up(b)"]
        assert await replay(client, run) >= 5


async def test_memo_and_search_attributes_go_on_without_being_written_again(
    assent_environment: Environment,
) -> None:
    agent = Agent(
        name="ops", model=assent_environment.responses(calls(call("refund", order=1)), says("done")), tools=MINE
    )
    async with assent_environment.serve(agent, continue_after=1) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        state = await paused(client, run, after=2)
        await moved_on(client, run, lambda: run.send("approve", {"id": "ffffffff", "by": "eve"}))
        description = await run.description()
        memo = await description.memo()
        assert memo["assent_pending_0"]["id"] == state.requirements[0].id
        attributes = description.typed_search_attributes
        assert attributes[SearchAttributeKey.for_keyword("AssentStatus")] == "waiting"
        assert attributes[SearchAttributeKey.for_int("AssentPending")] == 1
        assert attributes[SearchAttributeKey.for_keyword("AssentRequestedBy")] == "alice"
        _, *later = await executions(client, run)
        assert len(later) >= 2
        for history in later:
            kinds = {event.event_type for event in history.events}
            assert not kinds & {
                EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
                EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
            }
        await run.approve(state.requirements[0], by="bob")
        await run.result()


async def test_a_run_may_be_cancelled_while_it_continues(assent_environment: Environment) -> None:
    agent = Agent(
        name="ops", model=assent_environment.responses(calls(call("refund", order=1)), says("done")), tools=MINE
    )
    async with assent_environment.serve(agent, continue_after=1) as client:
        for _ in range(5):
            run = await client.start("ops", "Go.", requested_by="alice")
            await paused(client, run, after=2)
            await at_once(run.send("approve", {"id": "ffffffff", "by": "eve"}), run.cancel())
            with pytest.raises(RunFailedError):
                await run.result()
            state = await live(client, run)
            assert state.status == "cancelled"
            assert [each.status for each in state.requirements] == ["cancelled"]
            await replay(client, run)
