"""Several decisions in one command: all calls are looked up before anything is sent, and each gets its own answer."""

from __future__ import annotations

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

MAX_FOLLOWED: Final = 16
"""Runs that are read, and decisions that are waited for, at the same time."""
Named = tuple[RunHandle, Requirement]
_T = TypeVar("_T")


async def all_located(client: AgentClient, calls: Sequence[tuple[str, str]], signal: Signal) -> list[Named]:
    """The calls that are named, each once.

    Raises:
        RequirementNotFoundError: one is not there, or its id is not unique; it says which.
        ServerUnreachableError: the server does not answer.
    """
    gate = asyncio.Semaphore(MAX_FOLLOWED)
    run_ids = list(dict.fromkeys(run_id for run_id, _ in calls))
    read = [_within(gate, _state(client.get_run(run_id))) for run_id in run_ids]
    states = dict(zip(run_ids, await asyncio.gather(*read), strict=True))
    found: dict[tuple[str, str], Named] = {}
    wrong: dict[str, None] = {}
    for run_id, call in calls:
        run, state = client.get_run(run_id), states[run_id]
        try:
            if isinstance(state, RunNotFoundError):
                raise state
            requirement = await run.locate(call, signal, state)
        except (RunNotFoundError, RequirementNotFoundError) as error:
            wrong[str(error)] = None
        else:
            found[run_id, requirement.id] = (run, requirement)
    if wrong:
        message = f"nothing was sent: {'; '.join(wrong)}"
        raise RequirementNotFoundError(message)
    return list(found.values())


async def decided(
    named: Sequence[Named], signal: Signal, body: Mapping[str, JsonValue]
) -> AsyncGenerator[tuple[RunHandle, Requirement, DecisionOutcome | AssentError | RPCError], None]:
    """What each decision came to, in the order in which the calls were named. All are sent, whatever one comes to."""
    gate = asyncio.Semaphore(MAX_FOLLOWED)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_within(gate, _outcome(*each, signal, body))) for each in named]
        for (run, requirement), task in zip(named, tasks, strict=True):
            yield run, requirement, await task


async def _outcome(
    run: RunHandle, requirement: Requirement, signal: Signal, body: Mapping[str, JsonValue]
) -> DecisionOutcome | AssentError | RPCError:
    try:
        return await run.decide(signal, {"id": requirement.id, **body}, check=False)
    except (AssentError, RPCError) as error:
        return error


async def _state(run: RunHandle) -> RunState | RunNotFoundError:
    try:
        return await run.state()
    except RunNotFoundError as error:
        return error


async def _within(gate: asyncio.Semaphore, work: Awaitable[_T]) -> _T:
    async with gate:
        return await work
