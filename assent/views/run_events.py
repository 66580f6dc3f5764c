"""What happened to a run, for people who watch it: one line for each event of `assent.core.state_machine`."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, cast

from pydantic import Field

from assent.core import events, handoffs, sub_agents
from assent.core.compaction import Summary
from assent.core.compaction_steps import is_left_out
from assent.core.model_routing import redirect_queue
from assent.core.run_state import Run, Step
from assent.core.tool_calls import Call, immediate_answers
from assent.views.facts import caller_words, facts_of, grant_words
from assent.wire.conversation import text_of, tool_calls
from assent.wire.limits import EVENT_TEXT_SHOWN, TERM_SHOWN
from assent.wire.protocol import ChildRun, DecisionStatus, InputField, ModelTurn, RunResult, Stored
from assent.wire.requirements import Grant, Requirement
from assent.wire.text import bounded, plain

RunEventKind = Literal[
    "started", "model_called", "model_text", "model_answered", "tool_started", "tool_finished", "waiting", "decided",
    "message", "not_counted", "completed", "failed", "cancelled",
    "granted", "remembered", "revoked", "superseded", "escalated", "reminded", "expired", "lost", "idle", "summarised",
    "agent_started", "agent_finished", "handed_over", "reset",
]  # fmt: skip


class RunEvent(Stored):
    """Something that happened to a run. *text* is for people, as the model or the sender wrote it: render it safely.

    *tool*, *arguments* and *requirement_id* are set where the event is about a tool call, *by* where a person acted,
    *reason* where they gave one, *status* its outcome, and *grant* (its id) where the event is about an approval that
    was remembered.

    `model_answered`: *calls* are the tools that the model calls, with the answer to a call that neither runs nor waits.

    A call that begins to wait is `waiting`: *text* is its kind, *terms* say who may decide it, by when and what else
    it turns on, *fields* are what a person fills in. One that did not wait, because of a grant, is `granted`.
    `superseded`: an edit replaced a call's arguments by these *arguments*. `lost`: a worker was lost while a tool ran
    that may run only once, so that its outcome is unknown. `idle`: a conversation has answered, with *text*, and
    waits for the next message. `summarised`: a summary was made of the older items of a long conversation, or could
    not be. `expired`, `escalated` and `reminded` are what time does.

    `agent_started`: another agent began to answer the call of a *tool*, in the run *child*, which has events of its
    own; `agent_finished` is instead of `tool_finished` there, with the answer, or why there is none, as *text*.
    `handed_over`: another *agent* continues the conversation.

    `model_text` is no event of the history: *text* is the model's answer so far, while it is written, behind as many
    characters as are *left_out*; *tool* is the tool that it began to call last. Words of an attempt that fails are
    none of the answer.
    """

    kind: RunEventKind
    at: datetime
    turn: int = 0
    text: str = ""
    tool: str | None = None
    arguments: str | None = None
    requirement_id: str | None = None
    by: str | None = None
    reason: str | None = None
    status: DecisionStatus | None = None
    grant: str | None = None
    left_out: int = 0
    child: ChildRun | None = None
    agent: str | None = None
    terms: list[str] = Field(default_factory=list[str])
    fields: list[InputField] = Field(default_factory=list[InputField])
    calls: list[str] = Field(default_factory=list[str])


def describe(event: events.Event, before: Run, step: Step) -> Iterator[RunEvent]:
    """What *event* meant, in the order in which it came about.

    After continue-as-new, *before* is the run at the end of the previous execution: no event is repeated.
    """
    run, at = step.run, event.at
    yield from _timer_events(before, run, at)
    match event:
        case events.Started() if not before.id:
            yield RunEvent(kind="started", at=at, text=_asked(run))
        case events.ModelAnswered() | events.Summarised() if redirect_queue(before, event):
            pass  # No model was asked; that it is asked was told.
        case events.ModelAnswered():
            text, called = text_of(event.turn.items), _calls(event.turn, before, run)
            yield RunEvent(kind="model_answered", at=at, turn=before.turn, text=text, calls=called)
        case events.Summarised() if before.compaction is not None and not before.ended:
            yield RunEvent(kind="summarised", at=at, turn=before.turn, text=_summarised(event, before, run))
        case events.ToolAnswered() | events.ToolLost() | events.AgentStarted() | events.AgentAnswered():
            yield from _of_a_call(event, before, step)
        case events.MessageReceived():
            yield from _message(event, before, step, at)
        case events.CheckAnswered():
            yield from _checked(event, before, step)
        case _:
            pass
    yield from _handoff_event(event, before, run)
    yield from _request_events(before, run, at)
    told_before = before.model_running and (
        isinstance(event, events.Started) or redirect_queue(before, event) is not None
    )
    yield from _commands(step, at, told_before=told_before)
    if run.status == "idle" and before.status != "idle":
        yield RunEvent(kind="idle", at=at, turn=run.turn, text=run.content or "")
    if isinstance(event, events.CancelRequested) and run.status == "cancelled":
        yield RunEvent(kind="cancelled", at=at, turn=run.turn)


def _asked(run: Run) -> str:
    if run.caller is not None:
        return f"{plain(caller_words(run.call_context.agent, run.caller), TERM_SHOWN)} asks"
    return run.request.prompt if run.request else ""


def _calls(turn: ModelTurn, before: Run, run: Run) -> list[str]:
    """Return the tools that a turn calls, each with its answer where it neither runs nor waits."""
    made = before.tool_calls - before.tool_calls_before
    answers = immediate_answers(turn, made=made, limit=run.max_tool_calls)
    called: list[str] = []
    for call in tool_calls(turn.items):
        answer = answers.get(call.call_id)
        tool = call.tool or "(no name)"
        called.append(bounded(tool if answer is None else f"{tool} ({answer})", TERM_SHOWN))
    return called


# -- time -------------------------------------------------------------------------------------------------------------


def _timer_events(before: Run, run: Run, at: datetime) -> Iterator[RunEvent]:
    """What time did, before anything else that came about at this moment."""
    for was, now in zip(before.requirements, run.requirements, strict=False):
        if was is now or was.status != "pending":
            continue
        if now.status == "expired":
            yield _about(now, "expired", at, "no decision in time, which counts as rejected")
        if now.escalated > was.escalated:
            added = [name for each in now.escalations[was.escalated : now.escalated] for name in each.approvers]
            yield _about(now, "escalated", at, f"{', '.join(added) or 'no one'} may decide it too")
        if now.reminders > was.reminders:
            yield _about(now, "reminded", at, f"reminder {now.reminders}")


def _about(requirement: Requirement, kind: RunEventKind, at: datetime, text: str) -> RunEvent:
    return RunEvent(
        kind=kind, at=at, turn=requirement.turn, text=text, tool=requirement.tool, requirement_id=requirement.id
    )


# -- tools ------------------------------------------------------------------------------------------------------------


def _of_a_call(
    event: events.ToolAnswered | events.ToolLost | events.AgentStarted | events.AgentAnswered, before: Run, step: Step
) -> Iterator[RunEvent]:
    """What came of a call, or who answers it."""
    match event:
        case events.AgentStarted():
            yield from _agent_started(event, step.run)
        case events.AgentAnswered():
            yield from _agent_finished(event, before)
        case _:
            yield from _tool_finished(event, before, step)


def _tool_finished(event: events.ToolAnswered | events.ToolLost, before: Run, step: Step) -> Iterator[RunEvent]:
    if event.position >= len(before.calls) or any(isinstance(each, events.StartAgent) for each in step.commands):
        return  # The child run has the events of a call to another agent.
    call, run = before.calls[event.position], step.run
    asked = call.gate.at_most_once and call.requirement_id is not None
    lost = isinstance(event, events.ToolLost) and asked and run is not before
    text = f"outcome unknown: {_result(event, before)}" if lost else _result(event, before)
    yield _call_event(call, "lost" if lost else "tool_finished", event.at, before.turn, text)


def _call_event(call: Call, kind: RunEventKind, at: datetime, turn: int, text: str) -> RunEvent:
    return RunEvent(
        kind=kind, at=at, turn=turn, text=text[:EVENT_TEXT_SHOWN], tool=call.call.tool,
        requirement_id=call.requirement_id, child=call.child,
    )  # fmt: skip


def _result(event: events.ToolAnswered | events.ToolLost, before: Run) -> str:
    if isinstance(event, events.ToolLost):
        return f"no result: {event.failure.message}"
    outcome = event.outcome
    if outcome.delegation is not None:
        return f"not run: {sub_agents.delegation_objection(before, outcome.delegation) or 'the run had ended'}"
    if outcome.again_after is not None and outcome.gate is None:
        return f"not run yet, and tried again later: {outcome.refused}"
    if outcome.refused is not None:
        return f"not run: {outcome.refused}"
    return f"failed: {outcome.error}" if outcome.error is not None else outcome.output or ""


def _agent_started(event: events.AgentStarted, run: Run) -> Iterator[RunEvent]:
    for call in run.calls:
        if call.child is not None and call.child.run_id == event.run_id:
            text = f"{call.child.agent} answers it, in run {call.child.run_id}"
            yield _call_event(call, "agent_started", event.at, run.turn, text)


def _agent_finished(event: events.AgentAnswered, before: Run) -> Iterator[RunEvent]:
    for call in before.calls:
        if call.running and call.child is not None and call.child.run_id == event.run_id:
            answer = event.answer
            text = answer.content if isinstance(answer, RunResult) else f"failed: {answer.kind}: {answer.message}"
            yield _call_event(call, "agent_finished", event.at, before.turn, text)


def _handoff_event(event: events.Event, before: Run, run: Run) -> Iterator[RunEvent]:
    to = handoffs.effective_handoff(before, event, run)
    if to is None:
        return
    ended = len(handoffs.ended_grants(before, run))
    text = f"{before.call_context.agent} handed the conversation over to {to.agent}"
    more = f", which ends {ended} remembered decision{'s' * (ended != 1)}" if ended else ""
    yield RunEvent(kind="handed_over", at=event.at, turn=before.turn, text=text + more, agent=to.agent)


def _summarised(event: events.Summarised, before: Run, run: Run) -> str:
    """What came of a summary: how much of the conversation it stands for now."""
    wanted = before.compaction.under_way if before.compaction else None
    old = f"{wanted.replaced if wanted else 0} older items of the conversation"
    if isinstance(event.summary, Summary) and event.summary.summary.strip():
        return f"{old}: {event.summary.summary[:EVENT_TEXT_SHOWN]}"
    why = event.summary.message if isinstance(event.summary, events.Failure) else "the model said nothing"
    left = "are left out" if is_left_out(event, before, run) else "stay"
    return f"{old} {left}, because no summary was made: {why[:TERM_SHOWN]}"


# -- people -----------------------------------------------------------------------------------------------------------


def _message(event: events.MessageReceived, before: Run, step: Step, at: datetime) -> Iterator[RunEvent]:
    """The outcome of a message at *at*, which is later than its arrival if a worker checked it first."""
    result, run = step.result, step.run
    dropped = run.ignored_messages is not before.ignored_messages
    for was, now in zip(before.grants, run.grants, strict=False):
        # A grant without a revoker ended at a handoff.
        if now.revoked_at != was.revoked_at and now.revoked_by is not None:
            yield _of_grant(now, "revoked", at, result.detail if result else "", now.revoked_by)
            return
    yield from _superseded(before, run, at)
    decided = not dropped and result is not None and result.requirement_id is not None
    yield RunEvent(
        kind="not_counted" if dropped else ("decided" if decided else "message"),
        at=at,
        turn=before.turn,
        text=_text(event, step, decided=decided),
        tool=result.tool if result else None,
        requirement_id=result.requirement_id if result else None,
        by=_text_field(event, "by"),
        reason=_text_field(event, "reason"),
        status=result.status if result else None,
    )
    for grant in run.grants[len(before.grants) :]:
        yield _of_grant(grant, "remembered", at, plain(grant_words(grant), TERM_SHOWN), grant.by)


def _of_grant(grant: Grant, kind: RunEventKind, at: datetime, text: str, by: str | None) -> RunEvent:
    return RunEvent(
        kind=kind, at=at, text=text, tool=grant.tool, requirement_id=grant.requirement_id, by=by, grant=grant.id
    )


def _checked(event: events.CheckAnswered, before: Run, step: Step) -> Iterator[RunEvent]:
    """The outcome of a message that a worker has checked."""
    check = next((each for each in before.checks if each.number == event.number), None)
    if check is not None and step.result is not None:
        yield from _message(check.event, before, step, event.at)


def _superseded(before: Run, run: Run, at: datetime) -> Iterator[RunEvent]:
    for was, now in zip(before.requirements, run.requirements, strict=False):
        if was.status == "pending" and now.status == "superseded":
            edited = next((each for each in run.requirements if each.follows == now.id), now)
            text = f"edited by {now.resolved_by}; it is {edited.short_id} now"
            yield _about(now, "superseded", at, text).model_copy(
                update={"arguments": edited.arguments, "by": now.resolved_by}
            )


def _text(event: events.MessageReceived, step: Step, *, decided: bool) -> str:
    result = step.result
    if result is None:
        return event.name if step.check is None else f"{event.name}: a worker checks it first"
    return result.detail if decided else f"{event.name}: {result.status}: {result.detail}"


def _text_field(event: events.MessageReceived, name: str) -> str | None:
    """The text that a message has in a field, if it has any."""
    body = event.arguments[0] if event.arguments else None
    value = cast("dict[str, object]", body).get(name) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None


# -- calls that wait, and what runs -----------------------------------------------------------------------------------


def _request_events(before: Run, run: Run, at: datetime) -> Iterator[RunEvent]:
    for requirement in run.requirements[len(before.requirements) :]:
        if requirement.grant is not None:
            what = "rejected it" if requirement.status == "rejected" else "let it through"
            text = f"did not wait: grant {requirement.grant[:8]} of {requirement.resolved_by} {what}"
            granted = _about(requirement, "granted", at, text)
            by = {"grant": requirement.grant, "by": requirement.resolved_by, "arguments": requirement.arguments}
            yield granted.model_copy(update=by)
        elif requirement.status == "pending":
            yield _waiting(run, requirement, at)


def _waiting(run: Run, requirement: Requirement, at: datetime) -> RunEvent:
    facts = facts_of(requirement, run.requirements, run.requested_by, run.context)
    return RunEvent(
        kind="waiting",
        at=at,
        turn=requirement.turn,
        text=requirement.kind,
        tool=requirement.tool,
        arguments=requirement.arguments,
        requirement_id=requirement.id,
        terms=[fact.lead + plain(fact.words, TERM_SHOWN) for fact in facts],
        fields=requirement.fields,
    )


def _commands(step: Step, at: datetime, *, told_before: bool) -> Iterator[RunEvent]:
    """What is begun; *told_before*: an event said so of the model call, which was not made then."""
    turn = step.run.turn
    for command in step.commands:
        match command:
            case events.CallModel(input=call) if not told_before:
                yield RunEvent(kind="model_called", at=at, turn=call.turn)
            case events.RunTool(tool=tool, input=call):
                identity = call.authorization.requirement_id if call.authorization else None
                yield RunEvent(
                    kind="tool_started", at=at, turn=turn, tool=tool, arguments=call.arguments, requirement_id=identity
                )
            case events.Complete(result):
                yield RunEvent(kind="completed", at=at, turn=turn, text=result.content)
            case events.Fail(failure):
                yield RunEvent(kind="failed", at=at, turn=turn, text=f"{failure.kind}: {failure.message}")
            case _:
                pass


def event_text(event: RunEvent) -> str:
    """What an event says, behind its kind: render it safely."""
    call = f"{event.requirement_id[:8]} {event.tool}" if event.requirement_id else f"{event.tool}"
    more = " …" if len(event.text) >= EVENT_TEXT_SHOWN else ""
    grant = f"grant {event.grant[:8]}" if event.grant else "a grant"
    called = f"calls: {', '.join(event.calls)}" if event.calls else ""
    meanings: dict[RunEventKind, str] = {
        "model_called": f"turn {event.turn}",
        "model_answered": "; ".join(filter(None, [called, event.text])) or "no words, no calls",
        "waiting": f"{call} ({event.text}) {event.arguments}",
        "granted": f"{call}, {event.text}: {event.arguments}",
        "remembered": f"{grant}: {event.text}",
        "revoked": f"{grant} of {event.tool}: {event.text}",
        "superseded": f"{call}, {event.text}: {event.arguments}",
        "tool_started": f"{call} {event.arguments}",
        "tool_finished": f"{call}: {event.text}{more}",
        "completed": f"after turn {event.turn}" if event.turn else "",
        "idle": f"after turn {event.turn}; waits for the next message",
        "agent_started": f"{call}: {event.text}",
        "agent_finished": f"{call}: {event.child.agent if event.child else ''}: {event.text}{more}",
        "failed": f"in turn {event.turn}" if event.turn else "",
        "cancelled": f"in turn {event.turn}" if event.turn else "",
    }
    meanings |= dict.fromkeys(("decided", "escalated", "reminded", "expired", "lost"), f"{call}: {event.text}")
    return meanings.get(event.kind, event.text)
