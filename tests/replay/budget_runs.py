"""Runs with budgets whose histories were recorded: two that wait for more, and one that went on once it had more."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from assent import Agent, Budget
from assent.testing import Environment, call, calls, says
from tests.replay.waiting_runs import Write, until
from tests.support import tools

TIME: Final = "waiting-for-time"
NAMES: Final = ("waiting-for-budget", "budget-extended")
BUDGET: Final = Budget(max_model_calls=2, max_tokens=1_000_000, approvers=("bob",))


async def tell_of_budgets(running: Environment, written: Write) -> None:
    """Ask for more before the third model call, with a tool's answer and a message held back for it."""
    looks = [calls(call("look_up", key=key)) for key in "abc"]
    for name in NAMES:
        agent = Agent(name="teller", model=running.responses(*looks, says("done")), tools=tools.ALL, budget=BUDGET)
        async with running.serve(agent, task_queue=f"record-{name}") as client:
            run = await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")
            [asked] = (await run.until_paused()).active_requirements
            await run.send_message("Hurry up.", by="alice")
            await run.until_paused()
            if name == "budget-extended":
                await run.approve(asked, by="alice", check=False)
                await run.approve(asked, by="bob", reason="worth it")
                await run.result()
            await written(run, name)


async def tell_of_time(running: Environment, written: Write) -> None:
    """The time is over while a call waits for somebody, who approves it: what it answers is held back."""
    model = running.responses(calls(call("pay", to="bob", amount=5)), says("done"))
    agent = Agent(name="teller", model=model, tools=tools.ALL, budget=Budget(max_time=timedelta(seconds=1)))
    async with running.serve(agent, task_queue=f"record-{TIME}") as client:
        run = await client.start("teller", "Tell of time.", requested_by="alice", id=f"recorded-{TIME}")
        state = await until(run, lambda state: len(state.active_requirements) > 1)
        await run.approve(state.active_requirements[0], by="bob")
        await until(run, lambda state: state.is_paused and len(state.active_requirements) == 1)
        await written(run, TIME)
        await run.cancel()
