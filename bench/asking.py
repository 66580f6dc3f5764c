"""How long a workflow takes to ask a person, and to hear the decision, beside a bare child workflow with a signal."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker

from assent.worker import AssentPlugin
from bench.asking_workflows import Asking, BareAsking, BareQuestion

QUEUE: Final = "bench-asking"
LOOK: Final = 0.002


@dataclass
class Asked:
    """Milliseconds until what waits is listed, and from the decision until the workflow has it."""

    listed: list[float] = field(default_factory=list[float])
    decided: list[float] = field(default_factory=list[float])


async def asked(client: Client, times: int) -> tuple[Asked, Asked]:
    """Measure *times* requests of Assent and of the bare child workflow, in turns."""
    ours, bare = Asked(), Asked()
    async with Worker(client, task_queue=QUEUE, workflows=[Asking, BareAsking, BareQuestion], plugins=[AssentPlugin()]):
        for kind, found in ((Asking, Asked()), (BareAsking, Asked())):  # imports and the first sandbox
            await _once(client, kind, found)
        for _ in range(times):
            await _once(client, Asking, ours)
            await _once(client, BareAsking, bare)
    return ours, bare


async def _once(client: Client, kind: type[Asking | BareAsking], found: Asked) -> None:
    run_id = f"asking-{uuid.uuid4().hex[:12]}"
    begun = time.perf_counter()
    handle = await client.start_workflow(kind.__name__, id=run_id, task_queue=QUEUE, result_type=str)
    ours = kind is Asking
    query = f'WorkflowId STARTS_WITH "{run_id}.wire"' + (" AND AssentPending = 1" if ours else "")
    while True:
        if children := [each.id async for each in client.list_workflows(query)]:
            break
        await asyncio.sleep(LOOK)
    found.listed.append((time.perf_counter() - begun) * 1_000)
    child = client.get_workflow_handle(children[0])
    if ours:
        state: dict[str, list[dict[str, str]]] = await child.query("state")
        body: object = {"id": state["requirements"][0]["id"], "by": "bob"}
    else:
        body = "bob"
    begun = time.perf_counter()
    await child.signal("approve", body)
    await handle.result()
    found.decided.append((time.perf_counter() - begun) * 1_000)
