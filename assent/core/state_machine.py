"""The rules of a run.

`decide(run, event)` is the whole behaviour of a run. The workflow gives it live events and carries out its commands.
The audit, the watch and the rebuilding of a conversation give it the same events, read from history. So what runs,
what people see and what is audited cannot differ. (Decisions as values: Percival and Gregory, *Architecture Patterns
with Python*, chapter 3.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TypedDict

from assent.core import (
    approvals,
    budget_rules,
    compaction,
    compaction_steps,
    events,
    grants,
    message_handling,
    model_routing,
    sub_agents,
    timers,
    tool_calls,
    tool_results,
    turns,
    workflow_calls,
)
from assent.core.continue_as_new import restore, unsent_notices
from assent.core.notices import BATCH, NoticesInput, notices_of
from assent.core.run_state import MAX_TURNS, Run, Step
from assent.core.tool_calls import Call
from assent.wire import conversation, messages
from assent.wire.budget import tightened
from assent.wire.conversation import EMPTY_DIGEST, Conversation, ToolCall, user_message
from assent.wire.digest import text_digest
from assent.wire.errors import MessageError
from assent.wire.parts import attachments_of
from assent.wire.protocol import ModelTurn, WorkflowCall
from assent.wire.requirements import Grant, Requirement
from assent.wire.visibility import ParentEntry


def decide(run: Run, event: events.Event) -> Step:
    """Return the step that *event* causes in *run*."""
    if isinstance(event, events.Started) and event.continued:
        return _continue_run(event)
    # Deadlines for this instant were applied before the run raised `BudgetReached`.
    due = Step(run) if isinstance(event, events.BudgetReached) else timers.apply_due(run, event.at)
    if isinstance(event, events.CancelRequested) and due.run.ended:
        due = Step(run)  # The time budget ended with the cancellation: the run is cancelled.
    if isinstance(event, events.TimeReached):
        step = replace(due, run=replace(due.run, wake_at=None))
    else:
        step = _without_new_work(due.followed_by(_dispatch(due.run, event)))
    if any(isinstance(command, events.AskBudget) for command in step.commands):
        # `BudgetReached` follows at once and opens the requirement; the timer is set after that.
        return budget_rules.with_one_request(_with_notices(run, _with_status(step), event.at))
    if _is_noop(run, step.run):
        return step
    return _with_notices(run, _with_timer(_with_status(step)), event.at)


def _is_noop(before: Run, run: Run) -> bool:
    """Return True if status, timer and notices cannot have changed (fast path: most messages)."""
    return (
        run.calls is before.calls
        and run.requirements is before.requirements
        and run.model_running == before.model_running
        and run.wake_at == before.wake_at
        and run.budget is before.budget
        and run.status == before.status
    )


def _without_new_work(step: Step) -> Step:
    """Drop the commands that would start work in a run that this step ends."""
    if not step.run.ended:
        return step
    run, prefix = step.run, step.run.prefix
    if any(isinstance(command, events.CallModel) for command in step.commands):
        # The model call is not made: its turn does not count, and its items leave the conversation.
        known, digest = (prefix.length, prefix.digest) if prefix else (0, EMPTY_DIGEST)
        run = replace(run, turn=run.turn - 1, conversation=Conversation(run.conversation.items[:known], digest))
    ends = tuple(
        command for command in step.commands if isinstance(command, events.Complete | events.Fail | events.Cancel)
    )
    return replace(step, run=run, commands=ends)


def _dispatch(run: Run, event: events.Event) -> Step:
    if isinstance(event, events.MessageReceived):
        return message_handling.message_received(run, event)
    return Step(run) if run.ended else _dispatch_live(run, event)


def _dispatch_live(run: Run, event: events.Event) -> Step:
    match event:
        case events.Started():
            return _start(run, event)
        case events.ModelAnswered() | events.ModelFailed():
            return _model_ended(run, event)
        case events.Summarised():
            return _summarised(run, event)
        case events.ToolAnswered() | events.ToolLost() | events.AgentStarted() | events.AgentAnswered():
            return tool_results.handle(run, event)
        case events.CheckAnswered():
            return message_handling.check_answered(run, event)
        case events.BudgetReached():
            return budget_rules.open_extension(run, event)
        case _:
            return turns.cancel(run, event.at)


def _with_status(step: Step) -> Step:
    """Set the run's status to what it does now."""
    run = step.run
    if run.ended or run.status == "idle":
        return step
    moving = run.model_running or any(call.running or call.again_at is not None for call in run.calls)
    paused = bool(run.pending) and not moving
    if paused == (run.status == "waiting"):
        return step
    return replace(step, run=run.on("pause" if paused else "resume"))


