"""The turns of a run: from the answers of one to the model call of the next, or to the run's end.

Pure; safe in workflow code.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from assent.core import approvals, budget_rules, compaction_steps, ignored_messages, sub_agents
from assent.core.events import CallModel, Cancel, Complete, Fail, Failure
from assent.core.run_state import Run, Step
from assent.wire.conversation import fitted, text_of, tool_output
from assent.wire.protocol import DecisionResult, Item, ModelCallInput, ModelTurn, RunResult
from assent.wire.requirements import Requirement
from assent.wire.text import bounded


def call_model(run: Run, delta: list[Item], at: datetime) -> Step:
    """Ask the model again, with what the conversation gained; a run that has used all its turns fails."""
    if run.turn - run.turns_before >= run.max_turns:
        return _exhausted(run, delta, at)
    if budget_rules.exhausted(run, at) or budget_rules.pending_extension(run) is not None:
        return _over_budget(run, delta, at)
    if (summarising := compaction_steps.start_summary(run, delta)) is not None:
        return summarising
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
        "agent": run.call_context.agent,
        "turn": run.turn,
        "delta": list(run.conversation.items[known:]),
    }
    if run.prefix is not None:
        fields["prefix"] = run.prefix
    if run.requested_by is not None:
        fields["requested_by"] = run.requested_by
    if run.call_context.policy is not None:
        fields["policy"] = run.call_context.policy
    if run.model_task_queue is not None:
        fields["routed"] = True
    return CallModel(ModelCallInput.model_validate(fields), run.model_task_queue)


def next_turn(step: Step, at: datetime) -> Step:
    """What follows once every call of the turn has its answer: the next model call, or the end that a tool makes."""
    run = step.run
    if run.ended or not run.calls or any(call.answer is None for call in run.calls):
        return step
    run = sub_agents.apply_handoff(run, at)
    told = fitted([call.told for call in run.calls])
    answers = [tool_output(call.call.call_id, answer) for call, answer in zip(run.calls, told, strict=True)]
    last = next((call for call in run.calls if call.executed and call.gate.stop), None)
    if last is None:
        following = call_model(run, answers, at)
    else:
        following = _end(replace(run, conversation=run.conversation.append(answers)), last.answer or "", None, at)
    return replace(step, run=following.run, commands=(*step.commands, *following.commands))


def answer_call(run: Run, position: int, answer: str, execution: str, at: datetime) -> Step:
    """Answer a call that ran, or was refused; and go on where it was the last of its turn."""
    call = run.calls[position]
    result = {"execution": execution, "result": bounded(answer, approvals.RESULT_SHOWN)}
    after = run.with_call(position, replace(call, answer=answer, running=False, executed=execution == "executed"))
    if call.requirement_id is not None:
        after = after.with_requirement(call.requirement_id, lambda found: found.model_copy(update=result))
    return next_turn(Step(after), at)


def complete(run: Run, turn: ModelTurn, at: datetime) -> Step:
    """End the run with the model's final answer."""
    content = text_of(turn.items)
    return _end(run, content, json.loads(content) if turn.structured else None, at)


def _exhausted(run: Run, delta: list[Item], at: datetime) -> Step:
    """A run that has used all its turns fails; a conversation waits for what it is told next, and says why."""
    failure = Failure("MaxTurnsExceeded", f"the run used all of its {run.max_turns} turns")
    if not run.is_conversation or run.closing:
        return fail(run, failure, at)
    told = run.conversation.append([*delta, *run.queued])
    return Step(replace(_idle(run), conversation=told, queued=(), queued_size=0, failure=failure))


def _over_budget(run: Run, delta: list[Item], at: datetime) -> Step:
    if run.budget is not None and run.budget.on_reached == "end":
        return fail(run, budget_rules.failure(run, at), at)
    return budget_rules.request_extension(run, delta)


def after_budget_decision(run: Run, requirement: Requirement, at: datetime) -> Step:
    """What follows the decision about more budget: the model call that was held back, or the end of the run."""
    if requirement.status == "approved":
        more = replace(budget_rules.extend(run, requirement, at), held=None)
        return call_model(more, list(run.held), at) if run.held is not None else Step(more)
    why = f"{budget_rules.failure(run, at).message}; {requirement.resolved_by} gave no more: {requirement.reason}"
    return fail(run, Failure("BudgetExhausted", why), at)


def _idle(run: Run) -> Run:
    """A conversation that waits for the next message."""
    return replace(run, status="idle", model_running=False, calls=())


def resume(run: Run, at: datetime) -> Step:
    """A conversation asks the model about what it was sent since the last answer; the limits count anew."""
    begun = replace(
        run,
        status="running",
        content=None,
        output=None,
        failure=None,
        turns_before=run.turn,
        tool_calls_before=run.tool_calls,
    )
    return call_model(begun, [], at)


def close(run: Run, at: datetime) -> Step:
    """End a conversation that waits, with its last answer."""
    return _end(replace(run, closing=True), run.content or "", run.output, at)


def _end(run: Run, content: str, output: JsonValue, at: datetime) -> Step:
    if run.is_conversation and not run.closing:
        answered = replace(_idle(run), content=content, output=output)
        return resume(answered, at) if answered.queued else Step(answered)
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
        requirements=tuple(
            approvals.close_requirement(each, at, started=each.id not in unstarted) for each in run.requirements
        ),
        checks=(),
    )
    for check in run.checks:
        result = DecisionResult(status="late", detail="the run ended before it was checked")
        after = after.with_ignored(ignored_messages.attempt_of(check.event, result, check.message.by))
    return after
