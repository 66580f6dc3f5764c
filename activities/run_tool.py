"""The activities that run tools. Each checks again, as it runs, that what it is about to do was permitted."""

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from assent.agents.agent import Agent
from assent.agents.authorization import Refusal, ask_again, context_of, refusal, refuse_unapproved
from assent.agents.binding import TOOL_CHANGED, bound_values, input_problem
from assent.agents.gates import Gatekeeper
from assent.agents.mcp_question import question_gate
from assent.agents.mcp_server import ANSWER, definition_change
from assent.agents.tool import Target, Tool, ToolContext
from assent.core.tool_calls import CONNECTION_LOST
from assent.runtime import tracing
from assent.wire.errors import ArgumentsError, HistoryError
from assent.wire.limits import POLICIES_LIMIT
from assent.wire.parts import ServerText
from assent.wire.policy import combined
from assent.wire.protocol import Delegation, Handoff, ToolCallInput, ToolOutcome
from assent.wire.text import bounded, stack_text

from . import payload_limits
from .heartbeats import heartbeats
from .history_check import requested_call, requested_since
from .loop_watch import LoopWatch
from .mcp_errors import ConnectionLostError, QuestionError, ServerDownError
from .mcp_servers import McpServers
from .own_run import own_run
from .parent_check import cancel_own_run, orphaned
from .proofs import Proofs
from .reset_check import opened_before_reset
from .user_code import UserCode, gate_or_ask

_log = logging.getLogger(__name__)

AGAIN: Final = timedelta(minutes=1)
"""How long a call waits before it is tried again, that the worker which was asked does not serve."""
DOWN: Final = timedelta(seconds=5)
"""How long a call waits before it is tried again, whose MCP server cannot be reached; then twice as long, and so on."""
START_WAIT: Final = 10.0
"""Seconds that a sync tool waits for a free thread before its call is tried again later."""
ERROR_LIMIT: Final = 2_000
"""Characters of a tool's error that reach the model and the history."""


class NotStartedError(Exception):
    """A tool was not started, and will not be."""


