"""How long a workflow takes to ask a person, and to hear the decision, beside a bare child workflow with a signal."""

from __future__ import annotations

import asyncio
import time
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from temporalio.client import Client
from temporalio.worker import Worker

from assent import AgentClient, DecisionStatement, ServiceProof
from assent.proof.approvers import Approvers
from assent.wire.proofs import service_bytes
from assent.worker import AssentPlugin
from bench.asking_workflows import Asking, AskingForProof, BareAsking, BareQuestion

QUEUE: Final = "bench-asking"
LOOK: Final = 0.002
KEY: Final = Ed25519PrivateKey.generate()
_PUBLIC: Final = urlsafe_b64encode(KEY.public_key().public_bytes_raw()).decode().rstrip("=")
APPROVERS: Final = (
    '[[people]]\nname = "bob"\nlogins = { bench = "bob" }\n[[issuers]]\nurl = "bench"\n'
    f'[[services]]\nname = "bench"\npublic_key = "{_PUBLIC}"\n'
)
"""The approvers file that knows the key of this process."""


@dataclass
class Asked:
    """Milliseconds until what waits is listed, and from the decision until the workflow has it."""

    listed: list[float] = field(default_factory=list[float])
    decided: list[float] = field(default_factory=list[float])


async def asked(client: Client, times: int) -> tuple[Asked, Asked, Asked]:
    """Measure *times* requests of Assent, of Assent with a proof, and of the bare child workflow, in turns."""
    ours, proven, bare = Asked(), Asked(), Asked()
    workflows = [Asking, AskingForProof, BareAsking, BareQuestion]
    plugin = AssentPlugin(approvers=Approvers.from_toml(APPROVERS))
    async with Worker(client, task_queue=QUEUE, workflows=workflows, plugins=[plugin]):
        for kind in (Asking, AskingForProof, BareAsking):  # imports and the first sandbox
            await _once(client, kind, Asked())
        for _ in range(times):
            await _once(client, Asking, ours)
            await _once(client, AskingForProof, proven)
            await _once(client, BareAsking, bare)
    return ours, proven, bare


def proof_of(statement: DecisionStatement) -> ServiceProof:
    """The word of a service that signed bob in."""
    fields = {"kind": "oidc", "service": "bench", "issuer": "bench", "subject": "1", "login": "bob", "signature": "AA"}
    times = {"issued_at": statement.issued_at, "expires_at": statement.expires_at}
    unsigned = ServiceProof.model_validate({**fields, **times, "signed_in_at": statement.issued_at})
    signature = urlsafe_b64encode(KEY.sign(service_bytes(statement, unsigned))).decode().rstrip("=")
    return unsigned.model_copy(update={"signature": signature})


async def _once(client: Client, kind: type[Asking | AskingForProof | BareAsking], found: Asked) -> None:
    run_id = f"asking-{uuid.uuid4().hex[:12]}"
    begun = time.perf_counter()
    handle = await client.start_workflow(kind.__name__, id=run_id, task_queue=QUEUE, result_type=str)
    ours = kind is not BareAsking
    query = f'WorkflowId STARTS_WITH "{run_id}.wire"' + (" AND AssentPending = 1" if ours else "")
    while True:
        if children := [each.id async for each in client.list_workflows(query)]:
            break
        await asyncio.sleep(LOOK)
    found.listed.append((time.perf_counter() - begun) * 1_000)
    child = client.get_workflow_handle(children[0])
    if ours:
        state: dict[str, list[dict[str, str]]] = await child.query("state")
        plain = {"id": state["requirements"][0]["id"], "by": "bob"}
        body: object = plain
        if kind is AskingForProof:
            statement = await AgentClient(client).get_run(child.id).statement("approve", plain)
            body = {**plain, "proof": proof_of(statement).model_dump()}
    else:
        body = "bob"
    begun = time.perf_counter()
    await child.signal("approve", body)
    await handle.result()
    found.decided.append((time.perf_counter() - begun) * 1_000)
