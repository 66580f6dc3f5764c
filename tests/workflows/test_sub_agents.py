"""Agents that work for agents, on the real server: a call of one is a run of another, below the run that calls."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from assent import (
    Agent,
    AgentClient,
    Budget,
    PermissionPolicy,
    Remember,
    Rule,
    RunFailedError,
    RunHandle,
    RunRequest,
    approval,
)
from assent.client.start import exists
from assent.core.sub_agents import MAX_DEPTH
from assent.testing import Environment, Step, call, calls, says
from assent.wire.protocol import ParentRun
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import live, replay

RESTARTS = calls(call("restart", service="web"))
ASKS = calls(call("ask_writer", input="Restart the web."))


def writer(running: Environment, *steps: Step, policy: PermissionPolicy | None = None) -> Agent:
    """An agent that restarts something, which waits for a person, and then says so."""
    model = running.responses(*(steps or (RESTARTS, says("The web is restarted."))))
    return Agent(name="writer", model=model, tools=tools.ALL, policy=policy)


def boss(running: Environment, below: Agent, *steps: Step, policy: PermissionPolicy | None = None) -> Agent:
    """An agent that asks *below*, and then is done."""
    model = running.responses(*(steps or (ASKS, says("Done."))))
    return Agent(name="boss", model=model, tools=[below.as_tool()], policy=policy)


async def child_of(client: AgentClient, run: RunHandle, number: int = 0) -> RunHandle:
    """The run below, once it has begun; with *number*, another of a turn's calls."""
    async for transition in run.transitions(wait=True):
        # Calls made side by side begin in any order: which is which goes by their order in the turn.
        children = [each.child for each in transition.step.run.calls if each.child or each.call.tool[:4] == "ask_"]
        if len(children) > number and (begun := children[number]) is not None:
            child = client.get_run(begun.run_id)
            while True:
                if await exists(child):  # The server begins it a moment after the run above says so.
                    return child
                await asyncio.sleep(0.02)
    raise AssertionError


async def closed_as(run: RunHandle) -> str:
    """How a run ended, once it has."""
    async with asyncio.timeout(60):
        while True:
            description = await run.description()
            if description.close_time is not None and description.status is not None:
                return description.status.name
            await asyncio.sleep(0.05)


async def outputs(run: RunHandle) -> list[str]:
    """What the model was told about its calls."""
    last = await run.fold()
    assert last is not None
    return [str(item["output"]) for item in last.conversation.items if item.get("type") == "function_call_output"]


async def told(run: RunHandle) -> str:
    """What the model was told last about its calls."""
    return (await outputs(run))[-1]


