"""SSH signatures (PROTOCOL.sshsig and PROTOCOL.u2f of OpenSSH): whose key made one. Pure.

Read strictly: no byte of a signature is free to change.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Final

KINDS: Final = (
    "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip
"""The types of keys that can be checked. `sk-` is a security key."""
_MAGIC: Final = b"SSHSIG"
_HASHES: Final = (b"sha256", b"sha512")
_RSA: Final = {b"rsa-sha2-256": "SHA256", b"rsa-sha2-512": "SHA512"}
_CURVES: Final = {
    b"nistp256": ("SECP256R1", "SHA256"), b"nistp384": ("SECP384R1", "SHA384"), b"nistp521": ("SECP521R1", "SHA512"),
}  # fmt: skip
_PRESENT_AND_VERIFIED: Final = 0x01 | 0x04


class _Reader:
    """Reads the parts of a binary value of SSH.

    Raises:
        ValueError: it ends too early, or not where it should.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, length: int) -> bytes:
        if length > len(self._data):
            raise ValueError("it is cut")
        part, self._data = self._data[:length], self._data[length:]
        return part

    def number(self) -> int:
        return int.from_bytes(self.take(4))

    def string(self) -> bytes:
        return self.take(self.number())

    def integer(self) -> int:
        """A positive integer in its shortest form."""
        data = self.string()
        value = int.from_bytes(data)
        if data != value.to_bytes(value.bit_length() // 8 + 1) or not value:
            raise ValueError("a number in it differs from what ssh-keygen writes")
        return value

    def end(self) -> None:
        if self._data:
            raise ValueError("there are bytes after its end")


def string(data: bytes) -> bytes:
    """Return bytes with their length before them, as SSH writes them."""
    return len(data).to_bytes(4) + data


def signed_bytes(message: bytes, namespace: str, digest: str = "sha512") -> bytes:
    """Return what a key signs of a message in a namespace."""
    hashed = hashlib.new(digest, message).digest()
    return _MAGIC + string(namespace.encode()) + string(b"") + string(digest.encode()) + string(hashed)


def armored(data: bytes) -> str:
    """Return a signature as the text that ssh-keygen prints, without the line break at its end."""
    text = base64.b64encode(data).decode()
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----"])


def check_signature(text: str, message: bytes, namespace: str) -> str:
    """Return the public key that signed a message in a namespace, as a .pub file has it without its comment.

    A security key must have verified its user (`ssh-keygen -O verify-required`), as a passkey does.

    Raises:
        ValueError: the signature does not hold. Others, of `cryptography`, mean the same.
    """
    raw = base64.b64decode("".join(text.strip().splitlines()[1:-1]), validate=True)
    if armored(raw) != text.strip():
        raise ValueError("its text differs from what ssh-keygen writes")
    reader = _Reader(raw)
    beginning, key = reader.take(10), reader.string()
    signed_for, reserved, digest, signature = (reader.string() for _ in range(4))
    reader.end()
    if beginning != _MAGIC + (1).to_bytes(4) or reserved or digest not in _HASHES:
        raise ValueError("its bytes differ from what ssh-keygen writes")
    if signed_for != namespace.encode():
        raise ValueError(f"it was made for something else: {signed_for.decode('ascii', 'replace')}")
    _check(key, signature, signed_bytes(message, namespace, digest.decode()))
    return f"{_Reader(key).string().decode('ascii')} {base64.b64encode(key).decode()}"


def _check(key: bytes, signature: bytes, data: bytes) -> None:
    reader, signed = _Reader(key), _Reader(signature)
    kind, algorithm, value = reader.string(), signed.string(), signed.string()
    plain = kind.removeprefix(b"sk-").removesuffix(b"@openssh.com")
    verify = _verifier(plain, reader, algorithm)
    if plain != kind:
        flags, counter = signed.take(1), signed.take(4)
        if flags[0] & _PRESENT_AND_VERIFIED != _PRESENT_AND_VERIFIED:
            raise ValueError(
                "the security key has not verified its user: make its key with `ssh-keygen -O verify-required`"
            )
        data = hashlib.sha256(reader.string()).digest() + flags + counter + hashlib.sha256(data).digest()
    reader.end()
    signed.end()
    if (algorithm not in _RSA if kind == b"ssh-rsa" else algorithm != kind) or kind.decode("ascii") not in KINDS:
        raise ValueError("its algorithm is not that of its key")
    verify(value, data)


def _verifier(kind: bytes, reader: _Reader, algorithm: bytes) -> Callable[[bytes, bytes], None]:
    """Read a public key up to the end of its numbers, and return what checks its signatures."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415 - as above

    if kind == b"ssh-ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(reader.string()).verify
    if kind == b"ssh-rsa":
        exponent, modulus = reader.integer(), reader.integer()
        public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        digest = getattr(hashes, _RSA.get(algorithm, "SHA512"))()
        return lambda value, data: public.verify(value, data, padding.PKCS1v15(), digest)
    curve, hashed = _CURVES[reader.string()]
    point = ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, curve)(), reader.string())

    def verify(value: bytes, data: bytes) -> None:
        numbers = _Reader(value)
        signature = utils.encode_dss_signature(numbers.integer(), numbers.integer())
        numbers.end()
        point.verify(signature, data, ec.ECDSA(getattr(hashes, hashed)()))

    return verify
