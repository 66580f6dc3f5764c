"""Record a history of every kind of run and wait: `make histories`.

It deletes the folder of today's version of the rules and records all of it again. So it is for versions that no release
has given yet: a run of a released version may still wait, and they stay as they are (docs/why/changing-rules.md).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from assent import Agent, PermissionPolicy, Remember, Requirement, RunHandle, RunState
from assent.client.client import AgentClient
from assent.runtime.connection import exit_cleanly
from assent.testing import (
    Approved,
    Delivered,
    Environment,
    Rejected,
    Step,
    call,
    calls,
    drive,
    environment,
    fails,
    record,
    says,
)
from tests.replay import (
    FOLDER,
    budget_runs,
    continued_runs,
    conversation_runs,
    model_routing_runs,
    outcome_runs,
    sub_agent_runs,
    summary_runs,
    waiting_runs,
    workflow_call_runs,
)
from tests.replay import tools as decided
from tests.support import tools
from tests.support.updates import by_update

Story = Callable[[AgentClient, RunHandle], Awaitable[None]]


async def finishes(_: AgentClient, run: RunHandle) -> None:
    await drive(run, lambda requirement: Delivered("ok") if requirement.kind == "external" else Approved("fine"))


async def rejected(_: AgentClient, run: RunHandle) -> None:
    await drive(run, lambda _: Rejected("not today"))


async def pauses(_: AgentClient, run: RunHandle) -> None:
    await run.until_paused()


async def half_decided(_: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    await run.approve(state.active_requirements[0], by="bob")
    await run.until_paused()


async def mistyped(client: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    handle = client.temporal.get_workflow_handle(run.id)
    await handle.signal("approve")
    await handle.signal("aprove", {"id": state.active_requirements[0].id, "by": "bob"})
    await handle.signal("approve", {"id": "ffffffff", "by": "bob"})
    await run.send_message("Hurry up.", by="alice")
    await finishes(client, run)


async def cancelled(_: AgentClient, run: RunHandle) -> None:
    await run.until_paused()
    await run.cancel()
    await run.until_paused()


def one(state: RunState, tool: str) -> Requirement:
    return next(each for each in state.active_requirements if each.tool == tool)


async def until(run: RunHandle, is_so: Callable[[RunState], bool]) -> RunState:
    while not is_so(state := await run.state()):  # noqa: ASYNC110 - the clock moves it
        await asyncio.sleep(0.05)
    return state


async def expires(_: AgentClient, run: RunHandle) -> None:
    await until(run, lambda state: state.is_finished)


async def escalates(_: AgentClient, run: RunHandle) -> None:
    """Reminders, more people, an edit half way, and two votes that changed nothing before."""
    waiting = one(await until(run, lambda state: any(each.escalated for each in state.requirements)), "wire_money")
    await by_update(run, waiting.id, "mallory")
    await by_update(run, waiting.id, "ann")
    await by_update(run, waiting.id, "Ann ")
    edited = await by_update(run, waiting.id, "bob", arguments={"to": "shop", "amount": 3})
    await by_update(run, edited.requirement_id or "", "ann")
    await run.result()


async def grants(_: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    await run.approve(
        state.active_requirements[0], by="bob", remember=Remember(uses=1, expires_after=timedelta(seconds=3600))
    )
    state = await run.until_paused()
    await run.revoke(state.grants[0], by="carol")
    await run.reject(state.active_requirements[0], by="bob", reason="enough")
    await run.result()


async def fills_in(client: AgentClient, run: RunHandle) -> None:
    state = await run.until_paused()
    handle = client.temporal.get_workflow_handle(run.id)
    await by_update(run, one(state, "weigh").id, "bob", output="heavy")
    weighed = {"id": one(state, "weigh").id, "by": "bob", "output": 2.5, "evidence": {"photo": 17}}
    await handle.signal("submit_result", weighed)
    await by_update(run, one(state, "book").id, "alice", values={"seat": 12})
    await by_update(run, one(state, "book").id, "alice", values={"seat": "12A"})
    await run.submit_input(one(state, "ask_user"), by="alice", values={"answer": "no"})
    await run.result()


async def runs_again(_: AgentClient, run: RunHandle) -> None:
    """The outcome is unknown twice; then somebody says what happened."""
    await run.approve((await run.until_paused()).active_requirements[0], by="bob")
    lost = await until(run, lambda state: any(each.needs_outcome for each in state.requirements))
    await by_update(run, lost.active_requirements[0].id, "bob", reason="once more")
    lost = await until(run, lambda state: len(state.requirements) > len(lost.requirements))
    await run.submit_result(lost.active_requirements[0], by="bob", output="it lay in the tray")
    await run.result()


async def unknown(_: AgentClient, run: RunHandle) -> None:
    """It waits for ever for somebody to say what came of a call."""
    await run.approve((await run.until_paused()).active_requirements[0], by="bob")
    await until(run, lambda state: any(each.needs_outcome for each in state.requirements))


ASKS = calls(call("look_up", key="k"), call("pay", to="bob", amount=5), call("ship", order="17"))
STORIES: dict[str, tuple[Story, list[Step]]] = {
    "ungated": (finishes, [calls(call("look_up", key="a")), calls(call("look_up", key="b")), says("done")]),
    "approved": (finishes, [ASKS, calls(call("restart", service="s")), says("done")]),
    "rejected": (rejected, [ASKS, says("done")]),
    "waiting": (pauses, [ASKS, says("done")]),
    "half-decided": (half_decided, [ASKS, says("done")]),
    "mistyped": (mistyped, [ASKS, says("done")]),
    "cancelled": (cancelled, [ASKS, says("done")]),
    "denied": (finishes, [calls(call("break_down", how="x"), call("no_such_tool")), says("done")]),
    "tool-failed": (finishes, [calls(call("break_down", how="x"), call("pay", to="bob")), says("done")]),
    "provider-refused": (finishes, [fails(400, message="no", times=None)]),
}

WIRE = calls(call("wire_money", to="shop", amount=5), call("give_discount", percent=5))
DISCOUNTS = [calls(call("give_discount", percent=percent)) for percent in (20, 30, 40)]
QUESTIONS = calls(
    call("weigh", parcel="p"), call("book", flight="f"), call("ask_user", question="Sure?", choices=["yes", "no"])
)
DECIDED: dict[str, tuple[Story, list[Step]]] = {
    "expired": (expires, [calls(call("delete_backup", name="old"), call("give_discount", percent=5)), says("done")]),
    "expiring": (pauses, [calls(call("delete_backup", name="old")), says("done")]),
    "escalated-and-edited": (escalates, [WIRE, says("done")]),
    "granted-and-revoked": (grants, [*DISCOUNTS, says("done")]),
    "filled-in": (fills_in, [QUESTIONS, says("done")]),
    "filling-in": (pauses, [QUESTIONS, says("done")]),
    "outcome-answered": (runs_again, [calls(call("print_label", order="o")), says("done")]),
    "outcome-unknown": (unknown, [calls(call("print_label", order="o")), says("done")]),
    "stopped-after-tool": (finishes, [calls(call("close_ticket", number=1)), says("never asked")]),
}
"""By the tools of `tests.replay.tools`: deadlines, edits, grants, input, outcomes."""
DEPLOYED = "asked-again"


async def tell_of_a_deployment(running: Environment, name: str) -> None:
    """A call that was approved, and goes back to people: the tool takes two of them since the worker is a newer one."""
    model = running.responses(calls(call("give_discount", percent=20)), says("done"))
    before = Agent(name="teller", model=model, tools=[decided.give_discount])
    after = Agent(name="teller", model=model, tools=[decided.give_discount_with_two])
    queue = f"record-{name}"
    async with running.serve(before, task_queue=queue) as client:
        run = await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")
        state = await run.until_paused()
    async with running.serve(after, task_queue=queue):
        await run.approve(state.active_requirements[0], by="bob")
        asked = await until(run, lambda state: len(state.requirements) > 1)
        await run.approve(asked.active_requirements[0], by="bob")
        await run.approve(asked.active_requirements[0], by="ann")
        await run.result()
    await written(run, name)


CONTINUED = ("continuing", "continued")
"""The executions of one run, which went on in a new one while it waited."""


async def tell_of_going_on(running: Environment) -> None:
    """A call that waits in one execution, and is decided in the next. Each of the two has a file of its own."""
    steps = [calls(call("look_up", key="k"), call("pay", to="bob", amount=5)), says("done")]
    agent = Agent(name="teller", model=running.responses(*steps), tools=tools.ALL)
    async with running.serve(agent, task_queue="record-continued", continue_after=17) as client:
        run = await client.start("teller", "Tell of going on.", requested_by="alice", id="recorded-continued")
        before = (await run.description()).run_id
        while (await run.description()).run_id == before:  # noqa: ASYNC110 - the worker moves it
            await asyncio.sleep(0.05)
        state = await until(run, lambda state: bool(state.active_requirements))
        await run.send("approve", {"id": state.active_requirements[0].id, "by": "bob"})
        await run.result()
        for name, execution in zip(CONTINUED, (before, None), strict=True):
            await written(RunHandle(client.temporal, run.id, execution_id=execution), name)


async def tell(running: Environment, name: str, story: Story, steps: list[Step]) -> None:
    """Live through one story, and write its history down."""
    policy = PermissionPolicy.of(deny=["break_*"], allow=["*"]) if name == "denied" else None
    given, groups = (decided.ALL, decided.GROUPS) if name in DECIDED else (tools.ALL, None)
    agent = Agent(name="teller", model=running.responses(*steps), tools=given, policy=policy, groups=groups)
    async with running.serve(agent, task_queue=f"record-{name}") as client:
        run = await client.start("teller", f"Tell the story {name!r}.", requested_by="alice", id=f"recorded-{name}")
        await story(client, run)
        await written(run, name)


async def written(run: RunHandle, name: str) -> None:
    """Write a run's history down."""
    await record(run, FOLDER / f"{name}.json")
    without_traces(FOLDER / f"{name}.json")
    sys.stdout.write(f"recorded {name}\n")


