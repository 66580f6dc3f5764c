"""Whether this container's worker polls its task queue, asked of the server: exit code 0 or 1."""

from __future__ import annotations

import asyncio
import os
import socket
import time

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig

RECENT = 150
"""Seconds since a poll that still count: a poll lasts a minute, and a busy worker polls less."""


async def polls() -> bool:
    """Whether a poller of the queue has this container's host name."""
    client = await Client.connect(**ClientConfig.load_client_connect_config())
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=os.environ.get("ASSENT_TASK_QUEUE", "agents")),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    pollers = (await client.workflow_service.describe_task_queue(request)).pollers
    recent = [each.identity for each in pollers if time.time() - each.last_access_time.ToSeconds() < RECENT]
    return any(identity.endswith("@" + socket.gethostname()) for identity in recent)


if __name__ == "__main__":
    # Not a normal exit: a process that has used a Temporal client can abort there.
    os._exit(0 if asyncio.run(polls()) else 1)
