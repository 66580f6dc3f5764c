"""A worker for agents: the workflow, its sandbox, and the activities it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from temporalio.client import Client
from temporalio.worker import Worker, WorkerDeploymentConfig

from .agent_run import AgentRun
from .sandbox import runner_for

CACHED_RUNS: Final = 1_000
"""Runs that a worker keeps in memory; one that waits longer is replayed when it is decided."""
STICKY_TIMEOUT: Final = timedelta(seconds=3)
"""How long a run waits for the worker that has it in memory, before another takes it up. (The SDK's 10 s is how long
every waiting run would stand still after a worker's sudden death.)"""
HEARTBEAT_THROTTLE: Final = timedelta(seconds=0.5)
"""How often the SDK passes an activity's heartbeats on, at most. (Its own 0.8 of the heartbeat timeout would keep the
text of a model call back for 24 s.)"""
GRACE: Final = timedelta(seconds=30)
"""How long running tools may finish once a worker is asked to stop."""


def worker_for(
    client: Client,
    *,
    task_queue: str,
    activities: Sequence[Callable[..., object]],
    cached_runs: int = CACHED_RUNS,
    grace: timedelta = GRACE,
    deployment: WorkerDeploymentConfig | None = None,
    max_activities_per_second: float | None = None,
) -> Worker:
    """A worker that serves `AgentRun` with these activities on *task_queue*. Start it with `async with` or `run()`.

    *deployment* is the build that it serves, and what becomes of runs when another follows. The server starts no more
    than *max_activities_per_second* on the task queue, on all its workers together; the newest worker's number holds.

    I/O; not in workflow code.
    """
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[AgentRun],
        activities=activities,
        workflow_runner=runner_for(client.data_converter),
        max_cached_workflows=cached_runs,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        graceful_shutdown_timeout=grace,
        max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
        deployment_config=deployment,
        max_task_queue_activities_per_second=max_activities_per_second,
    )
