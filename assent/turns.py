"""The turns of a run: from the answers of one to the model call of the next, or to the run's end.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from assent import approvals, attempts
from assent.conversation import fitted, text_of, tool_output
from assent.events import CallModel, Cancel, Complete, Fail, Failure
from assent.protocol import DecisionResult, Item, ModelCallInput, ModelTurn, RunResult
from assent.snapshot import Run, Step


def call_model(run: Run, delta: list[Item], at: datetime) -> Step:
    """Ask the model again, with what the conversation gained; a run that has used all its turns fails."""
    if run.turn >= run.max_turns:
        return fail(run, Failure("MaxTurnsExceeded", f"the run used all of its {run.max_turns} turns"), at)
    items = [*delta, *run.queued]
    after = replace(
        run,
        turn=run.turn + 1,
        model_running=True,
        conversation=run.conversation.append(items),
        prefix=run.conversation.prefix,
        queued=(),
        queued_size=0,
        calls=(),
    )
    return Step(after, (model_call(after),))


def model_call(run: Run) -> CallModel:
    """The newest model call of a run: what the conversation gained since the one before, and the name of the rest."""
    known = run.prefix.length if run.prefix else 0
    # Only what is not the default is set: these inputs are stored for every turn of a history.
    fields: dict[str, object] = {
        "agent": run.caller.agent,
        "turn": run.turn,
        "delta": list(run.conversation.items[known:]),
    }
    if run.prefix is not None:
        fields["prefix"] = run.prefix
    if run.requested_by is not None:
        fields["requested_by"] = run.requested_by
    if run.caller.policy is not None:
        fields["policy"] = run.caller.policy
    return CallModel(ModelCallInput.model_validate(fields))


def next_turn(step: Step, at: datetime) -> Step:
    """What follows once every call of the turn has its answer: the next model call, or the end that a tool makes."""
    run = step.run
    if run.ended or not run.calls or any(call.answer is None for call in run.calls):
        return step
    told = fitted([call.told for call in run.calls])
    answers = [tool_output(call.call.call_id, answer) for call, answer in zip(run.calls, told, strict=True)]
    last = next((call for call in run.calls if call.executed and call.gate.stop), None)
    if last is None:
        following = call_model(run, answers, at)
    else:
        following = _end(replace(run, conversation=run.conversation.append(answers)), last.answer or "", None, at)
    return replace(step, run=following.run, commands=(*step.commands, *following.commands))


def complete(run: Run, turn: ModelTurn, at: datetime) -> Step:
    """End the run with the model's final answer."""
    content = text_of(turn.items)
    return _end(run, content, json.loads(content) if turn.structured else None, at)


def _end(run: Run, content: str, output: JsonValue, at: datetime) -> Step:
    done = replace(closed(run, at), status="completed", content=content, output=output)
    return Step(done, (Complete(RunResult(content=content, output=output, usage=done.usage, turns=done.turn)),))


def fail(run: Run, failure: Failure, at: datetime) -> Step:
    """End the run with a failure."""
    return Step(replace(closed(run, at), status="failed", failure=failure), (Fail(failure),))


def cancel(run: Run, at: datetime) -> Step:
    """End the run as cancelled."""
    return Step(replace(closed(run, at), status="cancelled"), (Cancel(),))


def closed(run: Run, at: datetime) -> Run:
    """The run with nothing left open: what was pending is cancelled, what was under way is unknown."""
    # The server starts nothing that is scheduled by the workflow task that ends the run.
    unstarted = {call.requirement_id for call in run.calls if call.running and call.started_at == at}
    after = replace(
        run,
        model_running=False,
        calls=tuple(replace(call, running=False, again_at=None) for call in run.calls),
        requirements=tuple(approvals.cancel(each, at, started=each.id not in unstarted) for each in run.requirements),
        checks=(),
    )
    for check in run.checks:
        result = DecisionResult(status="late", detail="the run ended before it was checked")
        after = after.with_attempt(attempts.attempt_of(check.event, result, check.message.by))
    return after
