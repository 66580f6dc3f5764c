"""The state machine of one requirement: pending -> approved | rejected | expired | cancelled | superseded.

A terminal state is never left, and the first decision handled wins. Whatever does not count is answered with the
reason it did not, and kept.

Pure; safe in workflow code.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from assent.digest import canonical
from assent.protocol import (
    Approve,
    DecisionResult,
    DecisionStatus,
    Reject,
    SubmitInput,
    SubmitResult,
)
from assent.render import bounded, hidden
from assent.requirements import Requirement, Vote

SHORTEST_PREFIX: Final = 6
RESULT_SHOWN: Final = 4_000
"""Characters of a result that a requirement keeps; the whole is in the history, with the activity or the signal."""

Decision = Approve | Reject | SubmitResult | SubmitInput


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a decision came to: the answer, and the requirement as it is now. *answer* is for the model, if final."""

    result: DecisionResult
    requirement: Requirement | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision is judged against: the time, the channel it came by, and who asked for the run."""

    at: datetime
    channel: str
    requested_by: str | None


def fold_name(name: str) -> str:
    """A name reduced to what makes it the same person: NFKC, case folded, without white space or invisible marks."""
    before = None
    while name != before:  # What is left out may let its neighbours compose, and what composes may fold again.
        before, name = name, _folded_once(name)
    return name


def _folded_once(name: str) -> str:
    seen = "".join(mark for mark in name if not mark.isspace() and not hidden(mark))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


def find(requirements: Sequence[Requirement], wanted: str) -> Requirement | str:
    """The requirement that *wanted* (an id, or a unique prefix of at least 6 digits) names, or why there is none."""
    prefix = wanted.strip().lower()
    if len(prefix) < SHORTEST_PREFIX:
        return f"the id {wanted!r} is too short; give at least {SHORTEST_PREFIX} digits"
    matches = [requirement for requirement in requirements if requirement.id.startswith(prefix)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        return f"no requirement of this run has the id {wanted!r}"
    return f"the id {wanted!r} matches {len(matches)} requirements; give more digits"


def rule(requirements: Sequence[Requirement], decision: Decision, context: Context) -> Ruling:
    """What *decision* comes to, given the requirements of the run.

    Pure; safe in workflow code.
    """
    found = find(requirements, decision.id)
    if isinstance(found, str):
        return Ruling(DecisionResult(status="unknown", detail=found))
    if found.status != "pending":
        return _too_late(found, decision)
    objection = _objection(found, decision, context)
    if objection:
        return _answer(found, "refused", objection)
    vote = _vote(decision, context)
    match decision:
        case Reject():
            return _rejected(found, vote)
        case SubmitResult():
            return _delivered(found, decision, vote)
        case _:
            return _approved(found, vote)


def cancel(requirement: Requirement, at: datetime) -> Requirement:
    """The requirement after its run has ended: cancelled if it was pending, of unknown outcome if it was under way."""
    if requirement.execution == "running":
        return requirement.model_copy(update={"execution": "unknown"})
    if requirement.status != "pending":
        return requirement
    return requirement.model_copy(update={"status": "cancelled", "resolved_at": at})


def _too_late(found: Requirement, decision: Decision) -> Ruling:
    settled = f"already {found.status}" + (f" by {found.resolved_by}" if found.resolved_by else "")
    if found.status == "superseded":
        return _answer(found, "superseded", "an edit replaced it")
    same = found.status == ("rejected" if isinstance(decision, Reject) else "approved")
    if isinstance(decision, Approve | SubmitResult):
        same = same and isinstance(decision, SubmitResult) == (found.kind == "external")
    return _answer(found, "duplicate" if same else "late", settled)


def _objection(found: Requirement, decision: Decision, context: Context) -> str | None:
    """Why the decision may not be taken, whatever the votes; None when it may."""
    if found.approvers is not None and fold_name(decision.by) not in {fold_name(name) for name in found.approvers}:
        return f"{decision.by!r} may not decide this; it takes one of: {', '.join(found.approvers)}"
    if not fold_name(decision.by):
        return f"{decision.by!r} is no name that anybody could see"
    match decision:
        case Reject():
            return None
        case SubmitResult():
            return _delivery_objection(found, decision)
        case SubmitInput():
            return "this version has no tool that takes input from a person"
        case _:
            return _approval_objection(found, decision, context)


def _approval_objection(found: Requirement, decision: Approve, context: Context) -> str | None:
    if found.kind != "confirmation":
        return "this call waits for a result or for values: use submit_result or submit_input, or reject it"
    if decision.arguments is not None:
        return "editing the arguments is not supported by this version: reject it and say what to change"
    if decision.remember is not None:
        return "remembering an approval is not supported by this version: approve this call alone"
    if found.expires_at is not None and context.at >= found.expires_at:
        return f"it was to be approved before {found.expires_at.isoformat()}"
    asker = context.requested_by
    if asker is not None and not found.self_approval and fold_name(asker) == fold_name(decision.by):
        return f"{decision.by!r} asked for this run and may not approve in it"
    return None


def _delivery_objection(found: Requirement, decision: SubmitResult) -> str | None:
    if found.kind != "external":
        return "this call runs here and takes no result from outside: approve or reject it"
    if decision.error is not None and decision.output is not None:
        return "give an output or an error, not both"
    return None


def _vote(decision: Decision, context: Context) -> Vote:
    verdicts = {Approve: "approve", Reject: "reject", SubmitResult: "submit", SubmitInput: "submit"}
    return Vote.model_validate(
        {
            "verdict": verdicts[type(decision)],
            "by": decision.by,
            "at": context.at,
            "reason": getattr(decision, "reason", None),
            "channel": context.channel,
        }
    )


def _settle(found: Requirement, vote: Vote, **update: object) -> Requirement:
    settled = {
        "votes": [*found.votes, vote],
        "resolved_by": vote.by,
        "resolved_at": vote.at,
        "reason": vote.reason,
        **update,
    }
    return found.model_copy(update=settled)


def _rejected(found: Requirement, vote: Vote) -> Ruling:
    settled = _settle(found, vote, status="rejected")
    return Ruling(_result(settled, "rejected", f"rejected by {vote.by}"), settled, f"Rejected: {vote.reason}")


def _delivered(found: Requirement, decision: SubmitResult, vote: Vote) -> Ruling:
    text = decision.error if decision.error is not None else as_text(decision.output)
    status: DecisionStatus = "failed" if decision.error is not None else "executed"
    settled = _settle(found, vote, status="approved", execution=status, result=bounded(text, RESULT_SHOWN))
    answer = f"Error: {text}" if status == "failed" else text
    return Ruling(_result(settled, status, f"result handed in by {vote.by}"), settled, answer)


def _approved(found: Requirement, vote: Vote) -> Ruling:
    voters = {fold_name(earlier.by) for earlier in found.votes}
    if fold_name(vote.by) in voters:
        return _answer(found, "duplicate", f"{vote.by!r} has approved it already; it takes {found.needed} people")
    missing = found.needed - len(voters) - 1
    if missing > 0:
        counted = found.model_copy(update={"votes": [*found.votes, vote]})
        return Ruling(_result(counted, "recorded", f"counted; {missing} more needed"), counted)
    settled = _settle(found, vote, status="approved", execution="running")
    return Ruling(_result(settled, "approved", f"approved by {vote.by}"), settled)


def _answer(found: Requirement, status: DecisionStatus, detail: str) -> Ruling:
    return Ruling(_result(found, status, detail))


def _result(found: Requirement, status: DecisionStatus, detail: str) -> DecisionResult:
    return DecisionResult(status=status, requirement_id=found.id, tool=found.tool, detail=detail)


def as_text(value: object) -> str:
    """A JSON value as the model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else canonical(value).decode("utf-8", "replace")
