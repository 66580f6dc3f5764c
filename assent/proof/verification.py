"""Whether a proof holds: as its decision arrives, as the approved call is about to run, and years later.

Nothing here asks a network or a clock: a proof, the public key and a time are all that it takes. (WebAuthn Level 3,
section 7.2, by py_webauthn; PROTOCOL.sshsig of OpenSSH; Ed25519, RFC 8032, by cryptography.)
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from importlib.util import find_spec
from typing import Final, TypeVar

from assent.core.approvals import fold_name
from assent.proof.approvers import Approvers, Person
from assent.proof.ssh import check_signature
from assent.wire.errors import ConfigurationError
from assent.wire.proofs import (
    CLOCK_SKEW,
    LONGEST_VALIDITY,
    NAMESPACE,
    DecisionProof,
    DecisionStatement,
    ProofToCheck,
    ServiceProof,
    SshProof,
    VerifiedProof,
    WebAuthnProof,
    service_bytes,
)
from assent.wire.text import bounded, one_line

_SHOWN: Final = 200
_T = TypeVar("_T")


class ProofError(Exception):
    """A proof does not hold; one line for its sender."""


def check_installed() -> None:
    """Refuse to start without the libraries that check signatures.

    Raises:
        ConfigurationError: the extra `proof` is not installed.
    """
    if not all(find_spec(name) for name in ("cryptography", "sshsig", "webauthn")):
        raise ConfigurationError("proofs of decisions cannot be checked: install assent-agents[proof]")


def verify(
    to_check: ProofToCheck, approvers: Approvers, *, requested_by: str | None, since: datetime | None = None
) -> VerifiedProof:
    """Return what a proof shows, by an approvers file; the requester of the run may not decide by another name.

    With *since*, keys and people must have been valid then, if the proof arrived before.

    Raises:
        ProofError: it does not hold.
    """
    statement, proof, at = to_check.statement, to_check.proof, to_check.at
    _check_time(statement, at)
    at = max(at, since or at)
    person = approvers.person(statement.by)
    if person is None:
        raise ProofError(f"the approvers file has no person named {statement.by!r}")
    if fold_name(person.name) != fold_name(statement.by):
        raise ProofError(f"{statement.by!r} is another name of {person.name!r}, who decides as {person.name!r}")
    if not person.is_valid(at):
        raise ProofError(f"{person.name!r} may not decide any more, by the approvers file")
    if requested_by is not None and not to_check.self_approval and person.is_named(requested_by):
        raise ProofError(f"{person.name!r} asked for this run, as {requested_by!r}, and may not approve in it")
    site = ""
    match proof:
        case WebAuthnProof():
            key, site = _passkey(statement, proof, approvers, person, at)
            key_id = proof.credential_id
        case SshProof():
            key = _ssh(statement, proof, approvers, person, at)
            key_id = fingerprint(key)
        case _:
            key = _service(statement, proof, approvers, person, at)
            key_id = proof.service
    return VerifiedProof(
        namespace=statement.namespace, method=proof.kind, person=person.name, key=key, key_id=key_id, site=site,
        approvers=approvers.digest,
    )  # fmt: skip


def recheck(recorded: DecisionProof, approvers: Approvers | None = None, since: datetime | None = None) -> str | None:
    """Return what is wrong with a proof that was checked before; None if it still holds.

    Everything is worked out again from the proof and the public key that was recorded with it; with *approvers*, also
    whether that key was the person's then, by this file; at the time *since* if it arrived before.
    """
    statement, verified = recorded.statement, recorded.verified
    if verified.method != recorded.proof.kind:
        return "the record of its check is about another kind of proof"
    if verified.namespace != statement.namespace:
        return "the record of its check is about another namespace"
    if fold_name(verified.person) != fold_name(statement.by):
        return f"it is that of {verified.person!r}, not of {statement.by!r}"
    try:
        _check_time(statement, recorded.at)
        if _key_id(recorded) != verified.key_id:
            return "the record of its check is about another key"
        if approvers is not None:
            to_check = ProofToCheck(statement=statement, proof=recorded.proof, at=recorded.at, self_approval=True)
            verified_again = verify(to_check, approvers, requested_by=None, since=since)
            if verified_again.model_copy(update={"approvers": ""}) != verified.model_copy(update={"approvers": ""}):
                return "the approvers file has another key for it than was recorded"
    except ProofError as error:
        return str(error)
    return None


def _key_id(recorded: DecisionProof) -> str:
    """Check a proof with the public key of the record of its check, and return the id of the key that made it."""
    statement, verified = recorded.statement, recorded.verified
    match recorded.proof:
        case WebAuthnProof() as proof:
            _check_passkey(statement, proof, verified.key, verified.site, None)
            return proof.credential_id
        case SshProof() as proof:
            key = _check_ssh(statement, proof)
            return fingerprint(key) if key == verified.key else ""
        case proof:
            _check_service(statement, proof, verified.key)
            return proof.service


def covers(
    recorded: DecisionProof,
    *,
    namespace: str,
    run_id: str,
    execution_id: str,
    tool: str,
    requirement_id: str,
    arguments: str,
    values: str | None = None,
) -> str | None:
    """Return why a proof is not about this call; None if it is.

    *arguments* and *values* are digests of what runs, *execution_id* is that of the run's first execution. The proof
    names the requirement itself; or one that an edit replaced, with the digest of exactly these arguments; or it gave a
    grant.
    """
    statement = recorded.statement
    if (statement.namespace, statement.run, statement.execution) != (namespace, run_id, execution_id):
        return "it is about another run"
    if statement.tool != tool:
        return f"it is about another tool, {bounded(statement.tool, _SHOWN)!r}"
    if statement.verdict not in {"approve", "submit_input"}:
        return f"it is about another decision: {statement.verdict}"
    if statement.verdict == "submit_input":
        same = statement.requirement == requirement_id and statement.content == values
        return None if same else "it is about other values"
    if statement.content is not None:
        return None if statement.content == arguments else "it is about other arguments"
    if statement.requirement != requirement_id and statement.remember is None:
        return "it is about another call"
    return None


# -- the parts --------------------------------------------------------------------------------------------------------


def _check_time(statement: DecisionStatement, at: datetime) -> None:
    issued, expires = datetime.fromisoformat(statement.issued_at), datetime.fromisoformat(statement.expires_at)
    if issued > at + CLOCK_SKEW:
        raise ProofError(f"the proof was issued in the future, at {statement.issued_at}; check the clock of its sender")
    if at > expires:
        raise ProofError(f"the proof expired at {statement.expires_at}; sign again")
    if expires - issued > LONGEST_VALIDITY:
        raise ProofError(f"the proof is valid for more than {LONGEST_VALIDITY.days} days; sign again")


def _passkey(
    statement: DecisionStatement, proof: WebAuthnProof, approvers: Approvers, person: Person, at: datetime
) -> tuple[str, str]:
    """Check a passkey's signature, and return its public key and the site that it is for."""
    owned = list(approvers.passkey(proof.credential_id))
    key = _in_force([(owner, each.public_key, each.is_valid(at)) for owner, each in owned], person, "passkey")
    if approvers.site is None:
        raise ProofError("the approvers file names no site for passkeys: [site]")
    _check_passkey(statement, proof, key, approvers.site.rp_id, list(approvers.site.origins))
    return key, approvers.site.rp_id


