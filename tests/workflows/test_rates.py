"""Rates, priorities and fairness of the server's own task queues, on a server whose queues have one partition.

With the four that Temporal gives a task queue, each partition has its own order and its part of the rate.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
import pytest_asyncio

from assent import Agent, MessageError, RunHandle, ToolContext, tool
from assent.client.client import AgentClient
from assent.runtime import embedded_server
from assent.runtime.connection import connect
from assent.runtime.settings import Settings
from assent.testing import Conversation, Environment, Reply, call, calls, environment, says
from assent.worker import serving
from tests.e2e.processes import start
from tests.support import tools
from tests.support.run_probes import events

from .test_wire import temporal

_FAIR = "matching.enableFairness=true"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fair() -> AsyncIterator[Environment]:
    """A server that has fairness."""
    more = ("--dynamic-config-value", _FAIR)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(embedded_server, "_FLAGS", (*vars(embedded_server)["_FLAGS"], *more))
        async with environment() as running:
            yield running


class Asked:
    """The prompts that the model was asked, and when, in order."""

    def __init__(self, environment: Environment) -> None:
        """An agent `ops` with a task queue of its own."""
        self.prompts: list[str] = []
        self.times: list[float] = []
        self.environment = environment
        self.agent = Agent(name="ops", model=environment.responses(self._answer))
        self.client: AgentClient = environment.client(f"rates-{uuid.uuid4().hex[:6]}")

    def _answer(self, seen: Conversation) -> Reply:
        self.times.append(time.monotonic())
        self.prompts.append(seen.user[0])
        return says("done")

    @asynccontextmanager
    async def served(self, most: float) -> AsyncGenerator[None]:
        """A worker that limits the queue to *most* activities a second."""
        async with limited(self.environment, [self.agent], self.client.task_queue, most):
            yield

    async def queue(self, runs: Sequence[RunHandle]) -> None:
        """Bring the model calls of all these runs into the queue, before more than a few are given out."""
        async with self.served(0.1), asyncio.timeout(40):
            for run in runs:
                while not events(await run.history(), "ACTIVITY_TASK_SCHEDULED"):  # noqa: ASYNC110 - the server moves it
                    await asyncio.sleep(0.05)

    async def until(self, number: int) -> None:
        """Wait until so many calls were made."""
        async with asyncio.timeout(40):
            while len(self.prompts) < number:  # noqa: ASYNC110 - the server moves it
                await asyncio.sleep(0.05)


@asynccontextmanager
async def limited(
    environment: Environment, agents: Sequence[Agent], queue: str, most: float | None
) -> AsyncGenerator[None]:
    """A worker that limits its queue to *most* activities a second."""
    settings = Settings(task_queue=queue, max_activities_per_second=most)
    connection = await connect(environment.server.address)
    async with serving(connection, agents, settings, grace=timedelta(seconds=1)):
        yield


async def seconds_of(asked: Asked, most: float) -> float:
    """In how many seconds the model calls of twelve runs were made."""
    async with asked.served(most):
        for _ in range(12):
            await asked.client.start("ops", "Go.")
        await asked.until(12)
    return asked.times[-1] - asked.times[0]


async def test_the_model_calls_of_a_task_queue_stay_below_the_limit_of_its_workers(fair: Environment) -> None:
    unlimited = await seconds_of(Asked(fair), 1000)
    limited_to_two = await seconds_of(Asked(fair), 2)
    # Five seconds by the limit, of which each of the queue's four partitions may send its first calls at once.
    assert limited_to_two > 2.5
    assert unlimited < limited_to_two


async def test_tools_on_a_task_queue_of_their_own_are_not_counted(fair: Environment) -> None:
    queue, made = f"rates-{uuid.uuid4().hex[:6]}", 10

    @tool(task_queue=f"{queue}-tools")
    def count(context: ToolContext, number: int) -> str:
        """Count."""
        tools.note(context, str(number))
        return "counted"

    model = fair.responses(calls(*[call("count", number=number) for number in range(made)]), says("done"))
    agent = Agent(name="ops", model=model, tools=[count])
    begun = time.monotonic()
    async with limited(fair, [agent], queue, 1), limited(fair, [agent], f"{queue}-tools", None):
        run = await fair.client(queue).start("ops", "Go.")
        await run.result()
    assert len(tools.ran(run.id)) == made
    assert time.monotonic() - begun < made / 2


class Counting:
    """Runs of two agents, each of a turn with six tool calls and one that ends it, and when their models were asked."""

    def __init__(self, environment: Environment) -> None:
        """The agents have one provider, hence one task queue for their model calls."""
        self.times: list[float] = []
        self.queue = f"rates-{uuid.uuid4().hex[:6]}"
        self.models = f"{self.queue}-models"
        self.agents = [
            Agent(
                name=name,
                model=environment.responses(self._answer),
                tools=[tools.look_up],
                model_task_queue=self.models,
            )
            for name in ("ops", "research")
        ]

    def _answer(self, seen: Conversation) -> Reply:
        self.times.append(time.monotonic())
        return says("done") if seen.tool_outputs else calls(*[call("look_up", key=key) for key in "abcdef"])

    async def run(self, client: AgentClient, number: int) -> float:
        """In how many seconds so many runs of each agent are over."""
        begun = time.monotonic()
        runs = [await client.start(agent.name, "Go.") for agent in self.agents * number]
        await asyncio.gather(*[run.result() for run in runs])
        assert [len(tools.ran(run.id)) for run in runs] == [6] * len(runs)
        return time.monotonic() - begun


@asynccontextmanager
async def counted(environment: Environment, counting: Counting, most: float | None) -> AsyncGenerator[AgentClient]:
    """A worker of the runs without a limit, and one of the model calls that limits them to *most* a second."""
    async with AsyncExitStack() as stack:
        for queue, limit in ((counting.queue, None), (counting.models, most)):
            await stack.enter_async_context(limited(environment, counting.agents, queue, limit))
        yield environment.client(counting.queue)


async def test_a_limit_on_the_task_queue_of_model_calls_bounds_those_of_all_its_agents_and_no_tool(
    fair: Environment,
) -> None:
    counting = Counting(fair)
    async with counted(fair, counting, 2) as client:
        seconds = await counting.run(client, 4)
    # 16 model calls at 2 a second; with the 48 tool calls, it would be half a minute.
    assert len(counting.times) == 16
    assert counting.times[-1] - counting.times[0] > 5
    assert seconds < 20
    counting = Counting(fair)
    async with counted(fair, counting, None) as client:
        assert await counting.run(client, 4) < seconds


async def test_an_operators_limit_holds_for_model_calls_whose_worker_has_none(fair: Environment) -> None:
    counting = Counting(fair)
    limit = ("--task-queue-type", "activity", "--queue-rps-limit", "2")
    await temporal(fair, "task-queue", "config", "set", "--task-queue", counting.models, *limit)
    async with counted(fair, counting, None) as client:
        await counting.run(client, 4)
    assert counting.times[-1] - counting.times[0] > 5


async def test_a_limit_that_an_operator_sets_holds_instead_of_that_of_the_workers(fair: Environment) -> None:
    asked = Asked(fair)
    limit = ("--task-queue-type", "activity", "--queue-rps-limit", "2")
    await temporal(fair, "task-queue", "config", "set", "--task-queue", asked.client.task_queue, *limit)
    assert await seconds_of(asked, 1000) > 4


async def test_where_workers_are_behind_urgent_runs_come_first(fair: Environment) -> None:
    asked = Asked(fair)
    order = (1, None, 5)
    given = [each for each in reversed(order) for _ in range(5)]
    await asked.queue([await asked.client.start("ops", f"priority {each}", priority=each) for each in given])
    early = len(asked.prompts)
    async with asked.served(5):
        await asked.until(15)
    late = asked.prompts[early:]
    assert early < 5
    assert late == sorted(late, key=[f"priority {priority}" for priority in order].index)


async def test_who_asks_for_much_does_not_keep_others_waiting_where_the_server_is_fair(fair: Environment) -> None:
    asked = Asked(fair)
    names = ["alice"] * 30 + ["bob"] * 5
    await asked.queue([await asked.client.start("ops", f"for {name}", requested_by=name) for name in names])
    async with asked.served(10):
        await asked.until(20)
    assert asked.prompts[:20].count("for bob") == 5


async def test_a_run_keeps_its_priority_and_requester_where_it_goes_on_in_a_new_execution(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(calls(call("look_up", key="k")), says("done"))
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent, continue_after=5) as client:
        run = await client.start("ops", "Go.", requested_by="ann" * 30, priority=2)
        await run.result()
        started = (await run.history()).events[0].workflow_execution_started_event_attributes
    assert started.continued_execution_run_id
    assert started.priority.priority_key == 2
    assert len(started.priority.fairness_key) == 64


async def test_the_command_gives_a_run_its_priority(assent_environment: Environment) -> None:
    options = ("--task-queue", "nobody", "start", "ops", "Go.", "--priority", "4", "--id", f"urgent-{uuid.uuid4().hex}")
    env = {"TEMPORAL_ADDRESS": assent_environment.server.address}
    running = await start(sys.executable, "-m", "assent.cli", *options, env=env)
    await running.until("run")
    run = assent_environment.client("nobody").get_run(options[-1])
    started = (await run.history()).events[0].workflow_execution_started_event_attributes
    assert started.priority.priority_key == 4
    await assent_environment.server.client.get_workflow_handle(run.id).terminate()


@pytest.mark.parametrize("priority", [0, 6, -1])
async def test_there_are_five_priorities(assent_environment: Environment, priority: int) -> None:
    with pytest.raises(MessageError, match=r"1 \(first\) to 5 \(last\)"):
        await assent_environment.client("nobody").start("ops", "Go.", priority=priority)
