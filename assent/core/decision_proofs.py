"""The statement of a decision, which a person signs: made of the message that is sent, never by hand.

Sender, worker and audit make the same statement of the same message, so that a proof fits that message alone.
"""

from datetime import datetime

from assent.core.approvals import excludes_requester
from assent.core.run_state import Run
from assent.wire.messages import Approve, Reject, Revoke, SubmitInput, SubmitResult
from assent.wire.proofs import DecisionProof, DecisionStatement, ProofToCheck, VerifiedProof, digest_of
from assent.wire.protocol import APPROVE, REJECT, REVOKE, SUBMIT_INPUT, SUBMIT_RESULT
from assent.wire.requirements import Grant, Requirement

Provable = Approve | Reject | SubmitResult | SubmitInput | Revoke
_VERDICTS = {Approve: APPROVE, Reject: REJECT, SubmitResult: SUBMIT_RESULT, SubmitInput: SUBMIT_INPUT, Revoke: REVOKE}


def statement_of(
    message: Provable,
    *,
    namespace: str,
    run_id: str,
    execution_id: str,
    tool: str,
    requirement_id: str,
    issued_at: str,
    expires_at: str,
) -> DecisionStatement:
    """Return what the sender of *message* signs. Times as `2026-11-29T12:00:00Z`.

    *execution_id* is Temporal's id of the run's first execution, *requirement_id* the whole id of the requirement.

    May be called in workflow code.

    Raises:
        ValueError: what is sent has an integer of more than 53 bits, which no canonical JSON has.
    """
    content, remember = _content(message), getattr(message, "remember", None)
    reason: str | None = getattr(message, "reason", None)
    return DecisionStatement(
        namespace=namespace,
        run=run_id,
        execution=execution_id,
        tool=tool,
        requirement=requirement_id,
        verdict=_VERDICTS[type(message)],  # type: ignore[arg-type]
        by=message.by,
        content=None if content is None else digest_of(content),
        remember=None if remember is None else digest_of(remember.model_dump(mode="json", exclude_none=True)),
        reason=None if reason is None else digest_of(reason),
        issued_at=issued_at,
        expires_at=expires_at,
    )


def _content(message: Provable) -> object:
    match message:
        case Approve():
            return message.arguments
        case SubmitInput():
            return message.values
        case SubmitResult():
            result = {"output": message.output} if message.error is None else {"error": message.error}
            return result if message.evidence is None else {**result, "evidence": message.evidence}
        case _:
            return None


def proof_to_check(run: Run, message: Provable, target: Requirement | Grant, at: datetime) -> ProofToCheck | None:
    """Return what a worker checks of the proof of a message that arrived *at* this time; None if it has none.

    *target* is what it is about. Raises ValueError as `statement_of`.
    """
    proof = message.proof
    if proof is None:
        return None
    statement = statement_of(
        message,
        namespace="",  # The worker fills it in: a reader of a history does not know it.
        run_id=run.id,
        execution_id=run.first_execution_id,
        tool=target.tool,
        requirement_id=target.id,
        issued_at=proof.issued_at,
        expires_at=proof.expires_at,
    )
    allowed = isinstance(message, Reject) or not (
        isinstance(target, Requirement) and excludes_requester(target.kind, self_approval=target.self_approval)
    )
    return ProofToCheck(statement=statement, proof=proof, at=at, self_approval=allowed)


def checked_proof(asked: ProofToCheck | None, verified: VerifiedProof | None) -> DecisionProof | None:
    """Return a proof that a worker has checked, to be kept with the vote."""
    if asked is None or verified is None:
        return None
    statement = asked.statement.model_copy(update={"namespace": verified.namespace})
    return DecisionProof(statement=statement, proof=asked.proof, at=asked.at, verified=verified)
