"""The rules of one requirement: who may decide it, what a decision must look like, and the outcome of the decision.

The first decision that is handled wins. A message without effect gets the reason as its answer, and the run keeps it.
"""

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Literal, cast

from pydantic import JsonValue

from assent.core.transitions import REQUIREMENT, RequirementEvent
from assent.wire.digest import canonical, json_size
from assent.wire.limits import NAME_LIMIT, OUTPUT_LIMIT, RESULT_SHOWN
from assent.wire.messages import Approve, Reject, Revoke, SubmitInput, SubmitResult
from assent.wire.proofs import DecisionProof, ProofLevel, satisfies
from assent.wire.protocol import (
    APPROVE,
    REJECT,
    SUBMIT_RESULT,
    CheckInput,
    DecisionResult,
    DecisionStatus,
    Gate,
    RequirementKind,
)
from assent.wire.requirements import Grant, Requirement, Vote
from assent.wire.text import bounded, hidden

SHORTEST_PREFIX: Final = 6

Decision = Approve | Reject | SubmitResult | SubmitInput
Checkable = Literal["arguments", "values", "output", "proof"]


@dataclass(frozen=True, slots=True)
class DecisionEffect:
    """The outcome of a decision: the sender's answer, the changed requirement, and the model's *answer* if it is final.

    *check* names the part of the decision that a worker checks first; until then the decision has no effect.
    """

    result: DecisionResult
    requirement: Requirement | None = None
    answer: str | None = None
    check: Checkable | None = None


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """The facts around a decision: its time and channel, and the requester of the run."""

    at: datetime
    channel: str
    requested_by: str | None


# -- who may decide ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4_096)
def fold_name(name: str) -> str:
    """Return what identifies a person in a name: NFKC, case folded, without white space or invisible marks."""
    before = None
    while name != before:  # What is left out may let its neighbours compose, and what composes may fold again.
        seen = "".join(mark for mark in name if not mark.isspace() and not hidden(mark))
        before, name = name, unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return name


def fold_names(names: Collection[str]) -> set[str]:
    """Return the different people among *names*."""
    return {fold_name(name) for name in names}


def is_approver(name: str, approvers: Collection[str] | None) -> bool:
    """Return whether *name* is among the *approvers* (None: anyone)."""
    return approvers is None or fold_name(name) in fold_names(approvers)


def excludes_requester(kind: RequirementKind, *, self_approval: bool) -> bool:
    """Return whether the requester of a run may not approve a requirement. A result from outside may be anyone's."""
    return kind != "external" and not self_approval


def may_approve(
    name: str,
    *,
    kind: RequirementKind,
    approvers: Collection[str] | None,
    self_approval: bool,
    requested_by: str | None,
) -> bool:
    """Return whether *name* may approve a requirement, or send its result or input.

    The one rule for decisions, grants, facts about a requirement, the inbox and the check before a tool runs.
    """
    own = requested_by is not None and fold_name(requested_by) == fold_name(name)
    return is_approver(name, approvers) and not (own and excludes_requester(kind, self_approval=self_approval))


# -- a decision -------------------------------------------------------------------------------------------------------


def find_requirement(requirements: Sequence[Requirement], identity: str) -> Requirement | str:
    """Return the requirement that *identity* (an id, or a unique prefix of 6 digits or more) names, or why none."""
    prefix = identity.strip().lower()
    if len(prefix) < SHORTEST_PREFIX:
        return f"the id {identity!r} is too short; give at least {SHORTEST_PREFIX} digits"
    # Programs send whole ids of new requirements: look there first, there may be thousands.
    whole = next((each for each in reversed(requirements) if each.id == prefix), None)
    matches = [each for each in requirements if each.id.startswith(prefix)] if whole is None else [whole]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        return f"no requirement of this run has the id {identity!r}"
    return f"the id {identity!r} matches {len(matches)} requirements; give more digits"


def with_dropped(detail: str, dropped: int) -> str:
    """Return why no requirement was found, for a run that knows its *dropped* oldest ones no more."""
    return f"{detail}; it may be one of the oldest {dropped:,}, all decided: see the audit" if dropped else detail


