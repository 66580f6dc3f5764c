"""All runs are followed at once, each in its order, through continue-as-new, with no load on the runs."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import pytest

from assent import Agent, AgentClient, PermissionPolicy, tool
from assent.client import watch_all
from assent.client.watch_all import Options, RunAndEvent
from assent.testing import Environment, call, calls, says
from assent.views.run_events import RunEvent
from tests.support import tools
from tests.support.cli_operator import operating
from tests.workflows.test_wire import temporal


class Listener:
    """Collects what is told of all runs."""

    def __init__(self) -> None:
        self.told: list[RunAndEvent] = []
        self.said: list[str] = []
        self._more = asyncio.Event()

    def kinds(self, run_id: str) -> list[str]:
        """The kinds of what was told of a run, in order."""
        return [event.kind for each, event in self.told if each == run_id]

    def add(self, run_id: str, event: RunEvent) -> None:
        self.told.append((run_id, event))
        self._more.set()

    async def until(self, run_id: str, kind: str) -> None:
        async with asyncio.timeout(60):
            while kind not in self.kinds(run_id):
                self._more.clear()
                await self._more.wait()

    async def until_said(self, text: str) -> None:
        async with asyncio.timeout(60):
            while True:
                if text in self.said[-1:]:
                    return
                await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(
    client: AgentClient, agent: str | None, *, from_start: bool = False, at_once: int = 100
) -> AsyncGenerator[Listener]:
    """Somebody who follows all runs of *agent* while the block runs."""
    listener = Listener()
    given = Options(from_start=from_start, at_once=at_once, say=listener.said.append)

    async def listen() -> None:
        async with aclosing(client.watch_all(agent, **given)) as told:
            async for run_id, event in told:
                listener.add(run_id, event)

    task = asyncio.create_task(listen())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@tool(requires_confirmation=True)
def pay(to: str) -> str:
    """Pay somebody."""
    return f"paid {to}"


def named() -> str:
    return f"all-{uuid.uuid4().hex[:8]}"


def asking(environment: Environment, name: str) -> Agent:
    return Agent(name=name, model=environment.responses(calls(call("pay", to="bob")), says("done")), tools=[pay])


ONE_CALL = ["model_called", "model_answered", "waiting", "decided", "tool_started", "tool_finished"]
WHOLE = ["started", *ONE_CALL, "model_called", "model_answered", "completed"]


async def waits(client: AgentClient, agent: str) -> tuple[str, str]:
    run = await client.start(agent, "Go.")
    return run.id, (await run.until_paused()).active_requirements[0].id


async def unmarked(client: AgentClient, agent: str) -> str:
    """The id of a run that no search attribute tells of: somebody else started it, and it has asked nothing yet."""
    run_id = f"unmarked-{uuid.uuid4().hex[:6]}"
    request = {"agent": agent, "input": " ", "conversation": True}
    await client.temporal.start_workflow("AgentRun", request, id=run_id, task_queue=client.task_queue)
    await client.get_run(run_id).until_paused()
    await asyncio.sleep(0.5)  # visibility follows the runs
    return run_id


async def test_new_runs_are_told_from_their_start_and_others_from_what_they_are_at(
    assent_environment: Environment,
) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client:
        before, first = await waits(client, name)
        await asyncio.sleep(0.5)  # visibility follows the runs
        async with listening(client, name) as listener:
            await listener.until(before, "waiting")
            assert listener.kinds(before) == ["waiting"]
            after, second = await waits(client, name)
            for run_id, identity in ((before, first), (after, second)):
                await client.get_run(run_id).approve(identity, by="carol")
            await listener.until(before, "completed")
            await listener.until(after, "completed")
            await asyncio.sleep(2.5)  # two more looks: an ended run is not told again
            assert listener.kinds(before) == WHOLE[3:]
            assert listener.kinds(after) == WHOLE
            assert {run_id for run_id, _ in listener.told} == {before, after}
            assert listener.said == []


async def test_from_start_tells_what_happened_before(assent_environment: Environment) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client:
        run_id, identity = await waits(client, name)
        await asyncio.sleep(0.5)
        async with listening(client, name, from_start=True) as listener:
            await client.get_run(run_id).approve(identity, by="carol")
            await listener.until(run_id, "completed")
            assert listener.kinds(run_id) == WHOLE


async def test_runs_of_other_agents_and_those_that_ended_before_are_not_told(assent_environment: Environment) -> None:
    name, other = named(), named()
    agents = [asking(assent_environment, each) for each in (name, other)]
    async with assent_environment.serve(*agents) as client:
        over, identity = await waits(client, name)
        await client.get_run(over).approve(identity, by="carol")
        await client.get_run(over).result()
        await asyncio.sleep(0.5)
        async with listening(client, name) as listener:
            strange, _ = await waits(client, other)
            mine, _ = await waits(client, name)
            await listener.until(mine, "waiting")
            await asyncio.sleep(1.5)
            assert {run_id for run_id, _ in listener.told} == {mine}
            await client.temporal.get_workflow_handle(strange).terminate()


async def test_a_run_that_goes_on_in_new_executions_is_told_as_one(assent_environment: Environment) -> None:
    name = named()
    turns = [calls(call("look_up", key=key)) for key in "abc"]
    agent = Agent(name=name, model=assent_environment.responses(*turns, says("done")), tools=tools.ALL)
    async with assent_environment.serve(agent, continue_after=5) as client, listening(client, name) as listener:
        await asyncio.sleep(1)
        run = await client.start(name, "Go.")
        await listener.until(run.id, "completed")
        await asyncio.sleep(2.5)
        turn = ["model_called", "model_answered", "tool_started", "tool_finished"]
        story = ["started", *turn * 3, "model_called", "model_answered", "completed"]
        assert listener.kinds(run.id) == story
        assert [event.kind async for event in run.watch()] == story


async def test_a_run_of_another_agent_that_no_search_attribute_tells_of_takes_no_room(
    assent_environment: Environment,
) -> None:
    """Whoever started it said nothing of its agent, and nothing has been asked yet: it has to be read to be known."""
    name, other = named(), named()
    async with assent_environment.serve(asking(assent_environment, name), asking(assent_environment, other)) as client:
        strange = [await unmarked(client, other) for _ in range(2)]
        async with listening(client, name, at_once=1) as listener:
            await asyncio.sleep(1)
            mine, _ = await waits(client, name)
            await listener.until(mine, "waiting")
            strange.append(await unmarked(client, other))
            await asyncio.sleep(2.5)
            assert listener.said == []
            assert {run_id for run_id, _ in listener.told} == {mine}
        for run_id in strange:
            await client.temporal.get_workflow_handle(run_id).terminate()


async def test_a_run_that_no_search_attribute_tells_of_is_told_as_any_other(assent_environment: Environment) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client:
        before = await unmarked(client, name)
        async with listening(client, name) as listener:
            await listener.until(before, "idle")
            after = await unmarked(client, name)
            await listener.until(after, "started")
            for run_id in (before, after):
                await client.temporal.get_workflow_handle(run_id).terminate()
                await listener.until(run_id, "failed")


async def test_a_run_that_is_handed_over_to_the_agent_is_told_from_there_on(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_all, "OVERLAP", timedelta(0))  # The run began long before.
    monkeypatch.setattr(watch_all, "EVERY", 2)
    first, second = named(), named()
    model = assent_environment.responses(calls(call("pay", to="bob")), calls(call(f"transfer_to_{second}")))
    front = Agent(name=first, model=model, tools=[pay], handoffs=[second], policy=PermissionPolicy(default="allow"))
    model = assent_environment.responses(says("-"), says("-"), calls(call("pay", to="eve")))
    async with assent_environment.serve(front, Agent(name=second, model=model, tools=[pay])) as client:
        run_id, identity = await waits(client, first)
        async with listening(client, second) as listener:
            await asyncio.sleep(1.5)
            assert listener.told == []
            await client.get_run(run_id).approve(identity, by="carol")
            await listener.until(run_id, "waiting")
            assert listener.kinds(run_id) == ["tool_finished", "handed_over", *WHOLE[1:4]]
            await client.temporal.get_workflow_handle(run_id).terminate()


async def test_more_runs_than_are_followed_at_once_are_said_and_follow_when_there_is_room(
    assent_environment: Environment,
) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client:
        runs = [await waits(client, name) for _ in range(3)]
        await asyncio.sleep(0.5)
        async with listening(client, name, at_once=2) as listener:
            newest = [run_id for run_id, _ in runs[1:]]
            for run_id in newest:
                await listener.until(run_id, "waiting")
            assert {run_id for run_id, _ in listener.told} == set(newest)
            await listener.until_said("1 more runs are not followed yet: 2 are followed at once")
            await client.get_run(newest[0]).approve(runs[1][1], by="carol")
            await listener.until(runs[0][0], "waiting")


async def test_a_run_that_the_server_ends_is_told_to_have_failed(assent_environment: Environment) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client, listening(client, name) as all_of:
        run_id, _ = await waits(client, name)
        await all_of.until(run_id, "waiting")
        await client.temporal.get_workflow_handle(run_id).terminate("enough")
        await all_of.until(run_id, "failed")
        assert all_of.told[-1][1].text == "the server closed the run: terminated"


async def test_following_adds_no_event_to_a_run(assent_environment: Environment) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client:
        run_id, _ = await waits(client, name)
        length = (await client.get_run(run_id).description()).history_length
        await asyncio.sleep(0.5)
        async with listening(client, name) as listener:
            await listener.until(run_id, "waiting")
            await asyncio.sleep(2)
        assert (await client.get_run(run_id).description()).history_length == length


async def test_the_command_prints_one_line_an_event_and_ends_on_ctrl_c(assent_environment: Environment) -> None:
    agent = f"deployer-{uuid.uuid4().hex[:6]}"
    async with operating(assent_environment, agent=agent) as at:
        run_id, short = await at.waits(agent)
        await asyncio.sleep(0.5)
        plain = await at.start("watch", "--all", "--agent", agent, columns=100)
        machine = await at.start("watch", "--all", "--agent", agent, "--json")
        assert plain.stdout is not None
        assert machine.stdout is not None
        told = [await asyncio.wait_for(process.stdout.readline(), 60) for process in (plain, machine) if process.stdout]
        assert told[0].decode().startswith(f"{run_id}  ")
        assert f"{short} deploy (confirmation)" in told[0].decode()
        assert json.loads(told[1])["run_id"] == run_id
        await at.client.get_run(run_id).approve(short, by="bob")
        lines = [told[0].decode()]
        while "completed" not in lines[-1]:
            lines.append((await asyncio.wait_for(plain.stdout.readline(), 60)).decode())
        assert all(line.startswith(f"{run_id}  ") and "\x1b" not in line for line in lines)
        assert len(lines) == 7
        assert r"It [b]is[/b] done.\x1b[2J" in lines[-1]
        for process in (plain, machine):
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, err) == (130, b"")


async def test_watch_without_a_run_and_with_both_is_refused(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        for arguments in ((), ("some-run", "--all"), ("some-run", "--agent", "a")):
            ran = await at.assent("watch", *arguments)
            assert (ran.code, ran.out) == (2, "")
            assert "assent watch --all" in ran.err


async def test_a_run_that_waits_for_room_and_goes_on_in_a_new_execution_is_told_once(
    assent_environment: Environment,
) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name), continue_after=1) as client:
        late, _ = await waits(client, name)
        early, identity = await waits(client, name)
        await asyncio.sleep(0.5)
        async with listening(client, name, at_once=1) as listener:
            await listener.until(early, "waiting")
            await client.get_run(late).send_message("Are you there?", by="alice")
            await asyncio.sleep(2.5)  # another execution of it is listed while it waits for room
            assert late not in {run_id for run_id, _ in listener.told}
            await client.get_run(early).approve(identity, by="carol")
            await listener.until(late, "waiting")
            await asyncio.sleep(2.5)
            assert listener.kinds(late).count("waiting") == 1


async def test_a_run_that_is_reset_is_followed_on(assent_environment: Environment) -> None:
    name = named()
    async with assent_environment.serve(asking(assent_environment, name)) as client, listening(client, name) as all_of:
        run_id, _ = await waits(client, name)
        await all_of.until(run_id, "waiting")
        where = ("--workflow-id", run_id, "--type", "FirstWorkflowTask", "--reason", "test")
        await temporal(assent_environment, "workflow", "reset", *where)
        await all_of.until(run_id, "failed")
        [asked] = (await client.get_run(run_id).until_paused()).active_requirements
        await client.get_run(run_id).approve(asked, by="carol")
        await all_of.until(run_id, "completed")
        told = all_of.kinds(run_id)
        assert told[-len(WHOLE) :] == WHOLE
        *before, ended = told[: -len(WHOLE)]
        assert ended == "failed"
        assert before == WHOLE[4 - len(before) : 4], "from where it stood when it was first seen"
