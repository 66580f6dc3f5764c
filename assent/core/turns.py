"""The turns of a run: from the answers of one turn to the model call of the next, or to the run's end."""

import json
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from assent.core import approvals, budget_rules, compaction_steps, ignored_messages, sub_agents, workflow_calls
from assent.core.events import CallModel, Cancel, Complete, Fail, Failure
from assent.core.run_state import Run, Step
from assent.wire.conversation import shorten_outputs, text_of, tool_output
from assent.wire.limits import RESULT_SHOWN
from assent.wire.protocol import DecisionResult, Item, ModelCallInput, ModelTurn, RunResult
from assent.wire.requirements import Requirement
from assent.wire.text import bounded


def call_model(run: Run, delta: list[Item], at: datetime) -> Step:
    """Call the model with the new items of the conversation, unless a limit or a summary comes first."""
    if run.turn - run.turns_before >= run.max_turns:
        return _end_at_turn_limit(run, delta, at)
    if budget_rules.exhausted(run, at) or budget_rules.pending_extension(run) is not None:
        if run.budget is not None and run.budget.on_reached == "end":
            return fail(run, budget_rules.failure(run, at), at)
        return budget_rules.request_extension(run, delta)
    if (summarising := compaction_steps.start_summary(run, delta)) is not None:
        return summarising
    after = replace(
        run,
        turn=run.turn + 1,
        model_running=True,
        conversation=run.conversation.append([*delta, *run.queued]),
        prefix=run.conversation.prefix,
        queued=(),
        queued_size=0,
        calls=(),
    )
    return Step(after, (model_call(after),))


def model_call(run: Run) -> CallModel:
    """Return the newest model call: the new items of the conversation, and the prefix that names the earlier ones."""
    known = run.prefix.length if run.prefix else 0
    context = run.call_context
    call = ModelCallInput(
        agent=context.agent,
        turn=run.turn,
        delta=list(run.conversation.items[known:]),
        prefix=run.prefix,
        requested_by=run.requested_by,
        policy=context.policy,
        routed=run.model_task_queue is not None,
        context=run.context,
        instructions=run.instructions,
    )
    return CallModel(call.without_defaults(), run.model_task_queue)


def next_turn(step: Step, at: datetime) -> Step:
    """Call the model, or end the run, once every call of the turn has its answer."""
    run = step.run
    if run.ended or not run.calls or any(call.answer is None for call in run.calls):
        return step
    if run.workflow_call is not None:
        decision = workflow_calls.decision_of(run)
        ended = _end(run, workflow_calls.summary(decision), decision.model_dump(mode="json"), at)
        return replace(step, run=ended.run, commands=(*step.commands, *ended.commands))
    run = sub_agents.apply_handoff(run, at)
    outputs = shorten_outputs([call.output for call in run.calls])
    answers = [
        tool_output(call.call.call_id, output, call.images) for call, output in zip(run.calls, outputs, strict=True)
    ]
    last = next((call for call in run.calls if call.executed and call.gate.stop), None)
    if last is None:
        following = call_model(run, answers, at)
    else:
        following = _end(replace(run, conversation=run.conversation.append(answers)), last.answer or "", None, at)
    return replace(step, run=following.run, commands=(*step.commands, *following.commands))


def answer_call(run: Run, position: int, answer: str, execution: str, at: datetime) -> Step:
    """Give a call that ran, or was refused, its answer; start the next turn if it was the last of its turn."""
    call = run.calls[position]
    done = replace(call.on("return"), answer=answer, executed=execution == "executed")
    after = run.with_call(position, done)
    shown = bounded(answer, RESULT_SHOWN)
    return next_turn(Step(after.update_requirement(call.requirement_id, execution=execution, result=shown)), at)


def complete(run: Run, turn: ModelTurn, at: datetime) -> Step:
    """End the run with the model's final answer."""
    content = text_of(turn.items)
    return _end(run, content, json.loads(content) if turn.structured else None, at)


def _end_at_turn_limit(run: Run, delta: list[Item], at: datetime) -> Step:
    """Fail a run that has used all its turns; a conversation says so and waits for the next message."""
    failure = Failure("MaxTurnsExceeded", f"the run used all of its {run.max_turns} turns")
    if not run.is_conversation or run.closing:
        return fail(run, failure, at)
    conversation = run.conversation.append([*delta, *run.queued])
    return Step(replace(_idle(run), conversation=conversation, queued=(), queued_size=0, failure=failure))


def after_budget_decision(run: Run, requirement: Requirement, at: datetime) -> Step:
    """Make the model call that was held back if more budget was approved; end the run if not."""
    if requirement.status == "approved":
        more = replace(budget_rules.extend(run, requirement, at), held=None)
        return call_model(more, list(run.held), at) if run.held is not None else Step(more)
    why = f"{budget_rules.failure(run, at).message}; {requirement.resolved_by} gave no more: {requirement.reason}"
    return fail(run, Failure("BudgetExhausted", why), at)


def _idle(run: Run) -> Run:
    """Return a conversation that waits for the next message."""
    return replace(run.on("await_message"), model_running=False, calls=())


def resume(run: Run, at: datetime) -> Step:
    """Call the model of an idle conversation with the queued messages; its limits start again."""
    resumed = replace(
        run.on("take_message"),
        content=None,
        output=None,
        failure=None,
        turns_before=run.turn,
        tool_calls_before=run.tool_calls,
    )
    return call_model(resumed, [], at)


def close(run: Run, at: datetime) -> Step:
    """End an idle conversation with its last answer."""
    return _end(replace(run, closing=True), run.content or "", run.output, at)


def _end(run: Run, content: str, output: JsonValue, at: datetime) -> Step:
    if run.is_conversation and not run.closing:
        idle = replace(_idle(run), content=content, output=output)
        return resume(idle, at) if idle.queued else Step(idle)
    done = replace(_stop(run, at).on("complete"), content=content, output=output)
    return Step(done, (Complete(RunResult(content=content, output=output, usage=done.usage, turns=done.turn)),))


def fail(run: Run, failure: Failure, at: datetime) -> Step:
    """End the run with a failure."""
    return Step(replace(_stop(run, at).on("fail"), failure=failure), (Fail(failure),))


def cancel(run: Run, at: datetime) -> Step:
    """End the run as cancelled."""
    return Step(_stop(run, at).on("cancel"), (Cancel(),))


def _stop(run: Run, at: datetime) -> Run:
    """Return the run with nothing left open: pending requirements are cancelled, active executions are unknown."""
    # The server starts no activity that the workflow task which ends the run schedules.
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
        after = after.with_ignored(ignored_messages.ignored(check.event, result, check.message.by))
    return after
