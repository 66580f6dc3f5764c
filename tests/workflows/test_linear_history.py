"""Linear history: each item is written once when it is made and at most once more, and the rest is rebuilt from it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent import Agent, Remember, RunHandle, RunState, ToolContext, approval, tool
from assent.client.client import AgentClient
from assent.testing import Approved, Conversation, Environment, Reply, Step, call, calls, check_replay, drive, says
from tests.support import tools

KIB = 1024


@tool
def read_page(number: int) -> str:
    """Read a page."""
    return f"{number:04d}".ljust(KIB, ".")


@approval
@tool(requires_confirmation=True)
def sign_off(number: int) -> str:
    """Sign a page off."""
    return f"signed {number}"


def pages(count: int) -> list[Step]:
    """A script that reads *count* pages one after the other, checks that it saw them all, and says how many."""
    steps: list[Step] = [calls(call("read_page", number=number)) for number in range(count)]

    def last(seen: Conversation) -> Reply:
        read = sorted(int(output[:4]) for output in seen.tool_outputs.values())
        return says(json.dumps(read))

    steps.append(last)
    return steps


async def scheduled(run: RunHandle) -> list[HistoryEvent]:
    history = await run.history()
    return [event for event in history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]


async def test_a_model_call_carries_only_what_is_new(assent_environment: Environment) -> None:
    agent = Agent(name="reader", model=assent_environment.responses(*pages(8)), tools=[read_page])
    async with assent_environment.serve(agent) as client:
        run = await client.start("reader", "Read.")
        assert json.loads((await run.result()).content) == list(range(8))
        inputs = [
            event.activity_task_scheduled_event_attributes.input.ByteSize()
            for event in await scheduled(run)
            if event.activity_task_scheduled_event_attributes.activity_type.name == "call_model"
        ]
        assert len(inputs) == 9
        assert max(inputs[1:]) - min(inputs[1:]) < 8
        assert max(inputs) < 2 * KIB


async def test_bytes_grow_with_the_turns_and_not_with_their_square(assent_environment: Environment) -> None:
    sizes: list[int] = []
    for turns in (5, 10, 20):
        agent = Agent(name="reader", model=assent_environment.responses(*pages(turns)), tools=[read_page])
        async with assent_environment.serve(agent) as client:
            run = await client.start("reader", "Read.")
            await run.result()
            sizes.append(sum(event.ByteSize() for event in (await run.history()).events))
    first, second = (sizes[1] - sizes[0]) / 5, (sizes[2] - sizes[1]) / 10
    assert second < 1.05 * first


async def test_with_the_cache_off_every_call_rebuilds_the_conversation(assent_environment: Environment) -> None:
    for model in (assent_environment.responses(*pages(6)), assent_environment.chat(*pages(6))):
        agent = Agent(name="reader", model=model, tools=[read_page])
        async with assent_environment.serve(agent, prefix_cache=0, cached_runs=0) as client:
            run = await client.start("reader", "Read.")
            assert json.loads((await run.result()).content) == list(range(6))


async def test_two_workers_that_take_turns_agree_on_the_conversation(assent_environment: Environment) -> None:
    steps: list[Step] = []
    for number in range(5):
        steps += [calls(call("read_page", number=number), call("sign_off", number=number))]
    agent = Agent(
        name="reader",
        model=assent_environment.responses(*steps, lambda seen: says(str(len(seen.tool_outputs)))),
        tools=[read_page, sign_off],
    )
    async with assent_environment.serve(agent) as client:
        run = await client.start("reader", "Read.")
        state = await run.until_paused()
    for _ in range(5):
        # Each time another worker, with an empty cache, takes the run up where the last one left it.
        async with assent_environment.serve(agent, task_queue=client.task_queue):
            await run.approve(state.active_requirements[0], by="bob")
            state = await run.until_paused()
    assert state.content == "10"


async def test_two_workers_at_once_share_a_run(assent_environment: Environment) -> None:
    agent = Agent(name="reader", model=assent_environment.responses(*pages(12)), tools=[read_page])
    async with (
        assent_environment.serve(agent, cached_runs=0) as client,
        assent_environment.serve(agent, task_queue=client.task_queue, cached_runs=0),
    ):
        run = await client.start("reader", "Read.")
        assert json.loads((await run.result()).content) == list(range(12))


async def test_reused_call_ids_of_a_sloppy_provider_are_told_apart(assent_environment: Environment) -> None:
    sloppy = ("call_0", "call_0")
    model = assent_environment.chat(
        calls(call("look_up", key="a"), call("look_up", key="b"), ids=sloppy),
        calls(call("look_up", key="c"), call("look_up", key="d"), ids=sloppy),
        lambda seen: says(", ".join(sorted(seen.tool_outputs.values()))),
    )
    async with assent_environment.serve(Agent(name="reader", model=model, tools=tools.ALL)) as client:
        run = await client.start("reader", "Look.")
        state = await drive(run, lambda _: Approved())
        assert state.content == "value of a, value of b, value of c, value of d"


# -- the rules that are about time and people: the query, a replay of the history, says what its fold says ------------


@approval(
    approvers=["ann"],
    expires_after=timedelta(seconds=5),
    remind_every=timedelta(milliseconds=500),
    escalate=[(timedelta(seconds=1), ["carol"])],
)
@tool
def wire(context: ToolContext, to: str) -> str:
    """Wire money, if somebody approves it soon."""
    tools.note(context, f"wire({to})")
    return f"wired to {to}"


@approval
@tool(requires_confirmation=True, timeout=timedelta(milliseconds=500))
async def print_label(context: ToolContext, order: str) -> str:
    """Print a label; the first time in a run the printer never answers."""
    tools.note(context, f"print_label({order})")
    if len(tools.ran(context.run_id)) == 1:
        await asyncio.sleep(600)
    return f"printed {order}"


def teller(running: Environment, *turns: Step) -> Agent:
    """An agent that makes the calls of *turns*, and then says what it was told."""
    told: Step = lambda seen: says(json.dumps(list(seen.tool_outputs.values())))  # noqa: E731 - a step is a function
    return Agent(name="teller", model=running.responses(*turns, told), tools=[*tools.ALL, wire, print_label])


async def agreed(client: AgentClient, run: RunHandle) -> RunState:
    """The run's state, once it is sure that the run and the fold of its history tell the same."""
    state = await run.state()
    assert state.model_dump(mode="json") == await client.temporal.get_workflow_handle(run.id).query("state")
    return state