def _with_timer(step: Step) -> Step:
    """Set the run's timer to the time at which something is due next."""
    run, due = step.run, timers.due_at(step.run)
    if due == run.wake_at or run.ended:
        return step
    return replace(step, run=replace(run, wake_at=due), commands=(*step.commands, events.WakeAt(due)))


def _with_notices(before: Run, step: Step, at: datetime) -> Step:
    """Add the notices of what changed, if the worker sends any."""
    run = step.run
    if not run.notices or run.requirements is before.requirements:
        return step
    common = NoticesInput(
        agent=run.call_context.agent,
        requested_by=run.requested_by,
        context=run.context,
        parents=[ParentEntry(run_id=each.run_id, agent=each.agent) for each in run.request.parents]
        if run.request
        else [],
        caller=run.caller,
        notices=[],
    ).without_defaults()
    notices = notices_of(before.requirements, run.requirements, at)
    batches = [notices[start : start + BATCH] for start in range(0, len(notices), BATCH)]
    commands = [events.SendNotices(common.model_copy(update={"notices": batch})) for batch in batches]
    return replace(step, commands=(*step.commands, *commands))


# -- the model --------------------------------------------------------------------------------------------------------


def _start(run: Run, event: events.Started) -> Step:
    ids = _ids_of(event)
    try:
        request = messages.read_request(event.arguments)
        sub_agents.check_parents(request, event.parent)
    except MessageError as error:
        return turns.fail(replace(run, **ids), events.Failure("InvalidRunRequest", str(error)), event.at)
    started = replace(
        run,
        **ids,
        request=request.model_copy(update={"input": request.prompt}),
        attachments={**run.attachments, **attachments_of(request.input)},
        max_turns=min(request.max_turns or MAX_TURNS, MAX_TURNS),
        max_tool_calls=request.max_tool_calls,
        started_at=event.at,
        closing=run.closing and request.conversation,
        parent=event.parent if request.parents or request.call else None,
    )
    if request.call is not None:
        return _ask_people(started, request.call, event)
    if request.prompt.strip():
        return turns.call_model(started, [user_message(request.input)], event.at)
    # A conversation without a prompt starts with the first message.
    idle = started.on("await_message")
    if idle.queued:
        return turns.resume(idle, event.at)
    return turns.close(idle, event.at) if idle.closing else Step(idle)


def _ask_people(run: Run, call: WorkflowCall, event: events.Started) -> Step:
    """Open the requirement of a call about which workflow code asks people; no model is called."""
    asking = replace(
        workflow_calls.without_messages(run, event.at),
        attributes=call.attributes,
        notices=call.notices,
        continue_after=call.continue_after,
    )
    if not event.nonces:
        return Step(asking)  # It was cancelled before it began.
    if call.requires_requester and run.requested_by is None:
        message = f"{call.tool!r} has no requester, which the worker of the workflow requires: give requested_by"
        return turns.fail(asking, events.Failure("NoRequester", message), event.at)
    answered = workflow_calls.as_turn(call, event)
    return _start_calls(asking, conversation.tool_calls(answered.turn.items), answered)


