"""What an event does to a run.

`decide(run, event)` is the whole of a run's behaviour. The workflow feeds it what it lives through and carries out the
commands; the audit, the watch and the rebuilding of a conversation feed it the same events read from history. So what
runs, what is shown and what is audited cannot differ. (Decisions as values: Percival and Gregory, *Architecture
Patterns with Python*, chapter 3.)

Pure; safe in workflow code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from assent.core import (
    approvals,
    budget_rules,
    compaction,
    compaction_steps,
    grants,
    message_handling,
    model_routing,
    sub_agents,
    tool_calls,
    tool_results,
    turns,
)
from assent.core.continue_as_new import restore, unsent_notices
from assent.core.events import (
    AgentAnswered,
    AgentStarted,
    AskBudget,
    BudgetReached,
    CallModel,
    Cancel,
    CancelRequested,
    CheckAnswered,
    Command,
    Complete,
    Event,
    Fail,
    Failure,
    MessageReceived,
    ModelAnswered,
    ModelFailed,
    SendNotices,
    Started,
    Summarised,
    TimeReached,
    ToolAnswered,
    ToolLost,
    WakeAt,
)
from assent.core.notices import BATCH, NoticesInput, notices_of
from assent.core.run_state import MAX_TURNS, PendingCheck, Run, Step, state_of
from assent.core.tool_calls import Call
from assent.core.tool_results import asks_outcome
from assent.wire import conversation, messages
from assent.wire.budget import tightened
from assent.wire.conversation import EMPTY_DIGEST, Conversation, ToolCall, user_message
from assent.wire.errors import MessageError
from assent.wire.protocol import ModelTurn, RunStatus
from assent.wire.requirements import Grant, Requirement
from assent.wire.visibility import RunAbove

__all__ = ["MAX_TURNS", "PendingCheck", "Run", "Step", "asks_outcome", "decide", "state_of"]


def decide(run: Run, event: Event) -> Step:
    """What *event* does to *run*.

    Pure; safe in workflow code.
    """
    if isinstance(event, Started) and event.continued:
        return _continued(event)
    # Deadlines for this instant were applied before the run raised `BudgetReached`.
    timed = Step(run) if isinstance(event, BudgetReached) else message_handling.pass_time(run, event.at)
    timed = Step(run) if isinstance(event, CancelRequested) and budget_rules.just_ended(run, timed.run) else timed
    if isinstance(event, TimeReached):
        step = replace(timed, run=replace(timed.run, wake_at=None))
    else:
        step = _without_new_work(message_handling.merged(timed, _dispatch(timed.run, event)))
    if any(isinstance(command, AskBudget) for command in step.commands):
        # The requirement is opened at once, with `BudgetReached`; the timer goes by what is then.
        return budget_rules.with_one_request(_with_notices(run, _with_status(step), event.at))
    if _is_noop(run, step.run):
        return step
    return _with_notices(run, _with_timer(_with_status(step)), event.at)


def _is_noop(before: Run, run: Run) -> bool:
    """Whether nothing changed by which the status, the timer or a notice goes: most of what people send."""
    return (
        run.calls is before.calls
        and run.requirements is before.requirements
        and run.model_running == before.model_running
        and run.wake_at == before.wake_at
        and run.budget is before.budget
        and run.status == before.status
    )


def _without_new_work(step: Step) -> Step:
    """The step, without anything that its end leaves no time for: what was due at the moment of a cancellation."""
    if not step.run.ended:
        return step
    ends = tuple(command for command in step.commands if isinstance(command, Complete | Fail | Cancel))
    unasked = any(isinstance(command, CallModel) for command in step.commands)
    return replace(step, run=_without_model_call(step.run) if unasked else step.run, commands=ends)


def _without_model_call(run: Run) -> Run:
    """The run without the model call that it was about to make, and what that would have carried."""
    known = run.prefix.length if run.prefix else 0
    digest = run.prefix.digest if run.prefix else EMPTY_DIGEST
    return replace(run, turn=run.turn - 1, conversation=Conversation(run.conversation.items[:known], digest))


def _dispatch(run: Run, event: Event) -> Step:
    if isinstance(event, MessageReceived):
        return message_handling.message_received(run, event)
    return Step(run) if run.ended else _dispatch_live(run, event)


def _dispatch_live(run: Run, event: Event) -> Step:
    match event:
        case Started():
            return _started(run, event)
        case ModelAnswered():
            return _model_answered(run, event)
        case ModelFailed(at, failure):
            return turns.fail(run, failure, at)
        case Summarised():
            return _summarised(run, event)
        case ToolAnswered() | ToolLost() | AgentStarted() | AgentAnswered():
            return tool_results.handle(run, event)
        case CheckAnswered():
            return message_handling.check_answered(run, event)
        case BudgetReached():
            return budget_rules.open_extension(run, event)
        case _:
            return turns.cancel(run, event.at)


def _with_status(step: Step) -> Step:
    """The step with the run's status set to what the run is now doing."""
    run = step.run
    if run.ended or run.status == "idle":
        return step
    moving = run.model_running or any(call.running or call.again_at is not None for call in run.calls)
    status: RunStatus = "waiting" if run.pending and not moving else "running"
    return step if status == run.status else replace(step, run=replace(run, status=status))


