"""The check of proofs in an audit: each must be of the audited run, and all of one namespace."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import pytest

from assent.audit.checks import Check
from assent.audit.proofs import check_proofs
from assent.audit.records import ApprovalRecord, Audit, Citation, RunRecord
from assent.proof.verification import fingerprint
from assent.wire.proofs import DecisionProof, DecisionStatement, VerifiedProof
from assent.wire.protocol import Stored
from assent.wire.requirements import RunState, Vote
from tests.support.signing import SshSigner, times

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
_T = TypeVar("_T", bound=Stored)
IDS = ("ab" * 32, "cd" * 32)


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> SshSigner:
    return SshSigner.make(tmp_path_factory.mktemp("keys"), "bob")


def of(model: type[_T], **fields: object) -> _T:
    """Those fields of a record that the check reads."""
    return cast("_T", cast("Any", model).model_construct(**fields))


def record(bob: SshSigner, identity: str, verdict: str, **changes: str) -> ApprovalRecord:
    fields = {
        "namespace": "default", "run": "pay-1", "execution": "e", "tool": "pay", "requirement": identity, "by": "bob",
        "verdict": verdict, **changes,
    }  # fmt: skip
    statement = DecisionStatement.model_validate({**fields, **times(AT)})
    key = " ".join(bob.public.split()[:2])
    verified = VerifiedProof(
        namespace=statement.namespace, method="sshsig", person="bob", key=key, key_id=fingerprint(key), approvers="00"
    )
    proof = DecisionProof(statement=statement, proof=bob.prove(statement), at=AT, verified=verified)
    vote = Vote.model_validate({"verdict": verdict, "by": "bob", "at": AT, "channel": "signal", "proof": proof})
    status = "approved" if verdict == "approve" else "rejected"
    return of(
        ApprovalRecord,
        id=identity, tool="pay", votes=[vote], status=status, needed=1, proof="person", arguments="{}", values=None,
        grant=None, opened=Citation(execution_id="e", event_id=5), resolved=None,
    )  # fmt: skip


def check(*records: ApprovalRecord) -> Check:
    run = of(RunRecord, run_id="pay-1")
    state = of(RunState, id="pay-1", first_execution_id="e")
    return check_proofs(Audit(run, records, (), (), (), (), (), state))


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_a_proof_of_another_execution_or_run_is_found(bob: SshSigner, verdict: str) -> None:
    found = check(record(bob, IDS[0], verdict))
    assert (found.verdict, "1 proven, in namespace default, 0 claimed" in found.text) == ("ok", True)
    for change in ({"execution": "e-2"}, {"run": "pay-2"}):
        found = check(record(bob, IDS[0], verdict, **change))
        assert found.verdict == "failed"
        assert "the proof of 'bob' does not hold: it is about another run" in found.problems[0].text


def test_proofs_of_several_namespaces_are_found(bob: SshSigner) -> None:
    found = check(record(bob, IDS[0], "approve"), record(bob, IDS[1], "approve", namespace="test"))
    assert [each.text for each in found.problems] == ["proofs are for several namespaces: default, test"]
