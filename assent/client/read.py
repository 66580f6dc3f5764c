"""Reads a run from its history, and whether the history has grown since."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from assent.client.rpc import to_assent_error
from assent.core.approvals import close_requirement
from assent.core.continue_as_new import shortened
from assent.core.events import Failure
from assent.core.run_state import Run
from assent.history import pages
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import Page
from assent.views.run_events import RunEvent
from assent.views.run_events import describe as describe_event
from assent.wire.errors import RunNotFoundError

_T = TypeVar("_T")
_LOOK_AGAIN: Final = 0.1
"""Seconds between two looks for a run that does not exist yet."""


@dataclass(frozen=True, slots=True)
class HistoryPosition:
    """How far the history of a run was read: to this event of this execution."""

    execution_id: str = ""
    event_id: int = 0


@contextmanager
def translate_errors(client: Client, run_id: str) -> Generator[None]:
    """Translate RPC errors about a run into Assent errors.

    Raises:
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer.
    """
    try:
        yield
    except RPCError as error:
        translated = to_assent_error(error, run_id, client.namespace)
        raise translated from (None if translated is error else error)


async def describe(client: Client, run_id: str, execution_id: str | None = None) -> WorkflowExecutionDescription:
    """Return the description of a run, or of one execution of it. Raises as `translate_errors`."""
    with translate_errors(client, run_id):
        return await client.get_workflow_handle(run_id, run_id=execution_id).describe()


async def read(client: Client, run_id: str, description: WorkflowExecutionDescription) -> tuple[Run, HistoryPosition]:
    """Read a run from its history and, if the server closed it (terminated, timed out), from its *description*.

    Raises:
        RunNotFoundError: there is no run of this id.
        HistoryError: the workflow of this id is not a run of Assent.
    """
    # After a workflow reset the history begins with the id of the execution that was reset.
    fold, last = HistoryFold(run_id, description.run_id), 0
    with translate_errors(client, run_id):
        async for page in pages.pages(client, run_id, description.run_id):
            last = page.events[-1].event_id
            for _ in fold.add(page.events):
                pass
    return _closed(fold.run, description), HistoryPosition(description.run_id, last)


async def follow_history(client: Client, run_id: str, execution_id: str | None = None) -> AsyncGenerator[Page]:
    """Yield a run's history as it grows, from *execution_id*, else the newest, to its end. Raises as `read`."""
    begin = execution_id or (await describe(client, run_id)).run_id
    with translate_errors(client, run_id):
        async for page in pages.follow(client, run_id, begin, whole=False):
            yield page


async def wait_until_started(description: Callable[[], Awaitable[object]]) -> None:
    """Wait until the *description* of a run can be had: its parent run's history may be read before the run begins."""
    while True:
        try:
            await description()
        except RunNotFoundError:
            await asyncio.sleep(_LOOK_AGAIN)
        else:
            return


async def has_changed(client: Client, seen: Mapping[str, HistoryPosition]) -> bool:
    """Return whether the history of any of these runs has grown beyond its position.

    If none has, all the runs were at one moment as they were read.
    """
    return any(await asyncio.gather(*(_has_changed(client, run_id, each) for run_id, each in seen.items())))


async def _has_changed(client: Client, run_id: str, seen: HistoryPosition) -> bool:
    try:
        description = await describe(client, run_id)
    except RunNotFoundError:
        return seen.event_id > 0
    return description.run_id != seen.execution_id or description.history_length > seen.event_id


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel *tasks*, and wait until they have ended."""
    ended = list(tasks)
    for task in ended:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


async def drain_queue(
    queue: asyncio.Queue[_T], work: asyncio.Task[None], others: Mapping[str, asyncio.Task[None]]
) -> AsyncGenerator[_T]:
    """Yield what comes into *queue* until *work* has ended; cancel that and *others* at the end. Raises as *work*."""
    try:
        while not (work.done() and queue.empty()):
            coming = asyncio.ensure_future(queue.get())
            try:
                await asyncio.wait({coming, work}, return_when=asyncio.FIRST_COMPLETED)
                if work.done() and not coming.done():
                    await asyncio.sleep(0)
                if coming.done():
                    yield coming.result()
            finally:
                coming.cancel()
        work.result()
    finally:
        await cancel_all([work, *others.values()])


def describe_transition(transition: Transition, before: Run) -> Iterator[RunEvent]:
    """Yield the events of a transition, for people, where *before* is the run as it was read so far."""
    # A new execution begins with the state at the end of the one before.
    known = transition.before if transition.before.id else shortened(before)
    return describe_event(transition.event, known, transition.step)


def fold_for(fold: HistoryFold, page: Page) -> HistoryFold:
    """Return the fold for this page: each execution has its own, which begins with the state carried into it."""
    return fold if fold.execution_id == page.execution_id else HistoryFold(fold.run_id, page.execution_id)


def _closed(run: Run, description: WorkflowExecutionDescription) -> Run:
    """Return *run*, as failed if the server closed it (terminated, timed out); it was read after *description*."""
    named = run if run.id else replace(run, id=description.id)
    at = description.close_time
    if run.ended or at is None or description.status is None:
        return named
    requirements = tuple(close_requirement(requirement, at) for requirement in run.requirements)
    failure = Failure("Closed", closing_status_text(description))
    return replace(named, status="failed", requirements=requirements, failure=failure)


def closing_status_text(description: WorkflowExecutionDescription) -> str:
    """Say how the server closed a run: terminated, timed out."""
    how = description.status.name.replace("_", " ").lower() if description.status else "for an unknown reason"
    return f"the server closed the run: {how}"
