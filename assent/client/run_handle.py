"""One run, from outside: its state, its decisions, its end. Each method is one call on the wire.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from pydantic import JsonValue
from temporalio.client import WorkflowExecutionDescription, WorkflowFailureError, WorkflowHistory
from temporalio.service import RPCError

from assent.audit.approval import Approval, approvals_of
from assent.audit.auditor import Auditor
from assent.audit.checks import Verification
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.client.asking import Asked
from assent.client.live_text import with_live_text
from assent.client.pauses import Resting
from assent.client.read import as_meant, follower_of, how_it_closed, read
from assent.client.rpc import run_failed
from assent.client.run_tree import Branch, elsewhere, read_tree
from assent.client.updates import Deciding, message_of, verb_of
from assent.core.state_machine import Run, state_of
from assent.history import pages
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import Missing, Page
from assent.views.run_events import RunEvent, describe
from assent.wire import protocol
from assent.wire.errors import DecisionError, HistoryError, RequirementNotFoundError
from assent.wire.protocol import DecisionResult, RunResult
from assent.wire.requirements import Requirement, RunState

_RESET: Final = "the run was reset: it goes on in another execution, from an earlier point; watch it anew"


class Waiting(NamedTuple):
    """A requirement that waits, and the run that it waits in: it can be decided there alone.

    *path* are the agents from the outermost one down to the one that asks.
    """

    run: RunHandle
    requirement: Requirement
    path: tuple[str, ...]


class RunHandle(Deciding):
    """A run, by its id (the workflow id). Made by `AgentClient`; holds no connection of its own.

    State, records and events are read from the run's history, so they need no worker; decisions are answered by one.
    """

    # -- reading ------------------------------------------------------------------------------------------------------

    async def state(self) -> RunState:
        """The run as it is now, folded from its history; needs no worker. What no worker has handled yet is not in it.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.
        """
        return state_of(await self._read())

    def other(self, run_id: str) -> RunHandle:
        """Another run, over the same connection."""
        return RunHandle(self._client, run_id)

    async def approvals(self) -> list[Approval]:
        """The record of each requirement of the run, pending ones included, from its newest execution.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.
        """
        return approvals_of(await self._read())

    async def audit(self, observer: AuditObserver | None = None) -> Audit:
        """The audit of the run: a record of each requirement, and all else there is to tell, from its whole history.

        From its first execution to its last, without a worker. *observer* looks on, to check it
        (`assent.audit.verifier`).

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent, or its history cannot be read.
        """
        auditor = Auditor(self.id, observer)
        async for page in self._chain():
            auditor.add(page)
        return auditor.audit()

    async def verify(self) -> Verification:
        """What the checks of the run's audit come to: its history whole, the rules followed, nothing run undecided.

        Raises as `audit`.
        """
        verifier = Verifier(self.id)
        return verifier.verification(await self.audit(verifier))

    async def until_paused(self) -> RunState:
        """The run's state once nothing of it moves until somebody decides, or says something to an idle conversation.

        Or once it has ended. Where it waits for runs below it, of other agents, that is once none of those moves
        either: its own status is `running` then, `children` names those runs, and `waiting` has what waits in them.
        Waits on the history, which costs the run nothing.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the history of one of them cannot be read.
        """
        resting = Resting(self._client, self.id, (await self.description()).run_id or "")
        async with aclosing(resting.happenings()) as pages:
            async for _ in pages:
                # A decision that is sent and not handled yet will move it; what was read so far is the pause before.
                if await resting.is_reached():
                    break
        return await self._resting(resting.run)

    async def waiting(self) -> list[Waiting]:
        """Everything that waits in the run and in the runs below it, each with the run at which it is decided.

        The runs as they were at one moment, read from their histories; needs no worker.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the history of one of them cannot be read.
        """
        found: list[Waiting] = []
        for branch in (await self.tree()).runs():
            if branch.error is not None:
                raise HistoryError(branch.error)
            run = self if branch.state.id == self.id else self.other(branch.state.id)
            found += [Waiting(run, each, branch.path) for each in branch.state.active_requirements]
        return found

    async def tree(self) -> Branch:
        """The run with the runs below it that it waits for, as they were at one moment; needs no worker.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.
        """
        return await read_tree(self._client, self.id, self._handle.run_id)

    async def ask(self, content: str, *, by: str) -> RunState:
        """Send a message, and wait for the answer to it: the first that the model gave once it had been told.

        That is the state's `content`, also where others talk to the run at the same time. Where the run waits for a
        person before there is an answer, it is the state that waits; where it ended, the state that it ended in.
        To give up waiting takes nothing back.

        Raises:
            MessageError: *content* or *by* is empty or too long; or the message did not count, since the conversation
                is being closed, or too much waits for the model.
            RunNotFoundError: there is no run of this id, or it has ended.
        """
        body = message_of(content, by)
        before = await self.description()
        await self.send(protocol.SEND_MESSAGE, body)
        asked = Asked(body, before.run_id or "", before.history_length)
        resting = Resting(self._client, self.id, asked.execution_id)
        async with aclosing(resting.happenings()) as pages:
            async for page in pages:
                for execution_id, happening in page:
                    if (run := asked.answer(execution_id, happening)) is not None:
                        return state_of(run)
                if asked.handled and await resting.is_reached():
                    break
        return await self._resting(resting.run)

    async def _resting(self, run: Run) -> RunState:
        if run.ended or (await self.description()).close_time is None:
            return state_of(run)
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
            elif description.run_id != told.execution_id:
                yield RunEvent(kind="failed", at=description.start_time, text=_RESET)

    async def happenings(self, *, wait: bool = False) -> AsyncIterator[Transition]:
        """What happened in the run, as the core that decides it saw it; with *wait* to its end, as it happens.

        From the first execution of the run that there still is, on through those that it continued in as new.

        Raises:
            RunNotFoundError: there is no run of this id.
        """
        follower = HistoryFold(self.id)
        async for page in self._followed() if wait else self._chain():
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

    async def _answered(self, update: str, body: Mapping[str, JsonValue]) -> DecisionResult:
        try:
            return await super()._answered(update, body)
        except RequirementNotFoundError as error:
            told = elsewhere(await self.tree(), str(body["id"]), verb_of(body))
            if told is None:
                raise
            raise RequirementNotFoundError(told) from error

    # -- the server's own record ---------------------------------------------------------------------------------------

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
        run, _ = await read(self._client, self.id, await self.description())
        return run

    async def _followed(self) -> AsyncIterator[Page]:
        """The history as it grows, from the first execution."""
        execution_id = (await self.description()).run_id
        with as_meant(self._client, self.id):
            async for page in pages.following(self._client, self.id, execution_id, whole=True):
                yield page

    async def _chain(self) -> AsyncIterator[Page | Missing]:
        """The whole history as it is now."""
        execution_id = (await self.description()).run_id
        with as_meant(self._client, self.id):
            async for page in pages.chain(self._client, self.id, execution_id):
                yield page


async def decide_all(
    run: RunHandle, state: RunState, *, approved: bool, by: str, reason: str | None = None
) -> RunHandle:
    """Decide everything that *state* of *run* shows as waiting for a confirmation; see `AgentClient.resume`."""
    results: list[DecisionResult] = []
    for requirement in state.active_requirements:
        try:
            if approved:
                results.append(await run.approve(requirement, by=by, reason=reason))
            else:
                results.append(await run.reject(requirement, by=by, reason=reason or "not approved"))
        except RequirementNotFoundError as error:
            results.append(DecisionResult(status="unknown", tool=requirement.tool, detail=str(error)))
    wrong = [result for result in results if result.status not in {"approved", "rejected", "recorded", "duplicate"}]
    if wrong:
        told = "; ".join(f"{result.tool}: {result.status}: {result.detail}" for result in wrong)
        message = f"run {run.id!r} was not resumed as asked: {told}"
        raise DecisionError(message)
    return run
