"""Deciding as a person does: by update, which answers; by signal, which is kept, where no worker runs to answer.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal

from pydantic import JsonValue

from assent import messages, protocol
from assent.approvals import find
from assent.errors import NoWorkerError, RequirementNotFoundError, RunNotFoundError
from assent.handle import RunHandle
from assent.protocol import DecisionResult, DecisionStatus, Stored
from assent.requirements import Requirement, RunState

ANSWER_TIMEOUT: Final = timedelta(seconds=5)
"""How long a person waits for a worker's answer, before the decision goes by signal."""
SENT: Final = "sent; no worker is running, it counts once one is"

Signal = Literal["approve", "reject", "submit_result"]


class Outcome(Stored):
    """What a decision came to: as `DecisionResult`, or `sent` where no worker answered and a signal was left."""

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
    run: RunHandle, requirement: Requirement, signal: Signal, body: Mapping[str, JsonValue], *, fall_back: bool = True
) -> Outcome:
    """Send the decision that *body*, without its id, is, and say what it came to.

    With *fall_back* the same decision goes by signal where no worker answers in time. Should a worker come up in
    between and handle both, the second is a duplicate, which changes nothing.

    Raises:
        MessageError: the body does not fit; nothing was sent.
        NoWorkerError: no worker answered, and there is no *fall_back*.
        RunNotFoundError: there is no run of this id.
    """
    sent = {"id": requirement.id, **body}
    by = messages.read(signal, [sent]).by
    try:
        result = await _ask(run, requirement, signal, body)
    except NoWorkerError:
        if not fall_back:
            raise
        result = None
    if result is None:
        return await _leave(run, requirement, signal, sent, by)
    detail = result.detail if result.requirement_id else f"{result.detail}; it was {requirement.status}"
    return _outcome(run, requirement, by, result.status, detail)


async def _ask(
    run: RunHandle, requirement: Requirement, signal: Signal, body: Mapping[str, JsonValue]
) -> DecisionResult:
    by, reason = str(body["by"]), body.get("reason")
    match signal:
        case protocol.APPROVE:
            return await run.approve(requirement, by=by, reason=None if reason is None else str(reason))
        case protocol.REJECT:
            return await run.reject(requirement, by=by, reason=str(reason))
        case _:
            error = body.get("error")
            output = body.get("output")
            return await run.submit_result(
                requirement, by=by, output=output, error=None if error is None else str(error)
            )


async def _leave(run: RunHandle, requirement: Requirement, signal: str, sent: dict[str, JsonValue], by: str) -> Outcome:
    try:
        await run.send(signal, sent)
    except RunNotFoundError:
        return _outcome(run, requirement, by, "late", "the run has ended")
    return _outcome(run, requirement, by, "sent", SENT)


def _outcome(
    run: RunHandle, requirement: Requirement, by: str, status: DecisionStatus | Literal["sent"], detail: str
) -> Outcome:
    return Outcome(
        run_id=run.id, requirement_id=requirement.id, tool=requirement.tool, status=status, detail=detail, by=by
    )
