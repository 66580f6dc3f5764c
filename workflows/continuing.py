"""When a run goes on in a new execution (Temporal's continue-as-new), and what is held back until it has.

A history has an end: the server stops a run at 51,200 events or 10,000 signals, and suggests at a twelfth of the
former to begin a new one. A run that is pinned to a build goes on in one of the build that new runs are sent to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from temporalio import workflow

from assent.carried import LIMIT, Carried, size_of
from assent.events import CallModel, Event, MessageReceived, Started
from assent.snapshot import Run

MESSAGES: Final = 8_000
"""Messages in one execution after which the run goes on in another; the server takes 10,000 signals."""
_TOO_LARGE: Final = "assent-carried-too-large"
"""The marker in a history that tells that the run could not go on in a new execution."""


@dataclass(slots=True)
class Continuing:
    """What of an execution decides whether the run should go on in another.

    *held* is the model call held back. *settling*: the moment before is passing; *is_settled*: it has passed, and
    nothing came up. *stays* is why the run cannot go on in another, where it cannot.
    """

    held: CallModel | None = None
    messages: int = 0
    moved: bool = False
    settling: bool = False
    is_settled: bool = False
    stays: str | None = None

    def told(self, event: Event) -> None:
        """Something happened. An execution in which nothing has yet is no reason for another."""
        self.messages += isinstance(event, MessageReceived)
        self.moved = self.moved or not isinstance(event, Started)
        self.is_settled = False

    def settle(self, run: Run) -> None:
        """The moment before has passed."""
        self.settling = False
        self.is_settled = self._is_quiet(run) and self.is_due(run)

    def is_due(self, run: Run) -> bool:
        """Whether the run should go on in a new execution, once nothing is under way."""
        after = run.continue_after
        if after is None or not self.moved or self.stays is not None:
            return False
        info = workflow.info()
        if info.cron_schedule:
            # The next execution of a schedule looks the same as one that goes on from another.
            return False
        if self.messages >= MESSAGES or info.is_continue_as_new_suggested() or is_outdated():
            return True
        return 0 < after <= info.get_current_history_length()

    def is_ready(self, run: Run) -> bool:
        """Whether it should, and can: nothing is under way but a model call that is held back."""
        return not self.settling and self.is_due(run) and self._is_quiet(run)

    def _is_quiet(self, run: Run) -> bool:
        if run.ended or run.checks or (run.model_running and self.held is None):
            return False
        return not any(call.running for call in run.calls) and workflow.all_handlers_finished()

    def may_carry(self, carried: Carried) -> bool:
        """Whether the new execution can be given this much; if not, the run stays in this one."""
        size = size_of(carried)
        # How small it gets may differ from machine to machine, so what it came to is read from the history.
        if workflow.unsafe.is_replaying():
            large = workflow.patched(_TOO_LARGE)
        else:
            large = size >= LIMIT and workflow.patched(_TOO_LARGE)
        self.is_settled = False
        if large:
            why = "The build of this run is not the current one" if is_outdated() else "The history of this run is long"
            self.stays = (
                f"**{why}, and the run cannot go on in a new one:** it would carry {size:,} bytes, of at most "
                f"{LIMIT:,}. The server stops it at 51,200 events or 10,000 signals."
            )
        return not large


def is_outdated() -> bool:
    """Whether this execution is pinned to a build of its deployment, and another is the one for new runs by now.

    The server says so with each workflow task, and writes it to the history.
    """
    return workflow.info().is_target_worker_deployment_version_changed()


def go_on(carried: Carried) -> NoReturn:
    """End this execution, and go on in a new one; a run that is pinned to a build goes on in that for new runs."""
    # The server carries search attributes over by itself, a memo only as it was when the run began.
    upgrade = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if is_outdated() else None
    workflow.continue_as_new(carried, memo=workflow.memo(), initial_versioning_behavior=upgrade)


def is_continued() -> bool:
    """Whether this execution goes on from another because that one's own code said so.

    Retries and schedules also make new executions, with the input that whoever started the first one chose.
    """
    info = workflow.info()
    return info.continued_run_id is not None and info.attempt == 1 and not info.cron_schedule