def _continue_run(event: events.Started) -> Step:
    """Return the run of the execution before, with the commands that it still had to carry out."""
    ids, carried = _ids_of(event), None
    # Assent carries nothing else, so whatever wrote another input must not use the run's name.
    problem = "AgentRun: a continued execution takes the state that the execution before carried, nothing else"
    try:
        carried = restore(event.arguments)
    except MessageError as error:
        problem = str(error)
    if carried is None:
        return turns.fail(Run(**ids), events.Failure("InvalidRunRequest", problem), event.at)
    run = replace(carried, **ids)
    commands: list[events.Command] = [events.SendNotices(each) for each in unsent_notices(event.arguments)]
    if run.wake_at is not None:
        commands.append(events.WakeAt(run.wake_at))
    if run.model_running:
        commands.append(turns.model_call(run))
    return Step(run, tuple(commands))


class _Ids(TypedDict):
    id: str
    execution_id: str
    first_execution_id: str
    namespace: str


def _ids_of(event: events.Started) -> _Ids:
    return _Ids(
        id=event.run_id,
        execution_id=event.execution_id,
        first_execution_id=event.first_execution_id,
        namespace=event.namespace,
    )


def _summarised(run: Run, event: events.Summarised) -> Step:
    if (redirected := compaction_steps.redirect_summary(run, event)) is not None:
        return redirected
    after = compaction_steps.finish_summary(run, event)
    return Step(run) if after is None else turns.call_model(after, [], event.at)


def _model_ended(run: Run, event: events.ModelAnswered | events.ModelFailed) -> Step:
    if not run.model_running:
        return Step(run)
    return (
        turns.fail(run, event.failure, event.at)
        if isinstance(event, events.ModelFailed)
        else _model_answered(run, event)
    )


def _model_answered(run: Run, event: events.ModelAnswered) -> Step:
    turn, request = event.turn, run.request
    if (queue := model_routing.redirect_queue(run, event)) is not None:
        routed = replace(run, model_task_queue=queue)
        return Step(routed, (turns.model_call(routed),))
    after = replace(
        run,
        model_running=False,
        conversation=run.conversation.append(turn.items),
        usage=run.usage + turn.usage + turn.wasted,
        attributes=run.attributes or turn.attributes,
        compaction=compaction.after_turn(run.compaction, run.turn, turn),
        notices=turn.notices if turn.gates else run.notices,
        max_turns=_max_turns(run, turn),
        model_task_queue=model_routing.queue_after(run, turn),
        max_tool_calls=_lowest(run.max_tool_calls, turn.max_tool_calls),
        instructions=_instructions(run, turn),
    )
    if run.turn == 1:  # Facts of the worker come with the first turn only.
        budget = tightened(turn.budget, request.budget if request else None)
        after = replace(
            after,
            rules_version=turn.rules_version,
            continue_after=turn.continue_after,
            proof=turn.proof,
            budget=budget,
            allowance=budget,
        )
    if turn.failure is not None:
        return turns.fail(after, events.Failure(turn.failure.kind, turn.failure.message), event.at)
    calls = conversation.tool_calls(turn.items)
    if len({call.call_id for call in calls}) != len(calls):
        failure = events.Failure("InvalidModelTurn", "the model gave two calls of one turn the same id")
        return turns.fail(after, failure, event.at)
    if run.turn == 1 and _lacks_price(after, turn):
        message = f"the run's budget limits its cost, and the worker has no price of its model {turn.model!r}"
        return turns.fail(after, events.Failure("NoPrice", f"{message}; see ASSENT_PRICES"), event.at)
    if calls:
        return _start_calls(after, calls, event)
    if turn.follow_up is not None:
        return turns.call_model(after, [user_message(turn.follow_up)], event.at)
    if after.queued and after.turn - after.turns_before < after.max_turns:
        return turns.call_model(after, [], event.at)
    return turns.complete(after, turn, event.at)


def _lacks_price(run: Run, turn: ModelTurn) -> bool:
    """Return whether the run has a cost limit that it can never reach, because the worker does not count costs."""
    return run.budget is not None and run.budget.max_cost is not None and "cost" not in turn.usage.model_fields_set


def _max_turns(run: Run, turn: ModelTurn) -> int:
    """Return the limit on turns. The agent's own comes with its first turn; the request can only lower it."""
    if turn.max_turns is None:
        return run.max_turns
    requested = run.request.max_turns if run.request else None
    return min(requested, turn.max_turns) if requested else turn.max_turns


