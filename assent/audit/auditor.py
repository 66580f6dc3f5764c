"""Reads the audit of a run from its history, page by page. Memory grows with the records, not with the events."""

from dataclasses import replace

from temporalio.api.history.v1 import HistoryEvent

from assent.audit import child_builders, event_fields, received_messages
from assent.audit.child_builders import ChildBuilder, HandoffBuilder
from assent.audit.execution import ExecutionLedger, PendingCommand
from assent.audit.observer import AuditObserver, SchedulingCommand, key_of
from assent.audit.record_builders import (
    ApprovalBuilder,
    CallBuilder,
    GrantBuilder,
    SummaryBuilder,
    ToolRunBuilder,
    TurnBuilder,
    run_record,
)
from assent.audit.records import Audit, Citation, MessageRecord, SentMessage
from assent.core.approvals import close_requirement
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
    Started,
    Summarise,
    Summarised,
    ToolAnswered,
    ToolLost,
)
from assent.core.model_routing import redirect_queue
from assent.core.run_state import Run, state_of
from assent.core.tool_calls import immediate_answers
from assent.core.workflow_calls import gate_of
from assent.history import event_types
from assent.history.event_types import time_of
from assent.history.fold import HistoryFold, Transition
from assent.history.pages import MissingExecution, Page, next_execution_id
from assent.history.payloads import values_of
from assent.history.resets import Reset, resets_of
from assent.wire.conversation import tool_calls
from assent.wire.errors import HistoryError, MessageError
from assent.wire.messages import read_request
from assent.wire.protocol import RunRequest
from assent.wire.requirements import Requirement


