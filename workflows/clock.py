"""The time, as a run is told it."""

from datetime import UTC, datetime, timedelta

from temporalio import workflow


def now() -> datetime:
    """The workflow task's time, cut to microseconds in whole numbers, so that readers of the history get the same."""
    seconds, nanoseconds = divmod(workflow.time_ns(), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanoseconds // 1_000)
