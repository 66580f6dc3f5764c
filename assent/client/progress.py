"""What holds a run up, by the server's account: activities that fail and are retried, messages that no worker read."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field
from temporalio.api.enums.v1 import EventType, PendingActivityState
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowExecutionDescription
from temporalio.common import RawValue

from assent.client.live_text import heartbeat_of, live_text
from assent.client.run_handle import RunHandle
from assent.history.payloads import decoded_events, decoded_failure
from assent.runtime.converter import decoded
from assent.wire import protocol
from assent.wire.live_text import LiveText
from assent.wire.messages import shown
from assent.wire.protocol import BlockedLoop, Stored
from assent.wire.text import bounded, one_line
from assent.wire.visibility import read_request_memo

SHOWN: Final = 500
"""Characters of a failure that are shown."""


class ActivityProgress(Stored):
    """An activity under way, on *task_queue*. *attempt* is the number of the attempt that runs, or that comes next.

    *live* is, of a model call, the answer so far; *blocked* says that the event loop of its worker does not answer.
    """

    activity: str
    attempt: int
    running: bool
    since: datetime | None = None
    failure: str | None = None
    next_at: datetime | None = None
    task_queue: str = ""
    live: LiveText | None = None
    blocked: BlockedLoop | None = None


class UnreadMessage(Stored):
    """A message that no worker has read yet."""

    name: str
    text: str
    at: datetime


class Progress(Stored):
    """What the server knows of a run and its history does not have yet.

    *waits_since* is set while the run waits for a worker on *task_queue*; *task_attempt* above 1 means that workers
    took it up and could not carry on. *agent* and *requested_by* are from the memo.
    """

    task_queue: str
    agent: str | None = None
    requested_by: str | None = None
    waits_since: datetime | None = None
    task_attempt: int = 0
    activities: list[ActivityProgress] = Field(default_factory=list[ActivityProgress])
    unread: list[UnreadMessage] = Field(default_factory=list[UnreadMessage])


async def progress_of(run: RunHandle) -> Progress:
    """Return what holds *run* up now. Needs no worker.

    Raises:
        RunNotFoundError: there is no run of this id.
    """
    description = await run.description()
    raw = description.raw_description
    asked = read_request_memo(await _memo(description))
    waits = raw.HasField("pending_workflow_task")
    task = raw.pending_workflow_task
    codec = description.data_converter.payload_codec
    return Progress(
        task_queue=description.task_queue,
        agent=asked.agent or None,
        requested_by=asked.requested_by,
        waits_since=_time(task.original_scheduled_time) if waits else None,
        task_attempt=task.attempt if waits else 0,
        activities=[
            _activity(
                each,
                await live_text(each, description.data_converter),
                await heartbeat_of(each, description.data_converter, BlockedLoop),
                await decoded_failure(codec, each.last_failure) if each.HasField("last_failure") else None,
            )
            for each in raw.pending_activities
        ],
        unread=list(_unread_messages(await decoded_events(codec, (await run.history()).events))) if waits else [],
    )


async def _memo(description: WorkflowExecutionDescription) -> object:
    try:
        memo: object = await description.memo_value(protocol.MEMO_REQUEST, None)
    except Exception:  # A codec may raise anything, and the memo may hold anything
        return None
    return memo


def describe_progress(progress: Progress, *, moving: bool = True) -> Iterator[str]:
    """Yield a line for each thing that holds the run up, and with *moving* for what moves; none if only people can."""
    for each in progress.activities:
        if moving or each.failure is not None or each.blocked is not None or not each.running:
            yield _describe_activity(each, progress.task_queue)
    if progress.task_attempt > 1:
        yield f"its worker fails to carry on, attempt {progress.task_attempt}: see that worker's log"
    elif progress.waits_since is not None:
        since = f"{progress.waits_since:%Y-%m-%d %H:%M:%SZ}"
        yield f"waits for a worker on task queue {one_line(progress.task_queue)!r} since {since}"
    for message in progress.unread:
        yield f"no worker has read {one_line(message.name)} yet: {one_line(message.text)}"


def _describe_activity(activity: ActivityProgress, task_queue: str) -> str:
    name = one_line(activity.activity)
    if activity.running:
        attempts = f", attempt {activity.attempt} after: {activity.failure}" if activity.failure else ""
        since = f" since {activity.since:%Y-%m-%d %H:%M:%SZ}" if activity.since else ""
        return f"{name} runs{since}{attempts}{_live_text(activity.live)}{_blocked(activity.blocked)}"
    if activity.failure is None:
        return f"{name} waits for a worker on task queue {one_line(activity.task_queue or task_queue)!r}"
    when = f" at {activity.next_at:%H:%M:%SZ}" if activity.next_at else ""
    return f"{name} attempt {activity.attempt - 1}: {activity.failure}; next{when}"


def _live_text(live: LiveText | None) -> str:
    if live is None:
        return ""
    called = f", calls {', '.join(map(one_line, live.calls))}" if live.calls else ""
    text = one_line(live.text[-SHOWN:])
    more = "…" if live.characters > SHOWN else ""
    return f", {live.characters} characters so far{called}" + (f": {more}{text}" if text else "")


def _blocked(blocked: BlockedLoop | None) -> str:
    if blocked is None:
        return ""
    by = f"the async tool {one_line(blocked.blocked_by)!r}" if blocked.blocked_by else "something else than a tool"
    return f"; {by} has blocked the event loop of its worker since {blocked.since:%H:%M:%SZ}"


def _activity(
    info: PendingActivityInfo, live: LiveText | None, blocked: BlockedLoop | None, failure: Failure | None
) -> ActivityProgress:
    running = info.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    return ActivityProgress(
        activity=info.activity_type.name,
        attempt=info.attempt,
        running=running,
        since=_time(info.last_started_time) if info.HasField("last_started_time") else None,
        failure=None if failure is None else _failure(failure),
        next_at=None if running or not info.HasField("next_attempt_schedule_time") else _next(info),
        task_queue=info.activity_options.task_queue.name,
        live=live,
        blocked=blocked,
    )


def _next(info: PendingActivityInfo) -> datetime:
    return _time(info.next_attempt_schedule_time)


def _failure(failure: Failure) -> str:
    kind = failure.application_failure_info.type if failure.HasField("application_failure_info") else ""
    return bounded(one_line(f"{kind}: {failure.message}" if kind else failure.message), SHOWN)


def _unread_messages(events: Iterable[HistoryEvent]) -> Iterator[UnreadMessage]:
    unread: list[HistoryEvent] = []
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            unread.clear()
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            unread.append(event)
    for event in unread:
        signal = event.workflow_execution_signaled_event_attributes
        arguments = decoded([RawValue(payload) for payload in signal.input.payloads])
        yield UnreadMessage(name=signal.signal_name, text=shown(arguments), at=_time(event.event_time))


def _time(at: Timestamp) -> datetime:
    return at.ToDatetime(UTC)
