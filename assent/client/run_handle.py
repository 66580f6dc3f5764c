"""`RunHandle`: reads one run, and decides in it, from outside."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import JsonValue
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowFailureError, WorkflowHistory

from assent.audit.approval import Approval, approvals_of
from assent.audit.auditor import Auditor
from assent.audit.checks import Verification
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.client import signals
from assent.client.live_text import with_live_text
from assent.client.pauses import MessageReply, PauseWatcher
from assent.client.read import closing_status_text, describe_transition, fold_for, read, translate_errors
from assent.client.rpc import as_json, run_failed
from assent.client.run_tree import RunTree, read_tree
from assent.client.signals import ANSWER_WAIT
from assent.core.decision_proofs import statement_of
from assent.core.events import Started
from assent.core.run_state import Run, state_of
from assent.history import pages
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import MissingExecution, Page
from assent.history.resets import Reset, resets_of
from assent.views.run_events import RunEvent
from assent.wire import messages, protocol
from assent.wire.errors import DecisionError, HistoryError, MessageError
from assent.wire.messages import Close, Remember, Revoke, SendMessage
from assent.wire.parts import Part, content_json
from assent.wire.proofs import DecisionStatement, Proof, instant
from assent.wire.protocol import DecisionOutcome, RunResult
from assent.wire.requirements import Grant, Requirement, RunState

Target = Requirement | Approval | str
_RESET: Final = "the run was reset: it continues in another execution, from an earlier point; watch it again"


class RunHandle:
    """A run, by its id (the workflow id). Made by `AgentClient`; holds no connection of its own.

    State, records and events are read from the run's history and need no worker. A decision is a signal: sending it
    needs no worker, but it counts only once a worker has read it.
    """

    def __init__(self, client: Client, run_id: str, *, execution_id: str | None = None) -> None:
        """*execution_id* fixes one execution of the run; None is the newest."""
        self.id = run_id
        self._client = client
        self._handle = client.get_workflow_handle(run_id, run_id=execution_id)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def state(self) -> RunState:
        """Return the run as its history has it now; needs no worker. Messages that no worker has read are not in it.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.

        Example:
            `status = (await run.state()).status`
        """
        return state_of(await self._read())

    def other(self, run_id: str) -> RunHandle:
        """Return another run, over the same connection.

        Example:
            `child = run.other("ship-7.researcher-3fa9c2d1e0b4")`
        """
        return RunHandle(self._client, run_id)

    async def approvals(self) -> list[Approval]:
        """Return the record of each requirement of the run, pending ones included.

        Reads the newest execution, and earlier ones if it lacks a part of a record.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.

        Example:
            `records = await run.approvals()`
        """
        run = await self._read()
        if not (run.requirements_dropped or any(each.shortened for each in run.requirements)):
            return approvals_of(run)
        whole, before = dict[str, Requirement](), Run()
        async for transition in self.transitions(wait=False):
            if isinstance(transition.event, Started):
                whole |= {each.id: each for each in before.requirements if not each.shortened}
            before = transition.step.run
        newest = {each.id: whole.get(each.id, each) if each.shortened else each for each in run.requirements}
        return approvals_of(replace(run, requirements=tuple((whole | newest).values())))

    async def resets(self) -> list[Reset]:
        """Return the workflow resets that made the run's executions: who, when, why and from where; needs no worker.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `resets = await run.resets()`
        """
        return [each async for page in self._chain() if isinstance(page, Page) for each in resets_of(page.events)]

    async def fold(self) -> Run | None:
        """Return the run as the core keeps it, with what its model read and wrote; None until a worker has begun it.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `folded = await run.fold()`
        """
        folded = None
        async for transition in self.transitions():
            folded = transition.step.run
        return folded

    async def audit(self, observer: AuditObserver | None = None) -> Audit:
        """Return the audit of the run: the record of each requirement, and everything else, from its whole history.

        Needs no worker. *observer* gets each step (`assent.audit.verifier`).

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent, or its history cannot be read.

        Example:
            `records = (await run.audit()).records()`
        """
        auditor = Auditor(self.id, observer)
        async for page in self._chain():
            auditor.add(page)
        return auditor.audit()

    async def verify(self) -> Verification:
        """Check the run's audit: its history is whole, the rules were followed, nothing ran without its decision.

        Raises as `audit`.

        Example:
            `assert (await run.verify()).ok`
        """
        verifier = Verifier(self.id)
        return verifier.verification(await self.audit(verifier))

    async def until_paused(self) -> RunState:
        """Wait until the run waits for a person or for a message, or has ended; return its state then.

        The state's `status` is `waiting`, `idle` (a conversation), or a final one. A run that waits for its child runs
        is paused once they are paused too. Then its own status is `running`, `children` names them, and `pending()`
        returns what waits in them. It reads the history, which costs the run nothing.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the history of one of them cannot be read.

        Example:
            `state = await run.until_paused()`
        """
        pauses = PauseWatcher(self._client, self.id, (await self.description()).run_id or "")
        async with aclosing(pauses.transitions()) as pages:
            async for _ in pages:
                # A decision that was sent and not handled yet will move it: what was read so far is the pause before.
                if await pauses.is_reached():
                    break
        return await self._state_after(pauses.run)

    async def pending(self) -> list[Approval]:
        """Return what waits for a person in the run and in its child runs; each is decided in the run of its *run_id*.

        Needs no worker: the runs are read from their histories, as of one moment.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the history of one of them cannot be read.

        Example:
            `waiting = await run.pending()`
        """
        approvals: list[Approval] = []
        for branch in (await self.tree()).runs():
            if branch.error is not None:
                raise HistoryError(branch.error)
            approvals += branch.pending
        return approvals

    async def tree(self) -> RunTree:
        """Return the run with the child runs that it waits for, as they were at one moment; needs no worker.

        Raises:
            RunNotFoundError: there is no run of this id.
            HistoryError: the workflow of this id is not a run of Assent.

        Example:
            `children = (await run.tree()).children`
        """
        return await read_tree(self._client, self.id, self._handle.run_id)

    async def send_and_wait(self, content: str | Sequence[Part], *, by: str) -> RunState:
        """Send a message and wait for its answer: the model's first answer after it read the message.

        The answer is the `content` of the returned state, also if others send messages at the same time. If the run
        waits for a person or ends first, that state is returned. If you cancel the wait, the message stays sent.

        Raises:
            MessageError: *content* or *by* is empty, too long or does not fit; or the message did not count, since the
                conversation is being closed, or too much waits for the model.
            RunNotFoundError: there is no run of this id, or it has ended.

        Example:
            `answer = (await conversation.send_and_wait("Hello.", by="alice")).content`
        """
        body = message_of(content, by)
        before = await self.description()
        await self.send(protocol.SEND_MESSAGE, body)
        asked = MessageReply(body, before.run_id or "", before.history_length)
        pauses = PauseWatcher(self._client, self.id, asked.execution_id)
        async with aclosing(pauses.transitions()) as pages:
            async for page in pages:
                for execution_id, transition in page:
                    if (run := asked.answer(execution_id, transition)) is not None:
                        return state_of(run)
                if asked.handled and await pauses.is_reached():
                    break
        return await self._state_after(pauses.run)

    async def _state_after(self, run: Run) -> RunState:
        if run.ended or (await self.description()).close_time is None:
            return state_of(run)
        return await self.state()

    def watch(self) -> AsyncIterator[RunEvent]:
        """Yield what happens in the run, from its beginning to its end, and the model's text while it is written.

        It is a long poll on the history: it puts no load on the run, and adds no event.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `async for event in run.watch(): break`
        """
        return with_live_text(self._events(self._follow_pages()), self.description)

    async def events(self) -> list[RunEvent]:
        """Return what has happened in the run so far, from its beginning.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `kinds = [event.kind for event in await run.events()]`
        """
        return [event async for event in self._events(self._history_now())]

    async def _events(self, pages: AsyncIterator[Page]) -> AsyncGenerator[RunEvent]:
        before, fold = Run(), HistoryFold(self.id)
        async for page in pages:
            fold, resets = fold_for(fold, page), deque(resets_of(page.events))
            for transition in fold.add(page.events):
                while resets and resets[0].event_id < transition.source.event_id:
                    yield _reset_event(resets.popleft())
                for event in describe_transition(transition, before):
                    yield event
                before = transition.step.run
            for reset in resets:
                yield _reset_event(reset)
            if before.ended:
                return
        if not before.ended:
            description = await self.description()
            if description.close_time is not None:
                yield RunEvent(kind="failed", at=description.close_time, text=closing_status_text(description))
            elif description.run_id != before.execution_id:
                yield RunEvent(kind="failed", at=description.start_time, text=_RESET)

    async def transitions(self, *, wait: bool = False) -> AsyncIterator[Transition]:
        """Yield the steps of the core, from the first execution that still exists. With *wait*, until the run ends.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `steps = [each async for each in run.transitions()]`
        """
        fold = HistoryFold(self.id)
        async for page in self._follow_pages() if wait else self._history_now():
            fold = fold_for(fold, page)
            for transition in fold.add(page.events):
                yield transition
            if fold.run.ended:
                return

    async def result(self) -> RunResult:
        """Wait for the run's result.

        Raises:
            RunNotFoundError: there is no run of this id.
            RunFailedError: the run failed, or was cancelled, terminated or timed out.

        Example:
            `answer = (await finished.result()).content`
        """
        handle = self._client.get_workflow_handle(self.id, run_id=self._handle.run_id, result_type=RunResult)
        try:
            with translate_errors(self._client, self.id):
                result: RunResult = await handle.result()
        except WorkflowFailureError as error:
            raise run_failed(self.id, error.cause) from error
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
        proof: Proof | None = None,
        wait: timedelta = ANSWER_WAIT,
        check: bool = True,
    ) -> DecisionOutcome:
        """Approve a call that waits. *requirement* is one, a record of one, an id, or a unique prefix of an id.

        *arguments* replace the model's, and the model learns so. *remember* lets further calls of the tool run without
        asking, within its limits. For a requirement of kind `outcome`, approving runs the call again. *proof* is a
        signature of what `statement` gives, and shows who decides. Without it, *by* is a claim.

        The decision is durable as soon as it is sent. Its outcome is awaited for *wait*. If no worker has read it by
        then, the status is `sent`, and the decision counts once a worker runs. With `check=False`, a decision that did
        not count is returned and raises nothing.

        Raises:
            MessageError: *by* is empty, or *remember* has no bound; nothing was sent.
            RequirementNotFoundError: nothing, or more than one thing, has the id; nothing was sent.
            DecisionError: the decision did not count: it was refused, late or a duplicate. `outcome` says which.
            RunNotFoundError: there is no run of this id.
            ServerUnreachableError: the server does not answer.

        Example:
            `outcome = await run.approve(requirement, by="bob", arguments={"target": "test"})`
        """
        more: dict[str, JsonValue] = {}
        if arguments is not None:
            more["arguments"] = dict(arguments)
        body = {**_body(requirement, by, reason, remember, proof), **more}
        return await self.decide(protocol.APPROVE, body, wait=wait, check=check)

    async def reject(
        self,
        requirement: Target,
        *,
        by: str,
        reason: str,
        remember: Remember | None = None,
        proof: Proof | None = None,
        wait: timedelta = ANSWER_WAIT,
        check: bool = True,
    ) -> DecisionOutcome:
        """Reject a call that waits. The model gets the *reason*. Otherwise as `approve`.

        *remember* rejects further calls of the tool without asking, within its limits.

        Example:
            `await run.reject(requirement, by="bob", reason="not on a Friday")`
        """
        body = _body(requirement, by, reason, remember, proof)
        return await self.decide(protocol.REJECT, body, wait=wait, check=check)

    async def submit_result(
        self,
        requirement: Target,
        *,
        by: str,
        output: object = None,
        error: str | None = None,
        evidence: object = None,
        proof: Proof | None = None,
        wait: timedelta = ANSWER_WAIT,
        check: bool = True,
    ) -> DecisionOutcome:
        """Send the result of a call that another system made, or its *error*. Otherwise as `approve`.

        The record keeps *evidence*: a link, a ticket. For a requirement of kind `outcome`, this is the result of the
        call.

        Example:
            `await external.submit_result(order, by="bureau", output={"score": 610})`
        """
        body = _body(requirement, by, proof=proof)
        body |= {"error": error} if error is not None else {"output": as_json(output)}
        if evidence is not None:
            body["evidence"] = as_json(evidence)
        return await self.decide(protocol.SUBMIT_RESULT, body, wait=wait, check=check)

    async def submit_input(
        self,
        requirement: Target,
        *,
        by: str,
        values: Mapping[str, JsonValue],
        proof: Proof | None = None,
        wait: timedelta = ANSWER_WAIT,
        check: bool = True,
    ) -> DecisionOutcome:
        """Fill in the values that a tool needs from a person. Otherwise as `approve`.

        Example:
            `await asking.submit_input(question, by="bob", values={"seat": "window"})`
        """
        body = {**_body(requirement, by, proof=proof), "values": dict(values)}
        return await self.decide(protocol.SUBMIT_INPUT, body, wait=wait, check=check)

    async def revoke(
        self,
        grant: Grant | str,
        *,
        by: str,
        reason: str | None = None,
        proof: Proof | None = None,
        wait: timedelta = ANSWER_WAIT,
        check: bool = True,
    ) -> DecisionOutcome:
        """End a grant: people are asked about further calls again. Otherwise as `approve`.

        Example:
            `await granted.revoke(grant, by="bob")`
        """
        return await self.decide(protocol.REVOKE, _body(grant, by, reason, proof=proof), wait=wait, check=check)

    async def decide(
        self, signal: str, body: Mapping[str, JsonValue], *, wait: timedelta = ANSWER_WAIT, check: bool = True
    ) -> DecisionOutcome:
        """Send the signal of this wire name with this JSON body, and read its outcome. Otherwise as `approve`.

        Example:
            `await run.decide("approve", {"id": requirement.id, "by": "bob"})`
        """
        outcome = await signals.decide(self._client, self.id, signal, body, wait)
        if check and not outcome.counted:
            what = f"{outcome.tool} {(outcome.grant or outcome.requirement_id or '')[:8]}" if outcome.tool else signal
            raise DecisionError(f"{what} in run {self.id!r}: {outcome.status}: {outcome.detail}", outcome)
        return outcome

    async def statement(
        self, signal: str, body: Mapping[str, JsonValue], *, valid_for: timedelta = timedelta(minutes=10)
    ) -> DecisionStatement:
        """Return what is signed to prove who sends this message: `signed_bytes()`, or `challenge` with a passkey.

        *signal* and *body* are those of `decide`. Send the proof with them, as *proof*, with the times of the
        statement. It counts for *valid_for*, at most 7 days.

        Raises:
            MessageError: the body does not fit, or has a number that cannot be signed.
            RequirementNotFoundError: nothing, or more than one thing, has its id.
            RunNotFoundError: there is no run of this id.

        Example:
            `statement = await run.statement("approve", {"id": requirement.id, "by": "bob"})`
        """
        message = messages.read(signal, [body])
        if isinstance(message, SendMessage | Close):
            raise MessageError(f"{signal} is not a decision, so it takes no proof")
        state = await self.state()
        if isinstance(message, Revoke):
            target: Requirement | Grant = signals.locate_grant(state, message.id)
        else:
            target = await self.locate(message.id, signal, state)
        now = datetime.now(UTC)
        try:
            return statement_of(
                message,
                namespace=self._client.namespace,
                run_id=self.id,
                execution_id=state.first_execution_id,
                tool=target.tool,
                requirement_id=target.id,
                issued_at=instant(now),
                expires_at=instant(now + valid_for),
            )
        except ValueError as error:
            raise MessageError(f"it cannot be signed: {error}") from None

    async def locate(self, wanted: str, signal: str, state: RunState | None = None) -> Requirement:
        """Return the requirement that an id, or a unique prefix of one, names. *state* spares reading the run again.

        Raises:
            RequirementNotFoundError: none, or more than one. If it is one of a child run, the message names the
                command that sends *signal* there.
            RunNotFoundError: there is no run of this id.

        Example:
            `requirement = await run.locate(requirement.short_id, "approve")`
        """
        return await signals.find_requirement_of_run(self._client, state or await self.state(), wanted, signal)

    async def send_message(self, content: str | Sequence[Part], *, by: str) -> None:
        """Send the model a message, which it reads with its next turn. Needs no worker.

        *content* is text, or a list of text, images and files, as the *input* of `AgentClient.start`.

        An idle conversation continues with it. `send_and_wait` also waits for the answer. A message that is sent again
        is read twice.

        Raises:
            MessageError: *content* or *by* is empty, too long or does not fit.
            RunNotFoundError: there is no run of this id, or it has ended.

        Example:
            `await run.send_message("Use the blue cluster.", by="alice")`
        """
        await self.send(protocol.SEND_MESSAGE, message_of(content, by))

    async def close(self, *, by: str, reason: str | None = None) -> None:
        """End a conversation: at once if it is idle, otherwise with the answer in progress. Needs no worker.

        Raises:
            MessageError: *by* is empty or too long.
            RunNotFoundError: there is no run of this id, or it has ended.

        Example:
            `await conversation.close(by="alice")`
        """
        body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
        messages.read(protocol.CLOSE, [body])
        await self.send(protocol.CLOSE, body)

    async def send(self, signal: str, body: Mapping[str, JsonValue]) -> None:
        """Send a signal by its wire name. The server keeps it, also without a worker. There is no answer.

        Raises:
            MessageError: the body is no JSON, or too large.
            RunNotFoundError: there is no run of this id, or it has ended.
            ServerUnreachableError: the server does not answer.

        Example:
            `await run.send("approve", {"id": requirement.id, "by": "bob"})`
        """
        await signals.send(self._client, self.id, signal, body)

    async def cancel(self) -> None:
        """Request the run's cancellation. What waits is cancelled, and nothing starts afterwards.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `await run.cancel()`
        """
        with translate_errors(self._client, self.id):
            await self._handle.cancel()

    # -- the server's own record ---------------------------------------------------------------------------------------

    async def history(self) -> WorkflowHistory:
        """Return the run's history as Temporal keeps it. All other methods read it.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `events = (await run.history()).events`
        """
        with translate_errors(self._client, self.id):
            return await self._handle.fetch_history()

    async def description(self) -> WorkflowExecutionDescription:
        """Return the server's description: status, memo, and the activities and workflow task under way.

        Raises:
            RunNotFoundError: there is no run of this id.

        Example:
            `queue = (await run.description()).task_queue`
        """
        with translate_errors(self._client, self.id):
            return await self._handle.describe()

    # -- the history --------------------------------------------------------------------------------------------------

    async def _read(self) -> Run:
        run, _ = await read(self._client, self.id, await self.description())
        return run

    async def _follow_pages(self) -> AsyncIterator[Page]:
        """Yield the history as it grows, from the first execution."""
        execution_id = (await self.description()).run_id
        with translate_errors(self._client, self.id):
            async for page in pages.follow(self._client, self.id, execution_id, whole=True):
                yield page

    async def _history_now(self) -> AsyncIterator[Page]:
        """Yield the history as it is now, without the executions that are gone."""
        async for page in self._chain():
            if not isinstance(page, MissingExecution):
                yield page

    async def _chain(self) -> AsyncIterator[Page | MissingExecution]:
        """Yield the whole history as it is now."""
        execution_id = (await self.description()).run_id
        with translate_errors(self._client, self.id):
            async for page in pages.chain(self._client, self.id, execution_id):
                yield page


def _reset_event(reset: Reset) -> RunEvent:
    return RunEvent(kind="reset", at=reset.at, text=reset.text)


def message_of(content: str | Sequence[Part], by: str) -> dict[str, JsonValue]:
    """Return the input of the signal `send_message`.

    Raises:
        MessageError: *content* or *by* is empty, too long or does not fit.
    """
    body: dict[str, JsonValue] = {"content": content_json(content), "by": by}
    messages.read(protocol.SEND_MESSAGE, [body])
    return body


def _body(
    target: Target | Grant,
    by: str,
    reason: str | None = None,
    remember: Remember | None = None,
    proof: Proof | None = None,
) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {"id": target if isinstance(target, str) else target.id, "by": by}
    body |= {} if reason is None else {"reason": reason}
    body |= {} if proof is None else {"proof": proof.model_dump(mode="json")}
    return body if remember is None else {**body, "remember": remember.model_dump(mode="json", exclude_unset=True)}
