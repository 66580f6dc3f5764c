"""Agents below that would do what nobody above may, or work for nobody, on the real server: none gets anything done."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from pydantic import JsonValue
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from assent import Agent, PermissionPolicy, Remember, Rule, RunFailedError, RunHandle, ToolContext, tool
from assent.runtime.payload_codec import VARIABLE
from assent.testing import Environment, Step, call, calls, says
from tests.support import encrypting_codec, tools
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import live, replay
from tests.workflows.test_payload_codec import encrypted
from tests.workflows.test_sub_agents import child_of, closed_as, outputs, reset, told

RESTARTS = calls(call("restart", service="web"))
BEGINS = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED


def asks(agent: str) -> Step:
    return calls(call(f"ask_{agent}", input="Work."))


def lower(running: Environment, *steps: Step) -> Agent:
    """An agent that restarts something, which waits for a person."""
    return Agent(name="lower", model=running.responses(*(steps or (RESTARTS, says("Done.")))), tools=tools.ALL)


def above(running: Environment, name: str, below: Agent, policy: PermissionPolicy | None = None) -> Agent:
    """An agent that asks *below*."""
    model = running.responses(asks(below.name), says("Done."))
    return Agent(name=name, model=model, tools=[below.as_tool()], policy=policy)


async def ran(run: RunHandle) -> str:
    """How a run ended, and what its tools did."""
    return f"{await closed_as(run)} {tools.ran(run.id)}"


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "encrypted"])
async def test_a_run_two_below_one_that_was_put_back_runs_nothing_any_more(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch, *, encoded: bool
) -> None:
    """The run between them goes on, and does not know that it works for nobody."""
    if encoded:
        monkeypatch.setenv(VARIABLE, encrypting_codec.NAME)
    top = above(assent_environment, "top", above(assent_environment, "middle", lower(assent_environment)))
    async with encrypted(assent_environment, top, f"attacks-{uuid.uuid4().hex[:8]}") as client:
        run = await client.start("top", "Go.", requested_by="alice")
        orphan = await child_of(client, await child_of(client, run))
        [waiting] = (await orphan.until_paused()).active_requirements
        await reset(client, run, BEGINS)
        await soon(run.state, lambda state: bool(state.children) and not orphan.id.startswith(state.children[0].run_id))
        await orphan.approve(waiting, by="bob")
        assert await ran(orphan) == "CANCELED []"
        below = await child_of(client, await child_of(client, run))
        [again] = (await below.until_paused()).active_requirements
        await below.approve(again, by="bob")
        assert await ran(below) == "COMPLETED ['restart(web)']"
        assert (await run.result()).content == "Done."


async def test_a_run_whose_parent_was_terminated_and_begun_anew_by_the_same_id_runs_nothing(
    assent_environment: Environment,
) -> None:
    queue, name = f"attacks-{uuid.uuid4().hex[:8]}", f"again-{uuid.uuid4().hex[:8]}"
    top = above(assent_environment, "top", lower(assent_environment))
    async with assent_environment.serve(top, task_queue=queue) as client:
        orphan = await child_of(client, await client.start("top", "Go.", requested_by="alice", id=name))
        [waiting] = (await orphan.until_paused()).active_requirements
    handle = client.temporal.get_workflow_handle(name)
    await handle.terminate()
    # Assent's own client takes no id twice; the server does.
    request = {"agent": "top", "input": "Go.", "requested_by": "alice"}
    await client.temporal.start_workflow("AgentRun", request, id=name, task_queue=queue)
    await orphan.send("approve", {"id": waiting.id, "by": "bob"})
    async with assent_environment.serve(top, task_queue=queue) as client:
        assert await ran(orphan) == "CANCELED []"
        assert (await child_of(client, client.get_run(name))).id != orphan.id


@workflow.defn(sandboxed=False)
class Leaves:
    """A workflow of somebody's own, which begins a run, and leaves it."""

    @workflow.run
    async def run(self, request: dict[str, JsonValue], name: str, queue: str) -> None:
        """Begin it."""
        closes = workflow.ParentClosePolicy.ABANDON
        await workflow.start_child_workflow("AgentRun", request, id=name, task_queue=queue, parent_close_policy=closes)


async def test_runs_below_one_that_was_begun_by_a_workflow_of_somebody_else_go_on_without_that(
    assent_environment: Environment,
) -> None:
    top, name = above(assent_environment, "top", lower(assent_environment)), f"left-{uuid.uuid4().hex[:8]}"
    async with assent_environment.serve(top) as client:
        plain = UnsandboxedWorkflowRunner()
        async with Worker(client.temporal, task_queue=name, workflows=[Leaves], workflow_runner=plain):
            request: dict[str, JsonValue] = {"agent": "top", "input": "Go.", "requested_by": "alice"}
            await client.temporal.execute_workflow(
                "Leaves", args=[request, name, client.task_queue], id=f"{name}-above", task_queue=name
            )
        below = await child_of(client, client.get_run(name))
        [waiting] = (await below.until_paused()).active_requirements
        await below.approve(waiting, by="bob")
        assert await ran(below) == "COMPLETED ['restart(web)']"


@tool
def spend(context: ToolContext, amount: int | str) -> str:
    """Spend something."""
    tools.note(context, f"spend({amount})")
    return "spent"


