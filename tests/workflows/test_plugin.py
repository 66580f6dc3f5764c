"""`AssentPlugin` in the worker of a team that has workflows, a codec and interceptors of its own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.converter import DataConverter, PayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import Replayer, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from assent import Agent, AgentClient, ConfigurationError, tool
from assent.testing import Approved, Environment, call, calls, drive, says
from assent.worker import AssentPlugin
from tests.support.encrypting_codec import ENCODING, Encrypting
from tests.support.shop import Calling, Counting, Parcel, Shipping, book, label


@tool(requires_confirmation=True)
def refund(order: str, cents: int) -> str:
    """Refund an order."""
    return f"refunded {cents} of {order}"


def refunds(environment: Environment, name: str = "refunds") -> Agent:
    model = environment.responses(calls(call("refund", order="4711", cents=500)), says("done"))
    return Agent(name=name, model=model, tools=[refund])


async def connected(environment: Environment, converter: DataConverter = DataConverter.default, **more: Any) -> Client:
    return await Client.connect(environment.server.address, data_converter=converter, **more)


@asynccontextmanager
async def shop(client: Client, queue: str, **more: Any) -> AsyncGenerator[Worker]:
    """The worker that the team has: with *more*, what the plugin's documentation says to add to it."""
    with ThreadPoolExecutor(4) as threads:
        options: dict[str, Any] = {"activities": [book, label], "workflows": [Shipping, Calling]} | more
        async with Worker(client, task_queue=queue, activity_executor=threads, **options) as worker:
            yield worker


def queue_name() -> str:
    return f"shop-{uuid.uuid4().hex[:8]}"


async def test_two_lines_add_agents_to_a_worker_and_nothing_of_it_changes(assent_environment: Environment) -> None:
    """Its own histories replay, its codec encrypts Assent's values too, its interceptors see every activity."""
    codec = replace(DataConverter.default, payload_codec=Encrypting())
    client, queue, counting = await connected(assent_environment, codec), queue_name(), Counting()
    before = f"before-{queue}"
    async with shop(client, queue, interceptors=[counting]):
        expected = await client.execute_workflow(Shipping.run, Parcel("bob", 5), id=before, task_queue=queue)
    plugin = AssentPlugin([refunds(assent_environment)])
    async with shop(client, queue, interceptors=[counting], plugins=[plugin]):
        again = await client.execute_workflow(Shipping.run, Parcel("bob", 5), id=f"after-{queue}", task_queue=queue)
        agents = AgentClient(client, task_queue=queue)
        run = await agents.start("refunds", "Refund 4711.", requested_by="alice")
        assert (await drive(run, lambda _: Approved())).content == "done"
        stored = await client.get_workflow_handle(run.id).fetch_history()
        audit = await run.verify()
    assert again == expected == "booked 5 g to bob; label for bob"
    assert counting.workflows == ["Shipping", "Shipping", "AgentRun"]
    assert counting.activities == ["book", "label", "book", "label", "call_model", "refund", "call_model"]
    inputs = [
        payload for event in stored.events for payload in event.activity_task_scheduled_event_attributes.input.payloads
    ]
    assert len(inputs) == 3
    assert {payload.metadata["encoding"] for payload in inputs} == {ENCODING}
    assert audit.ok, audit
    replayer = Replayer(workflows=[Shipping], plugins=[AssentPlugin()], data_converter=codec)
    for run_id in (before, run.id):
        await replayer.replay_workflow(await client.get_workflow_handle(run_id).fetch_history())


async def test_a_plugin_of_the_client_is_that_of_its_workers(assent_environment: Environment) -> None:
    client = await connected(assent_environment, plugins=[AssentPlugin([refunds(assent_environment)])])
    queue = queue_name()
    async with shop(client, queue):
        run = await AgentClient(client, task_queue=queue).start("refunds", "Refund 4711.")
        assert (await drive(run, lambda _: Approved())).content == "done"


