"""The run that an activity is of. An activity of Assent does nothing outside a run.

Anyone with write access to a Temporal namespace can start an activity by itself (`temporal activity start`), or from a
workflow of their own. Such an activity has no record and no rules: it would spend the worker's keys on what the sender
says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from assent.wire import protocol
from assent.wire.protocol import Execution

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def own_run() -> Execution:
    """Return the run of this activity, as the server names it.

    Raises:
        ApplicationError: the activity runs outside a run; final.
    """
    if (run := _run()) is not None:
        return run
    info = activity.info()
    where = f"a workflow of type {info.workflow_type!r}" if info.workflow_type else "no workflow"
    message = f"{info.activity_type!r} runs only inside a workflow of type {protocol.WORKFLOW!r}; this is in {where}"
    raise ApplicationError(message, type="OutsideRun", non_retryable=True)


def _run() -> Execution | None:
    info = activity.info()
    if info.workflow_type != protocol.WORKFLOW or not info.workflow_id or not info.workflow_run_id:
        return None
    return Execution(run_id=info.workflow_id, execution_id=info.workflow_run_id)


def only_inside_a_run(
    function: Callable[[Argument], Coroutine[object, object, Result]], *, is_registered: bool = True
) -> Callable[[Argument], Coroutine[object, object, Result]]:
    """Return the activity *function*, refusing to run outside a run.

    One that is not *is_registered* stands for the types that this worker does not have. To a workflow of another type
    it answers as a worker without it: another worker of the task queue may have the activity, so it is retried.
    """

    @functools.wraps(function)  # Copies the name and the types that the SDK's decorator left on the function.
    async def guarded(argument: Argument) -> Result:
        if _run() is None and not is_registered:
            message = f"no activity named {activity.info().activity_type!r} is registered on this worker"
            raise ApplicationError(message, type="NotFoundError")
        _ = own_run()
        return await function(argument)

    return guarded
