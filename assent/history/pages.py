"""A run's whole history: the executions that it went on in as new, from the first to the last, page by page.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle, WorkflowHistoryEventAsyncIterator
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from assent.history import event_types
from assent.history.payloads import decoded_events
from assent.wire import protocol
from assent.wire.errors import HistoryError

_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to reach a server that went away; the last again and again."""
_GOING_ON: Final = frozenset(
    f"workflow_execution_{how}_event_attributes" for how in ("continued_as_new", "completed", "failed", "timed_out")
)
_AWAY: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of one execution, in order: *events* as the run read them, *stored* as the server keeps them.

    The two are the same where there is no payload codec.
    """

    execution_id: str
    events: Sequence[HistoryEvent]
    stored: Sequence[HistoryEvent]


@dataclass(frozen=True, slots=True)
class Missing:
    """An execution of the run whose history cannot be had: deleted, or past its retention."""

    execution_id: str


async def executions(client: Client, run_id: str, execution_id: str) -> list[str | Missing]:
    """The executions that *execution_id* goes on from, the first of them first, and itself; what is gone is said.

    Raises:
        RPCError: as `fetch_history_events`; NOT_FOUND where *execution_id* itself is gone.
    """
    found: list[str | Missing] = [execution_id]
    before = await _continued_from(client, run_id, execution_id)
    while before:
        try:
            earlier = await _continued_from(client, run_id, before)
        except RPCError as error:
            if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                raise
            found.append(Missing(before))
            break
        found.append(before)
        before = earlier
    return found[::-1]


async def _continued_from(client: Client, run_id: str, execution_id: str) -> str:
    handle = client.get_workflow_handle(run_id, run_id=execution_id)
    iterator = handle.fetch_history_events(page_size=1, skip_archival=False)
    await iterator.fetch_next_page()
    first = next(iter(iterator.current_page or ()), HistoryEvent())
    return first.workflow_execution_started_event_attributes.continued_execution_run_id


async def chain(client: Client, run_id: str, execution_id: str) -> AsyncIterator[Page | Missing]:
    """The history of a run up to *execution_id*, over all executions that this one goes on from.

    Raises:
        RPCError: as `executions`.
        HistoryError: it is the history of another workflow, or its payload codec fails.
    """
    last: HistoryEvent | None = None
    for each in await executions(client, run_id, execution_id):
        if isinstance(each, Missing):
            yield each
        else:
            async for page in pages(client, run_id, each):
                last = page.events[-1]
                yield page
    # The run may have gone on in another execution since it was asked which is the newest.
    while last is not None and (after := goes_on_in(last)):
        last = None
        async for page in pages(client, run_id, after):
            last = page.events[-1]
            yield page


async def following(client: Client, run_id: str, execution_id: str, *, whole: bool) -> AsyncIterator[Page]:
    """The history of a run as it grows, until it has ended; it goes on where the run goes on in a new execution.

    With *whole* from the run's first execution that there is. Where the server goes away it is waited for, and nothing
    is told twice.

    Raises:
        RPCError, HistoryError: as `chain`.
    """
    if whole:
        for each in (await executions(client, run_id, execution_id))[:-1]:
            if not isinstance(each, Missing):
                async for page in pages(client, run_id, each):
                    yield page
    while execution_id:
        last: HistoryEvent | None = None
        async for page in pages(client, run_id, execution_id, wait=True):
            last = page.events[-1] if page.events else last
            yield page
        execution_id = "" if last is None else goes_on_in(last)


def goes_on_in(event: HistoryEvent) -> str:
    """The id of the execution that the run goes on in after *event*, the last of another; empty where it ended.

    Not by continue-as-new alone: whoever starts a run may ask for retries, or give it a schedule.
    """
    name = event.WhichOneof("attributes") or ""
    return str(getattr(getattr(event, name), "new_execution_run_id", "")) if name in _GOING_ON else ""


async def pages(client: Client, run_id: str, execution_id: str, *, wait: bool = False) -> AsyncIterator[Page]:
    """The history of one execution; with *wait* as it grows, until it has closed, waiting for a server that is away.

    Raises:
        RPCError, HistoryError: as `chain`.
    """
    handle = client.get_workflow_handle(run_id, run_id=execution_id or None)
    told, away, iterator = 0, 0, _iterator(handle, wait=wait)
    while True:
        token = iterator.next_page_token
        try:
            await iterator.fetch_next_page()
        except RPCError as error:
            if not (wait and error.status in _AWAY) and not (_is_stale(error, iterator) and away < len(_PAUSES)):
                raise
            await asyncio.sleep(_PAUSES[min(away, len(_PAUSES) - 1)])
            # A page token may not outlive the server that gave it, nor the beginning of the execution.
            away, iterator = away + 1, _iterator(handle, wait=wait)
            continue
        stored = [event for event in iterator.current_page or () if event.event_id > told]
        if token or stored:  # What was read before is no progress: the next token may be refused again, and again.
            away = 0
        if stored:
            told = stored[-1].event_id
            _check_type(run_id, stored[0])
            yield Page(execution_id, await _decoded(client.data_converter, stored), stored)
        if not iterator.next_page_token:
            return


def _is_stale(error: RPCError, iterator: WorkflowHistoryEventAsyncIterator) -> bool:
    """Whether the server takes its own page token no more: it happens as an execution that goes on from another begins.

    "Current and request branch tokens, or current and request versioned transitions, don't match."
    """
    return error.status == RPCStatusCode.INVALID_ARGUMENT and bool(iterator.next_page_token)


async def _decoded(converter: DataConverter, stored: Sequence[HistoryEvent]) -> Sequence[HistoryEvent]:
    return await decoded_events(converter.payload_codec, stored, converter.external_storage)


def _iterator(handle: WorkflowHandle[object, object], *, wait: bool) -> WorkflowHistoryEventAsyncIterator:
    return handle.fetch_history_events(wait_new_event=wait, skip_archival=wait)


def _check_type(run_id: str, first: HistoryEvent) -> None:
    if first.event_type != event_types.STARTED:
        return
    kind = first.workflow_execution_started_event_attributes.workflow_type.name
    if kind != protocol.WORKFLOW:
        message = f"workflow {run_id!r} is of type {kind!r}, not a run of Assent"
        raise HistoryError(message)
