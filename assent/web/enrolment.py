"""Enrolment of passkeys: by an administrator's signed invitation, and with text for the approvers file as its result.

Nothing is stored. What an invited person makes here counts once an administrator has put the text into the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, cast

import rfc8785

from assent.proof.approvers import Approvers, SshKey
from assent.proof.ssh import check_signature
from assent.web.proofs import base64url
from assent.wire.errors import MessageError
from assent.wire.proofs import instant

GROUP: Final = "administrators"
"""The group of the approvers file whose SSH keys invite."""
NAMESPACE: Final = "assent-invitation"
"""The namespace of the SSH signatures of invitations."""
_LONGEST: Final = 4_000


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who may make a passkey, for which site, invited by whom, until when (UTC, `2026-11-29T12:00:00Z`)."""

    name: str
    by: str
    site: str
    expires_at: str

    def signed_bytes(self) -> bytes:
        """Return the bytes that an administrator signs: JSON by RFC 8785."""
        return rfc8785.dumps({"type": "assent.invitation.v1", **asdict(self)})

    def token(self, signature: str) -> str:
        """Return the invitation with its signature, for a link."""
        return base64url(json.dumps({**asdict(self), "signature": signature}).encode())

    @property
    def challenge(self) -> bytes:
        """The challenge that a new passkey answers."""
        return hashlib.sha256(self.signed_bytes()).digest()


def read_invitation(token: str, approvers: Approvers | None) -> Invitation:
    """Return an invitation that holds.

    Raises:
        MessageError: it does not. One line for the invited person.
    """
    if approvers is None or approvers.site is None:
        raise MessageError(
            "This page can make no passkeys: its approvers file names no [site]. Tell the person who invited you."
        )
    try:
        decoded: object = json.loads(base64.urlsafe_b64decode(token[:_LONGEST] + "=" * (-len(token) % 4)))
        fields = {name: str(value) for name, value in cast("Mapping[str, object]", decoded).items()}
        signature = fields.pop("signature")
        invitation = Invitation(**fields)
        expires = datetime.fromisoformat(invitation.expires_at)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error):
        raise MessageError(
            "This link is incomplete, or it is not an invitation. Open it again as you got it."
        ) from None
    _check_signature(invitation, signature, approvers)
    if invitation.site != approvers.site.rp_id:
        raise MessageError("This invitation is for another page.")
    if datetime.now(UTC) >= expires:
        raise MessageError("This invitation has expired. Ask for another one.")
    if approvers.person(invitation.name) is None:
        raise MessageError(f"The approvers file has no person named {invitation.name}.")
    return invitation


def _check_signature(invitation: Invitation, signature: str, approvers: Approvers) -> None:
    now = datetime.now(UTC)
    inviter = approvers.person(invitation.by)
    keys = inviter.keys if inviter is not None and GROUP in inviter.groups and inviter.is_valid(now) else ()
    valid = [each.ssh for each in keys if isinstance(each, SshKey) and each.is_valid(now)]
    try:
        signer = check_signature(signature, invitation.signed_bytes(), NAMESPACE)
    except Exception:  # whatever a library raises of bytes that anyone may have sent: it does not hold
        signer = ""
    if signer not in valid:
        raise MessageError(f"No administrator has signed this invitation; the group is {GROUP!r}.")


def registration_options(invitation: Invitation) -> str:
    """Return what a browser asks an authenticator for, as JSON."""
    from webauthn import generate_registration_options, options_to_json  # noqa: PLC0415 - slow to import
    from webauthn.helpers.structs import (  # noqa: PLC0415 - as above
        AuthenticatorSelectionCriteria,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    options = generate_registration_options(
        rp_id=invitation.site,
        rp_name="Approvals",
        user_name=invitation.name,
        user_id=hashlib.sha256(f"{invitation.site} {invitation.name}".encode()).digest(),
        challenge=invitation.challenge,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
        ),
    )
    return options_to_json(options)


def entry_of(invitation: Invitation, credential: str, approvers: Approvers) -> str:
    """Return the text for the approvers file of a passkey that was made for an invitation.

    Raises:
        MessageError: the authenticator's answer does not fit the invitation.
    """
    from webauthn import verify_registration_response  # noqa: PLC0415 - slow to import

    try:
        passkey = verify_registration_response(
            credential=credential,
            expected_challenge=invitation.challenge,
            expected_rp_id=invitation.site,
            expected_origin=list(approvers.site.origins) if approvers.site else [],
            require_user_verification=True,
        )
    except Exception:  # whatever the library raises of bytes that anyone may have sent: it does not hold
        raise MessageError("The passkey's answer does not belong to this invitation.") from None
    return "\n".join([
        f"[[people.keys]]  # of {json.dumps(invitation.name)}, invited by {json.dumps(invitation.by)}",
        f'passkey = "{base64url(passkey.credential_id)}"',
        f'public_key = "{base64url(passkey.credential_public_key)}"',
        f"valid_from = {instant(datetime.now(UTC))}",
    ])  # fmt: skip
