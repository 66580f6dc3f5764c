"""People who sign decisions: with real `ssh-keygen` keys, with a passkey made here, and a service that vouches."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from assent.proof.ssh import armored, signed_bytes, string
from assent.wire.proofs import (
    NAMESPACE,
    DecisionStatement,
    ServiceProof,
    SshProof,
    WebAuthnProof,
    instant,
    service_bytes,
)

SITE = "approvals.example"
ORIGIN = f"https://{SITE}"
ISSUER = "https://login.example"
SERVICE = "approvals.example"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def times(at: datetime, valid: timedelta = timedelta(minutes=10)) -> dict[str, str]:
    return {"issued_at": instant(at), "expires_at": instant(at + valid)}


def ssh_keygen() -> str:
    """The path of OpenSSH's program; a test that needs it is skipped on a machine that does not have it."""
    return shutil.which("ssh-keygen") or pytest.skip("ssh-keygen is not on this machine")


@dataclass(frozen=True)
class SshSigner:
    """A key of ssh-keygen's, in a file."""

    path: Path

    @classmethod
    def make(cls, folder: Path, name: str, *kind: str) -> SshSigner:
        path = folder / name
        subprocess.run(
            [ssh_keygen(), "-q", "-t", *(kind or ["ed25519"]), "-N", "", "-C", name, "-f", str(path)],
            check=True,
            timeout=60,
        )
        return cls(path)

    @property
    def public(self) -> str:
        return self.path.with_suffix(".pub").read_text().strip()

    def sign(self, data: bytes, namespace: str = NAMESPACE) -> str:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        return subprocess.run(command, input=data, check=True, capture_output=True, timeout=60).stdout.decode()

    def prove(self, statement: DecisionStatement, namespace: str = NAMESPACE) -> SshProof:
        signature = self.sign(statement.signed_bytes(), namespace)
        return SshProof(
            kind="sshsig", signature=signature, issued_at=statement.issued_at, expires_at=statement.expires_at
        )


