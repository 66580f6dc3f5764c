"""Exit codes: what scripts go by."""

from __future__ import annotations

from typing import Final

from temporalio.service import RPCError

from assent.runtime.connection_errors import refused
from assent.wire.errors import (
    AssentError,
    DecisionError,
    HistoryError,
    NoWorkerError,
    RequirementNotFoundError,
    RunFailedError,
    RunNotFoundError,
    ServerUnreachableError,
)

DONE: Final = 0
NOT_TAKEN: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
NO_SERVER: Final = 4
NO_WORKER: Final = 5
BUG: Final = 70
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_NOT_COUNTED: Final = "the decision was not taken (late, duplicate, refused, superseded)"
TABLE: Final = (
    (DONE, "done"),
    (NOT_TAKEN, f"the run failed or was cancelled, {_NOT_COUNTED}, or a check of an audit or a bundle failed"),
    (USAGE, "wrong usage or settings, or the server refused"),
    (NOT_FOUND, "no such run, call or grant, an id that is not unique, or a history that cannot be read"),
    (NO_SERVER, "no Temporal server answers, or it cannot be used: wrong namespace, credentials, certificate or port"),
    (NO_WORKER, "sent, but no worker has read it (only with --require-answer)"),
    (BUG, "an error in Assent itself"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
)


def exit_code(error: AssentError | RPCError) -> int:
    """The exit code that says what kind of error it was.

    Pure.
    """
    match error:
        case RPCError():
            return USAGE if refused(error) is None else NO_SERVER
        case RunFailedError() | DecisionError():
            return NOT_TAKEN
        case RunNotFoundError() | RequirementNotFoundError() | HistoryError():
            return NOT_FOUND
        case ServerUnreachableError():
            return NO_SERVER
        case NoWorkerError():
            return NO_WORKER
        case _:
            return USAGE


def told(error: AssentError | RPCError) -> str:
    """What happened and what to do, in one line.

    Pure.
    """
    if isinstance(error, RPCError):
        return str(refused(error) or f"the Temporal server refused: {error.message}; see --namespace and --profile")
    if isinstance(error, RunNotFoundError):
        return f"{error}; see: assent pending"
    return str(error)