def _with_timer(step: Step) -> Step:
    """The step with the run's timer set to when something is due next."""
    run = step.run
    due = message_handling.due_at(run)
    if due == run.wake_at or run.ended:
        return step
    return replace(step, run=replace(run, wake_at=due), commands=(*step.commands, WakeAt(due)))


def _with_notices(before: Run, step: Step, at: datetime) -> Step:
    """The step with notices of what changed, where the worker sends any."""
    run = step.run
    if not run.notices or run.requirements is before.requirements:
        return step
    found = notices_of(before.requirements, run.requirements, at)
    commands: list[Command] = []
    for start in range(0, len(found), BATCH):
        fields: dict[str, object] = {"agent": run.call_context.agent, "notices": found[start : start + BATCH]}
        if run.requested_by is not None:
            fields["requested_by"] = run.requested_by
        if run.request is not None and run.request.parents:
            fields["parents"] = [RunAbove(run_id=each.run_id, agent=each.agent) for each in run.request.parents]
        commands.append(SendNotices(NoticesInput.model_validate(fields)))
    return replace(step, commands=(*step.commands, *commands))


# -- the model --------------------------------------------------------------------------------------------------------


def _started(run: Run, event: Started) -> Step:
    begun = replace(
        run,
        id=event.run_id,
        execution_id=event.execution_id,
        first_execution_id=event.first_execution_id,
        namespace=event.namespace,
    )
    try:
        request = messages.read_request(event.arguments)
        sub_agents.check_parents(request, event.parent)
    except MessageError as error:
        return turns.fail(begun, Failure("InvalidRunRequest", str(error)), event.at)
    limit = min(request.max_turns or MAX_TURNS, MAX_TURNS)
    closing = run.closing and request.conversation
    parent = event.parent if request.parents else None
    begun = replace(
        begun,
        request=request,
        max_turns=limit,
        max_tool_calls=request.max_tool_calls,
        started_at=event.at,
        closing=closing,
        parent=parent,
    )
    if not request.input.strip():
        # A conversation that begins with whatever is sent to it.
        idle = replace(begun, status="idle")
        if begun.queued:
            return turns.resume(idle, event.at)
        return turns.close(idle, event.at) if closing else Step(idle)
    return turns.call_model(begun, [user_message(request.input)], event.at)


def _continued(event: Started) -> Step:
    """The run of the execution before, as it was, with what that one still had to do; nothing of it is new."""
    begun = Run(
        id=event.run_id,
        execution_id=event.execution_id,
        first_execution_id=event.first_execution_id,
        namespace=event.namespace,
    )
    try:
        carried, notices = restore(event.arguments), unsent_notices(event.arguments)
    except MessageError as error:
        return turns.fail(begun, Failure("InvalidRunRequest", str(error)), event.at)
    if carried is None:
        # Assent never goes on with anything else, so whoever did this is not to be trusted with the run's name.
        message = "AgentRun: an execution that goes on from another takes what that one carried over, nothing else"
        return turns.fail(begun, Failure("InvalidRunRequest", message), event.at)
    run = replace(
        carried,
        id=begun.id,
        execution_id=begun.execution_id,
        first_execution_id=begun.first_execution_id,
        namespace=begun.namespace,
    )
    commands: list[Command] = [SendNotices(each) for each in notices]
    if run.wake_at is not None:
        commands.append(WakeAt(run.wake_at))
    if run.model_running:
        commands.append(turns.model_call(run))
    return Step(run, tuple(commands))


def _summarised(run: Run, event: Summarised) -> Step:
    if (asked := compaction_steps.redirect_summary(run, event)) is not None:
        return asked
    after = compaction_steps.finish_summary(run, event)
    return Step(run) if after is None else turns.call_model(after, [], event.at)


