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
from functools import lru_cache
from typing import Final, Literal

from assent.wire.digest import canonical, json_size
from assent.wire.inbound import Approve, Reject, SubmitInput, SubmitResult
from assent.wire.protocol import CheckInput, DecisionResult, DecisionStatus, Gate
from assent.wire.requirements import Grant, Requirement, Vote
from assent.wire.text import bounded, hidden

SHORTEST_PREFIX: Final = 6
RESULT_SHOWN: Final = 4_000
"""Characters of a result that a requirement keeps; the whole is in the history, with the activity or the signal."""

NAME_LIMIT: Final = 256
"""Bytes (as JSON) of the name of somebody who decides."""
OUTPUT_LIMIT: Final = 1_000_000
"""Bytes (as JSON) of a result from outside, of values or of edited arguments."""

Decision = Approve | Reject | SubmitResult | SubmitInput
Checkable = Literal["arguments", "values", "output"]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a decision came to: the answer, and the requirement as it is now. *answer* is for the model, if final.

    *check* says what of the decision a worker has to check first: then it has come to nothing yet.
    """

    result: DecisionResult
    requirement: Requirement | None = None
    answer: str | None = None
    check: Checkable | None = None


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """What a decision is judged against: the time, the channel it came by, and who asked for the run."""

    at: datetime
    channel: str
    requested_by: str | None


@lru_cache(maxsize=4_096)
def fold_name(name: str) -> str:
    """A name reduced to what makes it the same person: NFKC, case folded, without white space or invisible marks."""
    before = None
    while name != before:  # What is left out may let its neighbours compose, and what composes may fold again.
        before, name = name, _folded_once(name)
    return name


def _folded_once(name: str) -> str:
    seen = "".join(mark for mark in name if not mark.isspace() and not hidden(mark))
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


def find_requirement(requirements: Sequence[Requirement], wanted: str) -> Requirement | str:
    """The requirement that *wanted* (an id, or a unique prefix of at least 6 digits) names, or why there is none."""
    prefix = wanted.strip().lower()
    if len(prefix) < SHORTEST_PREFIX:
        return f"the id {wanted!r} is too short; give at least {SHORTEST_PREFIX} digits"
    # Programs send whole ids, and mean one of the newest: of thousands, the others need not be looked at.
    whole = next((each for each in reversed(requirements) if each.id == prefix), None)
    matches = [each for each in requirements if each.id.startswith(prefix)] if whole is None else [whole]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        return f"no requirement of this run has the id {wanted!r}"
    return f"the id {wanted!r} matches {len(matches)} requirements; give more digits"


def rule(
    requirements: Sequence[Requirement], decision: Decision, context: DecisionContext, *, checked: bool = False
) -> Ruling:
    """What *decision* comes to, given the requirements of the run; *checked* once a worker found nothing wrong with it.

    Pure; safe in workflow code.
    """
    found = find_requirement(requirements, decision.id)
    if isinstance(found, str):
        return Ruling(DecisionResult(status="unknown", detail=found))
    if found.status != "pending":
        return _too_late(found, decision)
    objection = _objection(found, decision, context)
    if objection:
        return _answer(found, "refused", objection)
    check = None if checked else check_kind(found, decision)
    if check is not None:
        return Ruling(_result(found, "recorded", "a worker checks it"), check=check)
    vote = _vote(decision, context)
    match decision:
        case Reject():
            return _rejected(found, vote)
        case SubmitResult():
            return _delivered(found, decision, vote)
        case SubmitInput():
            return _filled_in(found, decision, vote)
        case _:
            return _approved(found, vote)


def check_kind(found: Requirement, decision: Decision) -> Checkable | None:
    """What of a decision has to be checked where the tool is known; None where nothing has."""
    match decision:
        case Approve() if decision.arguments is not None:
            return "arguments"
        case SubmitInput():
            return "values"
        case SubmitResult() if found.checked and found.kind == "external" and decision.error is None:
            return "output"
        case _:
            return None


def check_input(
    found: Requirement, decision: Decision, what: Checkable, *, agent: str, requested_by: str | None
) -> CheckInput:
    """What the worker is given to check; an edit's arguments as the text that would run."""
    fields: dict[str, object] = {
        "what": what,
        "agent": agent,
        "tool": found.tool,
        "call_id": found.call_id,
        "arguments": found.arguments,
    }
    if isinstance(decision, Approve) and decision.arguments is not None:
        fields["arguments"] = edited_text(decision.arguments)
    if isinstance(decision, SubmitInput):
        fields["values"] = decision.values
    if isinstance(decision, SubmitResult):
        fields |= {"output": decision.output, "arguments": ""}
    if requested_by is not None:
        fields["requested_by"] = requested_by
    return CheckInput.model_validate(fields)