class ToolCalls:
    """The tool calls of a worker's agents. Async tools run in the loop, sync ones in *threads*.

    What people decided about has the threads *decided*, so that tools without a gate cannot hold it up.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        threads: Executor,
        decided: Executor,
        users: UserCode,
        servers: McpServers,
        proofs: Proofs | None = None,
    ) -> None:
        self.proofs = proofs or Proofs()
        self._agents = agents
        self._threads = threads
        self._decided = decided
        self._users = users
        self._servers = servers
        self._watch = LoopWatch()

    def running(self, tool: Tool) -> Callable[[ToolCallInput], Coroutine[object, object, ToolOutcome]]:
        """Return the function that runs a call of *tool*."""

        async def run(call: ToolCallInput) -> ToolOutcome:
            # Before a tool, gates, groups and the server are asked: that may take a while too.
            async with heartbeats():
                return await self._run(tool.name, call)

        return run

    def serves(self, name: str) -> bool:
        """Whether an activity of this type is a tool of an MCP server of this worker."""
        return self._servers.serves(name)

    async def of_server(self, name: str, call: ToolCallInput) -> ToolOutcome:
        """Run a call of a tool of an MCP server: which tools these have, no worker knows when it starts."""
        async with heartbeats():
            return await self._run(name, call)

    def answer_missing_tool(self, agent: str | None) -> ToolOutcome:
        """Answer for a tool that this worker does not have: renamed or removed while its call waited, or another's."""
        name = activity.info().activity_type
        if agent is not None and agent not in self._agents:
            return _not_served(agent)
        return ToolOutcome(refused=f"there is no tool named {name!r} any more")

    async def _run(self, name: str, call: ToolCallInput) -> ToolOutcome:
        agent = self._agents.get(call.agent)
        if agent is None:
            return _not_served(call.agent)
        try:
            # A person decided on what the server said then, so it is asked what it says now.
            tool = await self._servers.tool(agent, name, fresh=call.authorization is not None)
        except ServerDownError as error:
            return _down(error)
        if tool is None:
            return ToolOutcome(refused=f"agent {call.agent!r} has no tool named {name!r} any more")
        if _runs_once(tool, call) and was_started_before():
            raise once()
        refused = await self._refusal(agent, tool, call)
        arguments = refused or await self._arguments(agent, tool, call)
        if not isinstance(arguments, ToolOutcome):
            return await self._attempt(tool, call, arguments)
        if not await payload_limits.fits(arguments):
            why = bounded(arguments.refused or "", ERROR_LIMIT)
            return ToolOutcome(refused=f"{why}; and its gate is too large to be kept")
        return arguments

    async def _refusal(self, agent: Agent, tool: Tool, call: ToolCallInput) -> ToolOutcome | None:
        """Return why the call may not run now; None if it may."""
        authorization = call.authorization
        if authorization is None:
            return await self._unapproved(agent, tool, call)
        if (refused := await self._asking(agent, _refusal_now, tool, call)) is not None:
            return refused
        try:
            since = await requested_since(tool.name, call)
        except (RPCError, HistoryError) as error:
            _log.error("call %s of %s waits: %s", call.call_id, own_run().run_id, error)
            text = f"the history of the run cannot be read, which an approved call is checked against: {error}"
            return ToolOutcome(refused=bounded(text, ERROR_LIMIT), again_after=AGAIN.total_seconds())
        if since is None:
            return ToolOutcome(refused="the history of the run does not ask for this call")
        if (why := self.proofs.problem(authorization, call.arguments, call.values, since=since)) is not None:
            return await self._asking(agent, functools.partial(ask_again, reason=why), tool, call)
        if (why := await orphaned(authorization.parent)) is not None:
            await cancel_own_run()
            return ToolOutcome(refused=why)
        if await opened_before_reset(authorization):
            return await self._asking(agent, ask_again, tool, call)
        return None

    async def _unapproved(self, agent: Agent, tool: Tool, call: ToolCallInput) -> ToolOutcome | None:
        """Return why a call without an approval may not run. Its recorded gate proves nothing, so it is asked again."""
        context = context_of(call, tool, own_run().run_id)
        keeper = self.proofs.gatekeeper(agent, call.policy)
        gate = await gate_or_ask(self._users, keeper, tool, context, call.arguments)
        return _outcome(agent, call, refuse_unapproved(gate, call))

    async def _asking(
        self, agent: Agent, question: Callable[..., Refusal | None], tool: Tool, call: ToolCallInput
    ) -> ToolOutcome | None:
        """Return the answer of *question*, for which types, gates and groups of the user's may be asked."""
        keeper = self.proofs.gatekeeper(agent, call.policy)
        work = functools.partial(question, tool, call, keeper, run_id=own_run().run_id)
        try:
            return _outcome(agent, call, await self._users.answer(work))
        except Exception as error:  # whatever users' code raises: the call has not started, and does not
            return ToolOutcome(refused=f"it could not be checked: {error_text(error)}")

    async def _arguments(self, agent: Agent, tool: Tool, call: ToolCallInput) -> dict[str, object] | ToolOutcome:
        """Return what the tool is called with; or why it is not, where that is not what was approved."""
        work = functools.partial(_arguments, tool, call, activity.info())
        try:
            arguments, changed = await self._users.answer(work) if tool.has_own_types else work()
        except ArgumentsError as error:
            return ToolOutcome(refused=str(error))
        except Exception as error:  # as above
            return ToolOutcome(refused=f"its arguments could not be checked: {error_text(error)}")
        if changed is None:
            return arguments
        if changed == TOOL_CHANGED and tool.definition is not None:
            requested = await requested_call()
            then = requested.gate.definition if requested is not None and requested.gate is not None else None
            changed = f"the MCP server changed the tool: {definition_change(then, tool.definition.text)}"
        asked_again = await self._asking(agent, functools.partial(ask_again, reason=changed), tool, call)
        return asked_again or ToolOutcome(refused=changed)

    async def _attempt(self, tool: Tool, call: ToolCallInput, arguments: dict[str, object]) -> ToolOutcome:
        # From here on the tool may have acted, whatever it raises: only `NotStartedError` says that it was not run.
        try:
            threads = self._threads if call.authorization is None else self._decided
            with tracing.tool(tool.name, call.agent, call.call_id, call.arguments, own_run().run_id) as span:
                value = await self._call(tool, arguments, threads)
                span.content("gen_ai.tool.call.result", lambda: tool.render(value))
            if tool.target is not None:
                return _directed(self._agents[call.agent], tool.target, call, tool.render(value))
            text = value if isinstance(value, ServerText) else tool.render(value)
            return await payload_limits.of_output(text, call.output_limit)
        except NotStartedError:
            _log.warning("tool %r did not start: all threads for tools are busy", tool.name)
            why = "all threads for tools of the worker that was asked are busy"
            return ToolOutcome(refused=why, again_after=START_WAIT)
        except (ServerDownError, QuestionError, ConnectionLostError) as error:
            return await self._unanswered(error, tool, call)
        except asyncio.CancelledError:
            if is_stopped_by_hand() and _runs_once(tool, call):
                raise once() from None
            if activity.is_cancelled() or activity.is_worker_shutdown():
                raise
            return ToolOutcome(error="CancelledError: the tool cancelled itself")
        except (Exception, SystemExit) as error:
            text = error_text(error)
            where = f"tool {tool.name!r} of agent {call.agent!r} failed: run {activity.info().workflow_id}"
            _log.warning("%s, call %s\n%s", where, call.call_id, stack_text(error))
            if activity.info().attempt < _attempts(tool, call):
                raise ApplicationError(text, type=type(error).__name__) from None
            return ToolOutcome(error=text)

    async def _unanswered(self, error: Exception, tool: Tool, call: ToolCallInput) -> ToolOutcome:
        """Return what follows where an MCP server gave no result."""
        if isinstance(error, ServerDownError):
            return _down(error)
        if isinstance(error, QuestionError):
            work = functools.partial(question_gate, error.question)
            asked = await self._asking(self._agents[call.agent], work, tool, call)
            return asked or ToolOutcome(refused=str(error))
        raise ApplicationError(str(error), type=CONNECTION_LOST)

    async def _call(self, tool: Tool, arguments: dict[str, object], threads: Executor) -> object:
        function = functools.partial(tool.function, **arguments)
        with self._watch.running(tool.name):
            if tool.is_async:
                value: object = function()
            else:
                value = await _in_thread(threads, functools.partial(contextvars.copy_context().run, function))
            return await value if inspect.isawaitable(value) else value


