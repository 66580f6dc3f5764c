"""Compare what a history says with what the rules say."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pydantic import ValidationError

from assent.core.events import CallModel, CheckCall, RunTool, Summarise
from assent.core.notices import NoticesInput
from assent.core.run_state import Run
from assent.wire.digest import text_digest
from assent.wire.protocol import RunResult


def without_times(run: Run) -> Run:
    """A run without the times of what did not count.

    A workflow task without commands that another follows at once (an update refused at the door makes one) is one task
    with that on replay: the code is told the time of the second then, and was told that of the first before.
    """
    at = datetime.min.replace(tzinfo=UTC)
    return replace(run, ignored_messages=tuple(each.model_copy(update={"at": at}) for each in run.ignored_messages))


def difference(command: RunTool | CallModel | CheckCall | Summarise, arguments: Sequence[object]) -> str | None:
    """The field in which an activity's inputs are not what the rules asked for; None where there is none."""
    if isinstance(command, RunTool) and command.values is not None:
        return None if list(command.values) == list(arguments) else "input"
    try:
        actual = type(command.input).model_validate((*arguments, None)[0])
    except ValidationError:
        return "input"
    fields = type(command.input).model_fields
    return next((name for name in fields if getattr(command.input, name) != getattr(actual, name)), None)


def notices_by_digest(sent: NoticesInput) -> frozenset[str]:
    """Notices by their digests."""
    return frozenset(text_digest(each.model_dump_json()) for each in sent.notices)


def result_of(value: object) -> tuple[object, ...] | None:
    """What of a run's result its state says too; None where it is none."""
    try:
        result = RunResult.model_validate(value)
    except ValidationError:
        return None
    return result.content, result.output, result.usage, result.turns
