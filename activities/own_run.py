"""The run that an activity is of. An activity of Assent does nothing outside a run.

Anyone with write access to a Temporal namespace can start an activity by itself (`temporal activity start`), or from a
workflow of their own. Such an activity has no record and no rules: it would spend the worker's keys on what the sender
says.
"""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Final, TypeVar, cast, get_type_hints

from temporalio import activity
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from assent.runtime.converter import PLAIN
from assent.wire import protocol
from assent.wire.protocol import Execution

Argument = TypeVar("Argument")


_client: Final[ContextVar[Client | None]] = ContextVar("assent_client", default=None)


def own_client() -> Client:
    """Return the client of the worker that runs this activity.

    Raises:
        RuntimeError: the activity is run by hand, without one.
    """
    return _client.get() or activity.client()


def with_client(client: Client) -> None:
    """Have `own_client` give *client* in this activity: for sync activities, to which the SDK gives none."""
    _client.set(client)


def own_run() -> Execution:
    """Return the run of this activity, as the server names it.

    Raises:
        ApplicationError: the activity runs outside a run; final.
    """
    if (run := run_of_activity()) is not None:
        return run
    info = activity.info()
    where = f"a workflow of type {info.workflow_type!r}" if info.workflow_type else "no workflow"
    message = f"{info.activity_type!r} runs only inside a workflow of type {protocol.WORKFLOW!r}; this is in {where}"
    raise ApplicationError(message, type="OutsideRun", non_retryable=True)


def run_of_activity() -> Execution | None:
    """Return the run of this activity; None if it is of no run."""
    info = activity.info()
    if info.workflow_type != protocol.WORKFLOW or not info.workflow_id or not info.workflow_run_id:
        return None
    return Execution(run_id=info.workflow_id, execution_id=info.workflow_run_id)


def as_activity(
    function: Callable[[Argument], Coroutine[object, object, object]], name: str
) -> Callable[[RawValue], Coroutine[object, object, RawValue]]:
    """Return the activity *name* that runs *function*.

    Its input and result are encoded by Assent's own payload converter, whatever the worker's is.
    """
    kind = next(iter(get_type_hints(function).values()))

    @activity.defn(name=name)
    async def guarded(input: RawValue) -> RawValue:
        argument = cast("Argument", PLAIN.from_payload(input.payload, kind))
        return encoded(await function(argument))

    return guarded


def encoded(result: object) -> RawValue:
    """Return the *result* of an activity as Assent's own payload converter writes it."""
    return RawValue(PLAIN.to_payload(result))
