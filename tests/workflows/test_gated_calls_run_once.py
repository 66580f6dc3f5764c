"""Section A of the abuse cases: what runs twice elsewhere, or against the decision. The docstrings name the rows."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from assent import Agent, RunFailedError, ToolContext, approval, tool
from assent.activities.mcp_servers import McpServers
from assent.activities.run_tool import ToolCalls
from assent.activities.user_code import UserCode
from assent.testing import Environment, call, calls, check_replay, fails, says
from assent.wire.activity_ids import model_activity_id
from tests.support import tools
from tests.support.run_probes import activity_of, approve_all, calls_of, content, events, told, until
from tests.workflows.test_wire import temporal

PAY = call("pay", to="A", amount=1)
RESTART = call("restart", service="s")
"""Waits beside the call in question, so that the run is alive to answer what comes late."""


async def test_five_concurrent_approvals_run_the_gated_tool_once(assent_environment: Environment) -> None:
    """Once; the four others are recorded as duplicates."""
    model = assent_environment.responses(calls(PAY, RESTART), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        pay, restart = (await run.until_paused()).active_requirements
        results = await asyncio.gather(
            *(client.get_run(run.id).approve(pay, by=f"person {each}", check=False) for each in range(5))
        )
        assert sorted(result.status for result in results) == ["approved", *["duplicate"] * 4]
        await run.reject(restart, by="bob", reason="no")
        await content(run)
        assert tools.ran(run.id) == ["pay(A, 1)"]
        assert len(calls_of(await run.history(), "pay")) == 1
        record = (await run.audit())[0]
        assert len(record.votes) == 1
        assert [attempt.status for attempt in record.ignored_messages] == ["duplicate"] * 4


async def test_a_confirmation_after_a_rejection_runs_nothing_and_is_recorded(assent_environment: Environment) -> None:
    """Rejected through the records, confirmed by a client that does not know: it never runs."""
    model = assent_environment.responses(calls(PAY, RESTART), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        pay, restart = (await run.until_paused()).active_requirements
        rejected = await client.resolve_approval(pay.id, status="rejected", resolved_by="carol", run_id=run.id)
        assert rejected is not None
        assert (await run.approve(pay, by="bob", check=False)).status == "late"
        await run.approve(restart, by="bob")
        answers = json.loads(await content(run))
        assert answers[0].startswith("Rejected: ")
        assert tools.ran(run.id) == ["restart(s)"]
        assert calls_of(await run.history(), "pay") == []
        record = (await run.audit())[0]
        assert (record.status, record.resolved_by, record.execution) == ("rejected", "carol", None)
        assert [(attempt.status, attempt.by) for attempt in record.ignored_messages] == [("late", "bob")]


async def test_arguments_swapped_after_the_approval_are_refused_at_the_activity(
    assent_environment: Environment,
) -> None:
    """Approved `pay(A, 1)`, sent `pay(MALLORY, 1000000)`: refused, because the digest differs."""
    model = assent_environment.responses(calls(PAY), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        await approve_all(run)
        records = await run.audit()
        [approved] = calls_of(await run.history(), "pay")
        swapped = approved.model_copy(update={"arguments": '{"to": "MALLORY", "amount": 1000000}'})
    assert [(record.arguments, record.execution) for record in records] == [(approved.arguments, "executed")]
    assert tools.ran(run.id) == ["pay(A, 1)"]
    with ThreadPoolExecutor(1) as threads:
        activity = ToolCalls({"ops": agent}, threads, threads, UserCode(), McpServers([])).running(tools.pay)
        environment = activity_of(client, run.id, approved)
        outcome = await environment.run(activity, swapped)
        assert (outcome.output, outcome.gate) == (None, None)
        assert outcome.refused == "the call is not the one that was approved: its digest differs"
        # What was approved does run: it is the arguments that were refused.
        assert (await environment.run(activity, approved)).output == "paid 1 to A"


async def test_an_approval_of_one_call_does_not_carry_over_to_other_arguments(assent_environment: Environment) -> None:
    """A model that makes the approved call again, for MALLORY and under the same call id, waits again."""
    other = call("pay", to="MALLORY", amount=1_000_000)
    model = assent_environment.responses(calls(PAY, ids=["call_0"]), calls(other, ids=["call_0"]), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob")
        state = await until(run, lambda state: state.turns == 2 and state.is_paused)
        [second] = state.active_requirements
        assert second.id != first.id
        assert second.tool_args == {"to": "MALLORY", "amount": 1_000_000}
        assert (await run.approve(first, by="bob", check=False)).status == "duplicate"
        await run.reject(second, by="bob", reason="no")
        await content(run)
        assert tools.ran(run.id) == ["pay(A, 1)"]


async def test_cancelling_a_paused_run_ends_it_and_no_decision_wakes_it(assent_environment: Environment) -> None:
    """Cancel ends it; nothing runs after."""
    model = assent_environment.responses(calls(PAY), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [pay] = (await run.until_paused()).active_requirements
        await run.cancel()
        with pytest.raises(RunFailedError, match="cancelled"):
            await content(run)
        assert (await run.approve(pay, by="bob", check=False)).status == "late"
        state = await run.state()
        assert (state.status, state.requirements[0].status) == ("cancelled", "cancelled")
        assert calls_of(await run.history(), "pay") == []
        assert tools.ran(run.id) == []


@tool(requires_confirmation=True, stop_after_tool_call=True)
def hand_over(to: str) -> str:
    """Hand the case over; the run ends with it."""
    return f"handed over to {to}"


async def test_stopping_and_limits_hold_across_pauses(assent_environment: Environment) -> None:
    """`stop_after_tool_call` after an approval; `max_tool_calls` and `max_turns` over two pauses."""
    stop = assent_environment.responses(calls(call("hand_over", to="ann")), says("asked all the same"))
    pays = [calls(call("pay", to="A", amount=amount)) for amount in range(3)]
    models = assent_environment.responses(*pays, told)
    agents = [
        Agent(name="stops", model=stop, tools=[hand_over]),
        Agent(name="calls", model=models, tools=tools.ALL, max_tool_calls=2),
        Agent(name="turns", model=models, tools=tools.ALL, max_turns=2),
    ]
    async with assent_environment.serve(*agents) as client:
        stopped, called, turned = [await client.start(agent.name, "Go.") for agent in agents]
        state = await approve_all(stopped)
        assert (state.status, state.content, state.turns) == ("completed", "handed over to ann", 1)
        state = await approve_all(called)
        assert len(state.requirements) == 2
        assert json.loads(state.content or "")[2].startswith("Denied: the run may make 2 tool calls")
        assert tools.ran(called.id) == ["pay(A, 0)", "pay(A, 1)"]
        state = await approve_all(turned)
        assert state.error == "MaxTurnsExceeded: the run used all of its 2 turns"
        assert tools.ran(turned.id) == ["pay(A, 0)", "pay(A, 1)"]


@approval(expires_after=timedelta(milliseconds=200))
@tool
def wipe(context: ToolContext, user: str) -> str:
    """Wipe a user's data."""
    tools.note(context, f"wipe({user})")
    return "wiped"


