"""How people decide, from visibility and histories."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from rich.cells import cell_len

from assent import Agent, AgentClient, Remember, RunHandle, tool
from assent.audit.decision_statistics import Statistics
from assent.testing import Environment, call, calls, says
from tests.support.cli_operator import operating
from tests.support.visibility import soon


@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


@tool(requires_confirmation=True)
def deploy(target: str) -> str:
    """Deploy to a target."""
    return f"deployed to {target}"


def agent_of(environment: Environment) -> Agent:
    """An agent that pays, then deploys twice."""
    steps = [calls(call("pay", to="bob")), *(calls(call("deploy", target=each)) for each in ("test", "prod"))]
    name = f"stats-{uuid.uuid4().hex[:8]}"
    return Agent(name=name, model=environment.responses(*steps, says("done")), tools=[pay, deploy])


async def counted(client: AgentClient, agent: str, runs: int) -> Statistics:
    """The statistics of an agent, once visibility knows so many of its runs."""
    return await soon(lambda: client.statistics(agent=agent), lambda found: found.runs >= runs)


async def approved(run: RunHandle, number: int) -> None:
    """Approve what the run waits for, its requirement of this number, once it does."""
    state = await soon(run.state, lambda each: len(each.requirements) == number and bool(each.active_requirements))
    await run.send("approve", {"id": state.requirements[number - 1].id, "by": "bob"})
    await soon(run.state, lambda each: each.requirements[number - 1].status == "approved")


async def worked(client: AgentClient, agent: str) -> str:
    """A run in which bob rejects a payment at once and ann deploys after 3 seconds and remembers it for the rest."""
    run = await client.start(agent, "Go.", requested_by="alice")
    [payment] = (await run.until_paused()).active_requirements
    assert (await run.approve(payment, by="alice", check=False)).status == "refused"
    await run.reject(payment, by="bob", reason="no")
    [deployment] = (await run.until_paused()).active_requirements
    await asyncio.sleep(3.1)
    await run.approve(deployment, by="Ann", remember=Remember(uses=1))
    await run.result()
    return run.id


async def test_statistics_are_of_all_runs_and_their_decisions(assent_environment: Environment) -> None:
    agent = agent_of(assent_environment)
    async with assent_environment.serve(agent) as client:
        await worked(client, agent.name)
        waiting = await client.start(agent.name, "Go.")
        await waiting.until_paused()
        found = await counted(client, agent.name, 2)
        payments, deployments = found.tools["pay"], found.tools["deploy"]
        assert (payments.asked, payments.rejected, payments.pending, payments.approval_rate) == (2, 1, 1, 0)
        assert (payments.rubber_stamps, payments.not_counted) == (1, 1)
        assert (deployments.asked, deployments.approved, deployments.granted) == (1, 1, 1)
        assert deployments.rubber_stamps == 0
        assert 3.1 <= (deployments.median_seconds or 0) < 10
        assert {each.name: (each.decisions, each.rubber_stamps) for each in found.deciders} == {
            "bob": (1, 1),
            "Ann": (1, 0),
            "alice": (0, 0),
        }
        only = await client.statistics(agent=agent.name, tool="deploy")
        sample = await client.statistics(agent=agent.name, limit=1)
        assert (sample.runs, sample.total.pending) == (1, 1), "running runs come first"
        assert sample.left_out >= 1, "and the others are said to be left out"
        assert found.left_out == 0
        assert (only.runs, list(only.tools)) == (1, ["deploy"])
        later = await client.statistics(agent=agent.name, since=datetime.now(UTC) + timedelta(seconds=1))
        assert (later.runs, later.total.asked) == (0, 0)
        before = await client.statistics(agent=agent.name, since=datetime.now(UTC) - timedelta(hours=1))
        assert before.total == found.total


async def test_a_run_of_several_executions_counts_once(assent_environment: Environment) -> None:
    agent = agent_of(assent_environment)
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start(agent.name, "Go.")
        for number in (1, 2, 3):
            await approved(run, number)
        await run.result()
        query = f"WorkflowId = '{run.id}'"
        executions = await soon(lambda: client.temporal.count_workflows(query), lambda each: each.count >= 3)
        assert executions.count >= 3
        found = await counted(client, agent.name, 1)
        assert (found.runs, found.total.asked, found.total.approved, found.total.decisions) == (1, 3, 3, 3)


async def test_the_command_prints_tables_that_fit(assent_environment: Environment) -> None:
    agent = f"deployer-{uuid.uuid4().hex[:6]}"
    async with operating(assent_environment, agent=agent) as at:
        run_id, short = await at.waits(agent)
        by = "bob \u202e[bold]" + "x" * 60
        await at.client.get_run(run_id).approve(short, by=by)
        await at.client.get_run(run_id).result()
        await counted(at.client, agent, 1)
        for columns in (80, 140):
            ran = await at.assent("stats", "--agent", agent, "--since", "1h", columns=columns)
            assert (ran.code, ran.err) == (0, "")
            assert all(cell_len(line) <= columns for line in ran.out.splitlines())
            for part in ("1 with 1 call to decide since", "deploy", "100%", "bob \\u{202e}"):
                assert part in ran.out
        machine = (await at.assent("stats", "--agent", agent, "--json")).json
        assert machine["tools"]["deploy"]["approved"] == machine["total"]["asked"] == 1
        assert machine["deciders"][0]["name"] == by
        assert machine["since"] is None


async def test_a_time_that_is_none_is_refused(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        for since in ("yesterday", "7", "999999999d"):
            ran = await at.assent("stats", "--since", since)
            assert (ran.code, ran.out) == (2, "")
            assert "is not a time" in ran.err
        none = await at.assent("stats", "--agent", "nobody", "--since", "2026-11-01T00:00Z")
        assert none.out.startswith("runs       0 with 0 calls to decide")
