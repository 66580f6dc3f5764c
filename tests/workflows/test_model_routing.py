"""Model calls on a task queue of their own, on the real server: where they run, and what becomes of a run there."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from temporalio.api.enums.v1 import EventType

from assent import Agent, RunHandle
from assent.client.client import AgentClient
from assent.client.progress import describe_progress, progress_of
from assent.testing import Conversation, Environment, Reply, call, calls, fails, says
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_compaction import Reader, read_page
from tests.workflows.test_continue_as_new import executions, live, replay
from tests.workflows.test_wire import temporal


def queue_name() -> str:
    """A task queue that nobody serves yet."""
    return f"models-{uuid.uuid4().hex[:6]}"


async def scheduled(client: AgentClient, run: RunHandle) -> list[tuple[str, str]]:
    """The activities of a run by type, each with the task queue that it was scheduled on, in order."""
    return [
        (scheduled.activity_type.name, scheduled.task_queue.name)
        for history in await executions(client, run)
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        for scheduled in [event.activity_task_scheduled_event_attributes]
    ]


async def sound(client: AgentClient, run: RunHandle) -> int:
    """Check a run: it replays, is read from history as it says itself, and verifies; the executions it has."""
    assert await run.state() == await live(client, run)
    verification = await run.verify()
    assert verification.ok, [check for check in verification.checks if check.problems]
    turns = [turn.turn for turn in (await run.audit()).turns if turn.summary is None]
    assert turns == list(range(1, (await run.state()).turns + 1)), "one record for each turn"
    return await replay(client, run)


async def test_the_model_is_asked_on_the_agents_task_queue_and_tools_run_where_the_run_is(
    assent_environment: Environment,
) -> None:
    queue = queue_name()
    model = assent_environment.responses(calls(call("look_up", key="a")), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL, model_task_queue=queue, max_turns=2)
    async with assent_environment.serve(agent) as client, assent_environment.serve(agent, task_queue=queue):
        run = await client.start("ops", "Go.")
        result = await run.result()
        own = client.task_queue
        asked = ("call_model", queue)
        assert await scheduled(client, run) == [("call_model", own), asked, ("look_up", own), asked]
        assert (result.turns, result.usage.requests) == (2, 2)
        told = [event.kind async for event in run.watch()]
        assert Counter(told)["model_called"] == Counter(told)["model_answered"] == 2
        assert await sound(client, run) == 1


async def test_a_run_that_was_started_on_that_task_queue_is_not_sent_on(assent_environment: Environment) -> None:
    queue = queue_name()
    agent = Agent(name="ops", model=assent_environment.responses(says("done")), model_task_queue=queue)
    async with assent_environment.serve(agent, task_queue=queue) as client:
        run = await client.start("ops", "Go.")
        await run.result()
        assert await scheduled(client, run) == [("call_model", queue)]


async def test_a_new_execution_asks_there_at_once(assent_environment: Environment) -> None:
    queue = queue_name()
    turns = [calls(call("look_up", key=key)) for key in "abcd"]
    agent = Agent(
        name="ops",
        model=assent_environment.responses(*turns, says("done")),
        tools=tools.ALL,
        model_task_queue=queue,
    )
    # What a turn says of its worker, it says of the one that asks the model.
    models = assent_environment.serve(agent, task_queue=queue, continue_after=5)
    async with assent_environment.serve(agent) as client, models:
        run = await client.start("ops", "Go.")
        await run.result()
        assert (await scheduled(client, run)).count(("call_model", client.task_queue)) == 1
        assert (await scheduled(client, run)).count(("call_model", queue)) == 5
        assert await sound(client, run) > 2


async def test_summaries_are_made_there_too(assent_environment: Environment) -> None:
    queue, script = queue_name(), Reader(12)
    agent = Agent(
        name="reader",
        model=assent_environment.responses(script),
        tools=[read_page],
        max_context_tokens=2_000,
        model_task_queue=queue,
    )
    async with assent_environment.serve(agent) as client, assent_environment.serve(agent, task_queue=queue):
        run = await client.start("reader", "Read them all.")
        assert (await run.result()).content == "read 12"
        made = await scheduled(client, run)
        assert made.count(("summarise_conversation", queue)) == len(script.summarised) >= 2
        assert ("summarise_conversation", client.task_queue) not in made
        await sound(client, run)


@pytest.mark.parametrize("continue_after", [0, 5])
async def test_an_agent_that_takes_over_is_asked_on_its_own_task_queue(
    assent_environment: Environment, continue_after: int
) -> None:
    first, second = queue_name(), queue_name()

    def writes(seen: Conversation) -> Reply:
        return says("written") if seen.last_output == "value of b" else calls(call("look_up", key="b"))

    model = assent_environment.responses(writes)
    below = Agent(name="writer", model=model, tools=[tools.look_up], model_task_queue=second)
    model = assent_environment.responses(calls(call("look_up", key="a")), calls(call("transfer_to_writer")))
    agent = Agent(name="ops", model=model, tools=[tools.look_up], handoffs=[below], model_task_queue=first)
    serve = assent_environment.serve
    async with (
        # Without a cache, the conversation is rebuilt up to the call at hand, whose id the first one has too.
        serve(agent, prefix_cache=0) as client,
        serve(agent, task_queue=first, prefix_cache=0, continue_after=continue_after),
        serve(below, task_queue=second, prefix_cache=0),
    ):
        run = await client.start("ops", "Go.")
        assert (await run.result()).content == "written"
        asked = [queue for kind, queue in await scheduled(client, run) if kind == "call_model"]
        own = client.task_queue
        assert asked == [own, first, first, own, second, second]
        assert (await sound(client, run) > 1) == bool(continue_after)


async def test_a_summary_right_after_a_handoff_is_made_by_the_one_who_takes_over(
    assent_environment: Environment,
) -> None:
    queue, summarised = queue_name(), list[Conversation]()

    def writes(seen: Conversation) -> Reply:
        if seen.tools:
            return says(f"written after: {seen.user[-1][-3:]}")
        summarised.append(seen)
        return says("a summary of it all")

    below = Agent(
        name="writer", model=assent_environment.responses(writes), tools=[tools.look_up], model_task_queue=queue
    )
    pages = [call("read_page", number=number) for number in range(6)]
    more = [call("read_page", number=number) for number in range(6, 12)]
    model = assent_environment.responses(calls(*pages), calls(*more, call("transfer_to_writer")))
    agent = Agent(name="ops", model=model, tools=[read_page], handoffs=[below], max_context_tokens=2_000)
    async with assent_environment.serve(agent) as client, assent_environment.serve(below, task_queue=queue):
        run = await client.start("ops", "Go.")
        assert (await run.result()).content == "written after: all"
        own, asks = client.task_queue, [each for each in await scheduled(client, run) if each[0] != "read_page"]
        assert asks == [
            ("call_model", own),
            ("call_model", own),
            ("transfer_to_writer", own),
            ("summarise_conversation", own),
            ("summarise_conversation", queue),
            ("call_model", queue),
        ]
        assert len(summarised) == 1
        assert len([turn for turn in (await run.audit()).turns if turn.summary is not None]) == 1
        await sound(client, run)


# -- when it changes --------------------------------------------------------------------------------------------------


async def moved(running: Environment, after: str | None, *, to: str) -> tuple[AgentClient, RunHandle, list[str]]:
    """A run that waits for a person while the task queue of its agent becomes *after*; where its model was asked.

    Its workers are on the run's own task queue, on the one of before, and on *to*.
    """
    before, own = queue_name(), queue_name()
    model = running.responses(calls(call("restart", service="s")), calls(call("look_up", key="k")), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL, model_task_queue=before)
    async with running.serve(agent, task_queue=own) as client, running.serve(agent, task_queue=before):
        run = await client.start("ops", "Go.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
    today = Agent(name="ops", model=model, tools=tools.ALL, model_task_queue=after)
    async with (
        running.serve(today, task_queue=own) as client,
        running.serve(today, task_queue=before),
        running.serve(today, task_queue=to),
    ):
        await run.approve(asked, by="bob")
        await run.result()
        await sound(client, run)
        names = {own: "own", before: "before", to: "after"}
        return client, run, [names[queue] for kind, queue in await scheduled(client, run) if kind == "call_model"]


async def test_runs_under_way_move_to_another_task_queue_with_their_next_turn(assent_environment: Environment) -> None:
    queue = queue_name()
    *_, asked = await moved(assent_environment, queue, to=queue)
    assert asked == ["own", "before", "before", "after"]


async def test_runs_under_way_go_back_to_where_they_are_where_there_is_no_other_task_queue_any_more(
    assent_environment: Environment,
) -> None:
    *_, asked = await moved(assent_environment, None, to=queue_name())
    assert asked == ["own", "before", "before", "own"]


# -- when nobody serves it --------------------------------------------------------------------------------------------


async def test_a_run_says_which_task_queue_nobody_serves_and_goes_on_once_somebody_does(
    assent_environment: Environment,
) -> None:
    queue = queue_name()
    agent = Agent(name="ops", model=assent_environment.responses(says("done")), model_task_queue=queue)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        waits = f"call_model waits for a worker on task queue {queue!r}"
        await soon(lambda: lines(run), lambda found: found == [waits])
        async with assent_environment.serve(agent, task_queue=queue):
            assert (await run.result()).content == "done"


async def lines(run: RunHandle) -> list[str]:
    """What holds a run up, as `assent show` says it."""
    return list(describe_progress(await progress_of(run)))


async def test_an_operator_sends_a_waiting_model_call_to_a_task_queue_that_is_served(
    assent_environment: Environment,
) -> None:
    queue = queue_name()
    agent = Agent(name="ops", model=assent_environment.responses(says("done")), model_task_queue=queue)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        await soon(lambda: lines(run), lambda found: any(queue in line for line in found))
        options = ("--workflow-id", run.id, "--activity-id", "1", "--task-queue", client.task_queue)
        await temporal(assent_environment, "activity", "update-options", *options)
        assert (await run.result()).content == "done"
        assert (await run.verify()).ok


async def test_a_worker_of_that_task_queue_without_the_agent_fails_no_run(assent_environment: Environment) -> None:
    queue = queue_name()
    agent = Agent(name="ops", model=assent_environment.responses(says("done")), model_task_queue=queue)
    other = Agent(name="other", model=assent_environment.responses(fails(500)))
    async with assent_environment.serve(agent) as client, assent_environment.serve(other, task_queue=queue):
        run = await client.start("ops", "Go.")
        found = await soon(lambda: lines(run), lambda found: any("UnknownAgent" in line for line in found))
        assert "it serves: other; next" in found[0]
        assert (await run.state()).status == "running"
        await client.temporal.get_workflow_handle(run.id).terminate()