async def test_an_agent_asks_another_whose_call_is_decided_at_its_own_run(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        state = await child.until_paused()
        assert [each.tool for each in state.active_requirements] == ["restart"]
        assert [(each.run_id, each.agent, each.tool) for each in state.parents] == [(run.id, "boss", "ask_writer")]
        assert [(each.run_id, each.agent) for each in (await run.state()).children] == [(child.id, "writer")]
        assert (await run.state()) == await live(client, run)
        await child.approve(state.active_requirements[0], by="bob")
        result = await run.result()
        assert (result.content, await told(run)) == ("Done.", "The web is restarted.")
        assert tools.ran(child.id) == ["restart(web)"]
        both = [await run.state(), await child.state()]
        assert both[0].usage.requests == 4, "what the agent below used counts for the one above"
        assert both == [await live(client, run), await live(client, child)]
        assert await replay(client, run) == await replay(client, child) == 1


async def test_the_records_of_a_run_below_name_the_runs_above(assent_environment: Environment) -> None:
    """While they wait, from the inbox, and after they were decided, from the history."""
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        pending, total = await soon(
            lambda: client.get_approvals(status="pending", run_id=child.id), lambda found: found[1] > 0
        )
        await child.approve(waiting, by="bob")
        await run.result()
        decided, _ = await client.get_approvals(run_id=child.id)
        assert total == 1
        for record in (*pending, *decided):
            assert [(each.run_id, each.agent) for each in record.parents] == [(run.id, "boss")]
            assert (record.agent, record.requested_by) == ("writer", "alice")


async def test_whoever_asked_for_the_run_above_cannot_approve_below(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        assert (await child.approve(waiting, by="Alice", check=False)).status == "refused"
        assert (await child.approve(waiting, by="bob")).status == "approved"
        await run.result()


@pytest.mark.parametrize(
    ("above", "status", "answer"),
    [
        (PermissionPolicy.of(deny=["restart"], default="allow"), None, "Denied: the policy does not permit"),
        (PermissionPolicy.of(allow=["ask_writer"]), "waiting", None),
    ],
    ids=["deny", "ask"],
)
async def test_the_policy_above_is_the_ceiling(
    assent_environment: Environment, above: PermissionPolicy, status: str | None, answer: str | None
) -> None:
    """What the agent above may not do, or only after a person was asked, no agent does for it."""
    steps = (calls(call("look_up", key="a")), calls(call("restart", service="web")), says("?"))
    below = writer(assent_environment, *steps, policy=PermissionPolicy.of(allow=["*"]))
    async with assent_environment.serve(boss(assent_environment, below, policy=above)) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        state = await child.until_paused()
        if status is None:
            assert answer is not None
            assert (await told(child)).startswith(answer)
            assert tools.ran(child.id) == ["look_up(a)"]
        else:
            assert state.status == status
            assert [each.tool for each in state.active_requirements] == ["look_up"], "the policy above asks by default"
            await run.cancel()


async def test_the_ceiling_reaches_through_agents_that_have_no_policy(assent_environment: Environment) -> None:
    below = writer(assent_environment, RESTARTS, says("?"))
    middle_model = assent_environment.responses(ASKS, says("!"))
    middle = Agent(name="middle", model=middle_model, tools=[below.as_tool()])
    asks = calls(call("ask_middle", input="Restart."))
    policy = PermissionPolicy(default="allow", rules=(Rule(decision="deny", tool="restart"),))
    top = Agent(name="top", model=assent_environment.responses(asks, says("Done.")), tools=[middle.as_tool()])
    async with assent_environment.serve(top) as client:
        run = await client.start("top", "Restart.", requested_by="alice", policy=policy)
        await run.result()
        lower = await child_of(client, await child_of(client, run))
        assert [(each.agent, each.tool) for each in (await lower.state()).parents] == [
            ("top", "ask_middle"),
            ("middle", "ask_writer"),
        ]
        assert (await told(lower)).startswith("Denied:")
        assert tools.ran(lower.id) == []


async def test_that_an_agent_is_asked_can_itself_wait_for_a_person(assent_environment: Environment) -> None:
    below = writer(assent_environment, says("Written."))
    asking = approval(below.as_tool(requires_confirmation=True))
    agent = Agent(name="boss", model=assent_environment.responses(ASKS, says("Done.")), tools=[asking])
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        [waiting] = (await run.until_paused()).active_requirements
        assert (waiting.tool, waiting.tool_args) == ("ask_writer", {"input": "Restart the web."})
        assert not (await run.state()).children, "nothing is begun before that"
        await run.approve(waiting, by="bob")
        await run.result()
        [decided] = (await run.state()).requirements
        assert (decided.execution, decided.result) == ("executed", "Written.")
        await replay(client, run)


@pytest.mark.parametrize("how", ["cancel", "terminate", "fail"])
async def test_however_a_run_ends_those_below_are_cancelled(assent_environment: Environment, how: str) -> None:
    below = writer(assent_environment)
    agent = boss(assent_environment, below)
    async with assent_environment.serve(agent) as client:
        budget = Budget(max_time=timedelta(seconds=2.0), on_reached="end") if how == "fail" else None
        run = await client.start("boss", "Restart.", requested_by="alice", budget=budget)
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        if how == "cancel":
            await run.cancel()
        elif how == "terminate":
            await client.temporal.get_workflow_handle(run.id).terminate()
        assert await closed_as(run) == {"cancel": "CANCELED", "terminate": "TERMINATED", "fail": "FAILED"}[how]
        # The time that is left above is all the time there is below.
        assert await closed_as(child) in ({"CANCELED", "FAILED"} if how == "fail" else {"CANCELED"})
        [cancelled] = (await child.state()).requirements
        assert (cancelled.id, cancelled.status) == (waiting.id, "cancelled")
        assert tools.ran(child.id) == []


async def test_a_run_below_that_fails_or_is_ended_is_told_to_the_model_above(assent_environment: Environment) -> None:
    asks = calls(*(call("ask_writer", input=each) for each in ("fail", "cancel", "terminate")))

    below = Agent(
        name="writer",
        model=assent_environment.responses(RESTARTS, RESTARTS, says("!")),
        tools=tools.ALL,
        max_turns=1,
    )
    async with assent_environment.serve(boss(assent_environment, below, asks, says("Done."))) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        children = [await child_of(client, run, number) for number in range(3)]
        states = [await child.until_paused() for child in children]
        await children[0].reject(states[0].active_requirements[0], by="bob", reason="no")
        await children[1].cancel()
        await client.temporal.get_workflow_handle(children[2].id).terminate()
        result = await run.result()
        assert await outputs(run) == [
            "Error: agent 'writer' gave no answer: MaxTurnsExceeded: the run used all of its 1 turns",
            "Error: agent 'writer' gave no answer: Cancelled: its run was cancelled",
            "Error: agent 'writer' gave no answer: Terminated: its run was terminated",
        ]
        assert result.usage.requests == 3, "two of its own, and what the one that failed had used"
        assert await run.state() == await live(client, run)
        await replay(client, run)


async def test_a_parent_can_never_decide_for_its_child(assent_environment: Environment) -> None:
    """Nothing that is sent to the run above, by anybody, settles what waits below; nor does what was approved there."""
    steps = (calls(call("restart", service="db")), ASKS, says("Done."))
    below = writer(assent_environment)
    agent = Agent(name="boss", model=assent_environment.responses(*steps), tools=[below.as_tool(), tools.restart])
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        [own] = (await run.until_paused()).active_requirements
        await run.approve(own, by="bob", remember=Remember(uses=9))
        child = await child_of(client, run)
        state = await child.until_paused()
        [waiting] = state.active_requirements
        handle = client.temporal.get_workflow_handle(run.id)
        for name in ("approve", "reject"):
            await handle.signal(name, {"id": waiting.id, "by": "bob", "reason": "r"})
        attempts = [(each.name, each.status) for each in (await live(client, run)).ignored_messages]
        assert attempts == [("approve", "unknown"), ("reject", "unknown")]
        assert (await live(client, child)) == state
        assert tools.ran(child.id) == []
        await child.reject(waiting, by="bob", reason="no")
        await run.result()


async def test_a_run_cannot_claim_to_work_for_another(assent_environment: Environment) -> None:
    async with assent_environment.serve(writer(assent_environment, says("Hello."))) as client:
        claim = ParentRun(run_id="payroll", agent="boss", tool="ask_writer", call_id="c")
        request = RunRequest(agent="writer", input="Go.", parents=[claim])
        name = f"claims-{client.task_queue}"
        await client.temporal.start_workflow("AgentRun", request, id=name, task_queue=client.task_queue)
        with pytest.raises(RunFailedError, match="run 'payroll' did not start this one"):
            await client.get_run(name).result()


async def test_what_the_agents_below_use_counts_for_the_budget_above(assent_environment: Environment) -> None:
    agent = boss(assent_environment, writer(assent_environment, says("Written.")))
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Go.", requested_by="alice", budget=Budget(max_model_calls=2))
        child = await child_of(client, run)
        assert (await child.result()).content == "Written."
        assert (await child.state()).budget == Budget(max_model_calls=1), "what was left"
        state = await run.until_paused()
        [asked] = state.active_requirements
        assert (asked.kind, state.usage.requests) == ("budget", 2)
        await run.approve(asked, by="bob")
        assert (await run.result()).content == "Done."
        assert await run.state() == await live(client, run)


async def test_agents_that_ask_each_other_in_a_circle_come_to_an_end(assent_environment: Environment) -> None:
    queue = "test-circle"
    model = assent_environment.responses(calls(call("ask_echo", input="again")), says("enough"))
    echo = Agent(name="echo", model=model, tools=[Agent(name="echo", model=model).as_tool(task_queue=queue)])
    async with assent_environment.serve(echo, task_queue=queue) as client:
        run = await client.start("echo", "go", requested_by="alice")
        assert (await run.result()).content == "enough"
        runs = [run]
        while runs[-1].id:
            state = [each.step.run async for each in runs[-1].transitions()]
            below = [call.child for each in state for call in each.calls if call.child is not None]
            if not below:
                break
            runs.append(client.get_run(below[0].run_id))
        assert len(runs) == MAX_DEPTH
        assert "8 deep" in await told(runs[-1])


async def test_a_large_turn_of_questions_is_spread_over_workflow_tasks(assent_environment: Environment) -> None:
    """J: what is begun with one workflow task stays below the 4 MiB at which the server terminates a run."""
    long = "x" * 180_000
    asks = calls(*(call("ask_writer", input=f"{number}{long}") for number in range(5)))
    agent = boss(assent_environment, writer(assent_environment, says("Read.")), asks, says("Done."))
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        assert (await run.result()).content == "Done."
        assert await run.state() == await live(client, run)
        await replay(client, run)


async def test_a_run_with_runs_below_goes_on_anew_once_they_are_over(assent_environment: Environment) -> None:
    """The server would cancel them with the execution that began them."""
    agent = boss(assent_environment, writer(assent_environment))
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        state = await child.until_paused()
        for _ in range(3):
            await run.send_message("Hurry.", by="alice")
        await asyncio.sleep(0.5)
        assert await replay(client, run) == 1
        await child.approve(state.active_requirements[0], by="bob")
        assert (await run.result()).content == "Done."
        assert await replay(client, run) > 1
        assert await replay(client, child) > 1
        assert await run.state() == await live(client, run)
        assert tools.ran(child.id) == ["restart(web)"]


async def reset(client: AgentClient, run: RunHandle, kind: EventType.ValueType) -> None:
    """Put a run back to the workflow task that wrote the first event of this kind."""
    history = await client.temporal.get_workflow_handle(run.id).fetch_history()
    last = 0
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            last = event.event_id
        if event.event_type == kind:
            break
    request = ResetWorkflowExecutionRequest(
        namespace="default",
        workflow_execution=WorkflowExecution(workflow_id=run.id),
        reason="test",
        workflow_task_finish_event_id=last,
        request_id=f"reset-{run.id}",
    )
    await client.temporal.workflow_service.reset_workflow_execution(request)


async def test_a_run_whose_parent_was_put_back_runs_nothing_any_more(assent_environment: Environment) -> None:
    agent = boss(assent_environment, writer(assent_environment))
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        orphan = await child_of(client, run)
        [waiting] = (await orphan.until_paused()).active_requirements
        await reset(client, run, EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED)
        await asyncio.sleep(1)
        child = await child_of(client, run)
        assert child.id != orphan.id
        await orphan.approve(waiting, by="bob")
        assert await closed_as(orphan) == "CANCELED"
        assert tools.ran(orphan.id) == []
        [again] = (await child.until_paused()).active_requirements
        await child.approve(again, by="bob")
        assert (await run.result()).content == "Done."
        assert tools.ran(child.id) == ["restart(web)"]


async def test_a_run_stays_with_its_parent_that_was_put_back_to_after_it_began(
    assent_environment: Environment,
) -> None:
    agent = boss(assent_environment, writer(assent_environment))
    async with assent_environment.serve(agent) as client:
        run = await client.start("boss", "Restart.", requested_by="alice")
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        await run.send_message("Hurry.", by="alice")
        await asyncio.sleep(0.5)
        await reset(client, run, EventType.EVENT_TYPE_UNSPECIFIED)
        await asyncio.sleep(1)
        assert [each.run_id for each in (await run.state()).children] == [child.id]
        await child.approve(waiting, by="bob")
        assert (await asyncio.wait_for(run.result(), 60)).content == "Done."
        assert tools.ran(child.id) == ["restart(web)"]
