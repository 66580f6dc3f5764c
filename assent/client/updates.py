"""What people send to a run: decisions, results, messages. Each method is one call on the wire.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NoReturn

from pydantic import JsonValue
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

from assent.audit.approval import Approval
from assent.client.large import in_turn
from assent.client.rpc import as_json, has_ended, meant, refused, sendable
from assent.wire import protocol
from assent.wire.errors import NoWorkerError
from assent.wire.inbound import Remember
from assent.wire.messages import read
from assent.wire.protocol import DecisionResult
from assent.wire.requirements import Grant, PendingRequirement, Requirement

ANSWER_TIMEOUT: Final = timedelta(seconds=10)
"""How long a decision waits for a worker's answer."""

Target = Requirement | PendingRequirement | Approval | str


class Deciding:
    """The half of `RunHandle` that sends."""

    def __init__(self, client: Client, run_id: str, *, execution_id: str | None = None) -> None:
        """*execution_id* fixes one execution of the workflow id; None is the newest."""
        self.id = run_id
        self._client = client
        self._handle = client.get_workflow_handle(run_id, run_id=execution_id)

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
        return await self._answered(protocol.DELIVER, body)

    async def submit_input(self, requirement: Target, *, by: str, values: Mapping[str, JsonValue]) -> DecisionResult:
        """Fill in what a tool asks of a person. Raises as `approve`."""
        return await self._answered(protocol.DELIVER, {"id": _id(requirement), "by": by, "values": dict(values)})

    async def revoke(self, grant: Grant | str, *, by: str, reason: str | None = None) -> DecisionResult:
        """End an approval that was remembered: further calls are asked about again. Raises as `approve`."""
        return await self._decide(grant, "revoke", by, reason)

    async def send_message(self, content: str, *, by: str) -> None:
        """Tell the model something more; it reads it with its next turn. Needs no worker.

        An idle conversation goes on with it; its answer is what `RunHandle.ask` waits for.

        Raises:
            MessageError: *content* or *by* is empty or too long.
            RunNotFoundError: there is no run of this id, or it has ended.
        """
        await self.send(protocol.SEND_MESSAGE, message_of(content, by))

    async def close(self, *, by: str, reason: str | None = None) -> None:
        """End a conversation: at once where it is idle, else with the answer that is under way. Needs no worker.

        Raises:
            MessageError: *by* is empty or too long.
            RunNotFoundError: there is no run of this id, or it has ended.
        """
        body: dict[str, JsonValue] = {"by": by} if reason is None else {"by": by, "reason": reason}
        read(protocol.CLOSE, [body])
        await self.send(protocol.CLOSE, body)

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
        return await self._answered(protocol.DECIDE, body)

    async def _answered(self, update: str, body: Mapping[str, JsonValue]) -> DecisionResult:
        sent = sendable(body)
        try:
            # Not `rpc_timeout`: the SDK tries again after it, and takes about twice as long.
            async with in_turn(self.id, sent), asyncio.timeout(ANSWER_TIMEOUT.total_seconds()):
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

    def _raise(self, error: RPCError) -> NoReturn:
        told = meant(error, self.id, self._client.namespace)
        raise told from (None if told is error else error)


def message_of(content: str, by: str) -> dict[str, JsonValue]:
    """The input of the signal `send_message`.

    Raises:
        MessageError: *content* or *by* is empty or too long.
    """
    body: dict[str, JsonValue] = {"content": content, "by": by}
    read(protocol.SEND_MESSAGE, [body])
    return body


def verb_of(body: Mapping[str, JsonValue]) -> str:
    """What the body of an update asks for, by the name of the signal that asks for the same."""
    verdict = body.get("verdict")
    if isinstance(verdict, str):
        return verdict
    return protocol.SUBMIT_INPUT if "values" in body else protocol.SUBMIT_RESULT


def _id(target: Target | Grant) -> str:
    return target if isinstance(target, str) else target.id
