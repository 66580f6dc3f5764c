"""A run as its history tells it, and whether it has moved since.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from assent.client.rpc import meant
from assent.core.approvals import close_requirement
from assent.core.events import Failure
from assent.core.state_machine import Run
from assent.history import pages
from assent.history.fold import HistoryFold
from assent.history.pages import Page
from assent.wire.errors import RunNotFoundError

_LOOK_AGAIN: Final = 0.1
"""Seconds until a run that is not there yet is looked for again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the history of a run was read: to this event of this execution."""

    execution_id: str = ""
    event_id: int = 0


@contextmanager
def as_meant(client: Client, run_id: str) -> Generator[None]:
    """Raise what the server's answers about a run mean.

    Raises:
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer.
    """
    try:
        yield
    except RPCError as error:
        told = meant(error, run_id, client.namespace)
        raise told from (None if told is error else error)


async def describe(client: Client, run_id: str, execution_id: str | None = None) -> WorkflowExecutionDescription:
    """What the server itself says of a run, or of one execution of it. Raises as `as_meant`."""
    with as_meant(client, run_id):
        return await client.get_workflow_handle(run_id, run_id=execution_id).describe()


async def read(client: Client, run_id: str, description: WorkflowExecutionDescription) -> tuple[Run, Seen]:
    """The run as its history and, should the server have ended it by itself, its *description* tell it.

    Raises:
        RunNotFoundError: there is no run of this id.
        HistoryError: the workflow of this id is not a run of Assent.
    """
    # After a workflow reset the history begins with the id of the execution that was reset.
    follower, last = HistoryFold(run_id, description.run_id), 0
    with as_meant(client, run_id):
        async for page in pages.pages(client, run_id, description.run_id):
            last = page.events[-1].event_id
            for _ in follower.feed(page.events):
                pass
    return _closed(follower.run, description), Seen(description.run_id, last)


async def grow(client: Client, run_id: str, execution_id: str | None = None) -> AsyncGenerator[Page]:
    """The history of a run as it grows, from *execution_id*, else the newest, until it has ended. Raises as `read`."""
    begin = execution_id or (await describe(client, run_id)).run_id
    with as_meant(client, run_id):
        async for page in pages.following(client, run_id, begin, whole=False):
            yield page


async def until_there(client: Client, run_id: str) -> None:
    """Wait for the server to begin a run that another says it has begun."""
    while True:
        try:
            await describe(client, run_id)
        except RunNotFoundError:
            await asyncio.sleep(_LOOK_AGAIN)
        else:
            return


async def has_moved(client: Client, seen: Mapping[str, Seen]) -> bool:
    """Whether the history of any of these runs has more than was *seen* of it; of one that is not there yet, nothing.

    Where none has, all of them were at one moment what they were seen to be.
    """
    return any(await asyncio.gather(*(_has_moved(client, run_id, each) for run_id, each in seen.items())))


async def _has_moved(client: Client, run_id: str, seen: Seen) -> bool:
    try:
        description = await describe(client, run_id)
    except RunNotFoundError:
        return seen.event_id > 0
    return description.run_id != seen.execution_id or description.history_length > seen.event_id


def follower_of(follower: HistoryFold, page: Page) -> HistoryFold:
    """Whoever folds this page: another for each execution, which begins with what the one before carried over."""
    return follower if follower.execution_id == page.execution_id else HistoryFold(follower.run_id, page.execution_id)


def _closed(run: Run, description: WorkflowExecutionDescription) -> Run:
    """*run*, read after *description*: failed where the server closed it by itself (terminated, timed out)."""
    named = run if run.id else replace(run, id=description.id)
    at = description.close_time
    if run.ended or at is None or description.status is None:
        return named
    requirements = tuple(close_requirement(requirement, at) for requirement in run.requirements)
    failure = Failure("Closed", how_it_closed(description))
    return replace(named, status="failed", requirements=requirements, failure=failure)


def how_it_closed(description: WorkflowExecutionDescription) -> str:
    """What is said of a run that the server closed by itself: terminated, timed out."""
    how = description.status.name.replace("_", " ").lower() if description.status else "nobody knows how"
    return f"the server closed the run: {how}"