async def _in_thread(threads: Executor, work: Callable[[], object]) -> object:
    """Return what *work* returns.

    Raises:
        NotStartedError: no thread was free for a while, and *work* will never start.
    """
    future = threads.submit(work)
    result = asyncio.wrap_future(future)
    try:
        await asyncio.wait([result], timeout=_start_wait())
        # What has started cannot be cancelled.
        if not result.done() and future.cancel():
            raise NotStartedError
        return await result
    except asyncio.CancelledError:
        future.cancel()
        raise


def _start_wait() -> float:
    """Seconds that a call waits for a thread: it has half of its time left then, at the least."""
    info = activity.info()
    if info.start_to_close_timeout is None:
        return START_WAIT
    left = (info.started_time + info.start_to_close_timeout - datetime.now(UTC)).total_seconds()
    return max(0.0, min(START_WAIT, left / 2))


def _directed(agent: Agent, target: Target, call: ToolCallInput, value: str) -> ToolOutcome:
    """A call that goes to another agent, bounded by what bounds the calling one."""
    policy = combined(agent.policy, call.policy)
    if policy is not None and (size := len(policy.model_dump_json().encode())) > POLICIES_LIMIT:
        why = f"the policies that bound agent {target.agent!r} are {size} bytes together; the limit is {POLICIES_LIMIT}"
        return ToolOutcome(refused=why)
    if target.handoff:
        return ToolOutcome(output=value, handoff=Handoff(agent=target.agent, policy=policy).without_defaults())
    asked = Delegation(agent=target.agent, policy=policy, task_queue=target.task_queue, input=value)
    return ToolOutcome(delegation=asked.without_defaults())


