"""Reading the audit of a run from its history, page by page, in memory that goes by its records and not its events.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from dataclasses import replace

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import child_builders, event_fields, received_messages, record_builders
from assent.audit.child_builders import ChildBuilder, HandoffBuilder
from assent.audit.execution import ExecutionLedger, PendingCommand, WorkBuilder
from assent.audit.execution import key_of as key_of_event
from assent.audit.observer import AuditObserver, SchedulingCommand, key_of
from assent.audit.record_builders import (
    ApprovalBuilder,
    CallBuilder,
    GrantBuilder,
    RunFile,
    ToolRunBuilder,
    TurnBuilder,
    run_record,
)
from assent.audit.records import Audit, Citation, MessageRecord, RunRecord, SentMessage
from assent.core.approvals import cancel
from assent.core.events import (
    AgentAnswered,
    CallModel,
    CheckAnswered,
    Failure,
    MessageReceived,
    ModelAnswered,
    ModelFailed,
    RunTool,
    StartAgent,
    Summarise,
    Summarised,
    ToolAnswered,
    ToolLost,
)
from assent.core.model_routing import elsewhere
from assent.core.state_machine import Run, state_of
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import Missing, Page, goes_on_in
from assent.history.payloads import values_of
from assent.wire.conversation import tool_calls
from assent.wire.errors import HistoryError, MessageError
from assent.wire.messages import read_request
from assent.wire.protocol import RunRequest
from assent.wire.requirements import Requirement


class Auditor:
    """Reads the audit of one run. Give it the pages of its history in order, then ask for the `audit`.

    I/O free; not in workflow code.
    """

    def __init__(self, run_id: str, observer: AuditObserver | None = None) -> None:
        """*observer* looks on."""
        self.run_id = run_id
        self._observer = observer
        self._now = ExecutionLedger("", HistoryFold(run_id))
        self._executions: list[str] = []
        self._missing: list[str] = []
        self._builds: dict[str, None] = {}
        self._first: HistoryEvent | None = None
        self._last: tuple[str, HistoryEvent] | None = None
        self._events = 0
        self._files: dict[str, ApprovalBuilder] = {}
        self._calls: dict[tuple[int, str], CallBuilder] = {}
        self._grants: dict[str, GrantBuilder] = {}
        self._turns: list[TurnBuilder | record_builders.SummaryBuilder] = []
        self._messages: list[SentMessage] = []
        self._checking: dict[int, SentMessage] = {}
        self._handoffs: list[HandoffBuilder] = []

    # -- reading ------------------------------------------------------------------------------------------------------

    def add(self, page: Page | Missing) -> None:
        """Read a page, or be told that an execution is gone.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        if isinstance(page, Missing):
            self._missing.append(page.execution_id)
            if self._observer is not None:
                self._observer.on_missing(page)
            return
        if page.execution_id != self._now.id or not self._executions:
            self._begin_execution(page)
        if self._observer is not None:
            self._observer.on_page(page)
        for event in page.events:
            self._note(event)
        for transition in self._now.fold.feed(page.events):
            self._happened(transition)
        for left in self._now.scheduled.values():
            while left:
                self._late(left.popleft())

    def _late(self, scheduled: HistoryEvent) -> None:
        """What was not scheduled by the workflow task in which the rules asked for it, if they did."""
        asked = self._now.asked[key_of_event(scheduled)]
        if asked:
            held = asked.popleft()
            self._scheduled(held.transition, held.command, held.work, scheduled)
        elif self._observer is not None:
            self._observer.on_unrequested(scheduled, self._now.id)

    def _end_execution(self) -> None:
        """Tell what was asked for and never scheduled."""
        for waiting in self._now.asked.values():
            while waiting:
                left = waiting.popleft()
                if self._observer is not None:
                    self._observer.on_scheduled(left.transition, left.command, None)

    def _begin_execution(self, page: Page) -> None:
        self._end_execution()
        if self._first is None and page.events:
            self._first = page.events[0]
            self.run_id = self.run_id or event_fields.run_id_of(self._first)
        self._executions.append(page.execution_id)
        self._now = ExecutionLedger(page.execution_id, HistoryFold(self.run_id, page.execution_id))

    def _note(self, event: HistoryEvent) -> None:
        """Keep what later events are about: who scheduled, who took up, who sent."""
        self._events += 1
        self._last = (self._now.id, event)
        self._now.note(event)
        if event.event_type == event_types.TASK_COMPLETED and (build := event_fields.build_of(event)) is not None:
            self._builds[build] = None

    def _happened(self, transition: Transition) -> None:
        cite = self._now.cite(transition.source)
        if self._observer is not None:
            self._observer.on_transition(transition, self._now.id)
        self._follow_requirements(transition, cite)
        self._follow_grants(transition, cite)
        child_builders.followed(self._handoffs, transition, cite)
        closed: ToolRunBuilder | None = None
        match transition.event:
            case MessageReceived():
                self._message(transition)
            case CheckAnswered(number=number):
                self._checked(transition, number)
            case ModelAnswered() | ModelFailed() | Summarised():
                self._model_closed(transition)
            case ToolAnswered() | ToolLost():
                closed = self._tool_closed(transition)
            case AgentAnswered(run_id=run_id) as answered if run_id in self._now.below:
                self._now.below.pop(run_id).close(answered, transition.source)
            case _:
                self._now.started.pop(event_fields.scheduled_id_of(transition.source), None)
        for command in transition.step.commands:
            if isinstance(command, SchedulingCommand):
                self._commanded(transition, command, closed)

    # -- requirements and grants --------------------------------------------------------------------------------------

    def _follow_requirements(self, transition: Transition, cite: Citation) -> None:
        before, after = transition.before.requirements, transition.step.run.requirements
        if after is before:
            return
        for was, now in zip(before, after, strict=False):
            if was is not now:
                self._files[now.id].change(now, cite)
        for now in after[len(before) :]:
            self._open(now, transition, cite)

    def _open(self, now: Requirement, transition: Transition, cite: Citation) -> None:
        if now.id in self._files:  # The execution before carried it over.
            self._files[now.id].change(now, cite)
            return
        self._files[now.id] = opened = ApprovalBuilder(now, cite)
        if isinstance(transition.event, ModelAnswered):
            turn = transition.event.turn
            opened.gate, opened.model = turn.gates.get(now.call_id), turn.model
            opened.agent_version = turn.agent_version
        if now.grant is not None and now.grant in self._grants:
            self._grants[now.grant].approvals.append(now.id)
        if now.follows is not None and now.edited_by is not None and now.follows in self._files:
            opened.arguments_before = self._files[now.follows].requirement.arguments

    def _follow_grants(self, transition: Transition, cite: Citation) -> None:
        before, after = transition.before.grants, transition.step.run.grants
        if after is before:
            return
        for grant in after:
            if grant.id in self._grants:
                self._grants[grant.id].grant = grant
            else:
                self._grants[grant.id] = GrantBuilder(grant, cite)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _message(self, transition: Transition) -> None:
        sent = received_messages.sent(transition, self._now.cite(transition.source), self._now.admitted)
        if transition.step.check is not None:
            self._checking[transition.step.check] = sent
        else:
            self._place(sent, transition)

    def _checked(self, transition: Transition, number: int) -> None:
        self._now.started.pop(event_fields.scheduled_id_of(transition.source), None)
        if number not in self._checking or transition.step.result is None:
            return  # The run had ended by then: it is told with what was too late.
        sent = received_messages.answered(self._checking.pop(number), transition, self._now.cite(transition.source))
        self._place(sent, transition)

    def _place(self, sent: SentMessage, transition: Transition) -> None:
        """Put what was sent to the records that it is about."""
        about = received_messages.requirements_of(transition)
        revoked = received_messages.revoked_by(transition)
        for identity in about:
            self._files[identity].decisions.append(sent)
        for grant in revoked:
            self._grants[grant].decisions.append(sent)
        if not about and not revoked:
            self._messages.append(sent)
        attempt = received_messages.attempt_of(transition)
        if attempt is not None and attempt.requirement_id in self._files:
            self._files[attempt.requirement_id].attempts.append(attempt)

    # -- what ran -----------------------------------------------------------------------------------------------------

    def _commanded(self, transition: Transition, command: SchedulingCommand, closed: ToolRunBuilder | None) -> None:
        key = key_of(command)
        work = self._begin(command, closed)
        waiting = self._now.scheduled[key]
        if waiting:
            self._scheduled(transition, command, work, waiting.popleft())
        else:
            self._now.asked[key].append(PendingCommand(transition, command, work))

    def _scheduled(
        self, transition: Transition, command: SchedulingCommand, work: WorkBuilder | None, scheduled: HistoryEvent
    ) -> None:
        if self._observer is not None:
            self._observer.on_scheduled(transition, command, scheduled)
        match work:
            case ToolRunBuilder():
                work.scheduled, work.cited = scheduled, self._now.cite(scheduled)
                self._now.working[scheduled.event_id] = work
            case ChildBuilder():
                work.initiated = scheduled
                self._now.below[work.run_id or ""] = work
            case None if isinstance(command, CallModel | Summarise):
                self._now.asking[scheduled.event_id] = scheduled
            case None:
                pass

    def _begin(self, command: SchedulingCommand, closed: ToolRunBuilder | None) -> WorkBuilder | None:
        """What there will be to tell of it; a run of another agent belongs to the activity that said so, *closed*."""
        if isinstance(command, RunTool):
            return self._begin_tool(command)
        if not isinstance(command, StartAgent):
            return None
        child = ChildBuilder(command, self._now.begun, self._now.cite)
        if closed is not None:
            closed.child = child
        return child

    def _begin_tool(self, command: RunTool) -> ToolRunBuilder:
        working = ToolRunBuilder(command)
        shown = command.input.authorization
        if shown is not None and shown.requirement_id in self._files:
            self._files[shown.requirement_id].runs.append(working)
        elif (command.turn, command.input.call_id) in self._calls:
            self._calls[command.turn, command.input.call_id].runs.append(working)
        return working

    def _tool_closed(self, transition: Transition) -> ToolRunBuilder | None:
        scheduled = event_fields.scheduled_id_of(transition.source)
        working, started = self._now.working.pop(scheduled, None), self._now.started.pop(scheduled, None)
        if working is not None and isinstance(transition.event, ToolAnswered | ToolLost):
            why = child_builders.not_begun(transition)
            working.close(transition.event, transition.source, started, self._now.cite, not_begun=why)
        return working

    def _model_closed(self, transition: Transition) -> None:
        event, before = transition.event, transition.before
        scheduled_id = event_fields.scheduled_id_of(transition.source)
        scheduled, started = self._now.asking.pop(scheduled_id, None), self._now.started.pop(scheduled_id, None)
        around = [each for each in (scheduled, started, transition.source) if each is not None]
        cites = [self._now.cite(each) for each in around]
        if elsewhere(transition.before, event):
            return  # No model was asked: that is the next model call of the same turn.
        if isinstance(event, ModelFailed):
            self._turns.append(TurnBuilder(before.turn, None, event.failure, around, cites, before.caller.agent))
        elif isinstance(event, ModelAnswered):
            self._turns.append(TurnBuilder(before.turn, event.turn, None, around, cites, before.caller.agent))
            self._calls_of(transition, event, cites[-1])
        elif isinstance(event, Summarised):
            self._turns.append(record_builders.SummaryBuilder(before, transition.step.run, event, around, cites))

    def _calls_of(self, transition: Transition, event: ModelAnswered, cite: Citation) -> None:
        """The calls of a turn that nobody is asked about."""
        turn = transition.before.turn
        opened = {each.call_id for each in transition.step.run.requirements[len(transition.before.requirements) :]}
        for call in tool_calls(event.turn.items):
            if call.call_id not in opened:
                agent = transition.before.caller.agent
                self._calls[turn, call.call_id] = CallBuilder(turn, call, event.turn, cite, agent)

    # -- the audit ----------------------------------------------------------------------------------------------------

    def audit(self) -> Audit:
        """The audit, as of the last page.

        Raises:
            HistoryError: there was no page.
        """
        if self._first is None or self._last is None:
            message = f"there is no history of run {self.run_id!r}"
            raise HistoryError(message)
        self._end_execution()
        after = goes_on_in(self._last[1])
        if after and after not in self._missing:
            self.add(Missing(after))
        how = event_types.CLOSE_STATUSES.get(self._last[1].event_type)
        run = self._run(how)
        over = run.ended
        left = [*self._unread(), *self._unchecked(over=over)]
        return Audit(
            run=self._run_record(run, how),
            approvals=tuple(each.record(run, over=over) for each in self._files.values()),
            grants=tuple(each.record() for each in self._grants.values()),
            handoffs=tuple(each.record() for each in self._handoffs),
            calls=tuple(each.record(over=over) for each in self._calls.values()),
            turns=tuple(each.record() for each in self._turns),
            messages=tuple(MessageRecord.model_validate(dict(each)) for each in [*self._messages, *left]),
            state=state_of(run),
        )

    def _run(self, how: str | None) -> Run:
        """The run as it is; one that the server ended by itself has failed, and nothing of it waits any more."""
        run = self._now.fold.run
        run = run if run.id else replace(run, id=self.run_id, execution_id=self._now.id)
        if run.ended or how not in event_types.CLOSED_BY_SERVER or self._last is None:
            return run
        at = time_of(self._last[1])
        requirements = tuple(cancel(each, at) for each in run.requirements)
        cite = Citation(execution_id=self._last[0], event_id=self._last[1].event_id)
        for each in requirements:
            self._files[each.id].change(each, cite)
        failure = Failure("Closed", f"the server closed the run: {how}")
        return replace(run, status="failed", requirements=requirements, failure=failure)

    def _unread(self) -> list[SentMessage]:
        return [
            received_messages.unread(event, self._now.cite(event), self._now.admitted)
            for event in self._now.fold.unread
        ]

    def _unchecked(self, *, over: bool) -> list[SentMessage]:
        """What a worker still checks; where the run has ended, it was too late."""
        late = {"status": "late", "detail": "the run ended before it was checked"}
        return [sent.model_copy(update=late) if over else sent for sent in self._checking.values()]

    def _run_record(self, run: Run, how: str | None) -> RunRecord:
        answered = [each.turn for each in self._turns if each.turn is not None]
        return run_record(
            run,
            RunFile(
                run_id=self.run_id,
                request=run.request or (_request(self._first) if self._first is not None else None),
                executions=self._executions,
                missing=self._missing,
                builds=list(self._builds),
                turns=answered,
                around=[each for each in (self._first, self._last[1] if self._last else None) if each is not None],
                how=how,
                events=self._events,
            ),
        )


def _request(first: HistoryEvent) -> RunRequest | None:
    """What a run was asked that no worker has taken up yet."""
    try:
        return read_request(values_of(first.workflow_execution_started_event_attributes.input.payloads))
    except MessageError:
        return None
