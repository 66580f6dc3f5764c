"""SSH signatures of every kind of key, made by `ssh-keygen` itself; those of a security key are checked by it."""

from __future__ import annotations

import base64
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assent.proof.approvers import Approvers
from assent.proof.ssh import armored, check_signature, string
from assent.proof.verification import ProofError, verify
from assent.wire.proofs import DecisionStatement, ProofToCheck
from tests.support.signing import SecurityKeySigner, SshSigner, times

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
STATEMENT = DecisionStatement.model_validate({
    "namespace": "default", "run": "pay-1", "execution": "e-1", "tool": "pay", "requirement": "ab" * 32,
    "verdict": "approve", "by": "bob", **times(AT),
})  # fmt: skip


def signer(folder: Path, kind: str) -> SshSigner | SecurityKeySigner:
    return SecurityKeySigner(folder, kind) if kind.endswith("-sk") else SshSigner.make(folder, "key", *kind.split())


def signer_of(raw: bytes, data: bytes) -> str:
    try:
        return check_signature(armored(raw), data, "assent-decision")
    except Exception:  # the libraries raise many kinds
        return ""


@pytest.mark.parametrize(
    "kind", ["ed25519", "ecdsa", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048", "ecdsa-sk", "ed25519-sk"]
)
def test_a_decision_is_signed_with_any_kind_of_key_and_no_byte_of_it_is_free(tmp_path: Path, kind: str) -> None:
    made = signer(tmp_path, kind)
    known = Approvers.from_toml(f'[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{made.public}"\n')
    proof = made.prove(STATEMENT)
    found = verify(ProofToCheck(statement=STATEMENT, proof=proof, at=AT), known, requested_by=None)
    assert (found.person, found.key) == ("bob", " ".join(made.public.split()[:2]))

    data, raw = STATEMENT.signed_bytes(), base64.b64decode("".join(proof.signature.splitlines()[1:-1]))
    chance = random.Random(14)  # noqa: S311 - which bytes are changed is no secret
    for _ in range(150):
        at = chance.randrange(len(raw))
        changed = bytes([*raw[:at], raw[at] ^ chance.randrange(1, 256), *raw[at + 1 :]])
        assert signer_of(changed, data) != found.key
    assert [signer_of(each, data) for each in (raw, raw[:-1], raw + b"\0", raw[:40], b"")] == [found.key, *[""] * 4]
    with pytest.raises(ValueError, match="made for something else: git"):
        check_signature(made.sign(data, "git"), data, "assent-decision")


@pytest.mark.parametrize("kind", ["ecdsa-sk", "ed25519-sk"])
@pytest.mark.parametrize(("flags", "counter", "counts"), [
    (0x05, 0, True), (0x05, 2**32 - 1, True), (0x45, 9, True), (0x01, 9, False), (0x04, 9, False), (0x00, 9, False),
])  # fmt: skip
def test_a_security_key_must_have_been_touched_and_have_verified_its_user(
    tmp_path: Path, kind: str, flags: int, counter: int, *, counts: bool
) -> None:
    made = SecurityKeySigner(tmp_path, kind, flags=flags, counter=counter)
    known = Approvers.from_toml(f'[[people]]\nname = "bob"\n[[people.keys]]\nssh = "{made.public}"\n')
    given = ProofToCheck(statement=STATEMENT, proof=made.prove(STATEMENT), at=AT)
    if counts:
        assert verify(given, known, requested_by=None).person == "bob"
    else:
        with pytest.raises(ProofError, match="has not verified its user"):
            verify(given, known, requested_by=None)


def test_the_answer_of_a_security_key_is_no_answer_of_a_key_in_a_file(tmp_path: Path) -> None:
    data, made = STATEMENT.signed_bytes(), SecurityKeySigner(tmp_path, "ed25519-sk")
    raw = base64.b64decode("".join(made.sign(data).splitlines()[1:-1]))
    assert signer_of(raw, data) == made.public
    for old, new in (
        (b"sk-ssh-ed25519@openssh.com", b"ssh-ed25519"), (b"sk-ssh-ed25519@openssh.com", b"sk-ssh-ed25519@example.com"),
        (b"ssh:", b"ssh:else"),
    ):  # fmt: skip
        # In the public key and in the signature, with their lengths, so that nothing else is wrong.
        parts = [each.replace(string(old), string(new)) for each in strings(raw[10:])]
        assert signer_of(raw[:10] + b"".join(map(string, parts)), data) == ""


def strings(raw: bytes) -> list[bytes]:
    length = int.from_bytes(raw[:4]) + 4
    return [raw[4:length], *strings(raw[length:])] if raw else []
