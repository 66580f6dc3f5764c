"""Runs that were under way when their histories were recorded: one for each thing that a run can wait for.

A run of today may stand at any of these points when the code of tomorrow takes it up.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.service import RPCError

from assent import Agent, Remember, RunHandle, RunState, tool
from assent.client.client import AgentClient
from assent.runtime.connection import connect
from assent.runtime.settings import Settings
from assent.runtime.webhooks import Webhook
from assent.testing import Environment, Step, call, calls, hangs, says
from assent.wire.policy import Condition
from assent.worker import serving
from tests.replay import tools
from tests.support.tools import look_up

VARIABLE: Final = "RECORDED_WEBHOOK"
Write = Callable[[RunHandle, str], Awaitable[None]]


def takes_long(arguments: dict[str, object]) -> bool:
    """Whether a discount needs a person; for one of 99 percent it thinks for a while."""
    if arguments["percent"] == 99:
        time.sleep(2)
    return True


@tool(name="give_discount", requires_confirmation=takes_long)
def give_discount(percent: int) -> str:
    """Give a discount."""
    return f"gave {percent} percent"


@tool(heartbeat_timeout=timedelta(seconds=20))
async def brew() -> str:
    """Brew coffee."""
    await asyncio.sleep(3)
    return "brewed"


WIRE = calls(call("wire_money", to="shop", amount=5))
DISCOUNT = calls(call("give_discount", percent=20))
DISCOUNTS: list[Step] = [DISCOUNT, calls(call("give_discount", percent=30))]
Story = Callable[[AgentClient, RunHandle], Awaitable[None]]


async def until(run: RunHandle, is_so: Callable[[RunState], bool]) -> RunState:
    """The run, once it is so."""
    async with asyncio.timeout(30):
        while not is_so(state := await run.state()):  # noqa: ASYNC110 - the worker moves it
            await asyncio.sleep(0.05)
    return state


async def until_scheduled(run: RunHandle, activity: str, number: int = 1) -> None:
    """Wait until an activity was scheduled for the *number*th time."""
    async with asyncio.timeout(30):
        while True:
            events = (await run.history()).events
            names = [each.activity_task_scheduled_event_attributes.activity_type.name for each in events]
            if names.count(activity) == number:
                return
            await asyncio.sleep(0.05)


async def quorum(_: AgentClient, run: RunHandle) -> None:
    """One of two people has approved."""
    await run.approve((await run.until_paused()).active_requirements[0], by="ann")


async def escalated(_: AgentClient, run: RunHandle) -> None:
    """Nobody has decided: it was reminded of, and more people may."""
    await until(run, lambda state: any(each.escalated for each in state.requirements))


async def edited(_: AgentClient, run: RunHandle) -> None:
    """One has approved other arguments, and the second is waited for."""
    await run.approve(
        (await run.until_paused()).active_requirements[0], by="ann", arguments={"to": "bank", "amount": 3}
    )
    await until(run, lambda state: len(state.requirements) > 1)


async def granted(_: AgentClient, run: RunHandle) -> None:
    """An approval is remembered, for other arguments than those of the call that waits."""
    remember = Remember(uses=3, expires_after=timedelta(seconds=3600), arguments={"percent": Condition(equals=20)})
    await run.approve((await run.until_paused()).active_requirements[0], by="bob", remember=remember)
    await until(run, lambda state: bool(state.grants and state.active_requirements))


async def checking(_: AgentClient, run: RunHandle) -> None:
    """A worker looks at the arguments that a person gave."""
    [asked] = (await run.until_paused()).active_requirements
    await run.send("approve", {"id": asked.id, "by": "bob", "arguments": {"percent": 99}})
    await until_scheduled(run, "check_call")


async def asking(_: AgentClient, run: RunHandle) -> None:
    """The model is thinking, and a message is queued for the call after."""
    await until_scheduled(run, "call_model", 2)
    await run.send_message("Hurry up.", by="alice")
    await asyncio.sleep(0.3)


async def running(_: AgentClient, run: RunHandle) -> None:
    """A tool is running."""
    await until_scheduled(run, "brew")


async def notified(_: AgentClient, run: RunHandle) -> None:
    """Notices are being sent, and nobody takes them."""
    await run.until_paused()
    await until_scheduled(run, "send_notices")


WAITS: dict[str, tuple[Story, list[Step]]] = {
    "waiting-for-a-second-vote": (quorum, [WIRE, says("done")]),
    "waiting-escalated": (escalated, [WIRE, says("done")]),
    "waiting-edited": (edited, [WIRE, says("done")]),
    "waiting-with-a-grant": (granted, [*DISCOUNTS, says("done")]),
    "waiting-for-a-check": (checking, [DISCOUNT, says("done")]),
    "waiting-for-the-model": (asking, [calls(call("look_up", key="k")), hangs(3), says("done")]),
    "waiting-for-a-tool": (running, [calls(call("brew")), says("done")]),
    "waiting-for-notices": (notified, [DISCOUNT, says("done")]),
}
"""By one worker."""
ALL_TOOLS: list[Callable[..., object]] = [tools.wire_money, give_discount, brew, look_up]
POSTPONED, ASKED_AGAIN = "waiting-postponed", "waiting-asked-again"
UPGRADED = ("upgrading", "upgraded")
"""The executions of a run that was pinned to a build, and went on in that of another."""
NAMES = (*WAITS, POSTPONED, ASKED_AGAIN, *UPGRADED)


async def tell(environment: Environment, name: str, write: Write) -> None:
    """Live through what one worker is enough for, and write it down."""
    story, steps = WAITS[name]
    os.environ[VARIABLE] = f"whsec_{base64.b64encode(b'a secret of thirty-two bytes, ok.').decode()}"
    hooks = [Webhook(url="http://127.0.0.1:9/", secret_env=VARIABLE)] if story is notified else []
    agent = Agent(name="teller", model=environment.responses(*steps), tools=ALL_TOOLS, groups=tools.GROUPS)
    async with environment.serve(agent, task_queue=f"record-{name}", webhooks=hooks) as client:
        run = await started(client, name)
        await story(client, run)
        await write(run, name)
        await run.cancel()


async def started(client: AgentClient, name: str) -> RunHandle:
    """The run of a story."""
    return await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")


async def tell_of_a_worker_without_the_agent(environment: Environment, write: Write) -> None:
    """An approved call that no worker can run for now: it is tried again after a minute."""
    model = environment.responses(DISCOUNT, says("done"))
    agent, other = (Agent(name=name, model=model, tools=ALL_TOOLS, groups=tools.GROUPS) for name in ("teller", "other"))
    async with environment.serve(agent, task_queue=f"record-{POSTPONED}") as client:
        run = await started(client, POSTPONED)
        [asked] = (await run.until_paused()).active_requirements
    async with environment.serve(other, task_queue=client.task_queue):
        await run.send("approve", {"id": asked.id, "by": "bob"})
        async with asyncio.timeout(30):
            while not await timers(run):  # noqa: ASYNC110 - the worker starts it
                await asyncio.sleep(0.05)
        await write(run, POSTPONED)
        await run.cancel()


async def timers(run: RunHandle) -> int:
    """How many timers the run has started."""
    events = (await run.history()).events
    return sum(each.event_type == EventType.EVENT_TYPE_TIMER_STARTED for each in events)


async def tell_of_a_stricter_tool(environment: Environment, write: Write) -> None:
    """An approved call that went back to people, who have not decided."""
    model = environment.responses(DISCOUNT, says("done"))
    before = Agent(name="teller", model=model, tools=[tools.give_discount])
    after = Agent(name="teller", model=model, tools=[tools.give_discount_with_two])
    async with environment.serve(before, task_queue=f"record-{ASKED_AGAIN}") as client:
        run = await started(client, ASKED_AGAIN)
        [asked] = (await run.until_paused()).active_requirements
    async with environment.serve(after, task_queue=client.task_queue):
        await run.approve(asked, by="bob")
        await until(run, lambda state: len(state.requirements) > 1)
        await write(run, ASKED_AGAIN)
        await run.cancel()


async def tell_of_an_upgrade(environment: Environment, write: Write) -> None:
    """A run that is pinned to a build, and goes on in another while it waits."""
    queue = f"record-upgrade-{uuid.uuid4().hex[:6]}"
    agent = Agent(name="teller", model=environment.responses(DISCOUNT, says("done")), tools=[tools.give_discount])
    async with AsyncExitStack() as stack:
        for build in ("first", "second"):
            settings = Settings(task_queue=queue, deployment=queue, build_id=build, versioning="pinned")
            connection = await connect(environment.server.address)
            grace = timedelta(seconds=1)
            await stack.enter_async_context(serving(connection, [agent], settings, grace=grace))
        client = environment.client(queue)
        await make_current(client, queue, "first")
        run = await started(client, UPGRADED[1])
        [asked] = (await run.until_paused()).active_requirements
        before = (await run.description()).run_id
        await make_current(client, queue, "second")
        await asyncio.sleep(1)  # in which the server tells its task queues
        await run.send_message("Hurry up.", by="alice")
        async with asyncio.timeout(30):
            while (await run.description()).run_id == before:  # noqa: ASYNC110 - the worker moves it
                await asyncio.sleep(0.05)
        await until(run, lambda state: bool(state.active_requirements))
        await run.send("approve", {"id": asked.id, "by": "bob"})
        await run.result()
        for name, execution in zip(UPGRADED, (before, None), strict=True):
            await write(RunHandle(client.temporal, run.id, execution_id=execution), name)


async def make_current(client: AgentClient, deployment: str, build: str) -> None:
    """Send new runs to a build, once it is known to the server."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace="default", deployment_name=deployment, build_id=build, identity="operator"
    )
    async with asyncio.timeout(30):
        while True:
            try:
                await client.temporal.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:
                await asyncio.sleep(0.1)
            else:
                return
