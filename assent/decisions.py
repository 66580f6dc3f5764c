"""Deciding as a person does: a signal, which nothing loses, and what it came to, read from the run's history.

An update would answer too. But where no worker runs, an update that its sender gave up on stays with the server and
counts later all the same, so that a second way beside it records every such decision twice (measured on server 1.32).
And a signal carries its sender's identity into history, where an update carries the worker's.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Literal

from pydantic import JsonValue

from assent import messages
from assent.approvals import find
from assent.errors import RequirementNotFoundError, RunNotFoundError
from assent.events import MessageReceived
from assent.handle import RunHandle
from assent.protocol import DecisionResult, DecisionStatus, Stored
from assent.requirements import Requirement, RunState

ANSWER_TIMEOUT: Final = timedelta(seconds=5)
"""How long a person waits to be told what a decision came to."""
SENT: Final = "no worker has read it yet; it counts once one runs"

Signal = Literal["approve", "reject", "submit_result"]


class Outcome(Stored):
    """What a decision came to: as `DecisionResult`, or `sent` where no worker has read it yet."""

    run_id: str
    requirement_id: str
    tool: str
    status: DecisionStatus | Literal["sent"]
    detail: str
    by: str

    @property
    def taken(self) -> bool:
        """Whether the decision counts, or will as soon as a worker runs."""
        return self.status in {"approved", "rejected", "executed", "failed", "recorded", "sent"}


def locate(state: RunState, wanted: str) -> Requirement:
    """The requirement that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one.
    """
    found = find(state.requirements, wanted)
    if isinstance(found, str):
        message = f"{found}; see: assent show {state.id}"
        raise RequirementNotFoundError(message)
    return found


async def decide(
    run: RunHandle,
    requirement: Requirement,
    signal: Signal,
    body: Mapping[str, JsonValue],
    *,
    within: timedelta = ANSWER_TIMEOUT,
) -> Outcome:
    """Send the decision that *body*, without its id, is, and say what it came to.

    Raises:
        MessageError: the body does not fit; nothing was sent.
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer.
    """
    sent = {"id": requirement.id, **body}
    by = messages.read(signal, [sent]).by
    before = len([result async for result in _answers(run, signal, sent, wait=False)])
    try:
        await run.send(signal, sent)
        result = await _first_after(before, run, signal, sent, within)
    except RunNotFoundError:
        result = DecisionResult(status="late", detail=f"the run has ended; {_standing(requirement)}")
    if result is None:
        return _outcome(run, requirement, by, "sent", SENT)
    return _outcome(run, requirement, by, result.status, result.detail)


async def _first_after(
    before: int, run: RunHandle, signal: Signal, sent: Mapping[str, JsonValue], within: timedelta
) -> DecisionResult | None:
    """What the newest of equal decisions came to, of which *before* were answered when it was sent; None: unknown."""
    try:
        async with asyncio.timeout(within.total_seconds()), aclosing(_answers(run, signal, sent, wait=True)) as answers:
            async for result in answers:
                if before == 0:
                    return result
                before -= 1
    except TimeoutError:
        return None
    return DecisionResult(status="late", detail="the run ended before it was read")


async def _answers(
    run: RunHandle, signal: Signal, sent: Mapping[str, JsonValue], *, wait: bool
) -> AsyncGenerator[DecisionResult, None]:
    """What each decision that is exactly this one came to, in order."""
    async for happening in run.happenings(wait=wait):
        event = happening.event
        mine = isinstance(event, MessageReceived) and event.name == signal and event.arguments == (sent,)
        if mine and happening.step.result is not None:
            yield happening.step.result


def _standing(requirement: Requirement) -> str:
    by = f" by {requirement.resolved_by}" if requirement.resolved_by else ""
    return f"this call was {requirement.status}{by}"


def _outcome(
    run: RunHandle, requirement: Requirement, by: str, status: DecisionStatus | Literal["sent"], detail: str
) -> Outcome:
    return Outcome(
        run_id=run.id, requirement_id=requirement.id, tool=requirement.tool, status=status, detail=detail, by=by
    )
