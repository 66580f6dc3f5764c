"""What becomes of runs that a foreign client starts with options that Assent never sets: retries and schedules."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from temporalio.common import RetryPolicy

from assent import (
    Agent,
    MessageError,
    RequirementNotFoundError,
    RunFailedError,
    RunHandle,
)
from assent.client.client import AgentClient
from assent.testing import Environment, Step, call, calls, fails
from tests.support import tools
from tests.support.cli_operator import operating
from tests.support.visibility import soon
from tests.workflows.test_operator_run_commands import TOOLS, told
from tests.workflows.test_wire import temporal


@asynccontextmanager
async def foreign(
    running: Environment,
    *steps: Step,
    retry: RetryPolicy | None = None,
    cron: str = "",
    run_timeout: timedelta | None = None,
) -> AsyncGenerator[tuple[AgentClient, RunHandle]]:
    """A run that some other client starts, with options that Assent's own never sets."""
    agent = Agent(name="r", model=running.responses(*steps), tools=TOOLS)
    async with running.serve(agent) as client:
        request = {"agent": "r", "input": "Go.", "requested_by": "alice"}
        handle = await client.temporal.start_workflow(
            "AgentRun",
            request,
            id=f"foreign-{client.task_queue}",
            task_queue=client.task_queue,
            retry_policy=retry,
            cron_schedule=cron,
            run_timeout=run_timeout,
        )
        yield client, client.get_run(handle.id)


RETRIES = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3)


async def executions(client: AgentClient, run: RunHandle) -> list[str]:
    """The ids of the executions that have the run's id, as Temporal lists them."""
    return [each.run_id async for each in client.temporal.list_workflows(f"WorkflowId = '{run.id}'")]


async def test_a_failed_run_is_not_retried_whatever_the_client_asked_for(assent_environment: Environment) -> None:
    steps = (calls(call("look_up", key="k")), fails(400, times=None, code="invalid_prompt"))
    async with foreign(assent_environment, *steps, retry=RETRIES) as (client, run):
        assert (await run.until_paused()).status == "failed"
        await asyncio.sleep(1)
        assert (await run.state()).status == "failed"
        assert len(await executions(client, run)) == 1
        assert tools.ran(run.id) == ["look_up(k)"]


async def test_a_cancelled_or_terminated_run_is_not_retried(assent_environment: Environment) -> None:
    for verb in ("cancel", "terminate"):
        async with foreign(assent_environment, calls(call("pay", to="a", amount=1)), retry=RETRIES) as (client, run):
            await run.until_paused()
            await temporal(assent_environment, "workflow", verb, "--workflow-id", run.id)
            with pytest.raises(RunFailedError):
                await run.result()
            await asyncio.sleep(1)
            assert len(await executions(client, run)) == 1
            assert tools.ran(run.id) == []


async def test_a_run_that_is_retried_after_its_timeout_asks_again(assent_environment: Environment) -> None:
    """What was asked is asked again: no approval goes over. What was not gated runs again, as the client asked for."""
    steps = (calls(call("look_up", key="k"), call("pay", to="a", amount=1)), told)
    timeout = timedelta(seconds=3)
    async with foreign(assent_environment, *steps, retry=RETRIES, run_timeout=timeout) as (client, run):
        [old] = (await run.until_paused()).active_requirements
        first = (await run.description()).run_id

        async def retried() -> bool:
            return (await run.description()).run_id != first

        assert await soon(retried)
        [anew] = (await run.until_paused()).active_requirements
        assert anew.id != old.id
        with pytest.raises(RequirementNotFoundError):
            await run.approve(old, by="bob")
        # Its first execution tells how it ended.
        ended = await RunHandle(client.temporal, run.id, execution_id=first).state()
        assert (ended.status, [each.status for each in ended.requirements]) == ("failed", ["cancelled"])
        assert tools.ran(run.id) == ["look_up(k)", "look_up(k)"]
        await run.approve(anew, by="bob")
        assert "paid 1 to a" in (await run.result()).content
        assert tools.ran(run.id) == ["look_up(k)", "look_up(k)", "pay(a, 1)"]


async def test_a_run_on_a_schedule_asks_each_time(assent_environment: Environment) -> None:
    """Each turn of a cron schedule is a run of its own under one id: an approval holds for none but its own."""
    steps = (calls(call("pay", to="a", amount=1)), told)
    async with foreign(assent_environment, *steps, cron="@every 1s") as (client, run):
        [old] = (await run.until_paused()).active_requirements
        first = (await run.description()).run_id
        await run.approve(old, by="bob")

        async def following() -> bool:
            return (await run.description()).run_id != first and (await run.state()).is_paused

        assert await soon(following)
        [anew] = (await run.until_paused()).active_requirements
        assert anew.id != old.id
        await run.send("approve", {"id": old.id, "by": "bob"})
        state = await run.until_paused()
        assert [each.status for each in state.ignored_messages] == ["unknown"]
        assert tools.ran(run.id) == ["pay(a, 1)"]
        assert (await RunHandle(client.temporal, run.id, execution_id=first).state()).status == "completed"
        await temporal(assent_environment, "workflow", "terminate", "--workflow-id", run.id)


@pytest.mark.parametrize("run_id", ["--json", "-x", "a\u202eb", "two\nlines"])
async def test_a_run_does_not_begin_with_an_id_that_no_command_can_take(
    assent_environment: Environment, run_id: str
) -> None:
    client = assent_environment.client("nobody")
    with pytest.raises(MessageError, match="a run cannot have the id"):
        await client.start("r", "Go.", id=run_id)
    with pytest.raises(MessageError, match="a run cannot have the id"):
        await client.send_message(run_id, "Go.", by="alice", agent="r")


async def test_a_foreign_run_whose_id_looks_like_an_option_is_decided_by_the_printed_command(
    assent_environment: Environment,
) -> None:
    async with operating(assent_environment) as operator:
        client = operator.client
        run_id = f"--{client.task_queue}"
        request = {"agent": "deployer", "input": "Go.", "requested_by": "alice"}
        await client.temporal.start_workflow("AgentRun", request, id=run_id, task_queue=client.task_queue)
        await client.get_run(run_id).until_paused()
        shown = await operator.assent("show", "--", run_id, columns=200)
        assert shown.code == 0
        [approve] = re.findall(r"assent (.*approve .*)", shown.out)
        decided = await operator.assent(*shlex.split(approve.replace("YOUR_NAME", "bob")))
        assert (decided.code, decided.err) == (0, "")
        assert (await client.get_run(run_id).result()).turns == 2