def _check_passkey(
    statement: DecisionStatement, proof: WebAuthnProof, key: str, site: str, origins: list[str] | None
) -> None:
    from webauthn import verify_authentication_response  # noqa: PLC0415 - an extra, and slow to import
    from webauthn.helpers import parse_client_data_json  # noqa: PLC0415 - as above
    from webauthn.helpers.structs import (  # noqa: PLC0415 - as above
        AuthenticationCredential,
        AuthenticatorAssertionResponse,
    )

    client_data = _bytes(proof.client_data)
    credential = AuthenticationCredential(
        id=proof.credential_id,
        raw_id=_bytes(proof.credential_id),
        response=AuthenticatorAssertionResponse(
            client_data_json=client_data,
            authenticator_data=_bytes(proof.authenticator_data),
            signature=_bytes(proof.signature),
        ),
    )

    def check() -> object:
        # Years later the origins of the file are not known: the relying party, which is signed too, bounds them.
        allowed = [parse_client_data_json(client_data).origin] if origins is None else origins
        return verify_authentication_response(
            credential=credential,
            expected_challenge=statement.challenge,
            expected_rp_id=site,
            expected_origin=allowed,
            credential_public_key=_bytes(key),
            credential_current_sign_count=0,
            require_user_verification=True,
        )

    _checked(check, "the passkey's signature")