async def test_silence_at_the_deadline_is_a_rejection(assent_environment: Environment) -> None:
    """Nobody decides in time: the model is told so, and an approval after the deadline is late."""
    model = assent_environment.responses(calls(call("wipe", user="u1"), PAY), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[wipe, *tools.ALL])) as client:
        run = await client.start("ops", "Go.")
        state = await until(run, lambda state: any(each.status == "expired" for each in state.requirements))
        expired, pay = state.requirements
        assert expired.expires_at == expired.created_at + timedelta(milliseconds=200)
        assert expired.resolved_at is not None
        assert expired.resolved_at - expired.created_at >= timedelta(milliseconds=200)
        assert (await run.approve(expired, by="bob", check=False)).status == "late"
        await run.reject(pay, by="bob", reason="no")
        answers = json.loads(await content(run))
        assert answers[0].startswith("Expired: no one decided about this call by ")
        assert tools.ran(run.id) == []
        record = (await run.audit())[0]
        assert (record.status, record.resolved_by, record.votes) == ("expired", None, [])
        assert [(attempt.status, attempt.by) for attempt in record.ignored_messages] == [("late", "bob")]


async def test_a_model_error_right_after_an_approved_tool_is_retried_alone(assent_environment: Environment) -> None:
    """The model is asked again; the tool is not run again, and the model gets its result."""
    model = assent_environment.responses(calls(PAY), fails(500, retry_after=0.02, times=2), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        state = await approve_all(run)
        assert (state.status, state.content) == ("completed", '["paid 1 to A"]')
        assert tools.ran(run.id) == ["pay(A, 1)"]
        asked = [request for request in assent_environment.models.requests if request.model == model.id]
        assert len(asked) == 4


async def test_a_retried_and_replayed_run_runs_no_tool_again(assent_environment: Environment) -> None:
    """A run that failed after its tools had succeeded is retried where it failed, on a worker without memory."""
    failing = fails(400, message="no such parameter", code="invalid_prompt")
    model = assent_environment.responses(calls(call("look_up", key="k"), PAY), failing, told)
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent, cached_runs=0, prefix_cache=0) as client:
        run = await client.start("ops", "Go.")
        assert (await approve_all(run)).status == "failed"
    async with assent_environment.serve(agent, task_queue=client.task_queue, cached_runs=0, prefix_cache=0):
        again = await client.start("ops", "Go.", id=run.id)
        assert (await again.state()).status == "failed"
        failed_turn = next(
            event.activity_task_scheduled_event_attributes
            for event in events(await run.history(), "ACTIVITY_TASK_SCHEDULED")
            if event.activity_task_scheduled_event_attributes.activity_id == model_activity_id(2)
        )
        await temporal(
            assent_environment, "workflow", "reset", "--workflow-id", run.id, "--reason", "try again",
            "--event-id", str(failed_turn.workflow_task_completed_event_id),
        )  # fmt: skip
        assert await content(run) == '["value of k", "paid 1 to A"]'
        history = await run.history()
        await check_replay(history)
    assert sorted(tools.ran(run.id)) == ["look_up(k)", "pay(A, 1)"]
    assert (len(calls_of(history, "look_up")), len(calls_of(history, "pay"))) == (1, 1)


@tool(name="disburse", requires_confirmation=True)
def renamed(context: ToolContext, to: str, amount: int) -> str:
    """Pay somebody: what was `pay` before."""
    tools.note(context, f"disburse({to}, {amount})")
    return "disbursed"


async def test_a_tool_renamed_between_pause_and_approval_is_told_to_the_model(assent_environment: Environment) -> None:
    """The run goes on; the requirement is recorded as refused."""
    model = assent_environment.responses(calls(PAY), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [pay] = (await run.until_paused()).active_requirements
    later = Agent(name="ops", model=model, tools=[renamed])
    async with assent_environment.serve(later, task_queue=client.task_queue):
        assert (await run.approve(pay, by="bob")).status == "approved"
        assert await content(run) == json.dumps(["Not run: there is no tool named 'pay' any more"])
        [record] = await run.audit()
        assert (record.status, record.resolved_by, record.execution) == ("approved", "bob", "refused")
        assert record.result == "Not run: there is no tool named 'pay' any more"
        assert tools.ran(run.id) == []
