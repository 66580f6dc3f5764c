"""Whether a proof holds: as its decision arrives, as the approved call is about to run, and years later.

Nothing here asks a network or a clock: a proof, the public key and a time are all that it takes. (WebAuthn Level 3,
section 7.2, by py_webauthn; PROTOCOL.sshsig of OpenSSH; Ed25519, RFC 8032, by cryptography.)

Not in workflow code: signatures are checked in activities.
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
        message = "proofs of decisions cannot be checked: install assent-agents[proof]"
        raise ConfigurationError(message)


def verify(
    given: ProofToCheck, approvers: Approvers, *, requested_by: str | None, since: datetime | None = None
) -> VerifiedProof:
    """Return what a proof shows, by an approvers file; the requester of the run may not decide by another name.

    With *since*, keys and people must have been valid then, if the proof arrived before.

    Raises:
        ProofError: it does not hold.
    """
    statement, proof, at = given.statement, given.proof, given.at
    _check_time(statement, at)
    at = max(at, since or at)
    person = approvers.person(statement.by)
    if person is None:
        message = f"the approvers file has no person named {statement.by!r}"
        raise ProofError(message)
    if fold_name(person.name) != fold_name(statement.by):
        message = f"{statement.by!r} is another name of {person.name!r}, who decides as {person.name!r}"
        raise ProofError(message)
    if not person.is_valid(at):
        message = f"{person.name!r} may not decide any more, by the approvers file"
        raise ProofError(message)
    if requested_by is not None and not given.self_approval and person.is_named(requested_by):
        message = f"{person.name!r} asked for this run, as {requested_by!r}, and may not approve in it"
        raise ProofError(message)
    match proof:
        case WebAuthnProof():
            return _passkey(statement, proof, approvers, person, at)
        case SshProof():
            return _ssh(statement, proof, approvers, person, at)
        case _:
            return _service(statement, proof, approvers, person, at)


def recheck(given: DecisionProof, approvers: Approvers | None = None, since: datetime | None = None) -> str | None:
    """Return what is wrong with a proof that was checked before; None if it still holds.

    Everything is worked out again from the proof and the public key that was recorded with it; with *approvers*, also
    whether that key was the person's then, by this file; at the time *since* if it arrived before.
    """
    statement, verified = given.statement, given.verified
    if verified.method != given.proof.kind:
        return "the record of its check is about another kind of proof"
    if verified.namespace != statement.namespace:
        return "the record of its check is about another namespace"
    if fold_name(verified.person) != fold_name(statement.by):
        return f"it is that of {verified.person!r}, not of {statement.by!r}"
    try:
        _check_time(statement, given.at)
        if _key_id(given) != verified.key_id:
            return "the record of its check is about another key"
        if approvers is not None:
            to_check = ProofToCheck(statement=statement, proof=given.proof, at=given.at, self_approval=True)
            found = verify(to_check, approvers, requested_by=None, since=since)
            if found.model_copy(update={"approvers": ""}) != verified.model_copy(update={"approvers": ""}):
                return "the approvers file has another key for it than was recorded"
    except ProofError as error:
        return str(error)
    return None


def _key_id(given: DecisionProof) -> str:
    """Check a proof with the public key of the record of its check, and return the id of the key that made it."""
    statement, verified = given.statement, given.verified
    match given.proof:
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
    given: DecisionProof,
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
    statement = given.statement
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
        message = f"the proof was issued in the future, at {statement.issued_at}; check the clock of its sender"
        raise ProofError(message)
    if at > expires:
        message = f"the proof expired at {statement.expires_at}; sign again"
        raise ProofError(message)
    if expires - issued > LONGEST_VALIDITY:
        message = f"the proof is valid for more than {LONGEST_VALIDITY.days} days; sign again"
        raise ProofError(message)


def _passkey(
    statement: DecisionStatement, proof: WebAuthnProof, approvers: Approvers, person: Person, at: datetime
) -> VerifiedProof:
    owned = list(approvers.passkey(proof.credential_id))
    key = _in_force([(owner, each.public_key, each.is_valid(at)) for owner, each in owned], person, "passkey")
    if approvers.site is None:
        message = "the approvers file names no site for passkeys: [site]"
        raise ProofError(message)
    _check_passkey(statement, proof, key, approvers.site.rp_id, list(approvers.site.origins))
    return VerifiedProof(
        namespace=statement.namespace,
        method="webauthn",
        person=person.name,
        key=key,
        key_id=proof.credential_id,
        site=approvers.site.rp_id,
        approvers=approvers.digest,
    )


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


def _ssh(
    statement: DecisionStatement, proof: SshProof, approvers: Approvers, person: Person, at: datetime
) -> VerifiedProof:
    key = _check_ssh(statement, proof)
    owned = list(approvers.ssh_key(key))
    _in_force([(owner, each.ssh, each.is_valid(at)) for owner, each in owned], person, "SSH key")
    return VerifiedProof(
        namespace=statement.namespace,
        method="sshsig",
        person=person.name,
        key=key,
        key_id=fingerprint(key),
        approvers=approvers.digest,
    )


def _check_ssh(statement: DecisionStatement, proof: SshProof) -> str:
    """Check an SSH signature, and return the public key that made it."""
    return _checked(lambda: check_signature(proof.signature, statement.signed_bytes(), NAMESPACE), "the SSH signature")


def fingerprint(key: str) -> str:
    """The fingerprint of an SSH key, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(sha256(base64.b64decode(key.split()[1])).digest()).decode().rstrip("=")


def _service(
    statement: DecisionStatement, proof: ServiceProof, approvers: Approvers, person: Person, at: datetime
) -> VerifiedProof:
    service = next((each for each in approvers.services if each.name == proof.service and each.is_valid(at)), None)
    if service is None:
        message = f"the approvers file has no service named {proof.service!r} that may vouch for people now"
        raise ProofError(message)
    if proof.issuer not in {each.url for each in approvers.issuers}:
        message = f"the approvers file does not know who signed the person in: {proof.issuer}"
        raise ProofError(message)
    if approvers.signed_in(proof.issuer, proof.login) is not person:
        message = f"{proof.issuer} signed in {proof.login!r}, who is not {person.name!r} by the approvers file"
        raise ProofError(message)
    _check_service(statement, proof, service.public_key)
    return VerifiedProof(
        namespace=statement.namespace,
        method="oidc",
        person=person.name,
        key=service.public_key,
        key_id=service.name,
        approvers=approvers.digest,
    )


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
        message = f"the {what} is that of {owned[0][0].name!r}, not of {person.name!r}"
        raise ProofError(message)
    if not theirs:
        message = f"the {what} is in no entry of the approvers file"
        raise ProofError(message)
    key = next((key for key, valid in theirs if valid), None)
    if key is None:
        message = f"the {what} of {person.name!r} is not valid now: it was revoked, has expired, or is of later"
        raise ProofError(message)
    return key


def _bytes(text: str) -> bytes:
    """Decode base64url without padding; any other spelling of the same bytes is refused."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        data = b""
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        message = "a part of the proof is not base64url without padding"
        raise ProofError(message)
    return data


def _checked(check: Callable[[], _T], what: str) -> _T:
    """Return what *check* returns. Libraries raise many kinds of errors about bytes that anybody may have sent."""
    try:
        return check()
    except ProofError:
        raise
    except Exception as error:  # whatever a library raises: the proof does not hold
        said = bounded(one_line(str(error)) or type(error).__name__, _SHOWN)
        message = f"{what} does not hold: {said}"
        raise ProofError(message) from None
