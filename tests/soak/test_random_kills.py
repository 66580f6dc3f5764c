"""Two hundred runs, and two minutes in which something is killed with `kill -9` every other second: none is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic

import pytest

from assent import AgentClient, RunHandle
from assent.wire.errors import ServerUnreachableError
from tests.soak.agents import Plan, plan_of, read
from tests.soak.approvers import People
from tests.soak.cluster import Town, town
from tests.soak.ledger_check import Accounts

RUNS = int(os.environ.get("SOAK_RUNS", "200"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "120"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
STARTING = 0.75
"""The part of the killing time over which the runs are started."""
REST = timedelta(minutes=4)
"""How long the runs may take once the killing is over."""


async def start(client: AgentClient, number: int, plan: Plan) -> RunHandle:
    """Start a run, whatever is killed meanwhile; to start it twice is to start it once."""
    while True:
        try:
            return await client.start(
                ("ops", "desk")[number % 2], json.dumps(plan), requested_by="alice", id=f"soak-{number:03d}"
            )
        except ServerUnreachableError:
            await asyncio.sleep(0.2)


async def ended(client: AgentClient, runs: Sequence[RunHandle]) -> None:
    """Wait until all runs have ended; say which have not where they take too long."""
    try:
        async with asyncio.timeout(REST.total_seconds()):
            for run in runs:
                await run.result()
    except TimeoutError:
        left = [run.id async for run in client.temporal.list_workflows('ExecutionStatus = "Running"')]
        message = f"these runs are lost, or somebody is waited for who was not asked: {left}"
        raise AssertionError(message) from None


async def through_kills(it: Town, plans: Sequence[Plan], people: People) -> list[RunHandle]:
    """Start the runs while processes are killed, and wait until every run has ended."""
    done = asyncio.Event()
    runs: list[RunHandle] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(people.deciding(done))
        group.create_task(it.supervising(done))
        killing = group.create_task(it.killing(random.Random(SEED), SECONDS))  # noqa: S311 - no secret
        for number, plan in enumerate(plans):
            runs.append(await start(people.client, number, plan))
            await asyncio.sleep(SECONDS * STARTING / len(plans))
        await killing
        begun = monotonic()
        await ended(people.client, runs)
        print(f"  all had ended {monotonic() - begun:.0f} s after the last kill")  # noqa: T201 - what it is run for
        done.set()
    return runs


def report(it: Town, people: People, accounts: Accounts, seconds: float) -> str:
    counted = "\n".join(f"  {name}: {count}" for name, count in sorted(accounts.counts.items()))
    said = dict(Counter(people.said.values()))
    return (
        f"{seconds:.0f} s, {it.kills.total()} kills {dict(it.kills)}\n{counted}\n"
        f"  processes that ended by themselves: {dict(it.ends)}\n"
        f"  outcomes that people were asked for: {len(people.said)} {said}\n"
        f"  times that people found no server: {people.unreachable.total()}"
    )


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_two_hundred_runs_outlive_two_minutes_of_random_kills(tmp_path: Path) -> None:
    """No run lost, no gated tool run twice for one approval, every idempotent one run to its end."""
    print(f"\nseed {SEED} (SOAK_SEED={SEED} has the same kills and plans), in {tmp_path}")  # noqa: T201
    plans = [plan_of(SEED, number) for number in range(RUNS)]
    begun = monotonic()
    async with town(tmp_path) as it:
        people = People(await it.client(), it.ledger)
        runs = await through_kills(it, plans, people)
        accounts = Accounts(read(it.ledger))
        for number, (run, plan) in enumerate(zip(runs, plans, strict=True)):
            await accounts.check(people.client, run.id, plan, replayed=number % 10 == 0)
        print(report(it, people, accounts, monotonic() - begun))  # noqa: T201 - what this test is run for
    assert accounts.counts["runs"] == RUNS
    assert all(accounts.counts[kind] for kind in ("continued", "below", "handed over")), accounts.counts
