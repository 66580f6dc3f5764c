"""Runs of agents that work for each other, whose histories were recorded: while they wait, and once they are over."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from assent import Agent, PermissionPolicy, Remember, RunHandle, RunState
from assent.client.client import AgentClient
from assent.testing import Environment, call, calls, says
from assent.wire.policy import Condition
from tests.replay import tools as decided
from tests.replay.waiting_runs import Write, until
from tests.support import tools

TEAMS: Final = ("asking-an-agent", "asked-an-agent")
"""Runs that ask another agent: one that waits for it, and one that was answered."""
CHILDREN: Final = {name: f"{name}-below" for name in TEAMS}
"""The runs in which the other agent works, by that of the run above."""
GATED: Final = "asking-whether-to-ask-an-agent"
HANDED: Final = ("handing-over", "handed-over")
"""A conversation that was handed over: once a call of the second agent waits, and once that agent has answered."""
NAMES: Final = (*TEAMS, *CHILDREN.values(), GATED, *HANDED)
RULES: Final = PermissionPolicy.of(deny=["break_*"], allow=["look_up", "ask_*", "transfer_*"])
BOUND: Final = PermissionPolicy.of(deny=["drop_*"], allow=["*"])
"""What the request itself bounds the run by."""
ASK: Final = calls(call("look_up", key="k"), call("ask_writer", input="Restart the web, and say so."))


def team(running: Environment, *, gated: bool = False) -> list[Agent]:
    """An agent that asks another, whose own call waits for a person."""
    restarts = calls(call("restart", service="web"))
    writer = Agent(name="writer", model=running.responses(restarts, says("The web was restarted.")), tools=tools.ALL)
    asked = writer.as_tool(requires_confirmation=gated)
    boss = Agent(name="boss", model=running.responses(ASK, says("Done.")), tools=[tools.look_up, asked], policy=RULES)
    return [boss, writer]


async def below(run: RunHandle, client: AgentClient) -> RunHandle:
    """The run in which the other agent works."""
    state = await until(run, lambda state: bool(state.children))
    return client.get_run(state.children[0].run_id)


async def tell_of_teams(running: Environment, written: Write) -> None:
    """Ask another agent, whose call waits for a person; in one of the two somebody approves it."""
    for name in TEAMS:
        async with running.serve(*team(running), task_queue=f"record-{name}") as client:
            run = await client.start(
                "boss", "Restart the web.", requested_by="alice", id=f"recorded-{name}", policy=BOUND
            )
            child = await below(run, client)
            [waiting] = (await child.until_paused()).active_requirements
            if name == "asked-an-agent":
                await child.approve(waiting, by="bob")
                await run.result()
            await settled()
            await written(run, name)
            await written(child, CHILDREN[name])


async def tell_of_a_gated_agent(running: Environment, written: Write) -> None:
    """A person has to approve that the other agent is asked."""
    async with running.serve(*team(running, gated=True), task_queue=f"record-{GATED}") as client:
        run = await client.start("boss", "Restart the web.", requested_by="alice", id=f"recorded-{GATED}", policy=BOUND)
        await until(run, lambda state: state.status == "waiting")
        await settled()
        await written(run, GATED)


async def tell_of_handoffs(running: Environment, written: Write) -> None:
    """Hand a conversation over while an approval is remembered, which ends with that."""
    discount, other = (calls(call("give_discount", percent=percent)) for percent in (20, 30))
    for name in HANDED:
        steps = [discount, calls(call("transfer_to_sales")), other, says("You have your discounts.")]
        sales = Agent(name="sales", model=running.responses(*steps), tools=[decided.give_discount])
        host = Agent(
            name="host", model=running.responses(*steps), tools=[decided.give_discount], handoffs=[sales], policy=RULES
        )
        async with running.serve(host, task_queue=f"record-{name}") as client:
            run = await client.start(
                "host",
                "Discounts, please.",
                requested_by="alice",
                conversation=True,
                id=f"recorded-{name}",
                policy=BOUND,
            )
            remember = Remember(
                uses=3, expires_after=timedelta(seconds=3600), arguments={"percent": Condition(at_least=10)}
            )
            await run.approve((await run.until_paused()).active_requirements[0], by="bob", remember=remember)
            await until(run, is_asked_by_sales)
            if name == "handed-over":
                [asked] = (await run.state()).active_requirements
                await run.reject(asked, by="bob", reason="one is enough")
                await until(run, lambda state: state.is_idle)
            await settled()
            await written(run, name)


def is_asked_by_sales(state: RunState) -> bool:
    """Whether the agent that the conversation was handed over to waits for a person."""
    return state.agent == "sales" and bool(state.active_requirements)


async def settled() -> None:
    """Let what follows at once follow."""
    await asyncio.sleep(0.5)