def edited_text(arguments: object) -> str:
    """The one text that edited arguments are shown, hashed and run as."""
    return canonical(arguments).decode("utf-8", "surrogatepass")


def close_requirement(requirement: Requirement, at: datetime, *, started: bool = True) -> Requirement:
    """The requirement after its run has ended: cancelled if it was pending, of unknown outcome if it was under way.

    *started* False says that its call was to run and never began.
    """
    if requirement.execution == "running" and not started:
        return requirement.model_copy(update={"execution": "refused", "result": "Not run: the run ended first"})
    if requirement.execution == "running":
        return requirement.model_copy(update={"execution": "unknown"})
    if requirement.status != "pending":
        return requirement
    return requirement.model_copy(update={"status": "cancelled", "resolved_at": at})


def refuse(found: Requirement, detail: str) -> Ruling:
    """The ruling on a decision that a worker found something wrong with: nothing is consumed."""
    return _answer(found, "refused", detail)


def _too_late(found: Requirement, decision: Decision) -> Ruling:
    resolved = f"already {found.status}" + (f" by {found.resolved_by}" if found.resolved_by else "")
    if found.status == "superseded":
        return _answer(found, "superseded", f"an edit by {found.resolved_by} replaced it")
    edit = isinstance(decision, Approve) and decision.arguments is not None
    same = not edit and bool(found.votes) and found.votes[-1].verdict == _VERDICTS[type(decision)]
    same = same and found.status in {"approved", "rejected"}
    return _answer(found, "duplicate" if same else "late", resolved)


def _objection(found: Requirement, decision: Decision, context: DecisionContext) -> str | None:
    """Why the decision may not be taken, whatever the votes; None when it may."""
    named = {fold_name(name) for name in found.approvers} if found.approvers is not None else None
    if json_size(decision.by) > NAME_LIMIT:
        return f"the name is too long; it may have {NAME_LIMIT} bytes"
    if not fold_name(decision.by):
        return f"{decision.by!r} is no name that anybody could see"
    if named is not None and fold_name(decision.by) not in named and (named or not isinstance(decision, Reject)):
        who = f"it takes one of: {', '.join(found.approvers or [])}" if named else "nobody may; it can be rejected"
        return f"{decision.by!r} may not decide this; {who}"
    match decision:
        case Reject():
            return None
        case SubmitResult():
            return _delivery_objection(found, decision, context)
        case SubmitInput():
            return _input_objection(found, decision, context)
        case _:
            return _approval_objection(found, decision, context)


def _approval_objection(found: Requirement, decision: Approve, context: DecisionContext) -> str | None:
    if found.kind not in {"confirmation", "outcome", "budget"}:
        return "this call waits for a result or for values: use submit_result or submit_input, or reject it"
    special = decision.arguments is not None or decision.remember is not None
    if special and found.kind == "outcome":
        return "this asks what came of a call: approve it as it is to run it again, or submit_result what came of it"
    if special and found.kind == "budget":
        return "this asks for more budget: approve it as it is, or reject it"
    if decision.arguments is not None and decision.remember is not None:
        return "an approval is edited or remembered, not both: edit this call, and remember a later one"
    if decision.remember is not None and found.needed > 1:
        return f"it takes {found.needed} people, and a grant would let one decide for all of them"
    if decision.arguments is not None and json_size(decision.arguments) > OUTPUT_LIMIT:
        return f"the arguments are too long; they may have {OUTPUT_LIMIT} bytes"
    return _self_approval_objection(found, decision.by, context)


def may_decide(gate: Gate, requested_by: str | None, by: str) -> bool:
    """Whether *by* may approve a call with this gate in a run that *requested_by* asked for."""
    named = gate.approvers is None or fold_name(by) in {fold_name(name) for name in gate.approvers}
    own = requested_by is not None and fold_name(requested_by) == fold_name(by)
    return named and (gate.self_approval or not own)


def _self_approval_objection(found: Requirement, by: str, context: DecisionContext) -> str | None:
    asker = context.requested_by
    if asker is not None and not found.self_approval and fold_name(asker) == fold_name(by):
        return f"{by!r} asked for this run and may not approve in it"
    return None


def _delivery_objection(found: Requirement, decision: SubmitResult, context: DecisionContext) -> str | None:
    if found.kind not in {"external", "outcome"}:
        return "this call runs here and takes no result from outside: approve or reject it"
    if found.kind == "outcome" and (own := _self_approval_objection(found, decision.by, context)) is not None:
        return own
    if decision.error is not None and decision.output is not None:
        return "give an output or an error, not both"
    if json_size(decision.output) > OUTPUT_LIMIT:
        return f"the output is too long; it may have {OUTPUT_LIMIT} bytes"
    return None


