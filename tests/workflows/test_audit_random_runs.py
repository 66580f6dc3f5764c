"""The audit's fold of the history is what the run says of itself, and nothing that was sent vanishes from its records.

Runs are made up: what the model asks for, who decides what, twice, too late, wrongly, with the worker there or not,
in one execution or in many, by one agent or by several that ask each other and hand over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest

from assent import Agent, PermissionPolicy
from assent.audit.audit_tree import audits
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.client.client import AgentClient
from assent.testing import Environment, Step, calls, fails, says
from assent.testing._script import Call
from tests.support.random_runs import AGENTS, CALLS, TOOLS, Life, seeded


def script(random: Random, among: Sequence[Call] = CALLS) -> list[Step]:
    """What a model asks for, turn by turn, until it is done."""
    turns: list[Step] = []
    for _ in range(random.randint(1, 3)):
        wanted: list[Call] = random.sample(among, random.randint(1, 4))
        turns.append(calls(*wanted))
    if random.random() < 1 / 12:
        turns.append(fails(400, message="no", code="invalid_prompt", times=None))
    return [*turns, *[says("done")] * 20]


# Runs that are replayed at every step and continue as new all the time, and runs that do neither.
in_one_execution_and_in_many = pytest.mark.parametrize(("cached", "continue_after"), [(0, 12), (1_000, 0)])


@in_one_execution_and_in_many
async def test_the_audit_is_what_the_run_says_of_itself(
    assent_environment: Environment, cached: int, continue_after: int
) -> None:
    random = seeded("runs", cached, continue_after)
    agents = [
        Agent(name=f"made-up-{number}", model=assent_environment.responses(*script(random)), tools=TOOLS)
        for number in range(3)
    ]

    served = serving(assent_environment, agents, cached, continue_after)
    lives = await begun(served, agents, (cached, continue_after))
    await asyncio.gather(*(acted(life, is_served=False) for life in lives))
    async with served(lives[0].client.task_queue):
        await asyncio.gather(*map(lived_out, lives))


Served = Callable[[str | None], AbstractAsyncContextManager[AgentClient]]


def serving(environment: Environment, agents: Sequence[Agent], cached: int, continue_after: int) -> Served:
    """Workers of *agents*, on a task queue of their own, or on that which is named."""

    def served(queue: str | None) -> AbstractAsyncContextManager[AgentClient]:
        cache = 64 * 1024 * 1024 if cached else 0
        return environment.serve(
            *agents, task_queue=queue, cached_runs=cached, prefix_cache=cache, continue_after=continue_after
        )

    return served


async def begun(served: Served, agents: Sequence[Agent], seed: tuple[int, int]) -> list[Life]:
    """A run of each agent, at its first pause."""
    async with served(None) as client:
        runs = [await client.start(agent.name, "Go.", requested_by="alice") for agent in agents]
        lives = [Life(seeded(agent.name, *seed), client, run) for agent, run in zip(agents, runs, strict=True)]
        await asyncio.gather(*(life.agreed() for life in lives))
    return lives


async def lived_out(life: Life) -> int:
    """Decide on and on until the run has ended, and all below it; how many these are."""
    for _ in range(15):
        state = await life.agreed()
        if state.is_finished:
            break
        await acted(life, is_served=True)
    else:
        await life.run.cancel()
        assert (await life.agreed()).is_finished
    for below in [*life.team()][1:]:
        async with asyncio.timeout(60):
            while not (await below.agreed()).is_finished:  # noqa: ASYNC110 - the server cancels what is left behind
                await asyncio.sleep(0.05)

    async def read(run_id: str, observer: AuditObserver | None) -> Audit:
        return await life.client.get_run(run_id).audit(observer)

    found = [each async for each in audits(read, life.run.id, verify=True)]
    for each in found:
        assert each.verification is not None
        assert each.verification.ok, (each.path, [one for one in each.verification.checks if one.problems])
    return len(found)


async def acted(life: Life, *, is_served: bool) -> None:
    """Have people act on a run, and on those below it."""
    for each in [*life.team()]:
        state = await each.run.state()
        if not state.is_finished and (each is life or state.active_requirements):
            await each.act(state, is_served=is_served)


@in_one_execution_and_in_many
async def test_the_audit_of_agents_that_work_for_agents_is_what_each_run_says_of_itself(
    assent_environment: Environment, cached: int, continue_after: int
) -> None:
    random = seeded("teams", cached, continue_after)
    model = assent_environment.responses
    among = [*CALLS, *AGENTS, *AGENTS]
    watcher = Agent(name="watcher", model=model(*script(random, CALLS[:1] * 4), says("seen")), tools=TOOLS)
    helper = Agent(name="helper", model=model(*script(random, [*CALLS, AGENTS[3]])), tools=[*TOOLS, watcher.as_tool()])
    asked = [helper.as_tool(requires_confirmation=bool(cached)), watcher.as_tool()]
    third = Agent(name="third", model=model(*script(random, among)), tools=[*TOOLS, *asked], handoffs=["second"])
    second = Agent(name="second", model=model(*script(random, among)), tools=[*TOOLS, *asked], handoffs=[third])
    policy = PermissionPolicy.of(deny=["break_*"], allow=["look_up", "ask_*", "transfer_*"])
    agents = [
        Agent(
            name=f"team-{number}",
            model=model(*([] if number else [calls(AGENTS[3])]), *script(random, among)),
            tools=[*TOOLS, *asked],
            handoffs=[second, third],
            policy=policy if number % 2 else None,
        )
        for number in range(3)
    ]
    served = serving(assent_environment, agents, cached, continue_after)
    lives = await begun(served, agents, (cached, continue_after))
    await asyncio.gather(*(acted(life, is_served=False) for life in lives))
    async with served(lives[0].client.task_queue):
        runs = await asyncio.gather(*map(lived_out, lives))
    assert sum(runs) > len(lives), "some asked others"
