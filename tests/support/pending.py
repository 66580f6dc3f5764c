"""What waits in a run and in its child runs, each with the run that it is decided in."""

from __future__ import annotations

from assent import Approval, RunHandle


async def pending_with_runs(run: RunHandle) -> list[tuple[RunHandle, Approval, tuple[str, ...]]]:
    """For each approval that waits: its run, itself, and the agents from the outermost one to the one that asks."""
    return [(run.other(each.run_id), each, tuple(each.path)) for each in await run.pending()]
