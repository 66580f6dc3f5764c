"""A stage for one program: a Temporal server of its own, the model, and a worker in this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TypeVar

from assent import Agent, AgentClient
from assent.runtime.embedded_server import embedded_server
from assent.testing import Environment, ModelServer, Step
from assent.wire.names import TASK_QUEUE
from examples.support.environment import variables

T = TypeVar("T")

say = partial(print, flush=True)
"""`print`, seen at once also where the output goes to a file or another program."""


@asynccontextmanager
async def stage(agent: Agent, *script: Step, worker: bool = True) -> AsyncGenerator[AgentClient]:
    """A client of a new server whose runs end with the block. *script* is what the model does, unless it is real.

    The agent is served in this process; with *worker* False it is not served at all.
    """
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(embedded_server(ui=False))
        models = await stack.enter_async_context(ModelServer())
        say(f"Temporal: a server of this program's own, at {server.address}")
        say(f"Model: {stack.enter_context(model(agent, models, *script))}")
        running = Environment(server, models)
        if not worker:
            yield running.client(TASK_QUEUE)
        else:
            yield await stack.enter_async_context(running.serve(agent))


@contextmanager
def model(agent: Agent, models: ModelServer, *script: Step) -> Generator[str]:
    """The agent's model while the block runs; the value says who that is.

    With `OPENAI_API_KEY` it is the real one. Without, *models* speaks OpenAI's API on this machine and does what
    *script* says; `OPENAI_BASE_URL` sends the agent there.
    """
    name = agent.model.id
    if os.environ.get("OPENAI_API_KEY"):
        yield f"{name} at {os.environ.get('OPENAI_BASE_URL') or 'OpenAI'}, because OPENAI_API_KEY is set"
        return
    models.script(name, *script)
    with variables(OPENAI_BASE_URL=models.url):
        yield f"a script in the place of {name}, over HTTP at {models.url} (no OPENAI_API_KEY)"


def address_of(client: AgentClient) -> str:
    """Where the client's server is: `host:port`."""
    return client.temporal.service_client.config.target_host


async def soon(ask: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """What *ask* answers, once it *holds*: Temporal's list of runs follows the runs by some milliseconds.

    Raises:
        TimeoutError: it did not in 5 seconds.
    """
    async with asyncio.timeout(5):
        while True:
            answer = await ask()
            if holds(answer):
                return answer
            await asyncio.sleep(0.01)


async def say_verified(client: AgentClient, *run_ids: str) -> None:
    """Check the audit of each run, as `assent audit RUN --verify` does, and print the verdict."""
    for run_id in run_ids:
        checked = await client.get_run(run_id).verify()
        assert checked.ok, [check for check in checked.checks if check.problems]
        assert checked.complete
        names = next(check.text for check in checked.checks if check.name == "names")
        say(f"   Audited: {checked.events} events, every check passed ({names.rpartition(': ')[2]} names).")
        say(f"   Head of its hash chain: {checked.head}")