def rule(
    requirements: Sequence[Requirement],
    decision: Decision,
    context: DecisionContext,
    *,
    checked: bool = False,
    proof: DecisionProof | None = None,
) -> DecisionEffect:
    """Return the outcome of *decision*; *checked*: a worker has checked it, saw no problem, and found this *proof*."""
    requirement = find_requirement(requirements, decision.id)
    if isinstance(requirement, str):
        return DecisionEffect(DecisionResult(status="unknown", detail=requirement))
    if requirement.status != "pending":
        return _late(requirement, decision)
    objection = _objection(requirement, decision, context) or proof_objection(
        requirement.proof, decision, proof, checked=checked
    )
    if objection is not None:
        return refuse(requirement, objection)
    check = None if checked else check_kind(requirement, decision)
    if check is not None:
        return DecisionEffect(_result(requirement, "recorded", "a worker checks it"), check=check)
    vote = Vote(
        verdict=_VERDICTS[type(decision)],
        by=decision.by,
        at=context.at,
        reason=None if isinstance(decision, SubmitResult | SubmitInput) else decision.reason,
        channel=context.channel,
        **({} if proof is None else {"proof": proof}),
    )
    match decision:
        case Reject():
            return _reject(requirement, vote)
        case SubmitResult():
            return _submit_result(requirement, decision, vote)
        case SubmitInput():
            changed = _resolve(requirement, "submit_input", vote, execution="running", values=decision.values)
            return DecisionEffect(_result(changed, "approved", f"filled in by {vote.by}"), changed)
        case _:
            return _approve(requirement, vote)


def check_kind(requirement: Requirement, decision: Decision) -> Checkable | None:
    """Return the part of a decision that needs a check by a worker, which knows the tool; None if no part does."""
    match decision:
        case Approve() if decision.arguments is not None:
            return "arguments"
        case SubmitInput():
            return "values"
        case SubmitResult() if requirement.checked and requirement.kind == "external" and decision.error is None:
            return "output"
        case _:
            return None if decision.proof is None else "proof"