class Auditor:
    """Reads the audit of one run: add the pages of its history in order, then call `audit`."""

    def __init__(self, run_id: str, observer: AuditObserver | None = None) -> None:
        self.run_id = run_id
        self._observer = observer or AuditObserver()
        self._ledger = ExecutionLedger("", HistoryFold(run_id))
        self._executions: list[str] = []
        self._missing: list[str] = []
        self._builds: dict[str, None] = {}
        self._resets: list[Reset] = []
        self._first: HistoryEvent | None = None
        self._last = HistoryEvent()
        self._events = 0
        self._approvals: dict[str, ApprovalBuilder] = {}
        self._calls: dict[tuple[int, str], CallBuilder] = {}
        self._grants: dict[str, GrantBuilder] = {}
        self._turns: list[TurnBuilder | SummaryBuilder] = []
        self._messages: list[SentMessage] = []
        self._checking: dict[int, SentMessage] = {}
        self._handoffs: list[HandoffBuilder] = []

    # -- reading ------------------------------------------------------------------------------------------------------

    def add(self, page: Page | MissingExecution) -> None:
        """Read a page, or note that an execution is gone.

        Raises:
            HistoryError: the history is cut, or not one of a run.
        """
        if isinstance(page, MissingExecution):
            self._missing.append(page.execution_id)
            self._observer.on_missing(page)
            return
        if page.execution_id != self._ledger.id or not self._executions:
            self._begin_execution(page)
        self._observer.on_page(page)
        for event in page.events:
            self._events += 1
            self._last = event
            self._ledger.note(event)
            self._resets += resets_of([event])
            if event.event_type == event_types.TASK_COMPLETED and (build := event_fields.build_of(event)) is not None:
                self._builds[build] = None
        for transition in self._ledger.fold.add(page.events):
            self._apply(transition)
        for key, events in self._ledger.scheduled.items():
            while events:
                scheduled, pending = events.popleft(), self._ledger.pending[key]
                if pending:  # A later workflow task than the one that asked for it scheduled it.
                    self._scheduled(pending.popleft(), scheduled)
                else:
                    self._observer.on_unrequested(scheduled)

    def _begin_execution(self, page: Page) -> None:
        self._end_execution()
        if self._first is None and page.events:
            self._first = page.events[0]
            self.run_id = self.run_id or self._first.workflow_execution_started_event_attributes.workflow_id
        self._executions.append(page.execution_id)
        self._ledger = ExecutionLedger(page.execution_id, HistoryFold(self.run_id, page.execution_id))

    def _end_execution(self) -> None:
        for waiting in self._ledger.pending.values():
            while waiting:
                pending = waiting.popleft()
                self._observer.on_scheduled(pending.transition, pending.command, None)

    def _apply(self, transition: Transition) -> None:
        cite = self._ledger.cite(transition.source)
        self._observer.on_transition(transition)
        self._follow_requirements(transition, cite)
        self._follow_grants(transition, cite)
        child_builders.follow_handoffs(self._handoffs, transition, cite)
        closed: ToolRunBuilder | None = None
        match transition.event:
            case MessageReceived():
                self._message(transition, cite)
            case CheckAnswered(number=number):
                self._checked(transition, number, cite)
            case ModelAnswered() | ModelFailed() | Summarised():
                self._model_closed(transition)
            case ToolAnswered() | ToolLost() as event:
                closed = self._tool_closed(transition, event)
            case AgentAnswered(run_id=run_id) as answered if run_id in self._ledger.children:
                self._ledger.children.pop(run_id).close(answered, transition.source)
            case _:
                self._ledger.activity_starts.pop(event_fields.scheduled_id_of(transition.source), None)
        for command in transition.step.commands:
            if isinstance(command, SchedulingCommand):
                pending = PendingCommand(transition, command, self._builder(command, closed))
                key = key_of(command)
                if events := self._ledger.scheduled[key]:
                    self._scheduled(pending, events.popleft())
                else:
                    self._ledger.pending[key].append(pending)

    # -- requirements and grants --------------------------------------------------------------------------------------

    def _follow_requirements(self, transition: Transition, cite: Citation) -> None:
        before, after = transition.before.requirements, transition.step.run.requirements
        if after is before:
            return
        for old, new in zip(before, after, strict=False):
            if old is not new:
                self._approvals[new.id].change(new, cite)
        for new in after[len(before) :]:
            if new.id in self._approvals:  # The execution before carried it over.
                self._approvals[new.id].change(new, cite)
            else:
                self._add_approval(new, transition, cite)

    def _add_approval(self, new: Requirement, transition: Transition, cite: Citation) -> None:
        self._approvals[new.id] = opened = ApprovalBuilder(new, cite)
        if isinstance(transition.event, ModelAnswered):
            turn = transition.event.turn
            opened.gate, opened.model = turn.gates.get(new.call_id), turn.model
            opened.agent_version = turn.agent_version
        elif isinstance(transition.event, Started) and (call := transition.step.run.workflow_call) is not None:
            opened.gate = gate_of(call)
        if new.grant is not None and new.grant in self._grants:
            self._grants[new.grant].approvals.append(new.id)
        if new.follows is not None and new.edited_by is not None and new.follows in self._approvals:
            opened.arguments_before = self._approvals[new.follows].requirement.arguments

    def _follow_grants(self, transition: Transition, cite: Citation) -> None:
        before, after = transition.before.grants, transition.step.run.grants
        if after is before:
            return
        for grant in after:
            self._grants.setdefault(grant.id, GrantBuilder(grant, cite)).grant = grant

    # -- messages -----------------------------------------------------------------------------------------------------

    def _message(self, transition: Transition, cite: Citation) -> None:
        sent = received_messages.message_record(transition, cite, self._ledger.admitted)
        if transition.step.check is not None:
            self._checking[transition.step.check] = sent
        else:
            self._add_message(sent, transition)

    def _checked(self, transition: Transition, number: int, cite: Citation) -> None:
        self._ledger.activity_starts.pop(event_fields.scheduled_id_of(transition.source), None)
        if number in self._checking and transition.step.result is not None:  # None: the run had ended by then.
            self._add_message(received_messages.checked(self._checking.pop(number), transition, cite), transition)

    def _add_message(self, sent: SentMessage, transition: Transition) -> None:
        """Add a message to the records that it is about."""
        requirements = received_messages.requirements_of(transition)
        grants = received_messages.revoked_by(transition)
        for requirement_id in requirements:
            self._approvals[requirement_id].decisions.append(sent)
        for grant_id in grants:
            self._grants[grant_id].decisions.append(sent)
        if not requirements and not grants:
            self._messages.append(sent)
        ignored = received_messages.ignored_message_of(transition)
        if ignored is not None and ignored.requirement_id in self._approvals:
            self._approvals[ignored.requirement_id].ignored_messages.append(ignored)

    # -- activities and child runs ------------------------------------------------------------------------------------

    def _builder(
        self, command: SchedulingCommand, closed: ToolRunBuilder | None
    ) -> ToolRunBuilder | ChildBuilder | None:
        """Return the record builder of a command; a child run belongs to the tool run *closed* that asked for it."""
        if isinstance(command, StartAgent):
            child = ChildBuilder(command, self._ledger.child_starts, self._ledger.cite)
            if closed is not None:
                closed.child = child
            return child
        if not isinstance(command, RunTool):
            return None
        tool_run = ToolRunBuilder(command)
        authorization = command.input.authorization
        if authorization is not None and authorization.requirement_id in self._approvals:
            self._approvals[authorization.requirement_id].runs.append(tool_run)
        elif (command.turn, command.input.call_id) in self._calls:
            self._calls[command.turn, command.input.call_id].runs.append(tool_run)
        return tool_run

    def _scheduled(self, pending: PendingCommand, scheduled: HistoryEvent) -> None:
        self._observer.on_scheduled(pending.transition, pending.command, scheduled)
        match pending.builder:
            case ToolRunBuilder() as tool_run:
                tool_run.scheduled, tool_run.cited = scheduled, self._ledger.cite(scheduled)
                self._ledger.tool_runs[scheduled.event_id] = tool_run
            case ChildBuilder() as child:
                child.initiated = scheduled
                self._ledger.children[child.run_id or ""] = child
            case None:
                if isinstance(pending.command, CallModel | Summarise):
                    self._ledger.model_calls[scheduled.event_id] = scheduled

    def _tool_closed(self, transition: Transition, event: ToolAnswered | ToolLost) -> ToolRunBuilder | None:
        scheduled_id = event_fields.scheduled_id_of(transition.source)
        tool_run = self._ledger.tool_runs.pop(scheduled_id, None)
        started = self._ledger.activity_starts.pop(scheduled_id, None)
        if tool_run is not None:
            not_begun = child_builders.why_not_started(transition)
            tool_run.close(event, transition.source, started, self._ledger.cite, not_begun=not_begun)
        return tool_run

    def _model_closed(self, transition: Transition) -> None:
        event, before = transition.event, transition.before
        scheduled_id = event_fields.scheduled_id_of(transition.source)
        scheduled = self._ledger.model_calls.pop(scheduled_id, None)
        started = self._ledger.activity_starts.pop(scheduled_id, None)
        if redirect_queue(before, event):
            return  # No model was called: the next model call of the same turn follows.
        events = [each for each in (scheduled, started, transition.source) if each is not None]
        cites = [self._ledger.cite(each) for each in events]
        agent = before.call_context.agent
        if isinstance(event, ModelFailed):
            self._turns.append(TurnBuilder(before.turn, None, event.failure, events, cites, agent))
        elif isinstance(event, ModelAnswered):
            self._turns.append(TurnBuilder(before.turn, event.turn, None, events, cites, agent))
            made, limit = before.tool_calls - before.tool_calls_before, transition.step.run.max_tool_calls
            answers = immediate_answers(event.turn, made=made, limit=limit)
            opened = {each.call_id for each in transition.step.run.requirements[len(before.requirements) :]}
            for call in tool_calls(event.turn.items):
                if call.call_id not in opened:
                    self._calls[before.turn, call.call_id] = CallBuilder(
                        before.turn, call, event.turn, answers.get(call.call_id), cites[-1], agent
                    )
        elif isinstance(event, Summarised):
            self._turns.append(SummaryBuilder(before, transition.step.run, event, events, cites))

    # -- the audit ----------------------------------------------------------------------------------------------------

    def audit(self) -> Audit:
        """Return the audit, as of the last page.

        Raises:
            HistoryError: there was no page.
        """
        if self._first is None:
            raise HistoryError(f"there is no history of run {self.run_id!r}")
        self._end_execution()
        after = next_execution_id(self._last)
        if after and after not in self._missing:
            self.add(MissingExecution(after))
        status = event_types.CLOSE_STATUSES.get(self._last.event_type)
        run = self._run(status)
        over = run.ended
        unread = [
            received_messages.unread_signal_record(event, self._ledger.cite(event), self._ledger.admitted)
            for event in self._ledger.fold.unread_signals
        ]
        late = {"status": "late", "detail": "the run ended before it was checked"} if over else {}
        unchecked = [sent.model_copy(update=late) for sent in self._checking.values()]
        record = run_record(
            run,
            request=run.request or _request(self._first),
            run_id=self.run_id,
            executions=self._executions,
            missing=self._missing,
            builds=list(self._builds),
            turns=[each.turn for each in self._turns if each.turn is not None],
            first=self._first,
            last=self._last,
            closed_as=status,
            events=self._events,
            resets=self._resets,
        )
        return Audit(
            run=record,
            approvals=tuple(each.record(run, over=over) for each in self._approvals.values()),
            grants=tuple(each.record() for each in self._grants.values()),
            handoffs=tuple(each.record() for each in self._handoffs),
            calls=tuple(each.record(over=over) for each in self._calls.values()),
            turns=tuple(each.record() for each in self._turns),
            messages=tuple(MessageRecord.model_validate(dict(each)) for each in [*self._messages, *unread, *unchecked]),
            state=state_of(run),
        )

    def _run(self, status: str | None) -> Run:
        """Return the run as it is. A run that the server closed has failed, and its open requirements are cancelled."""
        run = self._ledger.fold.run
        run = run if run.id else replace(run, id=self.run_id, execution_id=self._ledger.id)
        if run.ended or status not in event_types.CLOSED_BY_SERVER:
            return run
        requirements = tuple(close_requirement(each, time_of(self._last)) for each in run.requirements)
        for each in requirements:
            self._approvals[each.id].change(each, self._ledger.cite(self._last))
        failure = Failure("Closed", f"the server closed the run: {status}")
        return replace(run, status="failed", requirements=requirements, failure=failure)


def _request(first: HistoryEvent) -> RunRequest | None:
    """Return the request of a run that no worker has taken up yet; None if it cannot be read."""
    try:
        return read_request(values_of(first.workflow_execution_started_event_attributes.input.payloads))
    except MessageError:
        return None
