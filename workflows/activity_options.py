"""How activities are scheduled: their ids, times, retries and summaries; and how their failures are read."""

from datetime import timedelta
from typing import Final, TypedDict

from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from assent.core.events import CallModel, CheckCall, Failure, RunTool, Summarise
from assent.views.web_ui import call_summary
from assent.wire.activity_ids import (
    check_activity_id,
    model_activity_id,
    notices_activity_id,
    summary_activity_id,
    tool_activity_id,
)

MODEL_TIMEOUT: Final = timedelta(minutes=15)
HEARTBEAT: Final = timedelta(seconds=30)
_TOO_LARGE: Final = ["PayloadsTooLarge"]
"""What the SDK makes of a result that the server would refuse: run again it is the same, and paid for again."""
_MODEL_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=1),
    non_retryable_error_types=_TOO_LARGE,
)

CHECK_TIMEOUT: Final = timedelta(minutes=1)
CHECK_ATTEMPTS: Final = 5
NOTICE_TIMEOUT: Final = timedelta(minutes=1)
NOTICE_GIVEN_UP: Final = timedelta(hours=6)
_NOTICE_RETRY: Final = RetryPolicy(
    initial_interval=timedelta(seconds=5), backoff_coefficient=3.0, maximum_interval=timedelta(hours=1)
)


class Options(TypedDict, total=False):
    """The keyword arguments of `workflow.execute_activity` that Assent sets."""

    activity_id: str
    start_to_close_timeout: timedelta
    heartbeat_timeout: timedelta
    retry_policy: RetryPolicy
    summary: str
    task_queue: str
    schedule_to_close_timeout: timedelta


def for_model(command: CallModel) -> Options:
    """The options of a model call. It is retried for as long as it takes; what is final says so itself."""
    turn = command.input.turn
    return _asking(model_activity_id(turn), f"turn {turn}", command.task_queue)


def for_summary(command: Summarise) -> Options:
    """The options of a summary: those of a model call."""
    wanted = command.input
    words = f"summary {wanted.number}, of {wanted.replaced} items"
    return _asking(summary_activity_id(wanted.number), words, command.task_queue)


def _asking(activity_id: str, summary: str, task_queue: str | None) -> Options:
    options = Options(
        activity_id=activity_id,
        start_to_close_timeout=MODEL_TIMEOUT,
        heartbeat_timeout=HEARTBEAT,
        retry_policy=_MODEL_RETRY,
        summary=summary,
    )
    # Nothing bounds how long it waits there: a queue with a rate limit may be as long as it likes.
    if task_queue is not None:
        options["task_queue"] = task_queue
    return options


def for_tool(command: RunTool) -> Options:
    """The options of a tool call, as the worker gave them with its gate."""
    options = Options(
        activity_id=tool_activity_id(command.turn, command.position),
        start_to_close_timeout=timedelta(seconds=command.options.timeout),
        heartbeat_timeout=timedelta(seconds=command.options.heartbeat),
        retry_policy=_retry(command.attempts),
        summary=call_summary(command.input.arguments),
    )
    if command.options.task_queue is not None:
        options["task_queue"] = command.options.task_queue
    return options


def for_check(command: CheckCall) -> Options:
    """The options of a check, which changes nothing and is repeated while workers are lost."""
    return Options(
        activity_id=check_activity_id(command.number),
        start_to_close_timeout=CHECK_TIMEOUT,
        retry_policy=_retry(CHECK_ATTEMPTS),
        summary=f"{command.input.what} for {command.input.tool}",
    )


def for_notices(number: int) -> Options:
    """The options of notices: tried for six hours, and then given up."""
    return Options(
        activity_id=notices_activity_id(number),
        start_to_close_timeout=NOTICE_TIMEOUT,
        schedule_to_close_timeout=NOTICE_GIVEN_UP,
        retry_policy=_NOTICE_RETRY,
    )


def _retry(attempts: int) -> RetryPolicy:
    return RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_attempts=attempts, non_retryable_error_types=_TOO_LARGE
    )


def failure_of(error: ActivityError) -> Failure:
    """Why an activity gave no result, in the words that the history has."""
    cause = error.cause
    if isinstance(cause, ApplicationError):
        return Failure(cause.type or "Error", cause.message)
    if isinstance(cause, CancelledError):
        return Failure("Cancelled", "the activity was cancelled")
    if isinstance(cause, ActivityTimeoutError):
        return Failure("Timeout", cause.message, is_overrun=cause.type is TimeoutType.START_TO_CLOSE)
    return Failure(type(cause).__name__, str(cause))
