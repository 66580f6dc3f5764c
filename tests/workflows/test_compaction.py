"""A long conversation goes on with a summary of its old turns; the turns themselves stay in the history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent import Agent, RunFailedError, RunHandle, tool
from assent.agents.models import Model
from assent.client.client import AgentClient
from assent.testing import Conversation, Environment, Reply, call, calls, check_replay, hangs, says
from tests.workflows.test_continue_as_new import executions, live, replay

KIB = 1024
LIMIT = 2_000


@tool
def read_page(number: int) -> str:
    """Read a page."""
    return f"{number:04d}".ljust(KIB, ".")


@tool(requires_confirmation=True)
def sign_off(number: int) -> str:
    """Sign a page off."""
    return f"signed {number}"


class Reader:
    """A model that reads pages one after the other, knows by its newest output where it is, and makes summaries."""

    def __init__(self, pages: int, *, signs: int | None = None, failing: int = 0) -> None:
        """Read *pages* pages; have the one of number *signs* signed off. The first *failing* summaries are refused."""
        self.pages = pages
        self.signs = signs
        self.failing = failing
        self.asked: list[Conversation] = []
        self.summarised: list[Conversation] = []

    def __call__(self, seen: Conversation) -> Reply:
        """The next page, or a summary, which is asked for without tools."""
        if not seen.tools:
            self.summarised.append(seen)
            if len(self.summarised) <= self.failing:
                message = "the server answers 400"
                raise ValueError(message)
            return says(f"Summary {len(self.summarised)}: all pages were dots.")
        self.asked.append(seen)
        last = seen.last_output
        number = 0 if last is None else int(last.removeprefix("signed ")[:4]) + 1
        if number >= self.pages:
            return says(f"read {number}")
        return calls(call("sign_off" if number == self.signs else "read_page", number=number))


def reader(model: Model, limit: int | None = LIMIT) -> Agent:
    """An agent that reads many pages, and may remember few."""
    return Agent(name="reader", model=model, tools=[read_page, sign_off], max_context_tokens=limit)


async def under_way(client: AgentClient, run: RunHandle) -> None:
    """Wait until the model is asked for a summary."""
    async with asyncio.timeout(60):
        while True:
            description = await client.temporal.get_workflow_handle(run.id).describe()
            pending = description.raw_description.pending_activities
            if any(each.activity_type.name == "summarise_conversation" for each in pending):
                return
            await asyncio.sleep(0.02)


async def scheduled(run: RunHandle, kind: str) -> list[HistoryEvent]:
    """The events that scheduled activities of this kind."""
    return [
        event
        for event in (await run.history()).events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        and event.activity_task_scheduled_event_attributes.activity_type.name == kind
    ]


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_after_a_summary_the_model_is_told_the_task_the_summary_and_the_newest_turns(
    assent_environment: Environment, api: str
) -> None:
    script = Reader(12)
    made: Callable[..., Model] = getattr(assent_environment, api)
    async with assent_environment.serve(reader(made(script))) as client:
        run = await client.start("reader", "Read them all.")
        assert (await run.result()).content == "read 12"
        assert len(script.summarised) >= 2
        after = next(seen for seen in script.asked if len(seen.user) > 1)
        task, summary = after.user
        assert task == "Read them all."
        assert summary.startswith("[This is a summary, made by the model, of ")
        assert summary.endswith("Summary 1: all pages were dots.")
        assert 1 <= len(after.tool_outputs) < 4
        assert max(len(seen.tool_outputs) for seen in script.asked) < 9
        [told] = script.summarised[0].user
        assert "Read them all." in told.splitlines()[0]
        await check_replay(await run.history())


async def test_what_was_replaced_is_still_in_the_history_and_the_audit_says_what_was(
    assent_environment: Environment,
) -> None:
    script = Reader(10)
    async with assent_environment.serve(reader(assent_environment.responses(script))) as client:
        run = await client.start("reader", "Read them all.")
        result = await run.result()
        state = await run.state()
        assert state == await live(client, run)
        assert state.usage == result.usage
        assert state.usage.requests == len(script.asked) + len(script.summarised)
        audit = await run.audit()
        verification = await run.verify()
        assert verification.ok, verification
        made = [turn for turn in audit.turns if turn.summary is not None]
        assert len(made) == len(script.summarised) == len(await scheduled(run, "summarise_conversation")) >= 2
        [first, *_] = made
        assert first.summary is not None
        assert first.summary.text is not None
        assert first.summary.text.text == "Summary 1: all pages were dots."
        assert (first.summary.items >= 4, first.failure, first.attempts, first.usage.requests) == (True, None, 1, 1)
        assert first.model.startswith("scripted-")
        read = [each.runs[0].result for each in audit.calls]
        assert [each.text[:4] for each in read if each is not None] == [f"{number:04d}" for number in range(10)]
        told = [event async for event in run.watch()]
        assert [event.kind for event in told].count("summarised") == len(made)
        inputs = [
            event.activity_task_scheduled_event_attributes.input.ByteSize()
            for event in await scheduled(run, "call_model")
        ]
        assert max(inputs) < 2 * KIB, "what stays is not sent again"


async def test_a_call_that_waits_for_a_person_stays_when_what_is_before_it_is_replaced(
    assent_environment: Environment,
) -> None:
    script = Reader(12, signs=5)
    async with assent_environment.serve(reader(assent_environment.responses(script)), prefix_cache=0) as client:
        run = await client.start("reader", "Read them all.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.send_message("Take your time.", by="alice")
        await run.approve(requirement, by="bob")
        assert (await run.result()).content == "read 12"
        signed = next(seen for seen in script.asked if seen.last_output == "signed 5")
        assert signed.user[-1] == "Take your time."
        assert script.summarised
        await check_replay(await run.history())
        assert (await run.verify()).ok


@pytest.mark.parametrize("api", ["responses", "chat"])
async def test_workers_that_remember_nothing_rebuild_what_a_summary_replaced(
    assent_environment: Environment, api: str
) -> None:
    script = Reader(12)
    made: Callable[..., Model] = getattr(assent_environment, api)
    agent = reader(made(script))
    async with (
        assent_environment.serve(agent, prefix_cache=0, cached_runs=0) as client,
        assent_environment.serve(agent, task_queue=client.task_queue, prefix_cache=0, cached_runs=0),
    ):
        run = await client.start("reader", "Read them all.")
        assert (await run.result()).content == "read 12"
        assert len(script.summarised) >= 2
        assert await replay(client, run) == 1


@pytest.mark.parametrize("prefix_cache", [0, 64 * KIB * KIB])
async def test_a_run_that_goes_on_in_new_executions_carries_what_its_summaries_left(
    assent_environment: Environment, prefix_cache: int
) -> None:
    script = Reader(24)
    agent = reader(assent_environment.responses(script))
    async with assent_environment.serve(agent, prefix_cache=prefix_cache, continue_after=60) as client:
        run = await client.start("reader", "Read them all.")
        assert (await run.result()).content == "read 24"
        assert len(script.summarised) >= 4
        histories = await executions(client, run)
        assert len(histories) >= 4
        assert await replay(client, run) == len(histories)
        assert max(event.ByteSize() for history in histories for event in history.events) < 6 * KIB
        assert await run.state() == await live(client, run)
        verification = await run.verify()
        assert verification.ok, verification


async def test_a_summary_that_the_provider_refuses_does_not_fail_the_run(assent_environment: Environment) -> None:
    script = Reader(20, failing=3)
    async with assent_environment.serve(reader(assent_environment.responses(script), 3_000)) as client:
        run = await client.start("reader", "Read them all.")
        assert (await run.result()).content == "read 20"
        left_out = next(seen for seen in script.asked if len(seen.user) > 1)
        assert "were left out here: no summary of them could be made" in left_out.user[1]
        made = [turn.summary for turn in (await run.audit()).turns if turn.summary is not None]
        assert [each.left_out for each in made[:3]] == [False, False, True]
        assert (await run.verify()).ok
        await check_replay(await run.history())


async def test_a_message_that_arrives_while_a_summary_is_made_is_told_after_it(assent_environment: Environment) -> None:
    script = Reader(12)
    model = assent_environment.responses(lambda seen: [script(seen)] if seen.tools else [hangs(1.0), script(seen)])
    async with assent_environment.serve(reader(model), cached_runs=0) as client:
        run = await client.start("reader", "Read them all.")
        await under_way(client, run)
        assert (await run.state()).status == "running"
        await run.send_message("Are you still there?", by="alice")
        await run.send("approve", {"id": "ffffffff", "by": "eve"})
        assert (await run.result()).content == "read 12"
        after = next(seen for seen in script.asked if len(seen.user) > 1)
        task, summary, message = after.user
        assert (task, summary[:17], message) == ("Read them all.", "[This is a summar", "Are you still there?")
        assert await run.state() == await live(client, run)
        assert (await run.verify()).ok
        await check_replay(await run.history())


async def test_a_run_may_be_cancelled_while_a_summary_is_made(assent_environment: Environment) -> None:
    script = Reader(12)
    model = assent_environment.responses(lambda seen: script(seen) if seen.tools else hangs(600, times=None))
    async with assent_environment.serve(reader(model)) as client:
        run = await client.start("reader", "Read them all.")
        await under_way(client, run)
        await run.cancel()
        with pytest.raises(RunFailedError):
            await run.result()
        state = await run.state()
        assert (state.status, state.running) == ("cancelled", 0)
        assert state == await live(client, run)
        assert (await run.verify()).ok
        await check_replay(await run.history())


async def test_another_worker_makes_the_summary_that_the_first_one_left(assent_environment: Environment) -> None:
    script = Reader(12)
    agent = reader(
        assent_environment.responses(
            lambda seen: [script(seen)] if seen.tools or script.summarised else [hangs(600), script(seen)]
        )
    )
    async with assent_environment.serve(agent) as client:
        run = await client.start("reader", "Read them all.")
        await under_way(client, run)
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        async with asyncio.timeout(60):
            assert (await run.result()).content == "read 12"
        assert len(script.summarised) == len(await scheduled(run, "summarise_conversation")) + 1
        assert (await run.verify()).ok
        await check_replay(await run.history())
