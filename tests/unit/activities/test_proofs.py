"""The proofs of an approved call, checked again by the activity of its tool: what a forged check result lets run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from assent.activities.proofs import Proofs
from assent.proof.approvers import Approvers, ApproversFile
from assent.proof.verification import ProofError, fingerprint
from assent.wire.errors import ConfigurationError
from assent.wire.proofs import DecisionProof, DecisionStatement, ProofToCheck, VerifiedProof, digest_of
from assent.wire.protocol import WORKFLOW, Authorization
from tests.support.signing import SshSigner, times

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
REQUIREMENT = "ab" * 32


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> SshSigner:
    return SshSigner.make(tmp_path_factory.mktemp("keys"), "bob")


def proof_of(signer: SshSigner, by: str = "bob", **changes: object) -> DecisionProof:
    """A proof as a worker that anybody may have run says that it checked it."""
    fields = {
        "namespace": "default",
        "run": "pay-1",
        "execution": "e",
        "tool": "pay",
        "requirement": REQUIREMENT,
        "verdict": "approve",
        "by": by,
    }
    statement = DecisionStatement.model_validate({**fields, **times(AT), **changes})
    kind, key = signer.public.split()[:2]
    public = f"{kind} {key}"
    verified = VerifiedProof(
        namespace="default", method="sshsig", person=by, key=public, key_id=fingerprint(public), approvers="00"
    )
    return DecisionProof(statement=statement, proof=signer.prove(statement), at=AT, verified=verified)


def problem(
    bob: SshSigner,
    *proofs: DecisionProof,
    needed: int = 1,
    by: tuple[str, ...] = ("bob",),
    until: str = "",
    since: datetime = AT,
) -> str | None:
    """Why the activity does not run a call with these proofs."""
    known = Approvers.from_toml(f'[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{bob.public}"\n{until}\n')
    authorization = Authorization(
        requirement_id=REQUIREMENT,
        nonce="n",
        policy_version="p",
        needed=needed,
        approved_by=list(by),
        execution_id="e",
        proof="person",
        proofs=list(proofs),
    )
    env = ActivityEnvironment()
    env.info = replace(
        env.info,
        workflow_type=WORKFLOW,
        workflow_id="pay-1",
        workflow_run_id="e",
        namespace="default",
        activity_type="pay",
    )
    check = Proofs(lambda: known, "person").problem
    return env.run(lambda: check(authorization, "{}", since=since))


def test_a_call_runs_with_the_proof_that_its_requirement_needs(bob: SshSigner) -> None:
    assert problem(bob, proof_of(bob)) is None


def test_a_call_whose_check_was_forged_does_not_run(bob: SshSigner, tmp_path: Path) -> None:
    assert problem(bob) == "the call has 0 of 1 approvals with a proof"
    mallory = SshSigner.make(tmp_path, "mallory")
    assert "is in no entry of the approvers file" in str(problem(bob, proof_of(mallory)))
    other = proof_of(bob).model_copy(update={"statement": proof_of(bob, requirement="cd" * 32).statement})
    assert "does not hold" in str(problem(bob, other))
    assert "it is about another call" in str(problem(bob, proof_of(bob, requirement="cd" * 32)))
    assert "it is about another run" in str(problem(bob, proof_of(bob, run="pay-2")))
    assert "it is about another run" in str(problem(bob, proof_of(bob, execution="e-2")))
    for verdict in ("reject", "revoke", "submit_result"):  # A result may have the digest that the arguments have.
        given = proof_of(bob, verdict=verdict, content=digest_of({}))
        assert f"it is about another decision: {verdict}" in str(problem(bob, given))


def test_a_carried_proof_needs_a_key_that_is_valid_as_the_execution_begins(bob: SshSigner) -> None:
    # Who may signal can continue a run as new with any state, and say there that a revoked key signed long ago.
    until = "valid_until = 2026-11-29T13:00:00Z"
    assert problem(bob, proof_of(bob), until=until) is None
    assert problem(bob, proof_of(bob), until=until, since=AT + timedelta(minutes=59)) is None
    late = problem(bob, proof_of(bob), until=until, since=AT + timedelta(hours=1))
    assert "does not hold any more: the SSH key of 'bob' is not valid now" in str(late)


def test_one_proof_is_one_approval(bob: SshSigner) -> None:
    proof = proof_of(bob)
    assert "1 of 2" in str(problem(bob, proof, proof, needed=2, by=("bob", "carol")))


def test_a_worker_without_an_approvers_file_runs_nothing_that_needs_a_proof(bob: SshSigner) -> None:
    authorization = Authorization(
        requirement_id=REQUIREMENT, nonce="n", policy_version="p", needed=1, execution_id="e", proof="person"
    )
    assert Proofs().problem(authorization, "{}", since=AT) == "the call has 0 of 1 approvals with a proof"
    with pytest.raises(ProofError, match="no approvers file"):
        Proofs().verify(ProofToCheck(statement=proof_of(bob).statement, proof=proof_of(bob).proof, at=AT), None)


def test_a_file_that_was_broken_proves_nothing_until_it_is_mended(bob: SshSigner, tmp_path: Path) -> None:
    path = tmp_path / "approvers.toml"
    good = f'[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{bob.public}"\n'
    path.write_text(good)
    file = ApproversFile(path)
    assert file.current().person("BOB") is not None
    path.write_text(good + "[[people]]\n")
    with pytest.raises(ConfigurationError, match=r"people\.1\.name"):
        file.current()
    path.write_text(good + '[[people]]\nname = "carol"\n')
    assert file.current().person("carol") is not None
