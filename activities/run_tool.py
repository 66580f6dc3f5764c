"""The activities that run tools. Each checks again, as it runs, that what it is about to do was permitted."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Final

from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from assent.agent import Agent
from assent.authorization import refusal
from assent.errors import ArgumentsError
from assent.protocol import ToolCallInput, ToolOutcome
from assent.render import bounded
from assent.tools import Tool, ToolContext

from .heartbeat import heartbeats

OUTPUT_LIMIT: Final = 256 * 1024
"""Bytes of a tool's result that reach the model and the history."""
ERROR_LIMIT: Final = 2_000
"""Characters of a tool's error that reach the model and the history."""


class ToolCalls:
    """The tool calls of a worker's agents. Async tools run in the loop, sync ones in *threads*."""

    def __init__(self, agents: Mapping[str, Agent], threads: Executor) -> None:
        """The agents are asked again, at each call, whether it may run."""
        self._agents = agents
        self._threads = threads

    def activity_for(self, tool: Tool) -> Callable[[ToolCallInput], Coroutine[object, object, ToolOutcome]]:
        """The activity that runs *tool*, named as the tool is."""

        @activity.defn(name=tool.name)
        async def run(call: ToolCallInput) -> ToolOutcome:
            return await self._run(tool.name, call)

        return run

    @activity.defn(dynamic=True)
    async def gone(self, _arguments: Sequence[RawValue]) -> ToolOutcome:
        """Answer for a tool that this worker does not have: renamed or removed while its call waited."""
        name = activity.info().activity_type
        return ToolOutcome(refused=f"there is no tool named {name!r} any more")

    async def _run(self, name: str, call: ToolCallInput) -> ToolOutcome:
        agent = self._agents.get(call.agent)
        tool = agent.tool(name) if agent else None
        if agent is None or tool is None:
            return ToolOutcome(refused=f"agent {call.agent!r} has no tool named {name!r} any more")
        info = activity.info()
        why = refusal(tool, call, agent.policy, workflow_id=info.workflow_id or "", now=datetime.now(UTC))
        if why is not None:
            return ToolOutcome(refused=why)
        return await self._attempt(tool, call)

    async def _attempt(self, tool: Tool, call: ToolCallInput) -> ToolOutcome:
        try:
            arguments = _arguments(tool, call)
        except ArgumentsError as error:
            return ToolOutcome(refused=str(error))
        # From here on the tool may have acted, whatever it raises: nothing below says that it was not run.
        try:
            async with heartbeats():
                value = await self._call(tool, arguments)
            return ToolOutcome(output=_cut(tool.render(value)))
        except asyncio.CancelledError:
            if activity.is_cancelled() or activity.is_worker_shutdown():
                raise
            return ToolOutcome(error="CancelledError: the tool cancelled itself")
        except (Exception, SystemExit) as error:
            text = _words(error)
            if activity.info().attempt < _attempts(tool, call):
                raise ApplicationError(text, type=type(error).__name__) from None
            return ToolOutcome(error=text)

    async def _call(self, tool: Tool, arguments: dict[str, object]) -> object:
        function = functools.partial(tool.function, **arguments)
        if tool.is_async:
            value: object = function()
        else:
            work = functools.partial(contextvars.copy_context().run, function)
            value = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        return await value if inspect.isawaitable(value) else value


def _arguments(tool: Tool, call: ToolCallInput) -> dict[str, object]:
    arguments = tool.validate(call.arguments)
    if tool.context_parameter is not None:
        arguments[tool.context_parameter] = _context(tool, call)
    return arguments


def _context(tool: Tool, call: ToolCallInput) -> ToolContext:
    info = activity.info()
    authorization = call.authorization
    return ToolContext(
        run_id=info.workflow_id or "",
        call_id=call.call_id,
        tool=tool.name,
        agent=call.agent,
        attempt=info.attempt,
        idempotency_key=call.key,
        requested_by=call.requested_by,
        approved_by=tuple(authorization.approved_by) if authorization else (),
        requirement_id=authorization.requirement_id if authorization else None,
    )


def _attempts(tool: Tool, call: ToolCallInput) -> int:
    if call.authorization is not None and not tool.idempotent:
        return 1
    return (tool.options.attempts or 1) if tool.options else 1


def _words(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:
        said = "(its words cannot be read)"
    text = f"{type(error).__name__}: {said}".encode("utf-8", "backslashreplace").decode("utf-8")
    return bounded(text, ERROR_LIMIT)


def _cut(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= OUTPUT_LIMIT:
        return text
    kept = data[:OUTPUT_LIMIT].decode("utf-8", "ignore")
    return f"{kept}\n[cut here: {OUTPUT_LIMIT} of {len(data)} bytes]"