def _instructions(run: Run, turn: ModelTurn) -> str | None:
    """Return the digest of the newest instructions from a function; a text is worth more than what is said of it."""
    new = turn.instructions.text if turn.instructions else None
    return run.instructions if new is None else text_digest(new)


def _lowest(*limits: int | None) -> int | None:
    return min((each for each in limits if each is not None), default=None)


# -- tool calls -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _CallStarter:
    """Starts the calls of a turn, one after the other."""

    run: Run
    event: events.ModelAnswered
    answers: Mapping[str, str]
    tool_calls: int
    grants: tuple[Grant, ...]
    calls: list[Call] = field(default_factory=list[Call])
    requirements: list[Requirement] = field(default_factory=list[Requirement])
    commands: list[events.Command] = field(default_factory=list[events.Command])

    def start(self, position: int, tool_call: ToolCall) -> None:
        """Answer a call at once, run it, or let it wait."""
        gate = tool_calls.gate_of(self.event.turn, tool_call)
        call = Call(tool_call, gate, policy_version=self.event.turn.policy_version)
        if (answer := self.answers.get(tool_call.call_id)) is not None:
            self.calls.append(replace(call.on("deny"), answer=answer))
            return
        self.tool_calls += 1
        decided = None if gate.verdict == "allow" else self._decide_by_grant(call)
        if decided is not None:
            self.requirements.append(decided)
        elif gate.verdict != "allow":
            requirement = self._open_requirement(call, self.event.nonces[tool_call.call_id])
            self.requirements.append(requirement)
            self.calls.append(replace(call.on("ask"), requirement_id=requirement.id))
            return
        granted = None if decided is None else decided.id
        if decided is not None and decided.status == "rejected":
            answer = f"Rejected again, without asking: {decided.reason}"
            self.calls.append(replace(call.on("deny"), answer=answer, requirement_id=granted))
            return
        self.calls.append(replace(call.on("allow"), started_at=self.event.at, requirement_id=granted))
        self.commands.append(tool_calls.run_tool(self.run.call_context, position, tool_call, gate, decided))

    def _open_requirement(self, call: Call, nonce: str) -> Requirement:
        return tool_calls.open_requirement(
            self.run.call_context,
            call.call,
            call.gate,
            nonce=nonce,
            policy_version=call.policy_version,
            at=self.event.at,
        )

    def _decide_by_grant(self, call: Call) -> Requirement | None:
        """Return the requirement of a call that a grant decides: each use is recorded. None: a person decides."""
        grant = grants.find_grant(
            self.grants,
            tool=call.call.tool,
            arguments=call.call.arguments,
            read_as=call.gate.read_as,
            policy_version=call.policy_version,
            binding=call.gate.binding,
            at=self.event.at,
            may_decide=partial(approvals.may_grant, gate=call.gate, requested_by=self.run.requested_by),
        )
        if grant is None:
            return None
        self.grants = grants.spend(self.grants, grant)
        # No memo holds the nonce of what never waits: it is derived, and unique because each use is.
        opened = self._open_requirement(call, f"{grant.id[:24]}-{grant.used + 1}")
        return approvals.decide_by_grant(opened, grant, self.event.at)


def _start_calls(run: Run, calls: list[ToolCall], event: events.ModelAnswered) -> Step:
    made = run.tool_calls - run.tool_calls_before
    answers = tool_calls.immediate_answers(event.turn, made=made, limit=run.max_tool_calls)
    starter = _CallStarter(run, event, answers, run.tool_calls, run.grants)
    for position, call in enumerate(calls):
        starter.start(position, call)
    after = replace(
        run,
        calls=tuple(starter.calls),
        requirements=(*run.requirements, *starter.requirements) if starter.requirements else run.requirements,
        grants=starter.grants,
        tool_calls=starter.tool_calls,
    )
    return turns.next_turn(Step(after, tuple(starter.commands)), event.at)