class SecurityKeySigner:
    """An SSH key on a security key, as PROTOCOL.u2f of OpenSSH describes it, in software.

    *kind* is `ed25519-sk` or `ecdsa-sk`. *flags* are those of its answer: 1 is a touch, 4 that it verified its user.
    """

    def __init__(self, folder: Path, kind: str = "ecdsa-sk", *, flags: int = 0x05, counter: int = 9) -> None:
        if kind == "ed25519-sk":
            edwards = ed25519.Ed25519PrivateKey.generate()
            self._kind, public = "sk-ssh-ed25519@openssh.com", [edwards.public_key().public_bytes_raw()]
            self._value: Callable[[bytes], bytes] = edwards.sign
        else:
            curve = ec.generate_private_key(ec.SECP256R1())
            point = curve.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            self._kind, public = "sk-ecdsa-sha2-nistp256@openssh.com", [b"nistp256", point]
            self._value = lambda data: b"".join(
                string(each.to_bytes(each.bit_length() // 8 + 1))
                for each in decode_dss_signature(curve.sign(data, ECDSA(hashes.SHA256())))
            )
        self._blob = b"".join(map(string, (self._kind.encode(), *public, b"ssh:")))
        self._counted = bytes([flags]) + counter.to_bytes(4)
        self.public = f"{self._kind} {base64.b64encode(self._blob).decode()}"
        self._folder = folder

    def sign(self, data: bytes, namespace: str = NAMESPACE) -> str:
        inner = hashlib.sha256(signed_bytes(data, namespace)).digest()
        value = self._value(hashlib.sha256(b"ssh:").digest() + self._counted + inner)
        made = string(self._kind.encode()) + string(value) + self._counted
        parts = (self._blob, namespace.encode(), b"", b"sha512", made)
        text = armored(b"SSHSIG" + (1).to_bytes(4) + b"".join(map(string, parts)))
        # That the format is right, OpenSSH itself says.
        path = self._folder / "sk.sig"
        path.write_text(text + "\n")
        command = [ssh_keygen(), "-Y", "check-novalidate", "-n", namespace, "-s", str(path)]
        subprocess.run(command, input=data, check=True, capture_output=True, timeout=60)
        return text

    def prove(self, statement: DecisionStatement) -> SshProof:
        return SshProof(
            kind="sshsig", signature=self.sign(statement.signed_bytes()), issued_at=statement.issued_at,
            expires_at=statement.expires_at,
        )  # fmt: skip


class PasskeySigner:
    """An authenticator as WebAuthn describes one, in software: its assertions are made byte by byte."""

    def __init__(self, identity: bytes = b"passkey-of-somebody-0001") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = base64url(identity)

    @property
    def public(self) -> str:
        numbers = self._key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        return base64url(cbor2.dumps(cose))

    def prove(
        self, statement: DecisionStatement, *, origin: str = ORIGIN, site: str = SITE, verified: bool = True
    ) -> WebAuthnProof:
        made = self.answer(base64url(statement.challenge), origin=origin, site=site, verified=verified)
        return WebAuthnProof(
            kind="webauthn",
            credential_id=self.credential_id,
            authenticator_data=made["authenticatorData"],
            client_data=made["clientDataJSON"],
            signature=made["signature"],
            issued_at=statement.issued_at,
            expires_at=statement.expires_at,
        )

    def answer(self, challenge: str, *, origin: str, site: str, verified: bool = True) -> dict[str, str]:
        client_data = json.dumps(
            {"type": "webauthn.get", "challenge": challenge, "origin": origin, "crossOrigin": False}
        ).encode()
        flags = 0x01 | (0x04 if verified else 0)
        authenticator_data = hashlib.sha256(site.encode()).digest() + bytes([flags]) + (7).to_bytes(4)
        signed = authenticator_data + hashlib.sha256(client_data).digest()
        return {
            "authenticatorData": base64url(authenticator_data),
            "clientDataJSON": base64url(client_data),
            "signature": base64url(self._key.sign(signed, ECDSA(hashes.SHA256()))),
        }


class ServiceSigner:
    """A service that signs people in and vouches for them."""

    def __init__(self, name: str = SERVICE) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()
        self.name = name

    @property
    def public(self) -> str:
        return base64url(self._key.public_key().public_bytes_raw())

    def prove(self, statement: DecisionStatement, login: str, issuer: str = ISSUER) -> ServiceProof:
        unsigned = ServiceProof(
            kind="oidc",
            service=self.name,
            issuer=issuer,
            subject="00u1",
            login=login,
            signed_in_at=statement.issued_at,
            signature="AA",
            issued_at=statement.issued_at,
            expires_at=statement.expires_at,
        )
        signature = base64url(self._key.sign(service_bytes(statement, unsigned)))
        return unsigned.model_copy(update={"signature": signature})

    def prove_as_person(self, statement: DecisionStatement) -> SshProof:
        """Sign as a person would whose SSH key the service's key is."""
        kind = b"ssh-ed25519"
        blob = string(kind) + string(self._key.public_key().public_bytes_raw())
        made = string(kind) + string(self._key.sign(signed_bytes(statement.signed_bytes(), NAMESPACE)))
        text = armored(
            b"SSHSIG" + (1).to_bytes(4) + b"".join(map(string, (blob, NAMESPACE.encode(), b"", b"sha512", made)))
        )
        return SshProof(kind="sshsig", signature=text, issued_at=statement.issued_at, expires_at=statement.expires_at)


def approvers_with_bob(bob: SshSigner, service: ServiceSigner, validity: str = "") -> str:
    """The beginning of an approvers file: the site, who vouches, and bob of finance with his SSH key."""
    return f"""
[site]
rp_id = "{SITE}"
origins = ["{ORIGIN}"]

[[issuers]]
url = "{ISSUER}"

[[services]]
name = "{service.name}"
public_key = "{service.public}"

[[people]]
name = "bob"
also_known_as = ["bob@example.com"]
logins = {{ "{ISSUER}" = "bob@example.com" }}
groups = ["finance"]

[[people.keys]]
ssh = "{bob.public}"
{validity}
"""
