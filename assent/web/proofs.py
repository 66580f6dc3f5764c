"""Proof of the decisions that are made on the page: a person's passkey signs them, or this service vouches.

Nothing is decided here about who may decide: workers check each proof, by the approvers file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import JsonValue, ValidationError

from assent.proof.approvers import Approvers, ApproversFile, Passkey
from assent.web.settings import WebSettings
from assent.web.sign_in import Person
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.proofs import DecisionStatement, ServiceProof, WebAuthnProof, instant, service_bytes

_PATIENCE: Final = 120_000
"""Milliseconds that a person has to use a passkey."""


def base64url(data: bytes) -> str:
    """Return bytes in base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Prover:
    """Knows whose passkeys there are, and vouches for people who are signed in. Reads the approvers file. I/O."""

    def __init__(self, settings: WebSettings) -> None:
        """Read the approvers file and the key of the service.

        Raises:
            ConfigurationError: one of them cannot be read, or the file names people by another claim.
        """
        self._settings = settings
        self._file = ApproversFile(settings.approvers) if settings.approvers else None
        site = self.approvers.site if self.approvers else None
        if settings.passkeys and (site is None or settings.base not in site.origins):
            raise ConfigurationError(f"--passkeys: the approvers file has no [site] with the origin {settings.base}")
        self._key = _private_key(settings.signing_key) if settings.signing_key else None
        for issuer in self.approvers.issuers if self.approvers else ():
            if issuer.url == settings.oidc_issuer and issuer.claim != settings.oidc_claim:
                message = (
                    f"ASSENT_WEB_OIDC_CLAIM is {settings.oidc_claim!r}, and the approvers file has {issuer.claim!r}"
                )
                raise ConfigurationError(message)

    @property
    def approvers(self) -> Approvers | None:
        """The approvers file by now; None where there is none.

        Raises:
            ConfigurationError: it cannot be read any more.
        """
        return None if self._file is None else self._file.current()

    def passkeys(self, name: str) -> list[str]:
        """Return the ids of a person's passkeys that are valid now. Raises as `approvers`."""
        person = self.approvers.person(name) if self.approvers else None
        if person is None or not person.is_valid(datetime.now(UTC)):
            return []
        now = datetime.now(UTC)
        return [each.passkey for each in person.keys if isinstance(each, Passkey) and each.is_valid(now)]

    def may_vouch(self, person: Person) -> bool:
        """Return whether this service can vouch for a person."""
        return self._key is not None and person.listed and person.method in {"header", "oidc"}

    def sign_in_options(self, challenge: str) -> dict[str, JsonValue]:
        """Return what a browser asks any passkey of this site for, as someone signs in. Raises as `approvers`."""
        site = self.approvers.site if self.approvers else None
        return {
            "challenge": challenge, "rpId": site.rp_id if site else "", "userVerification": "required",
            "timeout": _PATIENCE,
        }  # fmt: skip

    def signed_in(self, answer: str, challenge: str) -> Person:
        """Return the person whose passkey has answered a challenge.

        Raises:
            MessageError: it is no answer to it, or of no passkey that is valid now.
        """
        from webauthn import verify_authentication_response  # noqa: PLC0415 - slow to import

        approvers, now = self.approvers, datetime.now(UTC)
        try:
            credential = cast("Mapping[str, str]", json.loads(answer))
            identity = credential["id"]
            known = [each for each in (approvers.passkey(identity) if approvers else ()) if each[1].is_valid(now)]
            owner, key = next(each for each in known if each[0].is_valid(now))
            site = approvers.site if approvers else None
            verify_authentication_response(
                credential=dict(credential),
                expected_challenge=base64.urlsafe_b64decode(challenge + "=="),
                expected_rp_id=site.rp_id if site else "",
                expected_origin=list(site.origins) if site else [],
                credential_public_key=base64.urlsafe_b64decode(key.public_key + "=="),
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception:  # whatever a library raises of bytes that anyone may have sent: no one is signed in
            raise MessageError("This passkey cannot sign you in: it is not in the approvers file.") from None
        return Person(owner.name, "passkey", subject=identity)

    def request(self, statement: DecisionStatement, name: str) -> dict[str, JsonValue]:
        """Return what a browser asks a passkey for: to sign this statement, and nothing else. Raises as `approvers`."""
        site = self.approvers.site if self.approvers else None
        keys: list[JsonValue] = [{"type": "public-key", "id": each} for each in self.passkeys(name)]
        if site is None or not keys:
            raise MessageError("The approvers file has no passkey of yours.")
        options: dict[str, JsonValue] = {
            "challenge": base64url(statement.challenge),
            "rpId": site.rp_id,
            "allowCredentials": keys,
            "userVerification": "required",
            "timeout": _PATIENCE,
        }
        return {"options": options, "issued_at": statement.issued_at, "expires_at": statement.expires_at}

    def vouch(self, statement: DecisionStatement, person: Person) -> ServiceProof:
        """Return the word of this service that a person was signed in and decided so."""
        if self._key is None:
            raise ConfigurationError("ASSENT_WEB_SIGNING_KEY is not set, so this service vouches for no one")
        unsigned = ServiceProof(
            kind="oidc",
            service=self._settings.service,
            issuer=person.issuer,
            subject=person.subject,
            login=person.login,
            signed_in_at=instant(datetime.fromtimestamp(person.since, UTC) if person.since else datetime.now(UTC)),
            issued_at=statement.issued_at,
            expires_at=statement.expires_at,
            signature="x",
        )
        return unsigned.model_copy(update={"signature": base64url(self._key.sign(service_bytes(statement, unsigned)))})


def passkey_proof(text: str) -> WebAuthnProof:
    """Read what the script of the page made of a passkey's answer.

    Raises:
        MessageError: it is none.
    """
    try:
        answer = cast("object", json.loads(text))
        fields = dict(cast("Mapping[str, object]", answer)) if isinstance(answer, dict) else {}
        return WebAuthnProof.model_validate({**fields, "kind": "webauthn"})
    except (ValueError, RecursionError, ValidationError):
        raise MessageError("The answer of the passkey cannot be read; nothing was sent.") from None


def _private_key(path: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(Path(path).read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(f"ASSENT_WEB_SIGNING_KEY: {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"ASSENT_WEB_SIGNING_KEY: {path} cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        message = f"ASSENT_WEB_SIGNING_KEY: {path} is no Ed25519 key: openssl genpkey -algorithm ed25519 -out FILE"
        raise ConfigurationError(message)
    return key
