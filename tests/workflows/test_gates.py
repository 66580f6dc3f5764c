"""Gates over the real server: what waits, what runs, and what never does."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from pydantic import BaseModel
from temporalio.api.enums.v1 import EventType

from assent import (
    Agent,
    MessageError,
    PermissionPolicy,
    RequirementNotFoundError,
    RunFailedError,
    RunState,
    ToolContext,
    approval,
    tool,
)
from assent.activities.mcp_servers import McpServers
from assent.activities.run_tool import ToolCalls
from assent.activities.user_code import UserCode
from assent.testing import Approved, Conversation, Environment, Rejected, call, calls, check_replay, drive, fails, says
from assent.wire.protocol import ToolCallInput
from tests.support import tools
from tests.support.run_probes import activity_of
from tests.support.visibility import soon

TIMER_STARTED = EventType.EVENT_TYPE_TIMER_STARTED


def outputs(seen: Conversation) -> str:
    return json.dumps(list(seen.tool_outputs.values()))


async def test_calls_of_one_turn_go_their_own_way_and_wait_for_nobody(assent_environment: Environment) -> None:
    model = assent_environment.responses(
        calls(call("look_up", key="k"), call("pay", to="a", amount=1), call("restart", service="s")), says("done")
    )
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        state = await run.until_paused()
        assert tools.ran(run.id) == ["look_up(k)"]
        pay, restart = state.active_requirements
        await run.approve(restart, by="bob")
        while "restart(s)" not in tools.ran(run.id):  # noqa: ASYNC110 - a tool's thread writes it
            await asyncio.sleep(0.01)
        still = await run.until_paused()
        assert [each.id for each in still.active_requirements] == [pay.id]
        await run.reject(pay, by="bob", reason="no")
        await run.result()
        assert tools.ran(run.id) == ["look_up(k)", "restart(s)"]


async def test_five_approvals_at_once_run_the_tool_once(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        results = await asyncio.gather(
            *(run.approve(requirement, by=f"person {number}", check=False) for number in range(5))
        )
        await run.result()
        statuses = sorted(result.status for result in results)
        assert statuses.count("approved") == 1
        assert set(statuses) <= {"approved", "duplicate", "late"}
        assert tools.ran(run.id) == ["pay(a, 1)"]


async def test_a_decision_before_the_requirement_exists_does_not_pre_approve_it(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    client = assent_environment.client("nobody-serves-this-yet")
    run = await client.start("ops", "Go.")
    await run.send("approve", {"id": "0123456789", "by": "eve"})
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        state = await run.until_paused()
        assert state.is_paused
        assert [attempt.status for attempt in state.ignored_messages] == ["unknown"]
        await drive(run, lambda _: Rejected("no"))


async def test_who_asked_cannot_approve(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="Alice")
        [requirement] = (await run.until_paused()).active_requirements
        result = await run.approve(requirement, by="\uff21\uff2c\uff29\uff23\uff25 ", check=False)
        assert result.status == "refused"
        [attempt] = (await run.state()).ignored_messages
        assert (attempt.status, attempt.by) == ("refused", "\uff21\uff2c\uff29\uff23\uff25")
        await drive(run, lambda _: Approved(), by="bob")


async def test_a_policy_asks_allows_and_denies(assent_environment: Environment) -> None:
    model = assent_environment.responses(
        calls(call("look_up", key="k"), call("break_down", how="x"), call("no_such_tool")),
        lambda seen: says(outputs(seen)),
    )
    policy = PermissionPolicy.of(deny=["break_*"], ask=["look_*"], allow=["*"])
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL, policy=policy)) as client:
        run = await client.start("ops", "Go.")
        state = await run.until_paused()
        [requirement] = state.active_requirements
        assert (requirement.tool_name, requirement.approval_type) == ("look_up", None)
        assert requirement.policy_version == policy.version
        state = await drive(run, lambda _: Approved())
        looked, denied, unknown = json.loads(state.content or "")
        assert looked == "value of k"
        assert denied.startswith("Denied: ")
        assert unknown == "Denied: there is no tool named 'no_such_tool'"
        assert tools.ran(run.id) == ["look_up(k)"]


async def test_bad_arguments_are_told_to_the_model_and_to_nobody_else(assent_environment: Environment) -> None:
    model = assent_environment.chat(
        calls(
            call("pay", to="a"),
            call("pay", raw='{"to":"a","amount":1,"amount":2}'),
            call("look_up", raw="{"),
            call("pay", raw='{"to":"a","amount":NaN}'),
        ),
        lambda seen: says(outputs(seen)),
    )
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        told = json.loads((await run.result()).content)
        assert "amount" in told[0]
        assert "twice" in told[1]
        assert "JSON" in told[2]
        assert "NaN" in told[3]
        assert all(each.startswith("Error: ") for each in told)
        assert tools.ran(run.id) == []
        assert await run.approvals() == []


async def test_a_tool_that_raises_is_told_to_the_model(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("break_down", how="too hot")), lambda seen: says(outputs(seen)))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        assert json.loads((await run.result()).content) == ["Error: ValueError: too hot"]
        assert tools.ran(run.id) == ["break_down(too hot)"]


async def test_an_approved_tool_is_not_run_again_when_the_model_fails_after_it(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(
        calls(call("pay", to="a", amount=1)), fails(500, times=2), fails(429, retry_after=0.05), says("done")
    )
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        state = await drive(run, lambda _: Approved())
        assert state.content == "done"
        assert tools.ran(run.id) == ["pay(a, 1)"]


async def test_a_refusal_of_the_provider_fails_the_run_with_its_message(assent_environment: Environment) -> None:
    model = assent_environment.chat(fails(400, message="the temperature is not supported", times=None))
    async with assent_environment.serve(Agent(name="ops", model=model)) as client:
        run = await client.start("ops", "Go.")
        with pytest.raises(RunFailedError, match="the temperature is not supported"):
            await run.result()


async def test_cancelling_a_waiting_run_ends_it_and_nothing_runs_after(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="to-cancel", model=model, tools=tools.ALL)) as client:
        run = await client.start("to-cancel", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.cancel()
        with pytest.raises(RunFailedError, match="cancelled"):
            await run.result()
        assert (await run.approve(requirement, by="bob", check=False)).status == "late"
        state = await run.until_paused()
        assert state.status == "cancelled"
        assert [each.status for each in state.requirements] == ["cancelled"]
        assert tools.ran(run.id) == []
        assert not await soon(lambda: client.pending(agent="to-cancel"), lambda found: not found)


async def test_an_unknown_agent_fails_the_run_with_what_is_served(assent_environment: Environment) -> None:
    async with assent_environment.serve(Agent(name="ops", model=assent_environment.chat(says("x")))) as client:
        run = await client.start("opps", "Go.")
        with pytest.raises(RunFailedError, match="no agent is named 'opps' on this worker; it serves: ops"):
            await run.result()


@pytest.mark.parametrize("whole_worker", [False, True])
async def test_a_run_that_names_no_requester_is_refused_where_one_is_required(
    assent_environment: Environment, *, whole_worker: bool
) -> None:
    model = assent_environment.chat(says("done"))
    agent = Agent(name="ops", model=model, requires_requester=not whole_worker)
    asked = len(assent_environment.models.requests)
    async with assent_environment.serve(agent, requires_requester=whole_worker) as client:
        with pytest.raises(RunFailedError, match="the run has no requester"):
            await (await client.start("ops", "Go.")).result()
        for nobody in ("", " ", "\u200b", "\u2800 \u3164"):
            with pytest.raises(MessageError, match="requested_by: the name is empty or invisible"):
                await client.start("ops", "Go.", requested_by=nobody)
        assert len(assent_environment.models.requests) == asked
        assert (await (await client.start("ops", "Go.", requested_by="alice")).result()).content == "done"


async def test_max_turns_end_a_run(assent_environment: Environment) -> None:
    model = assent_environment.responses(*[calls(call("look_up", key="k"))] * 9)
    agent = Agent(name="ops", model=model, tools=tools.ALL, max_turns=4)
    async with assent_environment.serve(agent) as client:
        for asked, used in ((None, 4), (2, 2), (9, 4)):
            run = await client.start("ops", "Go.", max_turns=asked)
            state = await run.until_paused()
            assert state.error == f"MaxTurnsExceeded: the run used all of its {used} turns"
            assert len(tools.ran(run.id)) == used


class Report(BaseModel):
    """What the agent answers."""

    title: str
    score: int


async def test_a_structured_answer_that_does_not_fit_is_asked_for_again(assent_environment: Environment) -> None:
    model = assent_environment.responses(says('{"title": "x"}'), says({"title": "x", "score": 3}))
    agent = Agent(name="reporter", model=model, output_type=Report)
    async with assent_environment.serve(agent) as client:
        result = await (await client.start("reporter", "Report.")).result()
        assert result.output == {"title": "x", "score": 3}
        assert result.turns == 2
        assert result.usage.requests == 2


async def test_usage_is_summed_over_the_run(assent_environment: Environment) -> None:
    model = assent_environment.chat(calls(call("look_up", key="k")), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        result = await (await client.start("ops", "Go.")).result()
        assert result.usage.requests == 2
        assert result.usage.input_tokens > 0
        assert result.usage.output_tokens > 0


CONTEXTS: list[ToolContext] = []


@tool(retries=2)
def flaky(context: ToolContext) -> str:
    """Fail once."""
    CONTEXTS.append(context)
    if context.attempt == 1:
        message = "once"
        raise OSError(message)
    return f"attempt {context.attempt}"


async def test_retries_keep_the_idempotency_key(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("flaky")), lambda seen: says(str(seen.last_output)))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[flaky])) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        assert (await run.result()).content == "attempt 2"
        first, second = (each for each in CONTEXTS if each.run_id == run.id)
        assert first.idempotency_key == second.idempotency_key
        assert (first.attempt, second.attempt, first.requested_by) == (1, 2, "alice")


async def test_the_activity_refuses_what_was_not_approved(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        await drive(run, lambda _: Approved())
        handle = client.temporal.get_workflow_handle(run.id)
        history = await handle.fetch_history()
        [payload] = next(
            event.activity_task_scheduled_event_attributes.input.payloads
            for event in history.events
            if event.activity_task_scheduled_event_attributes.activity_type.name == "pay"
        )
    approved = ToolCallInput.model_validate_json(payload.data)
    with ThreadPoolExecutor(1) as threads:
        activity = ToolCalls({"ops": agent}, threads, threads, UserCode(), McpServers([])).running(tools.pay)
        environment = activity_of(client, run.id, approved)
        swapped = approved.model_copy(update={"arguments": approved.arguments.replace("1", "1000000")})
        spaced = approved.model_copy(update={"arguments": approved.arguments + " "})
        stripped = approved.model_copy(update={"authorization": None})
        for call_input in (swapped, spaced, stripped):
            outcome = await environment.run(activity, call_input)
            assert outcome.refused is not None
        assert (await environment.run(activity, approved)).output == "paid 1 to a"


async def test_a_tool_renamed_while_its_call_waits_is_told_to_the_model(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), lambda seen: says(str(seen.last_output)))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    renamed = Agent(name="ops", model=model, tools=[tools.look_up])
    async with assent_environment.serve(renamed, task_queue=client.task_queue):
        await run.approve(requirement, by="bob")
        state = await run.until_paused()
        assert state.content == "Not run: there is no tool named 'pay' any more"
        [record] = await run.audit()
        assert (record.status, record.execution) == ("approved", "refused")


async def test_a_worker_that_does_not_serve_the_agent_leaves_the_approved_call_to_another(
    assent_environment: Environment,
) -> None:
    agent = Agent(name="ops", model=assent_environment.chat(calls(call("pay", to="a", amount=1))), tools=tools.ALL)
    other = Agent(name="other", model=assent_environment.chat(says("hello")), tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    handle = client.temporal.get_workflow_handle(run.id)
    async with assent_environment.serve(other, task_queue=client.task_queue, cached_runs=0):
        await run.approve(requirement, by="bob")
        state = await soon(run.state, lambda state: not state.running)
        assert (state.status, [each.status for each in state.requirements]) == ("running", ["approved"])
        assert state.requirements[0].execution is None
        assert await handle.query("state") == state.model_dump(mode="json")
        events = (await run.history()).events
        timers = [event.timer_started_event_attributes for event in events if event.event_type == TIMER_STARTED]
        assert [50 < each.start_to_fire_timeout.ToSeconds() <= 60 for each in timers] == [True]
        await run.cancel()
        assert (await run.until_paused()).status == "cancelled"
        await check_replay(await run.history())
    assert tools.ran(run.id) == []


async def test_resume_from_the_json_of_a_paused_run(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), lambda seen: says(str(seen.last_output)))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        for approved, answer, ran in ((True, "paid 1 to a", ["pay(a, 1)"]), (False, "Rejected: not approved", [])):
            run = await client.start("ops", "Go.")
            blob = (await run.until_paused()).model_dump_json()
            resumed = await client.resume(RunState.model_validate_json(blob), approved=approved, by="bob")
            assert (await resumed.result()).content == answer
            assert tools.ran(run.id) == ran


async def test_the_loser_of_a_race_gets_none_and_is_recorded(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1), call("pay", to="a", amount=1)), says("."))
    async with assent_environment.serve(Agent(name="race", model=model, tools=tools.ALL)) as client:
        run = await client.start("race", "Go.")
        await run.until_paused()
        ask = partial(client.get_approvals, status="pending", agent="race", approval_type="required")
        pending, total = await soon(ask, lambda found: found[1] == 2)
        assert total == 2
        first = pending[0]
        won = await client.resolve_approval(first.id, status="approved", resolved_by="bob")
        lost = await client.resolve_approval(first.id, status="rejected", resolved_by="eve")
        assert won is not None
        assert won.status == "approved"
        assert lost is None
        _, left = await soon(ask, lambda found: found[1] == 1)
        assert left == 1
        with pytest.raises(RequirementNotFoundError):
            await run.approve("ffffffffff", by="bob")
        await drive(run, lambda _: Rejected("no"))
        assert len(tools.ran(run.id)) == 1


async def test_audit_approvals_have_no_record_until_they_are_decided(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("wipe", user="u1")), says("wiped"))
    async with assent_environment.serve(Agent(name="wiper-on-record", model=model, tools=[wipe])) as client:
        run = await client.start("wiper-on-record", "Wipe.", requested_by="alice")
        await run.until_paused()
        assert len(await soon(lambda: client.pending(agent="wiper-on-record"))) == 1
        assert await client.get_approvals(agent="wiper-on-record") == ([], 0)
        assert await client.get_approvals(status="pending", agent="wiper-on-record") == ([], 0)
        await drive(run, lambda _: Approved("asked for by the user"), by="bob")
        [record], total = await client.get_approvals(approval_type="audit", agent="wiper-on-record")
        assert total == 1
        assert (record.status, record.resolved_by, record.reason) == ("approved", "bob", "asked for by the user")
        assert (record.result, record.requested_by) == ("wiped u1", "alice")


@approval(type="audit")
@tool(requires_confirmation=True)
def wipe(user: str) -> str:
    """Wipe a user's data."""
    return f"wiped {user}"


async def test_a_finished_run_replays(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("look_up", key="k"), call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        await drive(run, lambda _: Approved())
        await check_replay(await run.history())


async def test_starting_with_an_id_that_exists_is_that_run(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        again = await client.start("ops", "Go elsewhere.", id=run.id)
        assert (await again.until_paused()).input == "Go."
        await drive(run, lambda _: Approved())
        after = await client.start("ops", "Go.", id=run.id)
        assert (await after.until_paused()).status == "completed"
        assert tools.ran(run.id) == ["pay(a, 1)"]