async def test_what_the_worker_does_not_have_is_left_to_another_worker(assent_environment: Environment) -> None:
    """The team's own dynamic activity answers its workflows, never a run; without one, nobody answers for it."""
    client, queue = await connected(assent_environment), queue_name()

    @activity.defn(dynamic=True)
    async def anything(arguments: Sequence[RawValue]) -> str:
        return f"{activity.info().activity_type} of {len(arguments)}"

    gone = assent_environment.responses(
        calls(call("refund", order="4711", cents=500)), lambda seen: says(str(seen.tool_outputs))
    )
    agent = Agent(name="refunds", model=gone, tools=[refund])
    async with shop(client, queue, plugins=[AssentPlugin([agent])]):
        said = await client.execute_workflow(Calling.run, "nowhere", id=f"a-{queue}", task_queue=queue)
        assert "no activity named 'nowhere' is registered on this worker" in said
        run = await AgentClient(client, task_queue=queue).start("refunds", "Refund 4711.")
        await run.until_paused()
    without = Agent(name="refunds", model=gone)
    options: dict[str, Any] = {"plugins": [AssentPlugin([without])], "activities": [book, label, anything]}
    async with shop(client, queue, **options):
        said = await client.execute_workflow(Calling.run, "nowhere", id=f"b-{queue}", task_queue=queue)
        assert said == "nowhere of 1"
        state = await drive(AgentClient(client, task_queue=queue).get_run(run.id), lambda _: Approved())
        assert "there is no tool named 'refund' any more" in (state.content or "")


async def test_two_workers_of_one_client_have_activities_of_their_own(assent_environment: Environment) -> None:
    client = await connected(assent_environment, plugins=[AssentPlugin([refunds(assent_environment)])])
    first, second = queue_name(), queue_name()
    async with shop(client, first):
        async with shop(client, second):
            pass
        # The end of the other one has closed no connection of this one's.
        run = await AgentClient(client, task_queue=first).start("refunds", "Refund 4711.")
        assert (await drive(run, lambda _: Approved())).content == "done"


async def test_a_plugin_that_comes_later_finds_a_sandbox_to_add_to(assent_environment: Environment) -> None:
    def passing(runner: WorkflowRunner | None) -> WorkflowRunner:
        assert isinstance(runner, SandboxedWorkflowRunner)
        return replace(runner, restrictions=runner.restrictions.with_passthrough_modules("tests.support.shop"))

    later = SimplePlugin("later", workflow_runner=passing)
    client, queue = await connected(assent_environment), queue_name()
    plugins = [AssentPlugin([refunds(assent_environment)]), later]
    async with shop(client, queue, plugins=plugins) as worker:
        runner = worker.config(active_config=True).get("workflow_runner")
        assert isinstance(runner, SandboxedWorkflowRunner)
        assert {"assent", "tests.support.shop"} <= runner.restrictions.passthrough_modules
        run = await AgentClient(client, task_queue=queue).start("refunds", "Refund 4711.")
        assert (await drive(run, lambda _: Approved())).content == "done"


class Rot13(PayloadConverter):
    """A payload converter that is not made of encodings."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        raise NotImplementedError

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        raise NotImplementedError


async def test_what_cannot_stand_side_by_side_is_refused_in_one_line(assent_environment: Environment) -> None:
    client = await connected(assent_environment)
    agent = refunds(assent_environment)

    @activity.defn(name="refund")
    async def theirs() -> None:
        """The team's own."""

    for plugins, activities, problem in (
        ([AssentPlugin(), AssentPlugin([agent])], [], "the worker has two Assent plugins: give one AssentPlugin all"),
        ([AssentPlugin([agent])], [theirs], "two activities of the worker are named 'refund', one of a tool"),
        ([AssentPlugin(gated_activities=["wire"])], [label], "gated_activities has 'wire', which is no activity of"),
    ):
        with pytest.raises(ConfigurationError, match=problem) as refused:
            Worker(client, task_queue="q", plugins=plugins, activities=activities)
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="two agents are named 'refunds'"):
        AssentPlugin([agent, refunds(assent_environment)])
    with pytest.raises(ConfigurationError, match="groups has 'bob' for 'finance': give a list of names"):
        AssentPlugin(groups={"finance": "bob"})
    odd = replace(DataConverter.default, payload_converter_class=Rot13)
    with pytest.raises(ConfigurationError, match=r"Rot13 cannot stand beside .*belongs into payload_codec"):
        await connected(assent_environment, odd, plugins=[AssentPlugin()])
    with pytest.raises(ConfigurationError, match="Rot13 cannot stand beside"):
        Worker(await connected(assent_environment, odd), task_queue="q", plugins=[AssentPlugin()])


async def test_an_activity_that_is_gated_does_not_run_without_an_approval(assent_environment: Environment) -> None:
    client, queue = await connected(assent_environment), queue_name()
    async with shop(client, queue, plugins=[AssentPlugin(gated_activities=["label"])]):
        said = await asyncio.wait_for(
            client.execute_workflow(Calling.run, "label", id=f"c-{queue}", task_queue=queue), 20
        )
    assert "activity 'label' runs only once people approved it" in said
