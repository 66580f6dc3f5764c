"""What an adversary found: noise in any amount, keys that hide others, a cancellation at the very end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import pytest
from aiohttp import web
from pydantic import AliasChoices, BaseModel, Field, JsonValue
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause

from assent import Agent, Condition, PermissionPolicy, Remember, Rule, RunHandle, ToolContext, Webhook, tool
from assent.testing import Environment, call, calls, check_replay, says
from tests.support import tools

FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
OWN_FAULT = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE


class Order(BaseModel):
    """An order, whose amount goes by two names."""

    amount: Annotated[int, Field(validation_alias=AliasChoices("amt", "amount"))]


@tool(requires_confirmation=True)
def order(context: ToolContext, order: Order) -> str:
    """Order something."""
    tools.note(context, f"order({order.amount})")
    return "ordered"


@tool
def buy(context: ToolContext, order: dict[str, dict[str, int] | int]) -> str:
    """Buy something."""
    tools.note(context, "buy")
    return f"bought {order}"


async def stuck(run: RunHandle) -> bool:
    """Whether a workflow task of the run failed by a fault of its own code."""
    failed = [event for event in (await run.history()).events if event.event_type == FAILED]
    return any(event.workflow_task_failed_event_attributes.cause == OWN_FAULT for event in failed)


async def test_conditions_of_a_grant_that_would_keep_a_worker_busy_are_refused(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [waiting] = (await run.until_paused()).active_requirements
        names = [f"name-{number}" for number in range(60_000)]
        remember = {"uses": 5, "arguments": {"to": {"one_of": names}}}
        handle = client.temporal.get_workflow_handle(run.id)
        await handle.signal("approve", {"id": waiting.id, "by": "bob", "remember": remember})
        state = await run.until_paused()
        assert [each.status for each in state.ignored_messages] == ["unreadable"]
        assert "conditions may have" in state.ignored_messages[0].detail
        assert not await stuck(run)
        await run.cancel()


async def test_1000_messages_in_one_workflow_task_do_not_stop_the_run(assent_environment: Environment) -> None:
    wanted = [call("pay", to="a", amount=number) for number in range(200)]
    agent = Agent(name="ops", model=assent_environment.responses(calls(*wanted), says("done")), tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [first, *_] = (await run.until_paused()).active_requirements
    handle = client.temporal.get_workflow_handle(run.id)
    slots = asyncio.Semaphore(50)

    async def send(number: int) -> None:
        async with slots:
            await handle.signal("approve", {"id": first.id, "by": f"stranger {number}", "arguments": "none"})

    await asyncio.gather(*(send(number) for number in range(1_000)))
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        assert (await run.approve(first, by="bob", wait=timedelta(seconds=60))).status == "approved"
        state = await run.state()
        assert len(state.ignored_messages) + state.ignored_dropped == 1_000
        await run.cancel()


async def test_a_key_with_a_dot_in_it_gets_nothing_past_a_rule(assent_environment: Environment) -> None:
    rule = Rule(decision="deny", tool="buy", arguments={"order.item.amount": Condition(above=1000)})
    policy = PermissionPolicy(rules=(rule, Rule(decision="allow")))
    hidden: dict[str, JsonValue] = {"item": {"amount": 999_999}, "item.amount": 1}
    model = assent_environment.responses(calls(call("buy", order=hidden)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[buy], policy=policy)) as client:
        run = await client.start("ops", "Go.")
        [asked] = (await run.until_paused()).active_requirements
        assert "fits more than one value" in (asked.note or "")
        assert tools.ran(run.id) == []
        await run.cancel()


async def test_a_grant_is_held_against_what_the_tool_reads_not_what_the_model_wrote(
    assent_environment: Environment,
) -> None:
    steps = [calls(call("order", order={"amount": 5})), calls(call("order", order={"amount": 5, "amt": 999_999}))]
    model = assent_environment.responses(*steps, says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[order])) as client:
        run = await client.start("ops", "Go.")
        [first] = (await run.until_paused()).active_requirements
        small = Remember(uses=5, arguments={"order.amount": Condition(at_most=10)})
        assert (await run.approve(first, by="bob", remember=small)).status == "approved"
        [second] = (await run.until_paused()).active_requirements
        assert "999999" in second.arguments
        assert tools.ran(run.id) == ["order(5)"]
        await run.cancel()


@tool(external_execution=True, stop_after_tool_call=True)
def finish(how: str) -> None:
    """Finish, elsewhere."""


async def test_a_result_that_ends_the_run_outweighs_a_cancellation_of_the_same_workflow_task(
    assent_environment: Environment,
) -> None:
    agent = Agent(name="ops", model=assent_environment.responses(calls(call("finish", how="well"))), tools=[finish])
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [waiting] = (await run.until_paused()).active_requirements
    await run.cancel()
    await run.send("submit_result", {"id": waiting.id, "by": "bob", "output": "done"})
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        assert (await run.result()).content == "done"
        assert (await run.state()).status == "completed"
        await check_replay(await run.history())


@asynccontextmanager
async def never_answering() -> AsyncGenerator[str]:
    """The address of a receiver that takes notices and says nothing."""

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    application = web.Application()
    application.router.add_post("/", hang)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_cancellation_after_the_end_takes_no_result_away(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4")
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("paid it"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with never_answering() as url:
        hooks = [Webhook(url=url, secret_env="HOOK_SECRET")]
        async with assent_environment.serve(agent, webhooks=hooks) as client:
            run = await client.start("ops", "Go.")
            [waiting] = (await run.until_paused()).active_requirements
            await run.approve(waiting, by="bob")
            assert (await run.until_paused()).status == "completed"
            await run.cancel()  # while the run waits for its notices
            assert (await run.result()).content == "paid it"
            assert (await run.state()).status == "completed"