async def finished(client: AgentClient, run: RunHandle) -> tuple[RunState, list[str]]:
    """The state and what the model was told, once the run has ended, agrees with its fold, and replays."""
    async with asyncio.timeout(30):
        told: list[str] = json.loads((await run.result()).content)
    state = await agreed(client, run)
    await check_replay(await run.history())
    return state, told


async def test_a_deadline_that_passes_while_the_worker_is_stopped_is_kept(assent_environment: Environment) -> None:
    agent = teller(assent_environment, calls(call("wire", to="bob")))
    async with assent_environment.serve(agent, cached_runs=0) as client:
        run = await client.start("teller", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
    assert requirement.expires_at is not None
    await asyncio.sleep((requirement.expires_at - datetime.now(UTC)).total_seconds() + 0.1)
    assert [each.status for each in (await run.state()).requirements] == ["pending"], "nobody was there to end it"
    await run.send("approve", {"id": requirement.id, "by": "ann"})
    async with assent_environment.serve(agent, task_queue=client.task_queue, cached_runs=0):
        state, told = await finished(client, run)
    [expired] = state.requirements
    assert (expired.status, expired.resolved_by, expired.execution) == ("expired", None, None)
    assert [(each.status, each.by) for each in state.ignored_messages] == [("late", "ann")]
    assert told[0].startswith("Expired: no one decided")
    assert tools.ran(run.id) == []


async def test_who_may_decide_once_time_has_passed_is_the_same_with_and_without_a_worker(
    assent_environment: Environment,
) -> None:
    agent = teller(assent_environment, calls(call("wire", to="bob")))
    async with assent_environment.serve(agent, cached_runs=0) as client:
        run = await client.start("teller", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        async with asyncio.timeout(60):
            while not (await run.state()).requirements[0].escalated:  # noqa: ASYNC110 - only the history tells
                await asyncio.sleep(0.05)
        escalated = (await agreed(client, run)).requirements[0]
        assert escalated.approvers == ["ann", "carol"]
        assert escalated.reminders >= 1
        assert (await run.approve(requirement, by="carol")).status == "approved"
        _, told = await finished(client, run)
        assert told == ["wired to bob"]


async def test_an_edit_is_rebuilt_as_it_was_made(assent_environment: Environment) -> None:
    agent = teller(assent_environment, calls(call("pay", to="a", amount=500), call("pay", to="b", amount=7)))
    async with assent_environment.serve(agent, cached_runs=0) as client:
        run = await client.start("teller", "Go.")
        first, second = (await run.until_paused()).active_requirements
        wrong = await run.approve(first, by="bob", arguments={"to": "a", "amount": "much"}, check=False)
        assert wrong.status == "refused"
        await agreed(client, run)
        edited = await run.approve(first, by="bob", arguments={"to": "a", "amount": 5})
        assert edited.status == "approved"
        assert len((await run.until_paused()).active_requirements) == 1
        await agreed(client, run)
        await run.send("approve", {"id": second.id, "by": "bob", "arguments": {"to": "c", "amount": 7}})
        state, told = await finished(client, run)
        assert sorted(tools.ran(run.id)) == ["pay(a, 5)", "pay(c, 7)"]
        assert [each.status for each in state.requirements] == ["superseded", "superseded", "approved", "approved"]
        assert [each.follows for each in state.requirements[2:]] == [first.id, second.id]
        assert all("paid" in each for each in told)


@pytest.mark.parametrize("cached_runs", [0, 1_000])
async def test_what_piles_up_while_the_worker_is_stopped_is_decided_in_the_order_of_the_history(
    assent_environment: Environment, cached_runs: int
) -> None:
    agent = teller(assent_environment, calls(call("pay", to="a", amount=1), call("pay", to="b", amount=2)))
    async with assent_environment.serve(agent, cached_runs=cached_runs) as client:
        run = await client.start("teller", "Go.")
        first, second = (await run.until_paused()).active_requirements
    await run.send("approve", {"id": first.id, "by": "ann", "arguments": {"to": "a", "amount": 9}})
    await run.send("approve", {"id": first.id, "by": "bob"})
    await run.send("approve", {"id": second.id, "by": "ann", "arguments": {"to": "b", "amount": 3}})
    await run.send("approve", {"id": second.id, "by": "bob", "arguments": {"to": "b", "amount": 4}})
    async with assent_environment.serve(agent, task_queue=client.task_queue, cached_runs=cached_runs):
        state, _ = await finished(client, run)
    # A decision that needs no check is not kept waiting by one that does; of two edits, the one checked first counts.
    ran = sorted(tools.ran(run.id))
    assert ran[0] == "pay(a, 1)"
    assert ran[1] in {"pay(b, 3)", "pay(b, 4)"}
    assert len(ran) == 2
    assert len(state.ignored_messages) == 2
    assert {each.status for each in state.ignored_messages} <= {"late", "superseded"}


async def test_a_grant_that_was_used_twice_is_rebuilt_with_its_uses(assent_environment: Environment) -> None:
    agent = teller(
        assent_environment,
        calls(call("pay", to="a", amount=1)),
        calls(call("pay", to="b", amount=2), call("pay", to="c", amount=3), call("pay", to="d", amount=4)),
    )
    async with assent_environment.serve(agent, cached_runs=0) as client:
        run = await client.start("teller", "Go.")
        [first] = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob", remember=Remember(uses=2))
        async with asyncio.timeout(60):
            while sorted(tools.ran(run.id)) != ["pay(a, 1)", "pay(b, 2)", "pay(c, 3)"]:  # noqa: ASYNC110 - tools write it
                await asyncio.sleep(0.02)
        [last] = (await run.until_paused()).active_requirements
        assert last.tool_args["to"] == "d"
        [grant] = (await agreed(client, run)).grants
        assert (grant.used, grant.uses, grant.by) == (2, 2, "bob")
        assert (await run.revoke(grant, by="carol")).status == "recorded"
        await run.reject(last, by="bob", reason="enough")
        state, told = await finished(client, run)
        assert [each.grant for each in state.requirements] == [None, grant.id, grant.id, None]
        assert [each.revoked_by for each in state.grants] == ["carol"]
        assert told[-1] == "Rejected: enough"


@pytest.mark.parametrize("answer", ["happened", "again", "given up"])
async def test_an_unknown_outcome_is_rebuilt_with_its_answer(assent_environment: Environment, answer: str) -> None:
    agent = teller(assent_environment, calls(call("print_label", order="17")))
    async with assent_environment.serve(agent, cached_runs=0) as client:
        run = await client.start("teller", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        [asked] = (await run.until_paused()).active_requirements
        assert (asked.kind, asked.follows) == ("outcome", requirement.id)
        assert (await agreed(client, run)).requirements[0].execution == "unknown"
    async with assent_environment.serve(agent, task_queue=client.task_queue, cached_runs=0):
        if answer == "happened":
            await run.submit_result(asked, by="carol", output="it lay in the tray")
        elif answer == "again":
            await run.approve(asked, by="carol")
        else:
            await run.reject(asked, by="carol", reason="no paper")
        state, [told] = await finished(client, run)
    expected = {
        "happened": ("it lay in the tray", "executed", 1),
        "again": ("printed 17", "executed", 2),
        "given up": ("Outcome unknown: ", None, 1),
    }
    text, execution, times = expected[answer]
    assert told.startswith(text)
    assert state.requirements[1].execution == execution
    assert tools.ran(run.id) == ["print_label(17)"] * times
