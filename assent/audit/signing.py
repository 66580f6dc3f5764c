"""Signatures of a bundle's statement, by Ed25519 or ECDSA on the curve P-256, made with the package `cryptography`.

The extra `signing` installs it. Keys are PEM files, as `openssl genpkey` makes them.
A key's id is the SHA-256 of its DER form: `openssl pkey -pubin -in FILE -outform DER | sha256sum`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from assent.audit.statement import Envelope, signed_bytes
from assent.wire.errors import BundleError, ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    _Private = Ed25519PrivateKey | EllipticCurvePrivateKey
    _Public = Ed25519PublicKey | EllipticCurvePublicKey

VARIABLE: Final = "ASSENT_SIGNING_PASSPHRASE"
_P256: Final = "secp256r1"
_HOW: Final = "make one with: openssl genpkey -algorithm ed25519 -out FILE"
_HOW_PUBLIC: Final = "make one with: openssl pkey -in PRIVATE -pubout -out FILE"


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key, ready to sign. *keyid* is the SHA-256 of its public key in DER."""

    keyid: str
    _key: _Private = field(repr=False)

    def sign(self, payload: bytes) -> Envelope:
        """Return the signed envelope of a statement."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key, data = self._key, signed_bytes(payload)
        signature = key.sign(data) if isinstance(key, Ed25519PrivateKey) else key.sign(data, _ecdsa())
        return Envelope(payload, self.keyid, signature)


def load_signer(path: Path) -> Signer:
    """Read a private key from *path*; `ASSENT_SIGNING_PASSPHRASE` in the environment opens one that is encrypted.

    Raises:
        ConfigurationError: the extra is not installed; the file cannot be read or is not a private key in PEM of
            Ed25519 or P-256; it is encrypted, and the passphrase is missing or wrong.
    """
    key = _private_key(path)
    return Signer(_keyid(key.public_key()), key)


def check_signature(envelope: Envelope, path: Path) -> str:
    """Check that the key in *path* signed the envelope, and return the key's id.

    Raises:
        BundleError: it did not.
        ConfigurationError: the extra is not installed; the file cannot be read or is not a public key in PEM of
            Ed25519 or P-256.
    """
    key = _public_key(path)
    with _extra():
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    keyid = _keyid(key)
    if envelope.keyid != keyid:
        raise BundleError(f"signed with another key: the id of the given one is {keyid}")
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(envelope.signature, signed_bytes(envelope.payload))
        else:
            key.verify(envelope.signature, signed_bytes(envelope.payload), _ecdsa())
    except InvalidSignature:
        raise BundleError(f"the signature is not one of the key {keyid} over this statement") from None
    return keyid


@contextmanager
def _extra() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError:
        message = (
            "signatures need the package cryptography, which is not installed: pip install 'assent-agents[signing]'"
        )
        raise ConfigurationError(message) from None


def _private_key(path: Path) -> _Private:
    with _extra():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    data = _read_key(path)
    passphrase = _passphrase(path) if b"ENCRYPTED" in data else None
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = f"cannot be opened with {VARIABLE}" if passphrase else f"is not a private key in PEM; {_HOW}"
        raise ConfigurationError(f"the key {path} {reason}") from None
    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and key.curve.name == _P256):
        return key
    raise ConfigurationError(f"the key {path} is of neither Ed25519 nor P-256; {_HOW}")


def _public_key(path: Path) -> _Public:
    with _extra():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    try:
        key = load_pem_public_key(_read_key(path))
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"the key {path} is not a public key in PEM; {_HOW_PUBLIC}") from None
    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and key.curve.name == _P256):
        return key
    raise ConfigurationError(f"the key {path} is of neither Ed25519 nor P-256; {_HOW}")


def _ecdsa() -> ECDSA:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())


def _keyid(public: _Public) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _passphrase(path: Path) -> bytes:
    passphrase = os.environ.get(VARIABLE)
    if not passphrase:
        raise ConfigurationError(f"the key {path} is encrypted: put its passphrase into {VARIABLE}")
    return passphrase.encode()


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}") from None
