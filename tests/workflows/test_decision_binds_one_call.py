"""Abuse cases B: a decision is bound to one exact call; B8, runs that continue as new, is in test_continue_as_new."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypedDict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.common import RawValue

from assent import Agent, RequirementNotFoundError, RunHandle, RunState
from assent.activities.mcp_servers import McpServers
from assent.activities.run_tool import ToolCalls
from assent.activities.user_code import UserCode
from assent.client.client import AgentClient
from assent.testing import Approved, Environment, Rejected, call, calls, check_replay, drive, says
from assent.wire.digest import requirement_id
from assent.wire.protocol import ToolCallInput
from tests.support import tools
from tests.support.run_probes import activity_of
from tests.support.updates import by_update
from tests.unit.strategies import NOW
from tests.workflows.test_wire import temporal

PAY = call("pay", to="a", amount=1)


def payer(running: Environment, *turns: int) -> Agent:
    """An agent whose model pays the same sum in each turn, so many times side by side."""
    replies = [calls(*[PAY] * many) for many in turns or (1,)]
    model = running.responses(*replies, lambda seen: says(json.dumps(list(seen.tool_outputs.values()))))
    return Agent(name="ops", model=model, tools=tools.ALL)


async def live(client: AgentClient, run: RunHandle) -> RunState:
    """What the run says of itself."""
    return RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))


async def test_a_decision_for_an_unknown_requirement_changes_nothing_and_is_recorded(
    assent_environment: Environment,
) -> None:
    """A decision for an unknown requirement changes nothing, and is recorded."""
    async with assent_environment.serve(payer(assent_environment)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        before = await run.until_paused()
        await run.send("approve", {"id": "ffffffffff", "by": "eve"})
        await run.send("reject", {"id": "eeeeeeeeee", "by": "eve", "reason": "no"})
        with pytest.raises(RequirementNotFoundError):
            await run.approve("ffffffffff", by="eve")
        after = await live(client, run)
        assert [(each.status, each.by) for each in after.ignored_messages] == [("unknown", "eve")] * 2
        assert after.model_copy(update={"ignored_messages": []}) == before
        assert await run.state() == after
        assert (await drive(run, lambda _: Rejected("no"), by="bob")).status == "completed"
        assert tools.ran(run.id) == []


async def test_approval_of_one_call_does_not_approve_its_twin(assent_environment: Environment) -> None:
    """Approval of one call does not approve its twin (same tool, same arguments)."""
    async with assent_environment.serve(payer(assent_environment, 2)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        first, second = (await run.until_paused()).active_requirements
        assert (first.tool, first.arguments) == (second.tool, second.arguments)
        assert first.id != second.id
        await run.approve(second, by="bob")
        state = await run.until_paused()
        assert [each.id for each in state.active_requirements] == [first.id]
        assert (await run.approve(second, by="carol", check=False)).status == "duplicate"
        await run.reject(first, by="bob", reason="once is enough")
        assert json.loads((await run.result()).content) == ["Rejected: once is enough", "paid 1 to a"]
        assert tools.ran(run.id) == ["pay(a, 1)"]


async def test_a_decision_sent_before_the_requirement_exists_does_not_pre_approve_it(
    assent_environment: Environment,
) -> None:
    """A decision sent before the requirement exists does not pre-approve it."""
    client = assent_environment.client("nobody-serves-this-early")
    run = await client.start("ops", "Go.")
    await run.send("approve", {"id": "0123456789", "by": "eve"})
    async with assent_environment.serve(payer(assent_environment, 1, 1), task_queue=client.task_queue):
        [first] = (await run.until_paused()).active_requirements
        # The call of the next turn is the same call, and what was sent for the first does not reach it.
        for _ in range(2):
            await run.send("approve", {"id": first.id, "by": "bob"})
        state = await run.until_paused()
        [second] = state.active_requirements
        assert (second.arguments, second.status) == (first.arguments, "pending")
        assert {each.status for each in state.ignored_messages} == {"unknown", "duplicate"}
        await drive(run, lambda _: Rejected("no"), by="bob")
        assert tools.ran(run.id) == ["pay(a, 1)"]


async def approved_call(client: AgentClient, run: RunHandle) -> ToolCallInput:
    """The input that the activity of a run's payment was given."""
    history = await client.temporal.get_workflow_handle(run.id).fetch_history()
    scheduled = [event.activity_task_scheduled_event_attributes for event in history.events]
    [payload] = next(each.input.payloads for each in scheduled if each.activity_type.name == "pay")
    return ToolCallInput.model_validate_json(payload.data)


def nearly(text: str) -> list[str]:
    """Every text that has one character more, one less, or another one in some place."""
    places = range(len(text))
    more = [text[:place] + " " + text[place:] for place in [*places, len(text)]]
    return [*more, *(text[:place] + text[place + 1 :] for place in places), *(
        text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :] for place in places
    )]  # fmt: skip