async def test_what_was_remembered_below_covers_nothing_that_a_policy_above_cannot_be_asked_about(
    assent_environment: Environment,
) -> None:
    """The ceiling would deny an amount above 100, and cannot tell of one in words."""
    steps = (calls(call("spend", amount=5)), calls(call("spend", amount="a million")), says("Spent."))
    below = Agent(
        name="lower", model=assent_environment.responses(*steps), tools=[spend], policy=PermissionPolicy.of(ask=["*"])
    )
    much = Rule.model_validate({"decision": "deny", "tool": "spend", "arguments": {"amount": {"above": 100}}})
    top = above(assent_environment, "top", below, PermissionPolicy(rules=(much,), default="allow"))
    async with assent_environment.serve(top) as client:
        run = await client.start("top", "Go.", requested_by="alice")
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        await child.approve(waiting, by="bob", remember=Remember(uses=9))
        [again] = (await child.until_paused()).active_requirements
        assert "cannot be evaluated" in (again.note or "")
        await child.reject(again, by="bob", reason="no")
        assert await ran(child) == "COMPLETED ['spend(5)']"


async def test_arguments_edited_below_are_bounded_by_the_policy_above(assent_environment: Environment) -> None:
    """Neither as an answered update nor as a signal does an edit get past what is denied above."""
    pays = calls(call("pay", to="shop", amount=5))
    much = Rule.model_validate({"decision": "deny", "tool": "pay", "arguments": {"amount": {"above": 100}}})
    policy = PermissionPolicy(rules=(much,), default="allow")
    top = above(assent_environment, "top", lower(assent_environment, pays, says("Paid.")), policy)
    async with assent_environment.serve(top) as client:
        run = await client.start("top", "Go.", requested_by="alice")
        child = await child_of(client, run)
        [waiting] = (await child.until_paused()).active_requirements
        edited: dict[str, JsonValue] = {"to": "shop", "amount": 101}
        assert (await child.approve(waiting, by="bob", arguments=edited, check=False)).status == "refused"
        await child.send("approve", {"id": waiting.id, "by": "bob", "arguments": edited})
        state = await soon(child.state, lambda state: len(state.ignored_messages) == 2)
        assert [each.status for each in state.ignored_messages] == ["refused", "refused"]
        await child.approve(waiting, by="bob", arguments={"to": "shop", "amount": 100})
        assert await ran(child) == "COMPLETED ['pay(shop, 100)']"


async def test_the_ceiling_holds_through_a_handoff_below_and_the_agents_that_are_asked_after_it(
    assent_environment: Environment,
) -> None:
    model, everything = assent_environment.responses, PermissionPolicy.of(allow=["*"])
    both = calls(call("restart", service="web"), call("look_up", key="k"))
    deep = lower(assent_environment, both, says("Done."))
    second = Agent(
        name="second", model=model(says("-"), asks("lower"), says(".")), tools=[deep.as_tool()], policy=everything
    )
    policy = PermissionPolicy.of(deny=["look_up"], allow=["*"])
    first = Agent(name="first", model=model(calls(call("transfer_to_second"))), handoffs=[second], policy=policy)
    top = above(assent_environment, "top", first, PermissionPolicy.of(deny=["restart"], allow=["*"]))
    async with assent_environment.serve(top, continue_after=5) as client:
        run = await client.start("top", "Go.", requested_by="alice")
        middle = await child_of(client, run)
        await run.result()
        child = client.get_run((await middle.audit()).children[0].run_id or "")
        assert [each.split(" '")[1].partition(":")[0] for each in await outputs(child)] == ["restart'", "look_up'"]
        assert tools.ran(child.id) == []
        assert [(each.agent, each.tool) for each in (await child.state()).parents] == [
            ("top", "ask_first"),
            ("second", "ask_lower"),
        ]


@pytest.mark.parametrize(
    ("by_hand", "answer"),
    [
        ({"delegation": {"agent": "", "input": "Go."}}, "Error: an operator set its result"),
        (
            {"delegation": {"agent": "top", "input": "Go."}},
            "Not run: the call was for no agent, and now leads to agent 'top'",
        ),
        ({"output": "x", "handoff": {"agent": "w" * 5_000}}, "Error: an operator set its result"),
        (
            {"output": "x", "handoff": {"agent": "top"}},
            "Not run: the call was for no agent, and now leads to agent 'top'",
        ),
    ],
    ids=["nobody", "asked", "too long", "handed over"],
)
async def test_a_call_completed_by_hand_goes_to_no_agent_that_it_was_not_for(
    assent_environment: Environment, by_hand: dict[str, JsonValue], answer: str
) -> None:
    @tool
    async def wait(context: ToolContext) -> str:
        """Wait."""
        tools.note(context, "waits")
        await asyncio.sleep(600)
        return "waited"

    agent = Agent(name="top", model=assent_environment.responses(calls(call("wait")), says("Done.")), tools=[wait])
    async with assent_environment.serve(agent) as client:
        run = await client.start("top", "Go.", requested_by="alice")
        assert await soon(lambda: asyncio.sleep(0, tools.ran(run.id)))
        activity = client.temporal.get_async_activity_handle(workflow_id=run.id, run_id=None, activity_id="1.0")
        await activity.complete(by_hand)
        assert (await run.result()).content == "Done."
        assert (await told(run)).startswith(answer)
        assert await run.state() == await live(client, run)
        await replay(client, run)


async def test_a_policy_nested_too_deep_fails_the_start_with_one_line(assent_environment: Environment) -> None:
    """What is nested in it, and in what an agent below is asked with, must be readable for every worker."""
    policy: dict[str, JsonValue] = {}
    for _ in range(60):
        policy = {"also": [policy]}
    async with assent_environment.serve(lower(assent_environment)) as client:
        name = f"deep-{uuid.uuid4().hex[:8]}"
        request = {"agent": "lower", "input": "Go.", "policy": policy}
        await client.temporal.start_workflow("AgentRun", request, id=name, task_queue=client.task_queue)
        with pytest.raises(RunFailedError, match=r"AgentRun: policy.* more than 10 deep; list them side by"):
            await client.get_run(name).result()
