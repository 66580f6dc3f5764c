"""What happened to a run, for people who watch it: one line of meaning from each event of `assent.run`.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal, cast

from assent.conversation import text_of
from assent.events import (
    CallModel,
    CancelRequested,
    Complete,
    Event,
    Fail,
    MessageReceived,
    ModelAnswered,
    RunTool,
    Started,
    ToolAnswered,
    ToolLost,
)
from assent.protocol import DecisionResult, DecisionStatus, Stored
from assent.requirements import Requirement
from assent.run import Run, Step

RESULT_SHOWN: Final = 2_000

RunEventKind = Literal[
    "started", "model_called", "model_answered", "tool_started", "tool_finished", "waiting", "decided",
    "message", "not_counted", "completed", "failed", "cancelled",
]  # fmt: skip


class RunEvent(Stored):
    """Something that happened to a run. *text* is for people, as the model or the sender wrote it: render it safely.

    *tool*, *arguments* and *requirement_id* are set where the event is about a tool call, *by* where a person acted,
    and *status* what that came to.
    """

    kind: RunEventKind
    at: datetime
    turn: int = 0
    text: str = ""
    tool: str | None = None
    arguments: str | None = None
    requirement_id: str | None = None
    by: str | None = None
    status: DecisionStatus | None = None


def describe(event: Event, before: Run, step: Step) -> Iterator[RunEvent]:
    """What *event* meant, in the order in which it came about."""
    run, at = step.run, event.at
    if isinstance(event, Started):
        yield RunEvent(kind="started", at=at, text=run.request.input if run.request else "")
    elif isinstance(event, ModelAnswered):
        yield RunEvent(kind="model_answered", at=at, turn=before.turn, text=text_of(event.turn.items))
    elif isinstance(event, ToolAnswered | ToolLost):
        yield from _tool_finished(event, before)
    elif isinstance(event, MessageReceived):
        yield _message(event, before, step)
    yield from _opened(before, run, at)
    yield from _commands(step, at)
    if isinstance(event, CancelRequested) and run.status == "cancelled":
        yield RunEvent(kind="cancelled", at=at, turn=run.turn)


def _tool_finished(event: ToolAnswered | ToolLost, before: Run) -> Iterator[RunEvent]:
    if event.position >= len(before.calls):
        return
    call = before.calls[event.position]
    yield RunEvent(
        kind="tool_finished",
        at=event.at,
        turn=before.turn,
        tool=call.call.tool,
        text=_result(event)[:RESULT_SHOWN],
        requirement_id=call.requirement_id,
    )


def _result(event: ToolAnswered | ToolLost) -> str:
    if isinstance(event, ToolLost):
        return f"no result: {event.failure.message}"
    outcome = event.outcome
    if outcome.refused is not None:
        return f"not run: {outcome.refused}"
    return f"failed: {outcome.error}" if outcome.error is not None else outcome.output or ""


def _message(event: MessageReceived, before: Run, step: Step) -> RunEvent:
    result = step.result
    dropped = step.run.attempts is not before.attempts
    decided = not dropped and result is not None and result.requirement_id is not None
    return RunEvent(
        kind="not_counted" if dropped else ("decided" if decided else "message"),
        at=event.at,
        turn=before.turn,
        text=_text(event, result, decided=decided),
        tool=result.tool if result else None,
        requirement_id=result.requirement_id if result else None,
        by=_sender(event),
        status=result.status if result else None,
    )


def _text(event: MessageReceived, result: DecisionResult | None, *, decided: bool) -> str:
    if result is None:
        return event.name
    return result.detail if decided else f"{event.name}: {result.status}: {result.detail}"


def _sender(event: MessageReceived) -> str | None:
    body = event.arguments[0] if event.arguments else None
    by = cast("dict[str, object]", body).get("by") if isinstance(body, dict) else None
    return by if isinstance(by, str) else None


def _opened(before: Run, run: Run, at: datetime) -> Iterator[RunEvent]:
    for requirement in run.requirements[len(before.requirements) :]:
        yield _waiting(requirement, at)


def _waiting(requirement: Requirement, at: datetime) -> RunEvent:
    return RunEvent(
        kind="waiting",
        at=at,
        turn=requirement.turn,
        text=requirement.kind,
        tool=requirement.tool,
        arguments=requirement.arguments,
        requirement_id=requirement.id,
    )


def _commands(step: Step, at: datetime) -> Iterator[RunEvent]:
    turn = step.run.turn
    for command in step.commands:
        match command:
            case CallModel(input=call):
                yield RunEvent(kind="model_called", at=at, turn=call.turn)
            case RunTool(tool=tool, input=call):
                identity = call.authorization.requirement_id if call.authorization else None
                yield RunEvent(
                    kind="tool_started",
                    at=at,
                    turn=turn,
                    tool=tool,
                    arguments=call.arguments,
                    requirement_id=identity,
                )
            case Complete(result):
                yield RunEvent(kind="completed", at=at, turn=turn, text=result.content)
            case Fail(failure):
                yield RunEvent(kind="failed", at=at, turn=turn, text=f"{failure.kind}: {failure.message}")
            case _:
                pass