def once() -> ApplicationError:
    """What ends the attempts of a call that may run only once: a person is asked what came of the first."""
    return ApplicationError("it was started before, and may run only once", type="RunsOnce", non_retryable=True)


def was_started_before() -> bool:
    """Whether this may not be the first start. `temporal activity reset` sets the number of the attempt to 1 again."""
    info = activity.info()
    return info.attempt > 1 or info.current_attempt_scheduled_time != info.scheduled_time


def is_stopped_by_hand() -> bool:
    """Whether an operator paused or reset the activity, after which the server would start it again."""
    details = activity.cancellation_details()
    return details is not None and (details.paused or details.reset)


def _not_served(agent: str) -> ToolOutcome:
    # Another worker of this task queue may serve it: a rolling deployment, or two teams on one queue.
    why = f"agent {agent!r} is not served by the worker that was asked"
    return ToolOutcome(refused=why, again_after=AGAIN.total_seconds())


def _down(error: ServerDownError) -> ToolOutcome:
    """The answer of a call that its MCP server was not sent; one that may have been sent before is lost."""
    if was_started_before():
        raise ApplicationError(str(error), type=CONNECTION_LOST) from None
    return ToolOutcome(refused=str(error), again_after=DOWN.total_seconds())


def _refusal_now(tool: Tool, call: ToolCallInput, keeper: Gatekeeper, *, run_id: str) -> Refusal | None:
    return refusal(tool, call, keeper, run_id=run_id, now=datetime.now(UTC))


def _outcome(agent: Agent, call: ToolCallInput, why: Refusal | None) -> ToolOutcome | None:
    if why is None:
        return None
    if why.gate is None:
        return ToolOutcome(refused=why.reason)
    return ToolOutcome(refused=why.reason, gate=why.gate, policy_version=agent.policy_version(call.policy))


def _arguments(tool: Tool, call: ToolCallInput, info: activity.Info) -> tuple[dict[str, object], str | None]:
    arguments, changed = bound_values(tool, call)
    if tool.input_schema is not None:
        values = tool.validate_input(call.arguments, call.values or {})
        changed = changed or input_problem(call.values or {}, values)
        arguments |= values
    if call.question is not None:
        arguments[ANSWER] = (call.question, call.values or {})
    if tool.context_parameter is not None:
        arguments[tool.context_parameter] = _context(tool, call, info)
    return arguments, changed


def _context(tool: Tool, call: ToolCallInput, info: activity.Info) -> ToolContext:
    authorization = call.authorization
    return ToolContext(
        run_id=own_run().run_id,
        call_id=call.call_id,
        tool=tool.name,
        agent=call.agent,
        attempt=info.attempt,
        idempotency_key=call.key,
        requested_by=call.requested_by,
        approved_by=tuple(authorization.approved_by) if authorization else (),
        requirement_id=authorization.requirement_id if authorization else None,
        context=call.context or {},
    )


def _runs_once(tool: Tool, call: ToolCallInput) -> bool:
    """Whether people decided about the call, and running it twice is not the same as running it once."""
    return call.authorization is not None and not tool.idempotent


def _attempts(tool: Tool, call: ToolCallInput) -> int:
    if _runs_once(tool, call):
        return 1
    return (tool.options.attempts or 1) if tool.options else 1


def error_text(error: BaseException) -> str:
    """Return an error as the model and the history get it: its type and its bounded words."""
    try:
        words = str(error)
    except Exception:
        words = "(its words cannot be read)"
    return bounded(f"{type(error).__name__}: {words}".encode("utf-8", "backslashreplace").decode("utf-8"), ERROR_LIMIT)
