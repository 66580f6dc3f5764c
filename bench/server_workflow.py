"""The bare side of `mcp`: a workflow that calls the same tool of a server, as often, through one activity."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from temporalio import workflow

LIST: Final = "bare_list_notes"
LIMIT: Final = timedelta(minutes=1)


@workflow.defn
class BareCalls:
    """Call the tool so many times, one after the other."""

    @workflow.run
    async def run(self, times: int) -> int:
        """Return how many answers there were."""
        for _ in range(times):
            await workflow.execute_activity(LIST, start_to_close_timeout=LIMIT, result_type=str)
        return times
