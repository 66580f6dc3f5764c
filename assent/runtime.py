"""The worker's half, wherever it is: `activities` and `workflows` in a checkout, below `assent` in an installed wheel.

A wheel that shipped top-level packages of these names would overwrite other people's; a checkout reads best with them.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from importlib import import_module
from typing import Protocol, cast

from temporalio.client import Client
from temporalio.worker import Worker

from assent.agent import Agent
from assent.connection import attributes_usable
from assent.errors import ConfigurationError


class _Activities(Protocol):
    @property
    def all(self) -> list[Callable[..., object]]: ...

    async def close(self) -> None: ...


class _MakeActivities(Protocol):
    def __call__(self, agents: Sequence[Agent], *, prefix_cache: int, attributes: bool) -> _Activities: ...


class _MakeWorker(Protocol):
    def __call__(
        self,
        client: Client,
        *,
        task_queue: str,
        activities: Sequence[Callable[..., object]],
        cached_runs: int,
        grace: timedelta,
    ) -> Worker: ...


def part(name: str, attribute: str) -> object:
    """An attribute of `activities` or `workflows`.

    Raises:
        ConfigurationError: neither the wheel's nor a checkout's package of this name can be found.
    """
    for candidate in (f"assent.{name}", name):
        try:
            module = import_module(candidate)
        except ModuleNotFoundError as error:
            if error.name != candidate:
                raise
            continue
        if hasattr(module, attribute):
            return cast("object", getattr(module, attribute))
    message = f"Assent's package {name!r} cannot be found: install the wheel, or work in a checkout (pip install -e .)"
    raise ConfigurationError(message)


def serving(
    client: Client,
    agents: Sequence[Agent],
    *,
    task_queue: str,
    prefix_cache: int = 64 * 1024 * 1024,
    cached_runs: int = 1_000,
    grace: timedelta = timedelta(seconds=30),
) -> AbstractAsyncContextManager[Worker]:
    """A worker that serves *agents* for as long as the block runs, and then lets running tools finish (*grace*).

    *prefix_cache* is bytes of conversation, *cached_runs* the runs kept in memory.

    Raises:
        ConfigurationError: the agents contradict each other, or a search attribute is registered with another type.
    """
    return _serving(client, agents, task_queue, prefix_cache, cached_runs, grace)


@asynccontextmanager
async def _serving(
    client: Client, agents: Sequence[Agent], task_queue: str, prefix_cache: int, cached_runs: int, grace: timedelta
) -> AsyncGenerator[Worker]:
    make_activities = cast("_MakeActivities", part("activities", "Activities"))
    make_worker = cast("_MakeWorker", part("workflows", "worker_for"))
    attributes = await attributes_usable(client)
    activities = make_activities(agents, prefix_cache=prefix_cache, attributes=attributes)
    try:
        async with make_worker(
            client, task_queue=task_queue, activities=activities.all, cached_runs=cached_runs, grace=grace
        ) as worker:
            yield worker
    finally:
        await activities.close()
