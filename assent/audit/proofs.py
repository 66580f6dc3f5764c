"""The check of proofs: each signature of a decision is checked again, from the history alone."""

from __future__ import annotations

from collections.abc import Iterator

from assent.audit.checks import CHECK_TEXTS, SHOWN, Check, Problem, Verification
from assent.audit.records import ApprovalRecord, Audit
from assent.core.approvals import fold_name, fold_names
from assent.proof.approvers import Approvers
from assent.proof.verification import check_installed, covers, recheck
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError
from assent.wire.proofs import DecisionProof, digest_of, satisfies
from assent.wire.requirements import RunState, Vote


def check_proofs(audit: Audit, approvers: Approvers | None = None) -> Check:
    """Check each proof again, and that each decision that needs one has it.

    The public key is the one that the worker recorded; with *approvers*, it must be the person's by that file, as of
    the time of the decision.

    Raises:
        ConfigurationError: there are proofs, and the extra `proof` is not installed.
    """
    proven = [(record, vote) for record in audit.approvals for vote in record.votes if vote.proof is not None]
    if proven:
        check_installed()
    problems = [
        Problem(text=text, events=[record.resolved or record.opened])
        for record in audit.approvals
        for text in _problems(record, audit.state, approvers)
    ]
    # No history has its own namespace: that is for the reader to compare.
    namespaces = sorted({vote.proof.statement.namespace for _, vote in proven if vote.proof is not None})
    if len(namespaces) > 1:
        problems.append(Problem(text=f"proofs are for several namespaces: {', '.join(namespaces)}"))
    where = f", in namespace {namespaces[0]}" if len(namespaces) == 1 else ""
    claimed = sum(vote.proof is None for record in audit.approvals for vote in record.votes)
    return Check(
        name="proofs",
        text=f"{CHECK_TEXTS['proofs']}: {len(proven)} proven{where}, {claimed} claimed",
        verdict="failed" if problems else "ok",
        looked_at=len(proven),
        problems=problems[:SHOWN],
        more=max(0, len(problems) - SHOWN),
    )


def with_approvers(verification: Verification, audit: Audit, approvers: Approvers) -> Verification:
    """Return a verification whose proofs are also checked against an approvers file.

    Raises:
        ConfigurationError: as `check_proofs`.
    """
    checked_again = check_proofs(audit, approvers)
    checks = [checked_again if each.name == "proofs" else each for each in verification.checks]
    return verification.model_copy(update={"checks": checks, "ok": verification.ok and checked_again.verdict == "ok"})


def _problems(record: ApprovalRecord, run: RunState, approvers: Approvers | None) -> Iterator[str]:
    name = f"requirement {record.short_id} ({record.tool})"
    proven: list[str] = []
    for vote in record.votes:
        problem = None if vote.proof is None else _problem(record, vote, vote.proof, run, approvers)
        if problem is not None:
            yield f"{name}: the proof of {vote.by!r} does not hold: {problem}"
        elif satisfies(None if vote.proof is None else vote.proof.verified.level, record.proof):
            proven.append(vote.by)
    if record.proof is not None and record.status == "approved" and len(fold_names(proven)) < record.needed:
        yield f"{name} needed {record.needed} decisions proven by a {record.proof}, and has {len(fold_names(proven))}"
    if record.proof is not None and record.status == "rejected" and record.votes and record.votes[-1].by not in proven:
        yield f"{name} was rejected without the proof that it needs"


def _problem(
    record: ApprovalRecord, vote: Vote, proof: DecisionProof, run: RunState, approvers: Approvers | None
) -> str | None:
    if (problem := recheck(proof, approvers)) is not None:
        return problem
    statement = proof.statement
    if fold_name(statement.by) != fold_name(vote.by):
        return f"it is that of {statement.by!r}"
    if proof.at > vote.at:
        return "it arrived after it counted"
    verdicts = {"approve": {"approve"}, "reject": {"reject"}, "submit": {"submit_result", "submit_input"}}
    if statement.verdict not in verdicts[vote.verdict]:
        return f"it is about another decision: {statement.verdict}"
    if (statement.run, statement.execution) != (run.id, run.first_execution_id):
        return "it is about another run"
    if vote.verdict == "reject" or statement.verdict == "submit_result":
        granted = record.grant is not None and statement.remember is not None
        return None if statement.requirement == record.id or granted else "it is about another call"
    return covers(
        proof,
        namespace=statement.namespace,
        run_id=run.id,
        execution_id=run.first_execution_id,
        tool=record.tool,
        requirement_id=record.id,
        arguments=_digest(record.arguments),
        values=None if record.values is None else digest_of(record.values),
    )


def _digest(arguments: str | None) -> str:
    try:
        return digest_of(parse_arguments(arguments or ""))
    except (ArgumentsError, ValueError):  # No one can have signed these.
        return ""
