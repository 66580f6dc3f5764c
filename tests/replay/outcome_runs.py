"""Recorded runs that do not end well: what waits is rejected, expires or is cancelled, or the server closes the run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from assent import Agent, AgentClient, RunHandle, approval, tool
from assent.testing import Environment, Step, call, calls, says
from assent.wire import protocol
from tests.replay import tools
from tests.replay.budget_runs import BUDGET
from tests.replay.waiting_runs import Write, started, until
from tests.support.tools import look_up


@approval(expires_after=tools.SOON)
@tool(requires_user_input=True, user_input_fields=["seat"])
def book_soon(flight: str, seat: str) -> str:
    """Book a flight that is nearly full."""
    return f"booked {seat} on {flight}"


@approval(expires_after=tools.SOON)
@tool(external_execution=True)
def weigh_soon(parcel: str) -> float:
    """Weigh a parcel before the counter closes."""
    raise NotImplementedError(parcel)


async def cancels(_: AgentClient, run: RunHandle) -> None:
    await run.until_paused()
    await run.cancel()
    await run.until_paused()


async def rejects(_: AgentClient, run: RunHandle) -> None:
    for requirement in (await run.until_paused()).active_requirements:
        await run.reject(requirement, by="bob", reason="not today")
    await run.until_paused()


async def expires(_: AgentClient, run: RunHandle) -> None:
    await run.result()


async def loses_the_outcome(run: RunHandle) -> None:
    await run.approve((await run.until_paused()).active_requirements[0], by="bob")
    await until(run, lambda state: any(each.needs_outcome for each in state.requirements))


async def rejects_the_outcome(client: AgentClient, run: RunHandle) -> None:
    await loses_the_outcome(run)
    await rejects(client, run)


async def cancels_the_outcome(client: AgentClient, run: RunHandle) -> None:
    await loses_the_outcome(run)
    await cancels(client, run)


async def terminates(client: AgentClient, run: RunHandle) -> None:
    await run.until_paused()
    await client.temporal.get_workflow_handle(run.id).terminate(reason="the house is closed")


QUESTIONS: Final = calls(call("book", flight="f"), call("weigh", parcel="p"), call("ask_user", question="Sure?"))
SOON: Final = calls(call("book_soon", flight="f"), call("weigh_soon", parcel="p"))
LABEL: Final = calls(call("print_label", order="o"))
LOOKS: Final = [calls(call("look_up", key=key)) for key in "abc"]
Story = Callable[[AgentClient, RunHandle], Awaitable[None]]
STORIES: Final[dict[str, tuple[Story, list[Step]]]] = {
    "questions-rejected": (rejects, [QUESTIONS]),
    "questions-cancelled": (cancels, [QUESTIONS]),
    "questions-expired": (expires, [SOON]),
    "outcome-rejected": (rejects_the_outcome, [LABEL]),
    "outcome-cancelled": (cancels_the_outcome, [LABEL]),
    "budget-rejected": (rejects, [*LOOKS]),
    "budget-cancelled": (cancels, [*LOOKS]),
    "terminated": (terminates, [QUESTIONS]),
}
TIMED_OUT: Final = "timed-out"
NAMES: Final = (*STORIES, TIMED_OUT)
ENDS: Final = {
    **dict.fromkeys(("questions-cancelled", "outcome-cancelled", "budget-cancelled"), "cancelled"),
    "budget-rejected": "failed",
    # The server closes a run without its code, which stays as it was.
    **dict.fromkeys(("terminated", TIMED_OUT), "waiting"),
}


async def tell_of_outcomes(running: Environment, written: Write) -> None:
    """Record each story, and a run that another client started with a time limit of the server's."""
    every: list[Callable[..., object]] = [*tools.ALL, book_soon, weigh_soon, look_up]
    for name in NAMES:
        _, steps = STORIES.get(name, (None, [QUESTIONS]))
        model = running.responses(*steps, says("done"))
        budget = BUDGET if name.startswith("budget") else None
        agent = Agent(name="teller", model=model, tools=every, groups=tools.GROUPS, budget=budget)
        async with running.serve(agent, task_queue=f"record-{name}") as client:
            if name == TIMED_OUT:
                run = await times_out(client)
            else:
                run = await started(client, name)
                await STORIES[name][0](client, run)
            await written(run, name)


async def times_out(client: AgentClient) -> RunHandle:
    request = {"agent": "teller", "input": "Tell of time.", "requested_by": "alice"}
    run = client.get_run(f"recorded-{TIMED_OUT}")
    await client.temporal.start_workflow(
        protocol.WORKFLOW, request, id=run.id, task_queue=client.task_queue, run_timeout=timedelta(seconds=3)
    )
    async for _ in run.watch():
        pass
    return run
