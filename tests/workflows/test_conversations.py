"""Conversations on the real server: they stay open, cost nothing while nobody speaks, and are had with ids alone."""

from __future__ import annotations

import asyncio
import json
import uuid

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from assent import Agent, AgentClient, MessageError, RunHandle, RunNotFoundError
from assent.testing import Approved, Conversation, Environment, Reply, Step, call, calls, drive, says
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import executions, live, replay
from tests.workflows.test_wire import temporal

HELPER = "helper"


def repeats(seen: Conversation) -> Reply:
    """A model that repeats everything it was told."""
    return says(" | ".join(seen.user))


def slowly(seen: Conversation) -> Reply:
    """One that takes its time about it."""
    return says(" | ".join(seen.user), delay=0.2 if len(seen.user) < 3 else 0.02)


def helper(running: Environment, *steps: Step) -> Agent:
    """An agent with tools; its model follows *steps*, or repeats what it was told."""
    return Agent(name=HELPER, model=running.responses(*(steps or (repeats,))), tools=tools.ALL)


async def described(client: AgentClient, run: RunHandle) -> DescribeWorkflowExecutionResponse:
    """What the server holds of a run."""
    return (await client.get_run(run.id).description()).raw_description


async def test_a_conversation_stays_open_after_its_answers_and_is_closed_by_somebody(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(helper(assent_environment)) as client:
        run = await client.start(HELPER, "One.", requested_by="alice", conversation=True)
        state = await run.until_paused()
        assert (state.is_idle, state.content) == (True, "One.")
        await run.send_message("Two.", by="alice")
        state = await run.until_paused()
        assert (state.is_idle, state.content, state.turns) == (True, "One. | Two.", 2)
        assert state == await live(client, run)
        await run.close(by="alice", reason="that is all")
        result = await run.result()
        assert (result.content, result.turns) == ("One. | Two.", 2)
        assert (await run.until_paused()).status == "completed"
        verified = await run.verify()
        assert verified.ok, verified.checks
        await replay(client, run)


async def test_a_service_has_a_conversation_with_its_id_alone(assent_environment: Environment) -> None:
    """One call begins it or goes on with it; only who closes it ends it."""
    async with assent_environment.serve(helper(assent_environment)) as client:
        name = f"chat-{client.task_queue}"
        for said, told in (("One.", "One."), ("Two.", "One. | Two.")):
            run = await client.send_message(name, said, by="alice", agent=HELPER)
            state = await client.get_run(name).until_paused()
            assert (run.id, state.content, state.requested_by) == (name, told, "alice")
        again = await client.start(HELPER, "Three.", id=name, conversation=True)
        assert (await again.until_paused()).content == "One. | Two.", "starting is idempotent, and says nothing"
        assert (await client.send_message(name, "Three.", by="bob")).id == name
        assert (await again.until_paused()).turns == 3
        await client.get_run(name).close(by="alice")
        await again.result()
        for agent in (None, HELPER):
            with pytest.raises(RunNotFoundError, match=r"has ended|still running"):
                await client.send_message(name, "Four.", by="alice", agent=agent)


async def test_of_many_first_messages_one_begins_the_conversation_and_all_are_heard(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(helper(assent_environment)) as client:
        name = f"race-{client.task_queue}"
        said = [f"message {number}" for number in range(8)]
        await asyncio.gather(*(client.send_message(name, each, by="alice", agent=HELPER) for each in said))
        run = client.get_run(name)
        state = await run.until_paused()
        assert state.is_idle
        assert sorted((state.content or "").split(" | ")) == said
        assert len(await executions(client, run)) == 1


async def test_what_is_sent_to_something_else_under_the_id(assent_environment: Environment) -> None:
    agent = helper(assent_environment, calls(call("pay", to="bob", amount=1)), repeats)
    async with assent_environment.serve(agent) as client:
        with pytest.raises(RunNotFoundError):
            await client.send_message("no-such-conversation", "Hello.", by="alice")
        for content, by in ((" ", "alice"), ("Hello.", ""), ("Hello.", "YOUR NAME")):
            with pytest.raises(MessageError):
                await client.send_message(f"none-{client.task_queue}", content, by=by, agent=HELPER)
        foreign = f"foreign-{client.task_queue}"
        handle = await client.temporal.start_workflow("Other", id=foreign, task_queue=f"nobody-{client.task_queue}")
        with pytest.raises(MessageError, match="taken by a workflow of type 'Other'"):
            await client.send_message(foreign, "Hello.", by="alice", agent=HELPER)
        assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED not in {
            event.event_type for event in (await handle.fetch_history()).events
        }
        await handle.terminate()
        # An ordinary run takes it as it takes any message: with its next turn.
        run = await client.start(HELPER, "Pay.", requested_by="alice")
        [asked] = (await run.until_paused()).active_requirements
        await client.send_message(run.id, "And hurry.", by="alice", agent=HELPER)
        await run.approve(asked, by="bob")
        assert (await run.result()).content == "Pay. | And hurry."


async def test_asking_gives_the_answer_to_ones_own_message_while_others_talk(assent_environment: Environment) -> None:
    async with assent_environment.serve(helper(assent_environment, slowly)) as client:
        run = await client.start(HELPER, conversation=True)

        async def talk(name: str) -> None:
            for number in range(4):
                said = f"{name} {number}"
                state = await client.get_run(run.id).send_and_wait(said, by=name)
                assert state.content is not None
                assert state.is_idle
                # The first answer of a model that had been told it.
                assert said in state.content.split(" | ")

        async with asyncio.timeout(60):
            await asyncio.gather(talk("ann"), talk("bob"), talk("cleo"))
        state = await run.until_paused()
        assert len((state.content or "").split(" | ")) == 12
        assert state.turns <= 12
        assert (await run.verify()).ok


async def test_an_answer_that_more_messages_followed_is_still_the_answer_to_the_first(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(helper(assent_environment, slowly)) as client:
        run = await client.start(HELPER, conversation=True)
        first = asyncio.create_task(run.send_and_wait("first of all messages", by="ann"))
        await soon(run.state, lambda state: state.turns == 1)
        second = asyncio.create_task(run.send_and_wait("second", by="bob"))
        async with asyncio.timeout(60):
            assert ((await first).content, (await second).content) == (
                "first of all messages", "first of all messages | second",
            )  # fmt: skip
        # Somebody who says again what was said before gets a new answer.
        assert (await run.send_and_wait("second", by="bob")).content == "first of all messages | second | second"


async def test_asking_comes_back_where_a_person_must_decide_first(assent_environment: Environment) -> None:
    steps = (calls(call("pay", to="bob", amount=1)), repeats)
    async with assent_environment.serve(helper(assent_environment, *steps)) as client:
        run = await client.start(HELPER, conversation=True, requested_by="alice")
        state = await run.send_and_wait("Pay.", by="alice")
        assert state.is_paused
        assert (await drive(run, lambda _: Approved())).content == "Pay."


async def test_asking_fails_where_the_message_did_not_count(assent_environment: Environment) -> None:
    answer = says("So long, and thanks for all the fish", delay=0.3)
    agent = helper(assent_environment, answer)
    client = assent_environment.client(f"late-{uuid.uuid4().hex[:8]}")
    # Closed before a worker has taken it up: it ends with its first answer all the same.
    run = await client.start(HELPER, "Bye.", conversation=True)
    await run.close(by="alice")
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        with pytest.raises(MessageError, match="late: the conversation is being closed"):
            await run.send_and_wait("And?", by="alice")
        assert (await run.until_paused()).content == "So long, and thanks for all the fish"
        for again in (run.send_and_wait("And?", by="alice"), run.close(by="alice")):
            with pytest.raises(RunNotFoundError):
                await again


async def test_a_message_that_is_not_handled_yet_is_waited_for(assent_environment: Environment) -> None:
    """Whoever sends and then waits never gets the rest from before: also with no worker at the moment of sending."""
    agent = helper(assent_environment)
    async with assent_environment.serve(agent) as client:
        run = await client.start(HELPER, "One.", conversation=True)
        await run.until_paused()
    await run.send_message("Two.", by="alice")
    waiting = asyncio.create_task(run.until_paused())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with assent_environment.serve(agent, task_queue=client.task_queue), asyncio.timeout(60):
        assert (await waiting).content == "One. | Two."
        for number in range(20):
            await run.send_message(f"{number}", by="alice")
            assert f"{number}" in ((await run.until_paused()).content or "").split(" | ")


# -- what it costs ----------------------------------------------------------------------------------------------------


async def test_an_idle_conversation_costs_nothing(assent_environment: Environment) -> None:
    async with assent_environment.serve(helper(assent_environment)) as client:
        run = await client.start(HELPER, "One.", requested_by="alice", conversation=True)
        await run.until_paused()
        before = await soon(lambda: described(client, run), lambda told: not told.HasField("pending_workflow_task"))
        await asyncio.sleep(2)
        after = await described(client, run)
        assert before.workflow_execution_info.history_length == after.workflow_execution_info.history_length
        assert not after.pending_activities
        assert not after.HasField("pending_workflow_task")
        timers = {
            event.event_type
            for event in (await run.history()).events
            if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED
        }
        assert not timers
        assert run.id not in [each.run_id for each in await client.pending()]
        listed = [
            each.id
            async for each in client.temporal.list_workflows(f"AssentStatus = 'idle' AND WorkflowId = '{run.id}'")
        ]
        assert listed == [run.id]


async def test_it_goes_on_after_it_was_evicted(assent_environment: Environment) -> None:
    async with assent_environment.serve(helper(assent_environment), cached_runs=0, prefix_cache=0) as client:
        run = await client.start(HELPER, conversation=True)
        for number in range(3):
            await run.send_and_wait(f"{number}", by="alice")
        assert (await run.until_paused()).content == "0 | 1 | 2"
        await run.close(by="alice")
        assert (await run.result()).content == "0 | 1 | 2"
        await replay(client, run)


async def test_it_goes_on_in_new_executions_and_loses_no_message(assent_environment: Environment) -> None:
    """While it is idle, in mid-turn, and with messages that arrive in between."""
    async with assent_environment.serve(helper(assent_environment), continue_after=4) as client:
        run = await client.start(HELPER, "begin", requested_by="alice", conversation=True)
        state = await run.until_paused()
        assert state.is_idle
        await soon(lambda: executions(client, run), lambda found: len(found) > 1)
        said = [f"m{number}" for number in range(15)]

        async def send() -> None:
            for each in said:
                await run.send_message(each, by="alice")
                await asyncio.sleep(0.01)

        async with asyncio.timeout(60):
            sending = asyncio.create_task(send())
            for number in range(5):
                assert f"a{number}" in ((await run.send_and_wait(f"a{number}", by="bob")).content or "").split(" | ")
            await sending
            state = (await run.until_paused()).model_copy(update={"execution_id": ""})
        heard = (state.content or "").split(" | ")
        assert [each for each in heard if each.startswith("m")] == said
        assert state == (await live(client, run)).model_copy(update={"execution_id": ""})
        await run.close(by="alice")
        assert (await run.result()).content == state.content
        verified = await run.verify()
        assert verified.ok, verified.checks
        assert await replay(client, run) > 3


# -- other clients ----------------------------------------------------------------------------------------------------


async def test_another_language_has_a_conversation_with_the_temporal_command(assent_environment: Environment) -> None:
    async with assent_environment.serve(helper(assent_environment)) as client:
        name = f"cli-{client.task_queue}"
        request = json.dumps({"agent": HELPER, "input": "", "conversation": True})
        await temporal(
            assent_environment, "workflow", "start", "--type", "AgentRun", "--task-queue", client.task_queue,
            "--workflow-id", name, "--input", request,
        )  # fmt: skip
        run = client.get_run(name)
        assert (await run.until_paused()).is_idle
        message = json.dumps({"content": "Hello.", "by": "alice"})
        both = ("--name", "send_message", "--input", message)
        await temporal(assent_environment, "workflow", "signal", "--workflow-id", name, *both)
        state = await run.until_paused()
        assert (state.is_idle, state.content) == (True, "Hello.")
        ends = ("--name", "close", "--input", '{"by": "alice"}')
        await temporal(assent_environment, "workflow", "signal", "--workflow-id", name, *ends)
        assert (await run.result()).content == "Hello."
        begun = f"{name}-2"
        await temporal(
            assent_environment, "workflow", "signal-with-start", "--type", "AgentRun", "--task-queue",
            client.task_queue, "--workflow-id", begun, "--input", request, "--signal-name", "send_message",
            "--signal-input", message,
        )  # fmt: skip
        assert (await client.get_run(begun).until_paused()).content == "Hello."
