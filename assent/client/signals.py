"""Deciding as a person does: a signal, which nothing loses, and what it came to, read from the run's history.

An update would answer too. But where no worker runs, an update that its sender gave up on stays with the server and
counts later all the same, so that a second way beside it records every such decision twice (measured on server 1.32).
And a signal carries its sender's identity into history, where an update carries the worker's.

I/O; not in workflow code.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Literal

from pydantic import JsonValue

from assent.client.run_handle import RunHandle
from assent.client.run_tree import elsewhere
from assent.core.approvals import SHORTEST_PREFIX, find
from assent.core.events import CheckAnswered, MessageReceived
from assent.core.state_machine import Run
from assent.wire import messages
from assent.wire.errors import RequirementNotFoundError, RunNotFoundError
from assent.wire.inbound import Approve, SubmitInput
from assent.wire.protocol import REVOKE, DecisionResult, DecisionStatus, Stored
from assent.wire.requirements import Grant, Requirement, RunState

ANSWER_TIMEOUT: Final = timedelta(seconds=5)
"""How long a person waits to be told what a decision came to."""
SENT: Final = "no worker has read it yet; it counts once one runs"

Signal = Literal["approve", "reject", "submit_result", "submit_input"]


class Told(Stored):
    """What a message to a run came to: as `DecisionResult`, or `sent` where no worker has read it yet."""

    run_id: str
    status: DecisionStatus | Literal["sent"]
    detail: str
    by: str

    @property
    def taken(self) -> bool:
        """Whether the message counts, or will as soon as a worker runs."""
        return self.status in {"recorded", "sent"}


class Outcome(Stored):
    """What a decision came to: as `DecisionResult`, or `sent` where no worker has read it yet.

    *requirement_id* is that of the requirement that was decided; after an edit, of the one that the edit made. *grant*
    is the id of the grant that was revoked, and *requirement_id* then that of the approval it was given with.
    """

    run_id: str
    requirement_id: str
    tool: str
    status: DecisionStatus | Literal["sent"]
    detail: str
    by: str
    grant: str | None = None

    @property
    def taken(self) -> bool:
        """Whether the decision counts, or will as soon as a worker runs."""
        return self.status in {"approved", "rejected", "executed", "failed", "recorded", "sent"}


async def fold(run: RunHandle) -> Run | None:
    """The run as its history tells it, with what its model read and said; None where no worker took it up yet.

    Raises:
        RunNotFoundError: there is no run of this id.
    """
    folded = None
    async for happening in run.happenings():
        folded = happening.step.run
    return folded


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


async def located(run: RunHandle, wanted: str, signal: str, state: RunState | None = None) -> Requirement:
    """The requirement of a run, whose *state* may be known, that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one; where it is one of a run below, that is said.
        RunNotFoundError: there is no run of this id.
    """
    state = state or await run.state()
    try:
        return locate(state, wanted)
    except RequirementNotFoundError:
        told = elsewhere(await run.tree(), wanted, signal) if state.children else None
        if told is None:
            raise
        raise RequirementNotFoundError(told) from None


def locate_grant(state: RunState, wanted: str) -> Grant:
    """The grant that an id, or a unique prefix of one, names.

    Raises:
        RequirementNotFoundError: none, or more than one.
    """
    prefix = wanted.strip().lower()
    found = [grant for grant in state.grants if grant.id.startswith(prefix)] if len(prefix) >= SHORTEST_PREFIX else []
    if len(found) == 1:
        return found[0]
    message = f"{_not_one(state.grants, wanted, len(found))}; see: assent show {state.id}"
    raise RequirementNotFoundError(message)


def _not_one(grants: Sequence[Grant], wanted: str, found: int) -> str:
    if found:
        return f"the id {wanted!r} matches {found} grants; give more digits"
    if len(wanted.strip()) < SHORTEST_PREFIX:
        return f"the id {wanted!r} is too short; give at least {SHORTEST_PREFIX} digits"
    return f"no grant of this run has the id {wanted!r}" + ("" if grants else ": it has none")


def as_read(signal: Signal, body: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The arguments or values of a decision as the run reads them: what is shown is what runs.

    Raises:
        MessageError: the body does not fit.
    """
    message = messages.read(signal, [{"id": "0" * SHORTEST_PREFIX, **body}])
    if isinstance(message, SubmitInput):
        return message.values
    return (message.arguments if isinstance(message, Approve) else None) or {}


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
    by, result = await _sent(run, signal, sent, within, _standing(requirement))
    return Outcome(
        run_id=run.id,
        requirement_id=(result.requirement_id if result else None) or requirement.id,
        tool=requirement.tool,
        status=result.status if result else "sent",
        detail=result.detail if result else SENT,
        by=by,
    )


async def revoke(
    run: RunHandle, grant: Grant, body: Mapping[str, JsonValue], *, within: timedelta = ANSWER_TIMEOUT
) -> Outcome:
    """End a grant, and say what that came to. Raises as `decide`."""
    sent = {"id": grant.id, **body}
    by, result = await _sent(run, REVOKE, sent, within, "its grants ended with it")
    return Outcome(
        run_id=run.id,
        requirement_id=grant.requirement_id,
        tool=grant.tool,
        status=result.status if result else "sent",
        detail=result.detail if result else SENT,
        by=by,
        grant=grant.id,
    )


async def tell(
    run: RunHandle, signal: str, body: Mapping[str, JsonValue], *, within: timedelta = ANSWER_TIMEOUT
) -> Told:
    """Send what is about no requirement, and say what came of it: a message, or the end of a conversation.

    Raises:
        MessageError: the body does not fit; nothing was sent.
        RunNotFoundError: there is no run of this id.
        ServerUnreachableError: the server does not answer.
    """
    by, result = await _sent(run, signal, body, within, "nothing can be said to it any more")
    status, detail = (result.status, result.detail) if result else ("sent", SENT)
    return Told(run_id=run.id, status=status, detail=detail, by=by)


async def _sent(
    run: RunHandle, signal: str, sent: Mapping[str, JsonValue], within: timedelta, standing: str
) -> tuple[str, DecisionResult | None]:
    """Send a message; who sent it, and what it came to, None where no worker has read it yet."""
    by = messages.read(signal, [sent]).by
    before = len([result async for result in _answers(run, signal, sent, wait=False)])
    try:
        await run.send(signal, sent)
        return by, await _first_after(before, run, signal, sent, within)
    except RunNotFoundError:
        return by, DecisionResult(status="late", detail=f"the run has ended; {standing}")


async def _first_after(
    before: int, run: RunHandle, signal: str, sent: Mapping[str, JsonValue], within: timedelta
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
    run: RunHandle, signal: str, sent: Mapping[str, JsonValue], *, wait: bool
) -> AsyncGenerator[DecisionResult, None]:
    """What each decision that is exactly this one came to, in order; some are told once a worker has checked them."""
    checked: set[int] = set()
    async for happening in run.happenings(wait=wait):
        event, step = happening.event, happening.step
        mine = isinstance(event, MessageReceived) and event.name == signal and event.arguments == (sent,)
        if mine and step.check is not None:
            checked.add(step.check)
        mine = mine or (isinstance(event, CheckAnswered) and event.number in checked)
        if mine and step.result is not None:
            yield step.result


def _standing(requirement: Requirement) -> str:
    if requirement.status == "expired":
        return "nobody decided about this call in time"
    by = f" by {requirement.resolved_by}" if requirement.resolved_by else ""
    return f"this call was {requirement.status}{by}"
