"""Comparing what a history says with what the rules say, leniently only towards what older histories did not say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, cast

from pydantic import ValidationError

from assent.core.events import CallModel, CheckCall, RunTool, Summarise
from assent.core.notices import NoticesInput
from assent.core.state_machine import Run
from assent.wire.digest import text_digest
from assent.wire.protocol import RunResult

_LATER: Final = frozenset({"requested_by", "policy"})
"""What older histories do not say to their activities: it became known to these after the histories were recorded."""


def timeless(run: Run) -> Run:
    """A run without the times of what did not count.

    A workflow task without commands that another follows at once (an update refused at the door makes one) is one task
    with that on replay: the code is told the time of the second then, and was told that of the first before.
    """
    at = datetime.min.replace(tzinfo=UTC)
    return replace(run, attempts=tuple(each.model_copy(update={"at": at}) for each in run.attempts))


def difference(command: RunTool | CallModel | CheckCall | Summarise, given: object) -> str | None:
    """The field in which an activity's input is not what the rules asked for; None where there is none."""
    try:
        found = type(command.input).model_validate(given)
    except ValidationError:
        return "input"
    for name in type(command.input).model_fields:
        if name in _LATER and name not in found.model_fields_set:
            continue
        wanted, had = getattr(command.input, name), getattr(found, name)
        if name == "authorization" and wanted is not None and had is not None:
            # Histories from before workflow resets were looked for do not say these.
            unsaid = [each for each in ("execution_id", "follows") if getattr(had, each) is None]
            wanted = wanted.model_copy(update=dict.fromkeys(unsaid))
        if wanted != had:
            return name
    return None


def noticed(given: NoticesInput) -> frozenset[str]:
    """Notices by their digests."""
    return frozenset(text_digest(each.model_dump_json()) for each in given.notices)


def result_of(given: object) -> tuple[object, ...] | None:
    """What of a run's result its state says too; None where it is none."""
    try:
        result = RunResult.model_validate(given)
    except ValidationError:
        return None
    return result.content, result.output, result.usage, result.turns


def listed(told: object) -> list[object]:
    """What the inbox was told, as a list; anything else is one entry, which will not be readable."""
    return cast("list[object]", told) if isinstance(told, list) else [told]
