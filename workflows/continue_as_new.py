"""When a run continues as new, and what is held back until then.

A history has an end: the server stops a run at 51,200 events or 10,000 signals, and suggests at a twelfth of the
former to begin a new one. A run that is pinned to a build continues in the build for new runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, cast

from temporalio import workflow

from assent.core.continue_as_new import Carried, size_of
from assent.core.events import CallModel, Event, MessageReceived, Started
from assent.core.run_state import Run
from assent.wire.limits import CARRIED_LIMIT, STATE_LIMIT
from assent.wire.messages import Undecodable

from .task_size import size_in_json

MESSAGES: Final = 8_000
"""Messages in one execution after which the run continues as new; the server accepts 10,000 signals."""
RECEIVED: Final = 8 * 1024 * 1024
"""Bytes of messages after which it does; the server stops a run at 50 MiB of history."""
_EVENTS: Final = 4
"""Events that a message makes at least: itself, and a workflow task."""
_TOO_LARGE: Final = "assent-carried-too-large"
"""The marker in a history that the run could not continue as new."""


@dataclass(slots=True)
class ContinueAsNew:
    """What decides in an execution whether the run should continue as new.

    *messages* and *received*: how many came, and their bytes. *seen*: the server was seen to say that it should. *held*
    is the model call held back. *settling*: the moment before is passing; *is_settled*: it has passed, and nothing came
    up. *stays* is the reason why the run cannot continue as new, if any.
    """

    held: CallModel | None = None
    messages: int = 0
    received: int = 0
    is_suggested: bool = False
    has_worked: bool = False
    settling: bool = False
    is_settled: bool = False
    obstacle: str | None = None

    def observe(self, event: Event) -> None:
        """Something happened. An execution in which nothing has yet is no reason for another."""
        if isinstance(event, MessageReceived):
            self.messages += 1
            self.received += sum(map(_size, event.arguments))
        self.has_worked = self.has_worked or not isinstance(event, Started)
        self.is_settled = False

    def settle(self, run: Run) -> None:
        """The moment before has passed."""
        self.settling = False
        self.is_settled = self._is_quiet(run) and self.is_due(run)

    def check_history_length(self, run: Run) -> None:
        """See what the server says, in a workflow task that gives it something to do.

        Only there is it the same on replay: the SDK makes one of two workflow tasks where the first did nothing, and
        an update that was refused, which leaves no trace, may stand before what came with it.
        """
        self.is_suggested = self.is_suggested or _is_long(run)

    def hold_back(self, command: CallModel, run: Run) -> bool:
        """Hold a model call back if the run should continue as new, and make it there."""
        self.check_history_length(run)
        if self.is_due(run):
            self.held = command
        return self.held is command

    def is_due(self, run: Run) -> bool:
        """Whether the run should continue as new once nothing is active."""
        # The next execution of a schedule looks like a continued one.
        if (
            run.continue_after is None
            or not self.has_worked
            or self.obstacle is not None
            or workflow.info().cron_schedule
        ):
            return False
        if self.is_suggested or self.messages >= MESSAGES or self.received >= RECEIVED:
            return True
        # Where a message changes nothing, `look` does not see how long the history is.
        return 0 < run.continue_after <= _EVENTS * self.messages

    def is_ready(self, run: Run) -> bool:
        """Whether it should, and can: nothing is under way but a model call that is held back."""
        return not self.settling and self.is_due(run) and self._is_quiet(run)

    def _is_quiet(self, run: Run) -> bool:
        if run.ended or run.checks or (run.model_running and self.held is None):
            return False
        return not any(call.running for call in run.calls) and workflow.all_handlers_finished()

    def can_carry(self, carried: Carried) -> bool:
        """Whether the new execution can be given this much; if not, the run stays in this one."""
        size, limit = size_of(carried), _limit()
        # The compressed size may differ between machines, so the result is read from the history.
        if workflow.unsafe.is_replaying():
            large = workflow.patched(_TOO_LARGE)
        else:
            large = size >= limit and workflow.patched(_TOO_LARGE)
        self.is_settled = False
        if large:
            why = "The build of this run is not the current one" if is_outdated() else "The history of this run is long"
            self.obstacle = (
                f"**{why}, and the run cannot continue in a new one:** it would carry {size:,} bytes, of at most "
                f"{limit:,}. The server stops it at 51,200 events or 10,000 signals."
            )
        return not large


def _is_long(run: Run) -> bool:
    """Whether the server suggests a new execution, or the history is as long as the run's setting says."""
    info = workflow.info()
    if info.is_continue_as_new_suggested() or is_outdated():
        return True
    return 0 < (run.continue_after or 0) <= info.get_current_history_length()


def _limit() -> int:
    """The bytes that the new execution can be given: with an external storage, as many as a state may have."""
    facts = cast("Callable[[], Mapping[str, object]] | None", workflow.extern_functions().get("assent_facts"))
    return STATE_LIMIT if facts is not None and facts().get("stored") else CARRIED_LIMIT


def _size(value: object) -> int:
    return value.size if isinstance(value, Undecodable) else size_in_json(value)


def is_outdated() -> bool:
    """Whether this execution is pinned to a build of its deployment, and another is the one for new runs by now.

    The server says so with each workflow task, and writes it to the history.
    """
    return workflow.info().is_target_worker_deployment_version_changed()


def continue_as_new(carried: Carried) -> NoReturn:
    """End this execution and continue as new; a run that is pinned to a build continues in the build for new runs."""
    # The server carries search attributes over by itself, a memo only as it was when the run began.
    upgrade = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if is_outdated() else None
    workflow.continue_as_new(carried, memo=workflow.memo(), initial_versioning_behavior=upgrade)


def is_continued() -> bool:
    """Whether the previous execution's own code continued as new into this one.

    Retries and schedules also make new executions, with the input of the client that started the first one.
    """
    info = workflow.info()
    return info.continued_run_id is not None and info.attempt == 1 and not info.cron_schedule