def _model_answered(run: Run, event: ModelAnswered) -> Step:
    turn = event.turn
    if (queue := model_routing.redirect_queue(run, event)) is not None:
        routed = replace(run, model_task_queue=queue)
        return Step(routed, (turns.model_call(routed),))
    # Facts of the worker come with the first turn only.
    is_first = run.turn == 1
    asked = run.request.budget if run.request else None
    budget = tightened(turn.budget, asked) if is_first else run.budget
    after = replace(
        run,
        model_running=False,
        conversation=run.conversation.append(turn.items),
        usage=run.usage + turn.usage,
        attributes=run.attributes or turn.attributes,
        rules_version=turn.rules_version if is_first else run.rules_version,
        continue_after=turn.continue_after if is_first else run.continue_after,
        compaction=compaction.after_turn(run.compaction, run.turn, turn),
        budget=budget,
        allowance=budget if is_first else run.allowance,
        notices=turn.notices if turn.gates else run.notices,
        max_turns=_limit(run, turn),
        model_task_queue=model_routing.queue_after(run, turn),
        max_tool_calls=_lower(run.max_tool_calls, turn.max_tool_calls),
    )
    wanted = conversation.tool_calls(turn.items)
    if len({call.call_id for call in wanted}) != len(wanted):
        return turns.fail(after, Failure("InvalidModelTurn", "the model named two calls of one turn alike"), event.at)
    if is_first and _lacks_price(after, turn):
        message = f"the run's budget bounds its cost, and the worker has no price of its model {turn.model!r}"
        return turns.fail(after, Failure("NoPrice", f"{message}; see ASSENT_PRICES"), event.at)
    if wanted:
        return _start_calls(after, wanted, event)
    if turn.follow_up is not None:
        return turns.call_model(after, [user_message(turn.follow_up)], event.at)
    if after.queued and after.turn - after.turns_before < after.max_turns:
        return turns.call_model(after, [], event.at)
    return turns.complete(after, turn, event.at)


def _lacks_price(run: Run, turn: ModelTurn) -> bool:
    """Whether what the run may spend could never be reached, as nobody counts it."""
    return run.budget is not None and run.budget.max_cost is not None and "cost" not in turn.usage.model_fields_set


def _limit(run: Run, turn: ModelTurn) -> int:
    """The agent's own limit comes with its first turn; the request may lower it, never raise it."""
    if turn.max_turns is None:
        return run.max_turns
    asked = run.request.max_turns if run.request else None
    return min(asked, turn.max_turns) if asked else turn.max_turns


def _lower(*limits: int | None) -> int | None:
    return min((each for each in limits if each is not None), default=None)


# -- tool calls -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _CallStarter:
    """The calls of a turn, as one after the other is begun."""

    run: Run
    event: ModelAnswered
    counted: int
    held: tuple[Grant, ...]
    begun: list[Call] = field(default_factory=list[Call])
    opened: list[Requirement] = field(default_factory=list[Requirement])
    commands: list[Command] = field(default_factory=list[Command])

    def begin(self, position: int, call: ToolCall) -> None:
        """Answer a call at once, run it, or let it wait."""
        turn, limit = self.event.turn, self.run.max_tool_calls
        gate = tool_calls.gate_of(turn, call)
        made = Call(call, gate, policy_version=turn.policy_version)
        answer = tool_calls.immediate_answer(gate)
        if answer is None and limit is not None and self.counted - self.run.tool_calls_before >= limit:
            answer = f"Denied: the run may make {limit} tool calls, and has made them. Answer with what you have."
        if answer is not None:
            self.begun.append(replace(made, answer=answer))
            return
        self.counted += 1
        if gate.verdict == "allow":
            self._run(position, made, None)
            return
        granted = self._granted(call, made)
        if granted is None:
            requirement = self._open(made, self.event.nonces[call.call_id])
            self.opened.append(requirement)
            self.begun.append(replace(made, requirement_id=requirement.id))
        else:
            self.opened.append(granted)
            self._run(position, replace(made, requirement_id=granted.id), granted)

    def _run(self, position: int, made: Call, approved: Requirement | None) -> None:
        self.begun.append(replace(made, running=True, started_at=self.event.at))
        self.commands.append(tool_calls.run_tool(self.run.call_context, position, made.call, made.gate, approved))

    def _open(self, made: Call, nonce: str) -> Requirement:
        return tool_calls.open_requirement(
            self.run.call_context,
            made.call,
            made.gate,
            nonce=nonce,
            policy_version=made.policy_version,
            at=self.event.at,
        )

    def _granted(self, call: ToolCall, made: Call) -> Requirement | None:
        """The requirement of a call that a grant lets through: each use cites it. None where a person is asked."""
        if made.gate.verdict != "ask" or made.gate.needed > 1 or made.gate.failed:
            return None
        grant = grants.find_grant(
            self.held,
            tool=call.tool,
            arguments=call.arguments,
            read_as=made.gate.read_as,
            policy_version=made.policy_version,
            at=self.event.at,
            may_decide=partial(approvals.may_decide, made.gate, self.run.requested_by),
        )
        if grant is None:
            return None
        self.held = grants.spend(self.held, grant)
        # No memo tells the nonce of what never waits: it is derived, and unique because a use is.
        opened = self._open(made, f"{grant.id[:24]}-{grant.used + 1}")
        return approvals.approve_by_grant(opened, grant, self.event.at)


def _start_calls(run: Run, wanted: list[ToolCall], event: ModelAnswered) -> Step:
    beginning = _CallStarter(run, event, run.tool_calls, run.grants)
    for position, call in enumerate(wanted):
        beginning.begin(position, call)
    after = replace(
        run,
        calls=tuple(beginning.begun),
        requirements=(*run.requirements, *beginning.opened),
        grants=beginning.held,
        tool_calls=beginning.counted,
    )
    return turns.next_turn(Step(after, tuple(beginning.commands)), event.at)
