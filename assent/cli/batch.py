"""Sends several decisions: all calls are looked up before anything is sent, and each decision has its own outcome."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from typing import Final, TypeVar

from pydantic import JsonValue
from temporalio.service import RPCError

from assent.client.client import AgentClient
from assent.client.run_handle import RunHandle
from assent.client.signals import Signal
from assent.wire.errors import AssentError, RequirementNotFoundError, RunNotFoundError
from assent.wire.protocol import DecisionOutcome
from assent.wire.requirements import Requirement, RunState

AT_ONCE: Final = 16
"""Runs that are read, and decisions that are sent, at the same time."""
Call = tuple[RunHandle, Requirement]
_T = TypeVar("_T")


async def locate_all(client: AgentClient, calls: Sequence[tuple[str, str]], signal: Signal) -> list[Call]:
    """Find the calls of these run ids and call ids, each once.

    Raises:
        RequirementNotFoundError: a call is not found, or its id is ambiguous; the message names all such calls.
        ServerUnreachableError: the server does not answer.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    run_ids = list(dict.fromkeys(run_id for run_id, _ in calls))
    read = [_within(gate, _state(client.get_run(run_id))) for run_id in run_ids]
    states = dict(zip(run_ids, await asyncio.gather(*read), strict=True))
    located: dict[tuple[str, str], Call] = {}
    errors: dict[str, None] = {}
    for run_id, call in calls:
        run, state = client.get_run(run_id), states[run_id]
        try:
            if isinstance(state, RunNotFoundError):
                raise state
            requirement = await run.locate(call, signal, state)
        except (RunNotFoundError, RequirementNotFoundError) as error:
            errors[str(error)] = None
        else:
            located[run_id, requirement.id] = (run, requirement)
    if errors:
        raise RequirementNotFoundError(f"nothing was sent: {'; '.join(errors)}")
    return list(located.values())


async def decide_each(
    calls: Sequence[Call], signal: Signal, body: Mapping[str, JsonValue]
) -> AsyncGenerator[tuple[RunHandle, Requirement, DecisionOutcome | AssentError | RPCError], None]:
    """Send all decisions, and yield the outcome of each in the order of *calls*. An error does not stop the others."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def decide(run: RunHandle, requirement: Requirement) -> DecisionOutcome | AssentError | RPCError:
        try:
            return await run.decide(signal, {"id": requirement.id, **body}, check=False)
        except (AssentError, RPCError) as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_within(gate, decide(*call))) for call in calls]
        for (run, requirement), task in zip(calls, tasks, strict=True):
            yield run, requirement, await task


async def _state(run: RunHandle) -> RunState | RunNotFoundError:
    try:
        return await run.state()
    except RunNotFoundError as error:
        return error


async def _within(gate: asyncio.Semaphore, work: Awaitable[_T]) -> _T:
    async with gate:
        return await work
