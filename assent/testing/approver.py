"""A scripted approver: drives a run to its end, deciding what waits as a plain function says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from assent.audit.approval import Approval
from assent.client.run_handle import RunHandle
from assent.wire.errors import DecisionError
from assent.wire.protocol import DecisionOutcome
from assent.wire.requirements import RunState


@dataclass(frozen=True)
class Approved:
    """Approve it."""

    reason: str | None = None


@dataclass(frozen=True)
class Rejected:
    """Reject it; the model is told the reason."""

    reason: str


@dataclass(frozen=True)
class Delivered:
    """Hand in a result from outside, or the error it ended in."""

    output: object = None
    error: str | None = None


@dataclass(frozen=True)
class Answered:
    """Fill in what a tool asks of a person, by the names of the fields."""

    values: Mapping[str, JsonValue]


Ruling = Approved | Rejected | Delivered | Answered
ROUNDS: Final = 100


async def drive(run: RunHandle, rule: Callable[[Approval], Ruling], *, by: str = "approver") -> RunState:
    """Decide everything that *run* waits for, as *rule* says and in the name of *by*, until it has ended or is idle.

    Requirements of child runs are decided there.

    Raises:
        DecisionError: a decision did not count, or the run waits for a hundredth time.

    Example:
        `state = await drive(run, lambda requirement: Approved(), by="bob")`
    """
    for _ in range(ROUNDS):
        state = await run.until_paused()
        if state.is_finished or state.is_idle:
            return state
        for approval in await run.pending():
            await _decide(run.other(approval.run_id), approval, rule(approval), by)
    raise DecisionError(f"run {run.id!r} still waits after {ROUNDS} rounds of decisions")


async def _decide(run: RunHandle, requirement: Approval, ruling: Ruling, by: str) -> DecisionOutcome:
    match ruling:
        case Approved(reason):
            return await run.approve(requirement, by=by, reason=reason)
        case Rejected(reason):
            return await run.reject(requirement, by=by, reason=reason)
        case Delivered(output, error):
            return await run.submit_result(requirement, by=by, output=output, error=error)
        case Answered(values):
            return await run.submit_input(requirement, by=by, values=values)
