"""A payload codec as one would use: AES-GCM over the whole payload, with a key from the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

VARIABLE: Final = "TEST_CODEC_KEY"
KEY: Final = "00112233445566778899aabbccddeeff"
NAME: Final = "tests.support.encrypting_codec:Encrypting"
ENCODING: Final = b"binary/encrypted"


class Encrypting(PayloadCodec):
    """What it did not encrypt itself it leaves as it is: an operator's signal may be stored plain."""

    def __init__(self) -> None:
        self._cipher = AESGCM(bytes.fromhex(os.environ.get(VARIABLE, KEY)))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypted(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypted(payload) for payload in payloads]

    def _encrypted(self, payload: Payload) -> Payload:
        nonce = os.urandom(12)
        sealed = self._cipher.encrypt(nonce, payload.SerializeToString(), None)
        return Payload(metadata={"encoding": ENCODING}, data=nonce + sealed)

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        return Payload.FromString(self._cipher.decrypt(payload.data[:12], payload.data[12:], None))


def broken() -> PayloadCodec:
    """One that cannot be made."""
    raise KeyError(VARIABLE)


NOTHING: Final = object()