async def test_one_changed_byte_of_the_arguments_is_refused_at_the_activity(assent_environment: Environment) -> None:
    """One changed byte of the arguments, white space included, is refused at the activity."""
    agent = payer(assent_environment)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        await drive(run, lambda _: Approved())
        approved = await approved_call(client, run)
    with ThreadPoolExecutor(1) as threads:
        activity = ToolCalls({"ops": agent}, threads, threads, UserCode(), McpServers([])).running(tools.pay)
        environment = activity_of(client, run.id, approved)
        changed = nearly(approved.arguments)
        assert '{"to": "a", "amount":  1}' in changed
        for text in changed:
            outcome = await environment.run(activity, approved.model_copy(update={"arguments": text}))
            assert (outcome.output, outcome.gate) == (None, None)
            assert outcome.refused
        assert tools.ran(run.id) == ["pay(a, 1)"]
        assert (await environment.run(activity, approved)).output == "paid 1 to a"


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ('{"to":"a","amount":1,"amount":2}', "twice"),
        ('{"to":"a","amount":1,"\\u0061mount":2}', "twice"),
        ('{"to":"a","amount":NaN}', "NaN"),
        ('{"to":"a","amount":Infinity}', "Infinity"),
        ('{"to":"a","amount":-Infinity}', "-Infinity"),
        ('{"to":"a","amount":1e999}', "1e999"),
    ],
)
async def test_duplicate_keys_nan_and_infinity_are_refused(
    assent_environment: Environment, raw: str, problem: str
) -> None:
    """Duplicate JSON keys, `NaN` and `Infinity` in arguments are refused; nobody is asked about them."""
    model = assent_environment.chat(calls(call("pay", raw=raw), PAY), lambda seen: says(json.dumps(seen.tool_outputs)))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        assert requirement.tool_args == {"to": "a", "amount": 1}
        # Nor do they come in with an edit.
        body = f'{{"id": "{requirement.id}", "by": "bob", "arguments": {raw}}}'
        typed = RawValue(Payload(metadata={"encoding": b"json/plain"}, data=body.encode()))
        if problem != "twice":
            await client.temporal.get_workflow_handle(run.id).signal("approve", typed)
            state = await run.until_paused()
            assert [each.status for each in state.active_requirements] == ["pending"]
            assert len(state.ignored_messages) == 1
        await drive(run, lambda _: Rejected("no"), by="bob")
        refused, rejected = json.loads((await run.result()).content).values()
        assert problem in refused
        assert (refused[:7], rejected) == ("Error: ", "Rejected: no")
        assert tools.ran(run.id) == []


class Parts(TypedDict):
    """The parts of a requirement's id."""

    run_id: str
    nonce: str
    call_id: str
    tool: str
    arguments: str
    policy_version: str
    needed: int
    expires_at: datetime | None


# Few characters, so that a shifted boundary is likely.
shifty = st.text('a1",[]\\n', max_size=4)
parts = st.builds(
    Parts,
    run_id=shifty,
    nonce=shifty,
    call_id=shifty,
    tool=shifty,
    arguments=shifty,
    policy_version=shifty,
    needed=st.integers(1, 3),
    expires_at=st.none() | st.integers(0, 3).map(lambda days: NOW + timedelta(days=days)),
)


@given(parts, parts)
def test_two_requirements_that_differ_anywhere_have_different_ids(one: Parts, other: Parts) -> None:
    """Digest fields cannot be shifted into each other (property test)."""
    assume(one != other)
    assert requirement_id(**one) != requirement_id(**other)


@given(parts, st.lists(shifty, min_size=6, max_size=6), st.integers(0, 4), st.data())
def test_digest_fields_cannot_be_shifted_into_each_other(
    given_parts: Parts, texts: list[str], left: int, data: st.DataObject
) -> None:
    """Digest fields cannot be shifted into each other (property test)."""
    joined = texts[left] + texts[left + 1]
    cut = data.draw(st.integers(0, len(joined)))
    moved = [*texts[:left], joined[:cut], joined[cut:], *texts[left + 2 :]]
    assume(moved != texts)
    assert requirement_id(**_with(given_parts, texts)) != requirement_id(**_with(given_parts, moved))


def _with(given_parts: Parts, texts: list[str]) -> Parts:
    run_id, nonce, call_id, tool, arguments, policy_version = texts
    return Parts(
        run_id=run_id,
        nonce=nonce,
        call_id=call_id,
        tool=tool,
        arguments=arguments,
        policy_version=policy_version,
        needed=given_parts["needed"],
        expires_at=given_parts["expires_at"],
    )


