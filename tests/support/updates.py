"""The updates `decide` and `deliver`, as clients in other languages send them: our own client sends signals."""

from __future__ import annotations

from assent import RunHandle
from assent.wire.protocol import DecisionResult


async def by_update(run: RunHandle, requirement_id: str, by: str, **fields: object) -> DecisionResult:
    """Decide by update: to approve, unless *fields* has another verdict, or what is delivered."""
    delivers = {"output", "error", "values"} & fields.keys()
    body: dict[str, object] = {"id": requirement_id, "by": by, **({} if delivers else {"verdict": "approve"}), **fields}
    handle = run._client.get_workflow_handle(run.id)  # pyright: ignore[reportPrivateUsage]
    answer: DecisionResult = await handle.execute_update(
        "deliver" if delivers else "decide", body, result_type=DecisionResult
    )
    return answer
