"""Replay checks: whether the code of today still replays the histories of yesterday."""

from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from assent.client.run_handle import RunHandle
from assent.worker import AssentPlugin


async def check_replay(history: WorkflowHistory | Path | str) -> None:
    """Replay a run's history with the workflow code of today.

    *history* is one as fetched, a file of it (as `temporal workflow show --output json` writes), or that JSON itself.

    Raises:
        temporalio.workflow.NondeterminismError: the code no longer does what the history says it did.

    Example:
        `await check_replay(await run.history())`
    """
    if isinstance(history, Path):
        history = history.read_text()
    if isinstance(history, str):
        history = _read(history)
    # Without debug mode the SDK fails a replay that takes two seconds, which says more about the machine than the code.
    await Replayer(workflows=[], plugins=[AssentPlugin()], debug_mode=True).replay_workflow(history)


def _read(text: str) -> WorkflowHistory:
    # The workflow id is part of what a requirement's id is made of, so a history must be replayed under its own.
    history = WorkflowHistory.from_json("", text)
    own = history.events[0].workflow_execution_started_event_attributes.workflow_id
    return WorkflowHistory(own, history.events)


async def record(run: RunHandle, file: Path) -> None:
    """Write a run's history to *file*, for `check_replay` in the years to come.

    Example:
        `await record(run, Path("run.json"))`
    """
    file.write_text((await run.history()).to_json() + "\n")
