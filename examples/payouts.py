"""A team's own workflow, activity and payload codec. Two names of Assent in it: the calls that wait for people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from assent.workflow import NotApprovedError, execute_gated_activity

with workflow.unsafe.imports_passed_through():
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM


@dataclass
class Invoice:
    """What a clerk pays."""

    number: int
    iban: str
    cents: int


@activity.defn
async def wire_transfer(invoice: Invoice) -> str:
    """Pay an invoice."""
    return f"{invoice.cents / 100:.2f} EUR to {invoice.iban}"


@workflow.defn
class Payout:
    """Pays an invoice once two people of finance approve."""

    @workflow.run
    async def run(self, invoice: Invoice, clerk: str) -> str:
        """Return what was paid, or why it was not."""
        try:
            return await execute_gated_activity(
                wire_transfer, [invoice], requested_by=clerk, approvals=2, approvers=["finance"]
            )
        except NotApprovedError as error:
            return f"not paid: {error.decision.reason}"


class Encryption(PayloadCodec):
    """Encrypts every payload by AES-GCM."""

    def __init__(self, key: bytes) -> None:
        """Take a key of 16, 24 or 32 bytes."""
        self._cipher = AESGCM(key)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt."""
        return [self._encrypted(each.SerializeToString()) for each in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt; what an operator typed is plain."""
        return [self._decrypted(each) for each in payloads]

    def _encrypted(self, data: bytes) -> Payload:
        nonce = os.urandom(12)
        return Payload(metadata={"encoding": b"binary/aes"}, data=nonce + self._cipher.encrypt(nonce, data, None))

    def _decrypted(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != b"binary/aes":
            return payload
        return Payload.FromString(self._cipher.decrypt(payload.data[:12], payload.data[12:], None))