def _ssh(statement: DecisionStatement, proof: SshProof, approvers: Approvers, person: Person, at: datetime) -> str:
    """Check an SSH signature, and return the public key, which is the person's."""
    key = _check_ssh(statement, proof)
    owned = list(approvers.ssh_key(key))
    _in_force([(owner, each.ssh, each.is_valid(at)) for owner, each in owned], person, "SSH key")
    return key


def _check_ssh(statement: DecisionStatement, proof: SshProof) -> str:
    """Check an SSH signature, and return the public key that made it."""
    return _checked(lambda: check_signature(proof.signature, statement.signed_bytes(), NAMESPACE), "the SSH signature")


def fingerprint(key: str) -> str:
    """The fingerprint of an SSH key, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(sha256(base64.b64decode(key.split()[1])).digest()).decode().rstrip("=")


def _service(
    statement: DecisionStatement, proof: ServiceProof, approvers: Approvers, person: Person, at: datetime
) -> str:
    """Check the word of a service, and return its public key."""
    service = next((each for each in approvers.services if each.name == proof.service and each.is_valid(at)), None)
    if service is None:
        raise ProofError(f"the approvers file has no service named {proof.service!r} that may vouch for people now")
    if proof.issuer not in {each.url for each in approvers.issuers}:
        raise ProofError(f"the approvers file does not know who signed the person in: {proof.issuer}")
    if approvers.signed_in(proof.issuer, proof.login) is not person:
        raise ProofError(f"{proof.issuer} signed in {proof.login!r}, who is not {person.name!r} by the approvers file")
    _check_service(statement, proof, service.public_key)
    return service.public_key


def _check_service(statement: DecisionStatement, proof: ServiceProof, key: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - an extra

    def check() -> None:
        public = Ed25519PublicKey.from_public_bytes(_bytes(key))
        public.verify(_bytes(proof.signature), service_bytes(statement, proof))

    _checked(check, "the service's signature")


def _in_force(owned: list[tuple[Person, str, bool]], person: Person, what: str) -> str:
    """Return the key that is *person*'s and valid. Of several entries of one key, any valid one will do."""
    theirs = [(key, valid) for owner, key, valid in owned if owner is person]
    if owned and not theirs:
        raise ProofError(f"the {what} is that of {owned[0][0].name!r}, not of {person.name!r}")
    if not theirs:
        raise ProofError(f"the {what} is in no entry of the approvers file")
    key = next((key for key, valid in theirs if valid), None)
    if key is None:
        raise ProofError(f"the {what} of {person.name!r} is not valid now: it was revoked, has expired, or is of later")
    return key


def _bytes(text: str) -> bytes:
    """Decode base64url without padding; any other spelling of the same bytes is refused."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        data = b""
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise ProofError("a part of the proof is not base64url without padding")
    return data


def _checked(check: Callable[[], _T], what: str) -> _T:
    """Return what *check* returns. Libraries raise many kinds of errors about bytes that anybody may have sent."""
    try:
        return check()
    except ProofError:
        raise
    except Exception as error:  # whatever a library raises: the proof does not hold
        words = bounded(one_line(str(error)) or type(error).__name__, _SHOWN)
        raise ProofError(f"{what} does not hold: {words}") from None