def _input_objection(found: Requirement, decision: SubmitInput, context: DecisionContext) -> str | None:
    if found.kind != "input":
        return "this call asks nobody for values: approve it, reject it, or submit_result"
    if json_size(decision.values) > OUTPUT_LIMIT:
        return f"the values are too long; they may have {OUTPUT_LIMIT} bytes"
    return _self_approval_objection(found, decision.by, context)


_VERDICTS: Final[dict[type[Decision], Literal["approve", "reject", "submit"]]] = {
    Approve: "approve",
    Reject: "reject",
    SubmitResult: "submit",
    SubmitInput: "submit",
}


def _vote(decision: Decision, context: DecisionContext) -> Vote:
    return Vote.model_validate(
        {
            "verdict": _VERDICTS[type(decision)],
            "by": decision.by,
            "at": context.at,
            "reason": getattr(decision, "reason", None),
            "channel": context.channel,
        }
    )


def _resolve(found: Requirement, vote: Vote, **update: object) -> Requirement:
    resolved = {
        "votes": [*found.votes, vote],
        "resolved_by": vote.by,
        "resolved_at": vote.at,
        "reason": vote.reason,
        **update,
    }
    return found.model_copy(update=resolved)


def _rejected(found: Requirement, vote: Vote) -> Ruling:
    resolved = _resolve(found, vote, status="rejected")
    # A model that is told "rejected" takes the call for one that was not run, which of a lost one nobody knows.
    lost = "Outcome unknown: the call may or may not have taken effect, and was given up"
    told = lost if found.kind == "outcome" else "Rejected"
    return Ruling(_result(resolved, "rejected", f"rejected by {vote.by}"), resolved, f"{told}: {vote.reason}")


def _delivered(found: Requirement, decision: SubmitResult, vote: Vote) -> Ruling:
    text = decision.error if decision.error is not None else as_text(decision.output)
    status: DecisionStatus = "failed" if decision.error is not None else "executed"
    resolved = _resolve(
        found,
        vote,
        status="approved",
        execution=status,
        result=bounded(text, RESULT_SHOWN),
        evidence=decision.evidence,
    )
    answer = f"Error: {text}" if status == "failed" else text
    return Ruling(_result(resolved, status, f"result handed in by {vote.by}"), resolved, answer)


def _filled_in(found: Requirement, decision: SubmitInput, vote: Vote) -> Ruling:
    resolved = _resolve(found, vote, status="approved", execution="running", values=decision.values)
    return Ruling(_result(resolved, "approved", f"filled in by {vote.by}"), resolved)


def supersede(found: Requirement, decision: Approve, context: DecisionContext) -> Requirement:
    """The requirement once an edit has replaced it."""
    update = {"status": "superseded", "resolved_by": decision.by, "resolved_at": context.at, "reason": decision.reason}
    return found.model_copy(update=update)


def approve_by_grant(found: Requirement, grant: Grant, at: datetime) -> Requirement:
    """The requirement of a call that a grant lets through: approved by whoever gave it, without having waited."""
    vote = Vote(verdict="approve", by=grant.by, at=at, reason=grant.reason, channel="grant")
    return _resolve(found, vote, status="approved", execution="running", grant=grant.id)


def _approved(found: Requirement, vote: Vote) -> Ruling:
    voters = {fold_name(earlier.by) for earlier in found.votes}
    if fold_name(vote.by) in voters:
        return _answer(found, "duplicate", f"{vote.by!r} has approved it already; it takes {found.needed} people")
    missing = found.needed - len(voters) - 1
    if missing > 0:
        counted = found.model_copy(update={"votes": [*found.votes, vote]})
        return Ruling(_result(counted, "recorded", f"counted; {missing} more needed"), counted)
    execution = None if found.kind == "budget" else "running"
    resolved = _resolve(found, vote, status="approved", execution=execution)
    return Ruling(_result(resolved, "approved", f"approved by {vote.by}"), resolved)


def _answer(found: Requirement, status: DecisionStatus, detail: str) -> Ruling:
    return Ruling(_result(found, status, detail))


def _result(found: Requirement, status: DecisionStatus, detail: str) -> DecisionResult:
    return DecisionResult(status=status, requirement_id=found.id, tool=found.tool, detail=detail)


def as_text(value: object) -> str:
    """A JSON value as the model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else canonical(value).decode("utf-8", "replace")
