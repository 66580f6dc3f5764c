"""Turns an error into one line and an exit code."""

from temporalio.service import RPCError

from assent.cli import exit_codes
from assent.runtime.connection_errors import fatal_answer
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


def exit_code(error: AssentError | RPCError) -> int:
    """Return the exit code of an error."""
    match error:
        case RPCError():
            return exit_codes.USAGE if fatal_answer(error) is None else exit_codes.NO_SERVER
        case RunFailedError() | DecisionError():
            return exit_codes.NO_EFFECT
        case RunNotFoundError() | RequirementNotFoundError() | HistoryError():
            return exit_codes.NOT_FOUND
        case ServerUnreachableError():
            return exit_codes.NO_SERVER
        case NoWorkerError():
            return exit_codes.NO_WORKER
        case _:
            return exit_codes.USAGE


def describe_error(error: AssentError | RPCError) -> str:
    """Say in one line what happened and what to do."""
    if isinstance(error, RPCError):
        return str(
            fatal_answer(error) or f"the Temporal server refused: {error.message}; see --namespace and --profile"
        )
    if isinstance(error, RunNotFoundError):
        return f"{error}; see: assent pending"
    return str(error)