def check_input(
    requirement: Requirement, decision: Decision, what: Checkable, *, agent: str, requested_by: str | None
) -> CheckInput:
    """Return what a worker checks; an edit's arguments are the text that would run."""
    fields: dict[str, object] = {
        "what": what,
        "agent": agent,
        "tool": requirement.tool,
        "call_id": requirement.call_id,
        "arguments": requirement.arguments,
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


def edited_text(arguments: object, order: Sequence[str] = ()) -> str:
    """Return the one text in which edited arguments are shown, hashed and run; in this *order* where that counts."""
    if order and isinstance(arguments, dict):
        fields = cast("dict[str, JsonValue]", arguments)
        return f"{{{','.join(f'{edited_text(name)}:{edited_text(fields[name])}' for name in order)}}}"
    return canonical(arguments).decode("utf-8", "surrogatepass")


def only_adds(written: JsonValue, read: JsonValue) -> bool:
    """Return whether *read* says all that *written* says: it may add fields, and write numbers and times otherwise."""
    if isinstance(written, dict) and isinstance(read, dict):
        return all(name in read and only_adds(value, read[name]) for name, value in written.items())
    if isinstance(written, list) and isinstance(read, list):
        return len(written) == len(read) and all(map(only_adds, written, read))
    if isinstance(written, bool) or isinstance(read, bool) or written is None or read is None:
        return written is read
    return written == read or str(written) == str(read) or _is_same_time(written, read)


def _is_same_time(written: JsonValue, read: JsonValue) -> bool:
    try:
        return datetime.fromisoformat(str(written)) == datetime.fromisoformat(str(read))
    except (TypeError, ValueError):
        return False


def proof_objection(
    level: ProofLevel | None, decision: Decision | Revoke, proof: DecisionProof | None, *, checked: bool
) -> str | None:
    """Return why a decision has not the proof that it needs at this *level*, or claims to have; None if it has.

    *proof* is what a worker found, once it has *checked* the decision.
    """
    if decision.proof is None:
        if level is None:
            return None
        whose = "a person's own key" if level == "person" else "a person's key, or by a service that signed them in"
        return f"it takes a decision signed by {whose}: use the approvals page, or `assent approve … --sign`"
    if not checked:
        return None
    if proof is None:
        return "its proof was not verified"
    if not satisfies(proof.verified.level, level):
        return f"it takes a decision signed by a person's own key, and this one is only {proof.verified.text}"
    if fold_name(proof.verified.person) != fold_name(decision.by):
        return f"the proof is that of {proof.verified.person!r}, not of {decision.by!r}"
    return None


def refuse(requirement: Requirement, detail: str) -> DecisionEffect:
    """Return the ruling that refuses a decision: the requirement stays pending."""
    return DecisionEffect(_result(requirement, "refused", detail))


# -- why a decision has no effect -------------------------------------------------------------------------------------


def _late(requirement: Requirement, decision: Decision) -> DecisionEffect:
    if requirement.status == "superseded":
        return DecisionEffect(_result(requirement, "superseded", f"an edit by {requirement.resolved_by} replaced it"))
    edit = isinstance(decision, Approve) and decision.arguments is not None
    same = not edit and bool(requirement.votes) and requirement.votes[-1].verdict == _VERDICTS[type(decision)]
    status: DecisionStatus = "duplicate" if same and requirement.status in {"approved", "rejected"} else "late"
    by = f" by {requirement.resolved_by}" if requirement.resolved_by else ""
    return DecisionEffect(_result(requirement, status, f"already {requirement.status}{by}"))


def _objection(requirement: Requirement, decision: Decision, context: DecisionContext) -> str | None:
    """Return why a decision has no effect, whatever the votes; None if it has one."""
    by, may_reject = decision.by, isinstance(decision, Reject) and not requirement.approvers
    if json_size(by) > NAME_LIMIT:
        return f"the name is too long; the limit is {NAME_LIMIT} bytes"
    if not fold_name(by):
        return f"the name {by!r} is empty or invisible"
    if not may_reject and not is_approver(by, requirement.approvers):
        who = (
            f"these may: {', '.join(requirement.approvers)}"
            if requirement.approvers
            else "no one may, but anyone can reject it"
        )
        return f"{by!r} may not decide this; {who}"
    match decision:
        case Reject():
            if decision.remember is not None and requirement.kind in {"outcome", "budget"}:
                return f"only the rejection of a call is remembered, and this asks for its {requirement.kind}"
            return None
        case SubmitResult():
            problem = _result_problem(requirement, decision)
        case SubmitInput():
            problem = _input_problem(requirement, decision)
        case _:
            problem = _approval_problem(requirement, decision)
    if problem is None and not may_approve(
        by,
        kind=requirement.kind,
        approvers=requirement.approvers,
        self_approval=requirement.self_approval,
        requested_by=context.requested_by,
    ):
        return f"{by!r} asked for this run and may not approve in it"
    return problem


def _approval_problem(requirement: Requirement, decision: Approve) -> str | None:
    if requirement.kind not in {"confirmation", "outcome", "budget"}:
        return "this call waits for a result or for values: use submit_result or submit_input, or reject it"
    special = decision.arguments is not None or decision.remember is not None
    if special and requirement.kind == "outcome":
        return "this call has an unknown outcome: approve it without changes to run it again, or submit_result"
    if special and requirement.kind == "budget":
        return "this asks for more budget: approve it as it is, or reject it"
    if decision.arguments is not None and decision.remember is not None:
        return "an approval is edited or remembered, not both: edit this call, and remember a later one"
    if decision.remember is not None and requirement.needed > 1:
        return f"it takes {requirement.needed} people, and a grant would let one decide for all of them"
    if decision.arguments is not None and json_size(decision.arguments) > OUTPUT_LIMIT:
        return f"the arguments are too long; the limit is {OUTPUT_LIMIT} bytes"
    return None


def _result_problem(requirement: Requirement, decision: SubmitResult) -> str | None:
    if requirement.kind not in {"external", "outcome"}:
        return "this call runs here and takes no result from outside: approve or reject it"
    if decision.error is not None and decision.output is not None:
        return "give an output or an error, not both"
    if json_size(decision.output) > OUTPUT_LIMIT:
        return f"the output is too long; the limit is {OUTPUT_LIMIT} bytes"
    return None


def _input_problem(requirement: Requirement, decision: SubmitInput) -> str | None:
    if requirement.kind != "input":
        return "this call takes no values: approve it, reject it, or submit_result"
    if json_size(decision.values) > OUTPUT_LIMIT:
        return f"the values are too long; the limit is {OUTPUT_LIMIT} bytes"
    return None


EFFECTS: Final[dict[RequirementKind, dict[str, str]]] = {
    "outcome": {
        SUBMIT_RESULT: "it happened, with this result",
        APPROVE: "run it again",
        REJECT: "give up; the outcome is unknown",
    },
    "budget": {APPROVE: "add the original amount and continue", REJECT: "use no more: the run ends"},
}
"""What a decision does, by its signal, for the kinds where the signal's name does not say it."""

# -- what a decision changes ------------------------------------------------------------------------------------------

_VERDICTS: Final[dict[type[Decision], Literal["approve", "reject", "submit"]]] = {
    Approve: "approve",
    Reject: "reject",
    SubmitResult: "submit",
    SubmitInput: "submit",
}


def _resolve(requirement: Requirement, event: RequirementEvent, vote: Vote, **update: object) -> Requirement:
    return requirement.model_copy(
        update={
            "status": REQUIREMENT.next(requirement.status, event),
            "votes": [*requirement.votes, vote],
            "resolved_by": vote.by,
            "resolved_at": vote.at,
            "reason": vote.reason,
            **update,
        }
    )


def _approve(requirement: Requirement, vote: Vote) -> DecisionEffect:
    voters = fold_names([earlier.by for earlier in requirement.votes])
    if fold_name(vote.by) in voters:
        detail = f"{vote.by!r} has approved it already; it takes {requirement.needed} people"
        return DecisionEffect(_result(requirement, "duplicate", detail))
    missing = requirement.needed - len(voters) - 1
    if missing > 0:
        counted = requirement.model_copy(update={"votes": [*requirement.votes, vote]})
        return DecisionEffect(_result(counted, "recorded", f"counted; {missing} more needed"), counted)
    changed = _resolve(requirement, "approve", vote, execution=None if requirement.kind == "budget" else "running")
    return DecisionEffect(_result(changed, "approved", f"approved by {vote.by}"), changed)


def _reject(requirement: Requirement, vote: Vote) -> DecisionEffect:
    changed = _resolve(requirement, "reject", vote)
    # "Rejected" would say to the model that the call did not run, which is unknown of a lost one.
    unknown = "Outcome unknown: the call may or may not have taken effect, and was given up"
    answer = unknown if requirement.kind == "outcome" else "Rejected"
    return DecisionEffect(_result(changed, "rejected", f"rejected by {vote.by}"), changed, f"{answer}: {vote.reason}")


def _submit_result(requirement: Requirement, decision: SubmitResult, vote: Vote) -> DecisionEffect:
    text = decision.error if decision.error is not None else as_text(decision.output)
    status: DecisionStatus = "failed" if decision.error is not None else "executed"
    shown = bounded(text, RESULT_SHOWN)
    changed = _resolve(requirement, "submit_result", vote, execution=status, result=shown, evidence=decision.evidence)
    answer = f"Error: {text}" if status == "failed" else text
    return DecisionEffect(_result(changed, status, f"result handed in by {vote.by}"), changed, answer)


def supersede(requirement: Requirement, decision: Approve, context: DecisionContext) -> Requirement:
    """Return the requirement after an edit has replaced it."""
    return requirement.model_copy(
        update={
            "status": REQUIREMENT.next(requirement.status, "edit"),
            "resolved_by": decision.by,
            "resolved_at": context.at,
            "reason": decision.reason,
        }
    )


def decide_by_grant(requirement: Requirement, grant: Grant, at: datetime) -> Requirement:
    """Return the requirement of a call that a grant decides: resolved by the grant's giver, never pending."""
    proof = {} if grant.proof is None else {"proof": grant.proof}
    vote = Vote(verdict=grant.verdict, by=grant.by, at=at, reason=grant.reason, channel="grant", **proof)
    if grant.verdict == "reject":
        return _resolve(requirement, "reject", vote, grant=grant.id)
    return _resolve(requirement, "grant", vote, execution="running", grant=grant.id)


def may_grant(grant: Grant, gate: Gate, requested_by: str | None) -> bool:
    """Return whether a grant may decide the calls of a gate: its giver must be one who may decide them so."""
    if gate.failed or not satisfies(grant.proof.verified.level if grant.proof else None, gate.proof):
        return False
    if grant.verdict == "reject":
        return is_approver(grant.by, gate.approvers or None)
    return (
        gate.verdict == "ask"
        and gate.needed == 1
        and may_approve(
            grant.by,
            kind="confirmation",
            approvers=gate.approvers,
            self_approval=gate.self_approval,
            requested_by=requested_by,
        )
    )


def close_requirement(requirement: Requirement, at: datetime, *, started: bool = True) -> Requirement:
    """Return the requirement after the end of its run: cancelled if it was pending, of unknown outcome if it ran.

    *started* False: its call was due to run and never started.
    """
    if requirement.execution == "running" and not started:
        return requirement.model_copy(update={"execution": "refused", "result": "Not run: the run ended first"})
    if requirement.execution == "running":
        return requirement.model_copy(update={"execution": "unknown"})
    if requirement.status != "pending":
        return requirement
    return requirement.model_copy(update={"status": REQUIREMENT.next(requirement.status, "end_run"), "resolved_at": at})


def _result(requirement: Requirement, status: DecisionStatus, detail: str) -> DecisionResult:
    return DecisionResult(status=status, requirement_id=requirement.id, tool=requirement.tool, detail=detail)


def as_text(value: object) -> str:
    """Return a JSON value as the model reads it: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else canonical(value).decode("utf-8", "replace")
