"""Linear history: each item is written once when it is made and at most once more, and the rest is rebuilt from it."""

from __future__ import annotations

import json

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent import Agent, RunHandle, approval, tool
from assent.testing import Approved, Conversation, Environment, Reply, Step, call, calls, drive, says
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
