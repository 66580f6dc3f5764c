"""Proof of who decided: what is signed, the proof that goes with a decision, and what a check of it found.

A statement is the canonical JSON (RFC 8785) of one decision by one person on one requirement. The id of a requirement
binds tool, exact arguments, policy, quorum and deadline, so a signature over the statement is about that alone.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

ProofLevel = Literal["service", "person"]
"""What a gate asks for: a person's own key, or at least the word of a service that signed the person in."""
Method = Literal["webauthn", "sshsig", "oidc"]

NAMESPACE: Final = "assent-decision"
"""The namespace of SSH signatures, so that none made for something else is taken for a decision."""
STATEMENT: Final = "assent.decision.v1"
LONGEST_VALIDITY: Final = timedelta(days=7)
"""The longest time between the issue and the expiry of a statement."""
CLOCK_SKEW: Final = timedelta(minutes=2)
"""How far the clock that issued a statement may be ahead of the server's."""
_LEVELS: Final = {"webauthn": "person", "sshsig": "person", "oidc": "service"}


class _Exact(BaseModel):
    """A value of which every byte counts: frozen, strict, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _instant(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def instant(at: datetime) -> str:
    """Return a time as statements have it: in UTC, to the second. Not for what may be compared more finely."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Instant = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"), AfterValidator(_instant)]
"""A time in UTC to the second, as text: `2026-11-29T12:00:00Z`. As text, because its bytes are signed."""
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=4_000)]
_Armored = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Long = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class DecisionStatement(_Exact):
    """What is signed: one decision of one person.

    *run* is the run's id, *execution* Temporal's id of its first execution: for another run of that id, the signature
    does not count. *tool* names the tool. *requirement* is the whole id of the requirement (with `revoke`: of the
    grant). *content* is the SHA-256 of what else is sent, as canonical JSON: edited arguments, values, or an object
    with `output` or `error`, and `evidence`. *remember* and *reason* are digests too. None: it was not sent.
    """

    type: Literal["assent.decision.v1"] = STATEMENT
    namespace: str
    run: str
    execution: str
    tool: str
    requirement: Digest
    verdict: Literal["approve", "reject", "submit_result", "submit_input", "revoke"]
    by: str
    content: Digest | None = None
    remember: Digest | None = None
    reason: Digest | None = None
    issued_at: Instant
    expires_at: Instant

    def signed_bytes(self) -> bytes:
        """Return the bytes that are signed: UTF-8 JSON by RFC 8785. May be called in workflow code.

        Example:
            `text = (await run.statement("approve", {"id": requirement.id, "by": "bob"})).signed_bytes()`
        """
        return rfc8785.dumps(self.model_dump())

    @property
    def challenge(self) -> bytes:
        """The SHA-256 of the bytes: the challenge of a passkey."""
        return hashlib.sha256(self.signed_bytes()).digest()


def digest_of(value: object) -> str:
    """Return the SHA-256, in hex, of a JSON value in its canonical form by RFC 8785. May be called in workflow code.

    Raises:
        ValueError: a number in it is beyond what RFC 8785 can write: an integer of more than 53 bits.
    """
    return hashlib.sha256(rfc8785.dumps(value)).hexdigest()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class _Proof(_Exact):
    issued_at: Instant
    expires_at: Instant


class WebAuthnProof(_Proof):
    """The assertion of a passkey or security key, whose challenge is the SHA-256 of the statement. All in base64url."""

    kind: Literal["webauthn"]
    credential_id: _Base64
    authenticator_data: _Base64
    client_data: _Base64
    signature: _Base64


class SshProof(_Proof):
    """An SSH signature of the statement's bytes in the namespace `assent-decision`, as `ssh-keygen -Y sign` prints."""

    kind: Literal["sshsig"]
    signature: _Armored


class ServiceProof(_Proof):
    """The word of a service that signed the person in: its Ed25519 signature, in base64url, over `service_bytes`.

    *issuer* and *subject* are those of the sign-in (OpenID Connect: `iss` and `sub`), *login* the name that the issuer
    gave, *signed_in_at* when. *service* is its name in the approvers file.
    """

    kind: Literal["oidc"]
    service: _Name
    issuer: _Long
    subject: _Long
    login: _Name
    signed_in_at: Instant
    signature: _Base64


Proof = Annotated[WebAuthnProof | SshProof | ServiceProof, Field(discriminator="kind")]


def service_bytes(statement: DecisionStatement, proof: ServiceProof) -> bytes:
    """Return what a service signs: the statement, and how the person was signed in. UTF-8 JSON by RFC 8785."""
    facts = proof.model_dump(include={"service", "issuer", "subject", "login", "signed_in_at"})
    return rfc8785.dumps({"type": "assent.vouch.v1", "statement": statement.model_dump(), **facts})


class VerifiedProof(BaseModel):
    """What a check of a proof found: the person, the key, and the approvers file.

    *person* is the name in the file. *key* is the public key in the file. *key_id* is what people see of it: an SSH
    fingerprint, the id of a passkey, or the name of a service. *site* is the relying party of a passkey. *approvers* is
    the SHA-256 of the file, in hex. *namespace* is the Temporal namespace of the run.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    namespace: str
    method: Method
    person: str
    key: str
    key_id: str
    site: str = ""
    approvers: str

    @property
    def level(self) -> ProofLevel:
        """What it is good for: `person` where the person's own key signed."""
        return "service" if _LEVELS[self.method] == "service" else "person"

    @property
    def text(self) -> str:
        """What the audit says of it, in a few words."""
        match self.method:
            case "oidc":
                return f"vouched for by {self.key_id} (OIDC)"
            case "webauthn":
                return f"signed by {self.person} (passkey …{self.key_id[-4:]})"
            case _:
                return f"signed by {self.person} (SSH key {self.key_id[:14]}…)"


class DecisionProof(BaseModel):
    """A proof that arrived *at* this time and was checked, with all that it takes to check it again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    statement: DecisionStatement
    proof: Proof
    at: datetime
    verified: VerifiedProof


class ProofToCheck(BaseModel):
    """The proof of a decision that arrived *at* this time, for a worker to check, which fills in the namespace.

    *self_approval*: the requester of the run may be the one who decides.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    statement: DecisionStatement
    proof: Proof
    at: datetime
    self_approval: bool = False


def satisfies(level: ProofLevel | None, asked: ProofLevel | None) -> bool:
    """Return whether a proof of the level *level* is enough where *asked* is asked for (None: no proof)."""
    return asked is None or level in {"person", asked}


def stricter_level(*levels: ProofLevel | None) -> ProofLevel | None:
    """Return the strictest of several levels."""
    return "person" if "person" in levels else "service" if "service" in levels else None
