"""One run, from outside: its state, its decisions, its end. Each method is one call on the wire.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final, NoReturn

from pydantic import JsonValue, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError, CancelledError, TerminatedError
from temporalio.service import RPCError, RPCStatusCode

from assent import protocol
from assent.approvals import cancel
from assent.digest import canonical
from assent.errors import (
    HistoryError,
    MessageError,
    NoWorkerError,
    RequirementNotFoundError,
    RunFailedError,
    RunNotFoundError,
    ServerUnreachableError,
)
from assent.events import Failure
from assent.history import Follower, Happening
from assent.protocol import DecisionResult, RunResult
from assent.records import Approval, approvals_of
from assent.requirements import PendingRequirement, Requirement, RunState
from assent.run import Run, state_of
from assent.watching import RunEvent, describe

ANSWER_TIMEOUT: Final = timedelta(seconds=10)
"""How long a decision waits for a worker's answer."""

MESSAGE_LIMIT: Final = 1_000_000
"""Bytes (as JSON) of a signal or update."""

Target = Requirement | PendingRequirement | Approval | str


class RunHandle:
    """A run, by its id (the workflow id). Made by `AgentClient`; holds no connection of its own.

    State, records and events are read from the run's history, so they need no worker; decisions are answered by one.
    """

    def __init__(self, client: Client, run_id: str, *, execution_id: str | None = None) -> None:
        """*execution_id* fixes one execution of the workflow id; None is the newest."""
        self.id = run_id
        self._client = client
        self._handle = client.get_workflow_handle(run_id, run_id=execution_id)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def state(self) -> RunState:
        """The run as it is now, folded from its history; needs no worker. What no worker has handled yet is not in it.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.
        """
        return state_of(await self._read())

    async def audit(self) -> list[Approval]:
        """The record of each requirement of the run, pending ones included, from its history.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        return approvals_of(await self._read())

    async def until_paused(self) -> RunState:
        """The run's state once nothing of it moves until somebody decides, or once it has ended.

        Waits on the history, which costs the run nothing.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        follower = Follower(self.id)
        async for page in self._pages(wait=True):
            for _ in follower.feed(page):
                pass
            # A decision that is sent and not handled yet will move it; what was read so far is the pause before.
            if follower.run.ended or (follower.run.status != "running" and not follower.unhandled):
                break
        if follower.run.ended or (await self.description()).close_time is None:
            return state_of(follower.run)
        return await self.state()

    async def watch(self) -> AsyncIterator[RunEvent]:
        """What happens in the run, from its beginning to its end, as it happens.

        A long poll on the history: no load on the run, and no event added to it.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        ended = False
        async for happening in self.happenings(wait=True):
            ended = happening.step.run.ended
            for event in describe(happening.event, happening.before, happening.step):
                yield event
        if not ended:
            description = await self.description()
            if description.close_time is not None:
                yield RunEvent(kind="failed", at=description.close_time, text=_how_it_closed(description))

    async def happenings(self, *, wait: bool = False) -> AsyncIterator[Happening]:
        """What happened in the run, as the core that decides it saw it; with *wait* to its end, as it happens.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        follower = Follower(self.id)
        async for page in self._pages(wait=wait):
            for happening in follower.feed(page):
                yield happening
            if follower.run.ended:
                return

    async def result(self) -> RunResult:
        """The run's result, once it has one.

        Raises:
            RunNotFoundError: there is no run of this id.
            RunFailedError: the run failed, or was cancelled, terminated or timed out.
        """
        handle = self._client.get_workflow_handle(self.id, run_id=self._handle.run_id, result_type=RunResult)
        try:
            result: RunResult = await handle.result()
        except WorkflowFailureError as error:
            raise _run_failed(self.id, error.cause) from error
        except RPCError as error:
            self._raise(error)
        return result

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def approve(self, requirement: Target, *, by: str, reason: str | None = None) -> DecisionResult:
        """Approve a call that waits. *requirement* is one, a record of one, an id, or a unique prefix of an id.

        Raises:
            MessageError: *by* is empty.
            RequirementNotFoundError: nothing, or more than one thing, has the id.
            NoWorkerError: no worker answered; whether the decision will count is not known. `send` needs none.
            RunNotFoundError: there is no run of this id.
        """
        return await self._decide(requirement, "approve", by, reason)

    async def reject(self, requirement: Target, *, by: str, reason: str) -> DecisionResult:
        """Reject a call that waits; *reason* is what the model is told. Raises as `approve`."""
        return await self._decide(requirement, "reject", by, reason)

    async def submit_result(
        self, requirement: Target, *, by: str, output: object = None, error: str | None = None
    ) -> DecisionResult:
        """Hand in the result of a call that was made elsewhere, or the *error* it ended in. Raises as `approve`."""
        body: dict[str, JsonValue] = {"id": _id(requirement), "by": by}
        body |= {"error": error} if error is not None else {"output": _json(output)}
        return await self._ask(protocol.DELIVER, body)

    async def submit_input(self, requirement: Target, *, by: str, values: Mapping[str, JsonValue]) -> DecisionResult:
        """Fill in what a tool asks of a person. Raises as `approve`."""
        return await self._ask(protocol.DELIVER, {"id": _id(requirement), "by": by, "values": dict(values)})

    async def send_message(self, content: str, *, by: str) -> None:
        """Tell the model something more; it reads it with its next turn. Needs no worker.

        Raises:
            RunNotFoundError: there is no run of this id, or it has ended.
        """
        await self.send(protocol.SEND_MESSAGE, {"content": content, "by": by})

    async def send(self, signal: str, body: Mapping[str, JsonValue]) -> None:
        """Send a signal by its wire name: durable at once, with every worker down, and without an answer.

        Raises:
            RunNotFoundError: there is no run of this id, or it has ended.
        """
        try:
            await self._handle.signal(signal, _bounded(body))
        except RPCError as error:
            self._raise(error)

    async def cancel(self) -> None:
        """Ask for the run to be cancelled: what waits is cancelled, and nothing starts after.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        try:
            await self._handle.cancel()
        except RPCError as error:
            self._raise(error)

    async def _decide(self, requirement: Target, verdict: str, by: str, reason: str | None) -> DecisionResult:
        body: dict[str, JsonValue] = {"id": _id(requirement), "by": by, "verdict": verdict}
        if reason is not None:
            body["reason"] = reason
        return await self._ask(protocol.DECIDE, body)

    async def _ask(self, update: str, body: Mapping[str, JsonValue]) -> DecisionResult:
        try:
            sent = _bounded(body)
            # Not `rpc_timeout`: the SDK tries again after it, and takes about twice as long.
            async with asyncio.timeout(ANSWER_TIMEOUT.total_seconds()):
                return await self._updated(update, sent)
        except TimeoutError as error:
            # The server keeps the update in memory, and hands it to a worker that comes up later.
            message = f"no worker answered for run {self.id!r}; the decision may still count once one runs"
            raise NoWorkerError(message) from error

    async def _updated(self, update: str, body: Mapping[str, JsonValue]) -> DecisionResult:
        try:
            result: DecisionResult = await self._handle.execute_update(update, dict(body), result_type=DecisionResult)
        except WorkflowUpdateFailedError as error:
            raise _refused(error.cause) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # The SDK's words for both: the caller was cancelled.
                raise asyncio.CancelledError from error
            raise TimeoutError from error
        except RPCError as error:
            if _has_ended(error):
                return DecisionResult(status="late", detail="the run has ended")
            self._raise(error)
        return result

    async def history(self) -> WorkflowHistory:
        """The run's history as Temporal keeps it: the record that everything else is read from.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        try:
            return await self._handle.fetch_history()
        except RPCError as error:
            self._raise(error)

    async def description(self) -> WorkflowExecutionDescription:
        """What the server itself says of the run: status, memo, and the activities and workflow task under way.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        try:
            return await self._handle.describe()
        except RPCError as error:
            self._raise(error)

    # -- the history --------------------------------------------------------------------------------------------------

    async def _read(self) -> Run:
        """The run as its history and, should the server have ended it by itself, its description tell it."""
        description = await self.description()
        return _closed(await self._fold(), description)

    async def _fold(self) -> Run:
        follower = Follower(self.id)
        async for page in self._pages(wait=False):
            for _ in follower.feed(page):
                pass
        return follower.run

    async def _pages(self, *, wait: bool) -> AsyncIterator[list[HistoryEvent]]:
        iterator = self._handle.fetch_history_events(wait_new_event=wait, skip_archival=True)
        try:
            while True:
                await iterator.fetch_next_page()
                page = list(iterator.current_page or ())
                self._check_type(page)
                yield page
                if not iterator.next_page_token:
                    return
        except RPCError as error:
            self._raise(error)

    def _check_type(self, page: list[HistoryEvent]) -> None:
        started = page[0].workflow_execution_started_event_attributes.workflow_type.name if page else ""
        if started and started != protocol.WORKFLOW:
            message = f"workflow {self.id!r} is of type {started!r}, not a run of Assent"
            raise HistoryError(message)

    def _raise(self, error: RPCError) -> NoReturn:
        if error.status == RPCStatusCode.NOT_FOUND:
            ended = " that is still running" if _has_ended(error) else ""
            message = f"there is no run {self.id!r}{ended} in namespace {self._client.namespace!r}"
            raise RunNotFoundError(message) from error
        if error.status == RPCStatusCode.RESOURCE_EXHAUSTED:
            message = f"too many decisions wait for a worker of run {self.id!r} already: {error.message}"
            raise NoWorkerError(message) from error
        if error.status in {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED}:
            message = f"the Temporal server does not answer: {error.message}"
            raise ServerUnreachableError(message) from error
        if error.status == RPCStatusCode.INVALID_ARGUMENT:
            raise MessageError(error.message) from error
        raise error


_JSON: Final[TypeAdapter[object]] = TypeAdapter(object)


def _json(value: object) -> JsonValue:
    try:
        plain: JsonValue = _JSON.dump_python(value, mode="json")
    except (ValueError, PydanticSerializationError) as error:
        message = f"the output is not JSON: {error}"
        raise MessageError(message) from None
    return plain


def _id(target: Target) -> str:
    return target if isinstance(target, str) else target.id


def _closed(run: Run, description: WorkflowExecutionDescription) -> Run:
    """*run*, read after *description*: failed where the server closed it by itself (terminated, timed out)."""
    named = run if run.id else replace(run, id=description.id)
    at = description.close_time
    if run.ended or at is None or description.status is None:
        return named
    requirements = tuple(cancel(requirement, at) for requirement in run.requirements)
    failure = Failure("Closed", _how_it_closed(description))
    return replace(named, status="failed", requirements=requirements, failure=failure)


def _how_it_closed(description: WorkflowExecutionDescription) -> str:
    how = description.status.name.replace("_", " ").lower() if description.status else "nobody knows how"
    return f"the server closed the run: {how}"


def _bounded(body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """*body*, unless it is too large: an update of over 2 MiB is let in by the server, and wedges the run for ever."""
    try:
        size = len(canonical(dict(body)))
        to_json(body)
    except (ValueError, PydanticSerializationError) as error:
        message = f"the message is not JSON that can be sent: {error}"
        raise MessageError(message) from None
    if size > MESSAGE_LIMIT:
        message = f"the message is {size} bytes long; it may be {MESSAGE_LIMIT}"
        raise MessageError(message)
    return dict(body)


def _has_ended(error: RPCError) -> bool:
    """Whether the run had ended, or ended while it was asked: both are told as `NOT_FOUND`."""
    ended = "already completed" in error.message or "aborted by closing workflow" in error.message
    return error.status == RPCStatusCode.NOT_FOUND and ended


def _refused(cause: BaseException) -> Exception:
    if isinstance(cause, ApplicationError) and cause.type == "RequirementNotFoundError":
        return RequirementNotFoundError(cause.message)
    return MessageError(cause.message if isinstance(cause, ApplicationError) else str(cause))


def _run_failed(run_id: str, cause: BaseException) -> RunFailedError:
    if isinstance(cause, ApplicationError):
        return RunFailedError(f"run {run_id!r} failed: {cause.message}", kind=cause.type or "Error")
    if isinstance(cause, CancelledError):
        return RunFailedError(f"run {run_id!r} was cancelled", kind="Cancelled")
    if isinstance(cause, TerminatedError):
        return RunFailedError(f"run {run_id!r} was terminated: {cause.message}", kind="Terminated")
    return RunFailedError(f"run {run_id!r} ended without a result: {cause}", kind=type(cause).__name__)