async def reset(running: Environment, run: RunHandle, *where: str) -> None:
    """Reset *run* with the `temporal` command, as an operator does."""
    await temporal(running, "workflow", "reset", "--workflow-id", run.id, *where, "--reason", "test")


async def same_everywhere(client: AgentClient, run: RunHandle) -> None:
    """The fold of the history is what the run says of itself, and the history replays."""
    told = [(await live(client, run)).model_copy(update={"execution_id": ""})]
    told.append((await run.state()).model_copy(update={"execution_id": ""}))
    assert told[0] == told[1]
    await check_replay(await run.history())


@pytest.mark.parametrize("channel", ["signal", "update"])
@pytest.mark.parametrize("where", ["the first task", "the task that opened it"])
async def test_a_run_reset_to_before_the_approval_asks_again(
    assent_environment: Environment, channel: str, where: str
) -> None:
    """A workflow reset to before the approval asks again, though the server applies the approval again."""
    async with assent_environment.serve(payer(assent_environment)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        opened = await last_event(run, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        await approve(run, first.id, channel)
        await run.result()
        to = ("--type", "FirstWorkflowTask") if where == "the first task" else ("--event-id", str(opened))
        await reset(assent_environment, run, *to)
        state = await run.until_paused()
        [again] = state.active_requirements
        assert again.id != first.id
        assert again.arguments == first.arguments
        # A signal is kept, as one that names nothing; an update that names nothing leaves no event.
        assert [each.status for each in state.ignored_messages] == (["unknown"] if channel == "signal" else [])
        assert tools.ran(run.id) == ["pay(a, 1)"]
        await same_everywhere(client, run)
        assert (await drive(run, lambda _: Rejected("no"), by="bob")).status == "completed"
        assert tools.ran(run.id) == ["pay(a, 1)"]


async def approve(run: RunHandle, requirement: str, channel: str) -> None:
    if channel == "signal":
        await run.send("approve", {"id": requirement, "by": "bob"})
    else:
        assert (await by_update(run, requirement, "bob")).status == "approved"


async def last_event(run: RunHandle, kind: EventType.ValueType) -> int:
    """The number of the newest event of a kind."""
    return [event.event_id for event in (await run.history()).events if event.event_type == kind][-1]


async def test_a_run_reset_to_after_the_approval_replays_cleanly(assent_environment: Environment) -> None:
    """A workflow reset to after the approval replays cleanly, and runs nothing again."""
    async with assent_environment.serve(payer(assent_environment)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        await run.send("approve", {"id": requirement.id, "by": "bob"})
        await run.result()
        await reset(assent_environment, run, "--type", "LastWorkflowTask")
        state = await run.until_paused()
        assert (state.status, state.requirements[0].id) == ("completed", requirement.id)
        assert tools.ran(run.id) == ["pay(a, 1)"]
        await same_everywhere(client, run)


async def test_a_run_reset_to_while_the_call_waited_asks_again(assent_environment: Environment) -> None:
    """A workflow reset to before the approval asks again, where another workflow task lies between."""
    async with assent_environment.serve(payer(assent_environment)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.send("approve", {"id": "ffffffffff", "by": "eve"})
        assert len((await run.until_paused()).ignored_messages) == 1
        between = await last_event(run, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        await run.send("approve", {"id": first.id, "by": "bob"})
        await run.result()
        await reset(assent_environment, run, "--event-id", str(between))
        state = await run.until_paused()
        assert tools.ran(run.id) == ["pay(a, 1)"]
        assert state.is_paused
        [again] = state.active_requirements
        assert again.follows == first.id
        assert "was reset" in (again.note or "")
        await same_everywhere(client, run)
        await run.approve(again, by="bob")
        await run.result()
        assert tools.ran(run.id) == ["pay(a, 1)", "pay(a, 1)"], "a person wanted it twice"


async def test_a_run_reset_to_between_a_decision_and_its_tool_asks_again(assent_environment: Environment) -> None:
    """Nor does an approval outlive a reset to after it, where its tool had not answered by then."""
    async with assent_environment.serve(payer(assent_environment)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.send("approve", {"id": first.id, "by": "bob"})
        await run.result()
        events = (await run.history()).events
        scheduled = [e for e in events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]
        task = next(
            e.activity_task_scheduled_event_attributes.workflow_task_completed_event_id
            for e in scheduled
            if e.activity_task_scheduled_event_attributes.activity_type.name == "pay"
        )
        # The task that started the tool is done anew: the decision is before that point, the tool's answer is not.
        await reset(assent_environment, run, "--event-id", str(task))
        state = await run.until_paused()
        assert tools.ran(run.id) == ["pay(a, 1)"]
        [again] = state.active_requirements
        assert again.follows == first.id
        await same_everywhere(client, run)
