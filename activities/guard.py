"""Guards the activities of others: what `execute_gated_activity` asks for runs here, once, and only as approved.

The activity itself is an ordinary one. In a run of Assent, its worker's interceptor reads from the run's own history
what was approved, before the activity begins. Its arguments and its result stay what its author made them.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from assent.agents.authorization import RESET, mismatch
from assent.runtime import tracing
from assent.runtime.converter import PLAIN, decoded
from assent.wire.errors import HistoryError
from assent.wire.proofs import stricter_level
from assent.wire.protocol import ToolCallInput, ToolOutcome
from assent.wire.text import bounded

from . import payload_limits
from .history_check import RequestedCall, requested_call
from .own_run import encoded, own_run, run_of_activity, with_client
from .parent_check import cancel_own_run, orphaned
from .proofs import Proofs
from .reset_check import opened_before_reset
from .run_tool import AGAIN, ERROR_LIMIT, ToolCalls, error_text, is_stopped_by_hand, once, was_started_before

_log = logging.getLogger(__name__)
_JSON: Final = b"json/plain"


class Guard(Interceptor):
    """The interceptor of a worker. *own* are the names of Assent's activities there, *theirs* of all others.

    Those that are *gated* run only in a run of Assent.
    """

    def __init__(
        self,
        client: Client,
        calls: ToolCalls,
        own: Collection[str],
        theirs: Collection[str],
        gated: Collection[str],
        *,
        trace_content: bool,
    ) -> None:
        """*client* is the worker's; *calls* answers for tools that the worker does not have."""
        self.client = client
        self.calls = calls
        self.own = frozenset(own)
        self.theirs = frozenset(theirs)
        self.gated = frozenset(gated)
        self.trace_content = trace_content

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Stand before the activity and before the worker's other interceptors."""
        return _GuardInterceptor(next, self)


@activity.defn(dynamic=True)
async def unknown_activity(arguments: Sequence[RawValue]) -> None:
    """Stand for the activities that a worker does not have, so that its `Guard` can answer for tools that are gone.

    To a workflow of another kind it answers as a worker without it: another worker may have the activity.
    """
    del arguments
    message = f"no activity named {activity.info().activity_type!r} is registered on this worker"
    raise ApplicationError(message, type="NotFoundError")


class _GuardInterceptor(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, guard: Guard) -> None:
        super().__init__(next)
        self._guard = guard

    async def execute_activity(self, input: ExecuteActivityInput) -> object:
        name, guard = activity.info().activity_type, self._guard
        tracing.with_content(switched_on=guard.trace_content)
        if name in guard.own:
            _ = own_run()  # Before the call: another workflow may give it any number of arguments.
            return await self._next(input)
        if run_of_activity() is None:
            if name in guard.gated:
                message = f"activity {name!r} runs only once people approved it: see execute_gated_activity"
                raise ApplicationError(message, type="NotApproved", non_retryable=True)
            return await self._next(input)
        if guard.calls.serves(name):
            return encoded(await self._of_server(name, input))
        if name not in guard.theirs:
            return encoded(self._missing(name, input))
        return encoded(await self._gated(name, input))

    async def _next(self, input: ExecuteActivityInput) -> object:
        result: object = await self.next.execute_activity(input)
        return result

    async def _of_server(self, name: str, input: ExecuteActivityInput) -> ToolOutcome:
        with_client(self._guard.client)
        [argument] = cast("Sequence[RawValue]", input.args[0])
        return await self._guard.calls.of_server(name, PLAIN.from_payload(argument.payload, ToolCallInput))

    def _missing(self, name: str, input: ExecuteActivityInput) -> ToolOutcome:
        agent = _agent_of(cast("Sequence[RawValue]", input.args[0] if input.args else ()))
        if agent is not None:
            return self._guard.calls.answer_missing_tool(agent)
        return _refuse_for_now(f"activity {name!r} is not served by the worker that was asked")

    async def _gated(self, name: str, input: ExecuteActivityInput) -> ToolOutcome:
        with_client(self._guard.client)
        try:
            requested = await requested_call()
        except (RPCError, HistoryError) as error:
            _log.error("activity %s of %s waits: %s", name, own_run().run_id, error)
            text = f"the history of the run cannot be read, which an approved call is checked against: {error}"
            return _refuse_for_now(bounded(text, ERROR_LIMIT))
        if requested is None or requested.command.tool != name or not requested.is_given:
            return ToolOutcome(refused="the history of the run does not ask for this call")
        if requested.command.attempts == 1 and was_started_before():
            raise once()
        try:
            refused = await _refusal(name, requested, self._guard.calls.proofs)
        except RPCError as error:
            return _refuse_for_now(f"it could not be checked: {error.message}")
        return refused or await self._run(requested, input)

    async def _run(self, requested: RequestedCall, input: ExecuteActivityInput) -> ToolOutcome:
        call = requested.command.input
        name, run_id = requested.command.tool, own_run().run_id
        try:
            with tracing.tool(name, call.agent, call.call_id, call.arguments, run_id):
                result = await self._next(input)
        except asyncio.CancelledError:
            if requested.command.attempts == 1 and is_stopped_by_hand():
                raise once() from None
            raise
        except Exception as error:
            if activity.info().attempt < requested.command.attempts:
                raise
            return ToolOutcome(error=error_text(error))
        [payload] = activity.payload_converter().to_payloads([result])
        return await payload_limits.of_output(_text(payload))


async def _refusal(name: str, requested: RequestedCall, proofs: Proofs) -> ToolOutcome | None:
    """Return why the activity may not run now; None if it may."""
    call = requested.command.input
    if (authorization := call.authorization) is None:
        return ToolOutcome(refused="no decision of a person lets this call run")
    problem = mismatch(name, call, authorization, run_id=own_run().run_id, now=datetime.now(UTC))
    if problem is not None:
        return ToolOutcome(refused=problem)
    if (unproven := proofs.problem(authorization, call.arguments, since=requested.since)) is not None:
        gate = requested.gate
        if gate is not None and (level := stricter_level(gate.proof, proofs.level)) is not None:
            gate = gate.model_copy(update={"proof": level})
        return ToolOutcome(refused=unproven, gate=gate, policy_version=authorization.policy_version)
    if (why := await orphaned(authorization.parent)) is not None:
        await cancel_own_run()
        return ToolOutcome(refused=why)
    if await opened_before_reset(authorization):
        return ToolOutcome(refused=RESET, gate=requested.gate, policy_version=authorization.policy_version)
    return None


def _agent_of(arguments: Sequence[RawValue]) -> str | None:
    """The agent that a call names; the input of an activity of another kind names none."""
    first = (*decoded(arguments), None)[0]
    agent = cast("dict[str, object]", first).get("agent") if isinstance(first, dict) else None
    return agent if isinstance(agent, str) else None


def _refuse_for_now(why: str) -> ToolOutcome:
    # Another worker of this task queue may have it: a rolling deployment, or two teams on one queue.
    return ToolOutcome(refused=why, again_after=AGAIN.total_seconds())


def _text(payload: Payload) -> str:
    """Return a result as JSON; what is no JSON has acted all the same, and is told by its encoding and size."""
    encoding = payload.metadata.get("encoding", b"")
    if encoding == b"binary/null":
        return "null"
    if encoding == _JSON or encoding.startswith(b"json/"):
        return payload.data.decode("utf-8", "replace")
    return f'"{len(payload.data)} bytes of {encoding.decode("ascii", "replace")}"'