def without_traces(file: Path) -> None:
    """Take the paths of the recording machine out: stack traces are nothing to a replay."""
    text = file.read_text()
    file.write_text(re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', text))


async def main() -> None:
    """Record all of them."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    async with environment() as running:
        for name, (story, steps) in {**STORIES, **DECIDED}.items():
            await tell(running, name, story, steps)
        await tell_of_a_deployment(running, DEPLOYED)
        await tell_of_going_on(running)
        for name in waiting_runs.WAITS:
            await waiting_runs.tell(running, name, written)
        for tell_of in (
            waiting_runs.tell_of_a_worker_without_the_agent,
            waiting_runs.tell_of_a_stricter_tool,
            waiting_runs.tell_of_an_upgrade,
            conversation_runs.tell_of_conversations,
            summary_runs.tell_of_summaries,
            budget_runs.tell_of_budgets,
            budget_runs.tell_of_time,
            model_routing_runs.tell_of_model_queues,
            continued_runs.tell_of_a_message,
            outcome_runs.tell_of_outcomes,
            sub_agent_runs.tell_of_teams,
            sub_agent_runs.tell_of_a_gated_agent,
            sub_agent_runs.tell_of_handoffs,
            workflow_call_runs.tell_of_a_workflow_that_asks,
        ):
            await tell_of(running, written)


if __name__ == "__main__":
    exit_cleanly()
    asyncio.run(main())
