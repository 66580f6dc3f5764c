"""One run, from outside: its state, its decisions, its end. Each method is one call on the wire.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final, NoReturn

from pydantic import JsonValue
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHistory,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError

from assent import chain, protocol
from assent.answers import as_json, has_ended, meant, refused, run_failed, sendable
from assent.approvals import cancel
from assent.audit import Audit
from assent.auditor import Auditor
from assent.chain import Missing, Page
from assent.errors import (
    NoWorkerError,
)
from assent.events import Failure
from assent.history import Follower, Happening
from assent.inbound import Remember
from assent.protocol import DecisionResult, RunResult
from assent.records import Approval, approvals_of
from assent.requirements import Grant, PendingRequirement, Requirement, RunState
from assent.run import Run, state_of
from assent.streaming import with_live_text
from assent.watching import RunEvent, describe
from assent.witness import Witness

ANSWER_TIMEOUT: Final = timedelta(seconds=10)
"""How long a decision waits for a worker's answer."""

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

    async def approvals(self) -> list[Approval]:
        """The record of each requirement of the run, pending ones included, from its newest execution.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.
        """
        return approvals_of(await self._read())

    async def audit(self, witness: Witness | None = None) -> Audit:
        """The audit of the run: a record of each requirement, and all else there is to tell, from its whole history.

        From its first execution to its last, without a worker. *witness* looks on, to check it (`assent.verification`).

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent, or its history cannot be read.
        """
        auditor = Auditor(self.id, witness)
        async for page in self._chain():
            auditor.add(page)
        return auditor.audit()

    async def until_paused(self) -> RunState:
        """The run's state once nothing of it moves until somebody decides, or once it has ended.

        Waits on the history, which costs the run nothing.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        follower = Follower(self.id)
        async for page in self._followed(whole=False):
            follower = follower_of(follower, page)
            for _ in follower.feed(page.events):
                pass
            # A decision that is sent and not handled yet will move it; what was read so far is the pause before.
            moving = follower.run.status == "running" or follower.run.checks or follower.unread
            if follower.run.ended or not moving:
                break
        if follower.run.ended or (await self.description()).close_time is None:
            return state_of(follower.run)
        return await self.state()

    def watch(self) -> AsyncIterator[RunEvent]:
        """What happens in the run, from its beginning to its end, as it happens; and a model's words as they come.

        A long poll on the history: no load on the run, and no event added to it.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        return with_live_text(self._events(), self.description)

    async def _events(self) -> AsyncGenerator[RunEvent]:
        told = Run()
        async for happening in self.happenings(wait=True):
            for event in describe(happening.event, happening.before if happening.before.id else told, happening.step):
                yield event
            told = happening.step.run
        if not told.ended:
            description = await self.description()
            if description.close_time is not None:
                yield RunEvent(kind="failed", at=description.close_time, text=how_it_closed(description))

    async def happenings(self, *, wait: bool = False) -> AsyncIterator[Happening]:
        """What happened in the run, as the core that decides it saw it; with *wait* to its end, as it happens.

        From the first execution of the run that there still is, on through those that it continued in as new.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        follower = Follower(self.id)
        async for page in self._followed(whole=True) if wait else self._chain():
            if isinstance(page, Missing):
                continue
            follower = follower_of(follower, page)
            for happening in follower.feed(page.events):
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
            raise run_failed(self.id, error.cause) from error
        except RPCError as error:
            self._raise(error)
        return result

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def approve(
        self,
        requirement: Target,
        *,
        by: str,
        reason: str | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
        remember: Remember | None = None,
    ) -> DecisionResult:
        """Approve a call that waits. *requirement* is one, a record of one, an id, or a unique prefix of an id.

        *arguments* run in the place of the model's, which is told so; *remember* lets further calls of the tool go
        ahead, within its bounds. Of a requirement of kind `outcome` it says: run the call again.

        Raises:
            MessageError: *by* is empty, or *remember* has no bound.
            RequirementNotFoundError: nothing, or more than one thing, has the id.
            NoWorkerError: no worker answered; whether the decision will count is not known. `send` needs none.
            RunNotFoundError: there is no run of this id.
        """
        more: dict[str, JsonValue] = {}
        if arguments is not None:
            more["arguments"] = dict(arguments)
        if remember is not None:
            more["remember"] = remember.model_dump(mode="json", exclude_unset=True)
        return await self._decide(requirement, "approve", by, reason, more)

    async def reject(self, requirement: Target, *, by: str, reason: str) -> DecisionResult:
        """Reject a call that waits; *reason* is what the model is told. Raises as `approve`."""
        return await self._decide(requirement, "reject", by, reason)

    async def submit_result(
        self,
        requirement: Target,
        *,
        by: str,
        output: object = None,
        error: str | None = None,
        evidence: object = None,
    ) -> DecisionResult:
        """Hand in the result of a call that was made elsewhere, or the *error* it ended in. Raises as `approve`.

        *evidence* is kept with it: a link, a ticket. Of a requirement of kind `outcome` it says: this came of it.
        """
        body: dict[str, JsonValue] = {"id": _id(requirement), "by": by}
        body |= {"error": error} if error is not None else {"output": as_json(output)}
        if evidence is not None:
            body["evidence"] = as_json(evidence)
        return await self._ask(protocol.DELIVER, body)

    async def submit_input(self, requirement: Target, *, by: str, values: Mapping[str, JsonValue]) -> DecisionResult:
        """Fill in what a tool asks of a person. Raises as `approve`."""
        return await self._ask(protocol.DELIVER, {"id": _id(requirement), "by": by, "values": dict(values)})

    async def revoke(self, grant: Grant | str, *, by: str, reason: str | None = None) -> DecisionResult:
        """End an approval that was remembered: further calls are asked about again. Raises as `approve`."""
        return await self._decide(grant, "revoke", by, reason)

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
            await self._handle.signal(signal, sendable(body))
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

    async def _decide(
        self,
        target: Target | Grant,
        verdict: str,
        by: str,
        reason: str | None,
        more: Mapping[str, JsonValue] | None = None,
    ) -> DecisionResult:
        body: dict[str, JsonValue] = {"id": _id(target), "by": by, "verdict": verdict, **(more or {})}
        if reason is not None:
            body["reason"] = reason
        return await self._ask(protocol.DECIDE, body)

    async def _ask(self, update: str, body: Mapping[str, JsonValue]) -> DecisionResult:
        try:
            sent = sendable(body)
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
            raise refused(error.cause) from error
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # The SDK's words for both: the caller was cancelled.
                raise asyncio.CancelledError from error
            raise TimeoutError from error
        except RPCError as error:
            if has_ended(error):
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
        return _closed(await self._fold(description.run_id), description)

    async def _fold(self, execution_id: str) -> Run:
        # After a workflow reset the history begins with the id of the execution that was reset.
        follower = Follower(self.id, execution_id)
        try:
            async for page in chain.pages(self._client, self.id, execution_id):
                for _ in follower.feed(page.events):
                    pass
        except RPCError as error:
            self._raise(error)
        return follower.run

    async def _followed(self, *, whole: bool) -> AsyncIterator[Page]:
        """The history as it grows; with *whole* from the run's first execution, else from the newest."""
        execution_id = (await self.description()).run_id
        try:
            async for page in chain.following(self._client, self.id, execution_id, whole=whole):
                yield page
        except RPCError as error:
            self._raise(error)

    async def _chain(self) -> AsyncIterator[Page | Missing]:
        """The whole history as it is now."""
        execution_id = (await self.description()).run_id
        try:
            async for page in chain.chain(self._client, self.id, execution_id):
                yield page
        except RPCError as error:
            self._raise(error)

    def _raise(self, error: RPCError) -> NoReturn:
        told = meant(error, self.id, self._client.namespace)
        raise told from (None if told is error else error)


def follower_of(follower: Follower, page: Page) -> Follower:
    """Whoever folds this page: another for each execution, which begins with what the one before carried over."""
    return follower if follower.run_id == page.execution_id else Follower(follower.workflow_id, page.execution_id)


def _id(target: Target | Grant) -> str:
    return target if isinstance(target, str) else target.id


def _closed(run: Run, description: WorkflowExecutionDescription) -> Run:
    """*run*, read after *description*: failed where the server closed it by itself (terminated, timed out)."""
    named = run if run.id else replace(run, id=description.id)
    at = description.close_time
    if run.ended or at is None or description.status is None:
        return named
    requirements = tuple(cancel(requirement, at) for requirement in run.requirements)
    failure = Failure("Closed", how_it_closed(description))
    return replace(named, status="failed", requirements=requirements, failure=failure)


def how_it_closed(description: WorkflowExecutionDescription) -> str:
    """What is said of a run that the server closed by itself: terminated, timed out."""
    how = description.status.name.replace("_", " ").lower() if description.status else "nobody knows how"
    return f"the server closed the run: {how}"
