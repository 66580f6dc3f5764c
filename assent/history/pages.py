"""Reads a run's whole history from the server: all its executions, from the first to the last, page by page."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowHandle, WorkflowHistoryEventAsyncIterator
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from assent.history import event_types
from assent.history.payloads import decoded_events
from assent.wire import protocol
from assent.wire.errors import HistoryError

_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts to reach a server that is away; the last one repeats."""
_NEWEST: Final = 50
"""Events of one request for the newest ones: an approval and its call make about a dozen."""
_CONTINUABLE: Final = frozenset(
    f"workflow_execution_{how}_event_attributes" for how in ("continued_as_new", "completed", "failed", "timed_out")
)
_AWAY: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of one execution, in order: *events* as the run read them, *stored* as the server stores them.

    The two are equal if there is no payload codec.
    """

    execution_id: str
    events: Sequence[HistoryEvent]
    stored: Sequence[HistoryEvent]


@dataclass(frozen=True, slots=True)
class MissingExecution:
    """An execution whose history is gone: deleted, or past its retention."""

    execution_id: str


async def executions(client: Client, run_id: str, execution_id: str) -> list[str | MissingExecution]:
    """Return *execution_id* and the executions before it, the first one first; `MissingExecution` for one that is gone.

    Raises:
        RPCError: as `fetch_history_events`; NOT_FOUND if *execution_id* itself is gone.
    """
    chain: list[str | MissingExecution] = [execution_id]
    before = await _continued_from(client, run_id, execution_id)
    while before:
        try:
            earlier = await _continued_from(client, run_id, before)
        except RPCError as error:
            if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT}:
                raise
            chain.append(MissingExecution(before))
            break
        chain.append(before)
        before = earlier
    return chain[::-1]


async def _continued_from(client: Client, run_id: str, execution_id: str) -> str:
    handle = client.get_workflow_handle(run_id, run_id=execution_id)
    iterator = handle.fetch_history_events(page_size=1, skip_archival=False)
    await iterator.fetch_next_page()
    first = next(iter(iterator.current_page or ()), HistoryEvent())
    return first.workflow_execution_started_event_attributes.continued_execution_run_id


async def chain(client: Client, run_id: str, execution_id: str) -> AsyncIterator[Page | MissingExecution]:
    """Yield the history of a run: the execution *execution_id*, with those before it and after it.

    Raises:
        RPCError: as `executions`.
        HistoryError: it is the history of another workflow type, or its payload codec fails.
    """
    last: HistoryEvent | None = None
    for each in await executions(client, run_id, execution_id):
        if isinstance(each, MissingExecution):
            yield each
        else:
            async for page in pages(client, run_id, each):
                last = page.events[-1]
                yield page
    # The run may have continued as new since *execution_id* was the newest.
    while last is not None and (after := next_execution_id(last)):
        last = None
        async for page in pages(client, run_id, after):
            last = page.events[-1]
            yield page


async def follow(client: Client, run_id: str, execution_id: str, *, whole: bool) -> AsyncIterator[Page]:
    """Yield the history of a run as it grows, over all its executions, until it has ended.

    With *whole*, it begins with the run's first execution that is not gone. It waits for a server that is away, and
    yields no event twice.

    Raises:
        RPCError, HistoryError: as `chain`.
    """
    if whole:
        for each in (await executions(client, run_id, execution_id))[:-1]:
            if not isinstance(each, MissingExecution):
                async for page in pages(client, run_id, each):
                    yield page
    while execution_id:
        last: HistoryEvent | None = None
        async for page in pages(client, run_id, execution_id, wait=True):
            last = page.events[-1] if page.events else last
            yield page
        execution_id = "" if last is None else next_execution_id(last)


def next_execution_id(event: HistoryEvent) -> str:
    """Return the id of the next execution from the last event of an execution; empty if the run ended.

    A retry or a schedule, which the starter of a run may ask for, makes a next execution as continue-as-new does.
    """
    name = event.WhichOneof("attributes") or ""
    return str(getattr(getattr(event, name), "new_execution_run_id", "")) if name in _CONTINUABLE else ""


async def pages(client: Client, run_id: str, execution_id: str, *, wait: bool = False) -> AsyncIterator[Page]:
    """Yield the history of one execution; with *wait*, as it grows until it has closed, also over a server's absence.

    Raises:
        RPCError, HistoryError: as `chain`.
    """
    handle = client.get_workflow_handle(run_id, run_id=execution_id or None)
    last_id, away, closed, iterator = 0, 0, False, _iterator(handle, wait=wait)
    while True:
        token = iterator.next_page_token
        try:
            await iterator.fetch_next_page()
        except RPCError as error:
            if not (wait and error.status in _AWAY) and not (_is_stale(error, iterator) and away < len(_PAUSES)):
                raise
            await asyncio.sleep(_PAUSES[min(away, len(_PAUSES) - 1)])
            # A page token becomes invalid when its server restarts, or when the execution begins.
            away, iterator = away + 1, _iterator(handle, wait=wait)
            continue
        stored = [event for event in iterator.current_page or () if event.event_id > last_id]
        if token or stored:  # Events that were read before are no progress: the server may refuse each next token.
            away = 0
        if stored:
            last_id, closed = stored[-1].event_id, stored[-1].event_type in event_types.CLOSING
            _check_type(run_id, stored[0])
            yield Page(execution_id, await _decoded(client.data_converter, stored), stored)
        if not iterator.next_page_token:
            if not wait or closed:
                return
            # Seen while an execution begins, under load: the last page, as it seems, of an execution that still runs.
            await asyncio.sleep(_PAUSES[min(away, len(_PAUSES) - 1)])
            away, iterator = away + 1, _iterator(handle, wait=wait)


async def newer_events(client: Client, run_id: str, execution_id: str, event_id: int) -> Sequence[HistoryEvent]:
    """Return the events of one execution that follow *event_id*, in order. Those before it are not read.

    Raises:
        RPCError, HistoryError: as `chain`.
    """
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=run_id, run_id=execution_id),
        maximum_page_size=_NEWEST,
    )
    stored: list[HistoryEvent] = []
    while True:
        answer = await client.workflow_service.get_workflow_execution_history_reverse(request, retry=True)
        newer = [event for event in answer.history.events if event.event_id > event_id]
        stored += newer
        if len(newer) < len(answer.history.events) or not answer.next_page_token:
            return await _decoded(client.data_converter, stored[::-1])
        request.next_page_token = answer.next_page_token


def _is_stale(error: RPCError, iterator: WorkflowHistoryEventAsyncIterator) -> bool:
    """Return whether the server refuses its own page token, as it does while a continued execution begins.

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
        hint = f"; see: assent pending --tree {run_id}"
        raise HistoryError(f"workflow {run_id!r} is of type {kind!r}, not a run of Assent{hint}")
