"""Verifies an audit: is the history whole, does it follow the rules, did each call have the decisions that it needed?

The checks compare what the history records, byte for byte, with what the rules ask for. `checks.NOT_PROVEN` lists what
no history can show.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields, lineage
from assent.audit.authority import Authority
from assent.audit.checks import (
    CHECK_TEXTS,
    SHOWN,
    Check,
    CheckName,
    Problem,
    Verification,
    check_names,
    inbox_difference,
)
from assent.audit.comparing import difference, notices_by_digest, result_of, without_times
from assent.audit.hash_chain import HashChain, execution_line, missing_line
from assent.audit.observer import AuditObserver, SchedulingCommand
from assent.audit.proofs import check_proofs
from assent.audit.records import Audit, Citation
from assent.audit.result_origins import ResultOrigins
from assent.core import events, workflow_calls
from assent.core.continue_as_new import carry, restore
from assent.core.notices import NoticesInput
from assent.core.run_state import Run
from assent.history import child_workflows, event_types
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.history.pages import MissingExecution, Page, next_execution_id
from assent.history.payloads import values_of
from assent.history.reader import entry_of
from assent.wire import protocol, visibility
from assent.wire.digest import canonical, text_digest
from assent.wire.errors import MessageError
from assent.wire.protocol import ToolCallInput
from assent.wire.requirements import PendingRequirement

_ACTIVITY_TYPES: Final = {
    events.CallModel: protocol.CALL_MODEL,
    events.CheckCall: protocol.CHECK_CALL,
    events.Summarise: protocol.SUMMARISE,
}
_PATCH: Final = "core_patch"
"""The marker of the SDK's own `workflow.patched`."""
_FOREIGN: Final = {
    EventType.EVENT_TYPE_MARKER_RECORDED: "a local activity",
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: "a signal to another workflow",
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: "the cancellation of another workflow",
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: "a Nexus operation",
}
"""What no run of Assent does: its worker ran other code."""


def line_of(event: HistoryEvent) -> bytes:
    """Return an event as one line of JSON, which is the same wherever the history is read: a line of the hash chain."""
    return canonical(MessageToDict(event))


class Verifier(AuditObserver):
    """Observes an `Auditor` and checks the history that it reads. *lines* receives each line of the hash chain."""

    def __init__(self, run_id: str, lines: Callable[[bytes], None] | None = None) -> None:
        self._run_id = run_id
        self._chain: HashChain | None = None
        self._lines = lines
        self._problems: dict[CheckName, list[Problem]] = {name: [] for name in CHECK_TEXTS}
        self._examined: dict[CheckName, int] = dict.fromkeys(CHECK_TEXTS, 0)
        self._authority = Authority()
        self._execution = ""
        self._missing = ""
        self._last: HistoryEvent | None = None
        self._last_decoded = HistoryEvent()
        self._run = Run()
        self._previous_run: Run | None = None
        self._inbox: dict[str, tuple[PendingRequirement, Citation]] = {}
        self._queue = ""
        self._open_notices: set[int] = set()
        self._origins = ResultOrigins()
        self._notices_due: set[str] = set()
        self._notices_sent: list[tuple[frozenset[str], Citation]] = []
        self._events = 0
        self.lineage = lineage.Lineage()

    # -- the observer -------------------------------------------------------------------------------------------------

    def on_page(self, page: Page) -> None:
        """Check that no stored event is missing or out of order, and that each event is one of a run of Assent."""
        if page.execution_id != self._execution:
            self._begin_execution(page.execution_id, page.events[0])
        for stored in page.stored:
            self._examined["history"] += 1
            expected = (self._last.event_id if self._last is not None else 0) + 1
            if stored.event_id != expected:
                self._problem("history", f"event {expected} is missing; {stored.event_id} comes next", stored)
            self._last = stored
            self._events += 1
            self._extend(line_of(stored))
        self._last_decoded = page.events[-1]
        for event in page.events:
            self._add("workers", self._origins.add(event), event)
            if (problem := self.lineage.add(event, self._execution)) is not None:
                self._problem("activities", problem, event)
            if event.event_type == event_types.MEMO_UPSERTED:
                self._memo(event)
            elif event.activity_task_scheduled_event_attributes.activity_type.name == protocol.SEND_NOTICES:
                self._notices(event)
            elif event.event_type in event_types.ACTIVITY_CLOSED:
                self._open_notices.discard(event_fields.scheduled_id_of(event))
            elif event.marker_recorded_event_attributes.marker_name != _PATCH and event.event_type in _FOREIGN:
                self._problem("activities", f"the rules never ask for {_FOREIGN[event.event_type]}", event)

    def on_missing(self, missing: MissingExecution) -> None:
        """Add the gap to the chain, and report it."""
        self._missing = missing.execution_id
        self._problem("history", f"execution {missing.execution_id} is gone: deleted, or past its retention")
        self._extend(missing_line(missing.execution_id))

    def on_transition(self, transition: Transition) -> None:
        """Check carried state and other agents; keep who sent what, and what each call's gate was."""
        match transition.event:
            case events.Started(continued=True) as started:
                self._restored(transition, started)
            case events.Started() as started if (call := transition.step.run.workflow_call) is not None:
                self._authority.add_calls(workflow_calls.as_turn(call, started))
            case events.MessageReceived() as message:
                self._authority.add_message(message)
            case events.ModelAnswered() as answered:
                self._authority.add_calls(answered)
            case events.ToolAnswered() as answered:
                self._authority.add_new_gate(answered, transition.before)
            case _:
                pass
        if (problems := lineage.problems(transition)) is not None:
            self._examined["agents"] += 1
            self._add("agents", problems, transition.source)
        for command in transition.step.commands:
            if isinstance(command, events.SendNotices):
                self._notices_due |= notices_by_digest(command.input)
        self._run = transition.step.run

    def on_scheduled(self, transition: Transition, command: SchedulingCommand, scheduled: HistoryEvent | None) -> None:
        """Compare a command of the rules with the event that scheduled it."""
        self._examined["activities"] += 1
        if scheduled is None:
            # In order if the execution ended first. A model call may also be about to start.
            closed = self._last is not None and self._last.event_type in event_types.CLOSING
            if not closed and not isinstance(command, events.CallModel):
                self._problem(
                    "activities", f"the rules asked for {_name(command)}, which was not scheduled", self._last
                )
            return
        if isinstance(command, events.StartAgent):
            problems = lineage.start_problems(command, transition.step.run, scheduled, self._queue)
            self._add("activities", problems, scheduled)
            return
        attributes = scheduled.activity_task_scheduled_event_attributes
        arguments = values_of(attributes.input.payloads)
        name = _name(command)
        if attributes.activity_type.name != name:
            self._problem("activities", f"{attributes.activity_type.name} ran instead of {name}", scheduled)
        if (field := difference(command, arguments)) is not None:
            self._problem("activities", f"{name} got another {field} than the rules say", scheduled)
        queue = (None if isinstance(command, events.CheckCall) else _task_queue(command)) or self._queue
        if attributes.task_queue.name != queue:
            text = f"{name} was given to task queue {attributes.task_queue.name!r}, and not to {queue!r}"
            self._problem("activities", text, scheduled)
        if isinstance(command, events.RunTool):
            self._tool(transition, command, arguments, scheduled)

    def on_unrequested(self, scheduled: HistoryEvent) -> None:
        """Report an activity or child run that no rule asked for."""
        name = scheduled.activity_task_scheduled_event_attributes.activity_type.name
        if scheduled.event_type == event_types.CHILD_INITIATED:
            name = f"child workflow {child_workflows.child_id_of(scheduled)!r}"
        self._problem("activities", f"{name} ran, but the rules did not ask for it", scheduled)

    # -- the checks ---------------------------------------------------------------------------------------------------

    def _begin_execution(self, execution_id: str, first: HistoryEvent) -> None:
        begun = first.workflow_execution_started_event_attributes
        # A workflow reset makes another execution in the place of the original one.
        if self._last is not None and next_execution_id(self._last) not in {
            execution_id,
            begun.original_execution_run_id,
        }:
            self._problem("history", f"execution {execution_id} does not come after {self._execution}", first)
        previous, self._queue = begun.continued_execution_run_id, begun.task_queue.name
        if previous and previous not in {self._execution, self._missing}:
            self._problem("history", f"execution {execution_id} continues {previous}, which is not here", first)
        self._previous_run = self._run if self._execution else None
        self._execution, self._last, self._run = execution_id, None, Run()
        self._open_notices = set()
        self._origins = ResultOrigins(self._origins.examined)
        self._run_id = self._run_id or begun.workflow_id
        self._extend(execution_line(execution_id))

    def _extend(self, line: bytes) -> None:
        if self._chain is None:
            self._chain = HashChain(self._run_id)
        self._chain.extend(line)
        if self._lines is not None:
            self._lines(line)

    def _restored(self, transition: Transition, started: events.Started) -> None:
        """Compare the state that an execution began with to the state that the previous one ended with."""
        self._examined["continued"] += 1
        if self._previous_run is None:
            self._authority.add_carried_state(transition.step.run)
            return
        try:
            expected = restore((carry(self._previous_run).model_dump(mode="json"),))
            carried = restore(started.arguments)
        except MessageError as error:
            self._problem("continued", str(error), transition.source)
            return
        if carried is None or expected is None or without_times(carried) != without_times(expected):
            text = "the state carried into this execution differs from the end of the previous one"
            self._problem("continued", text, transition.source)

    def _tool(
        self, transition: Transition, command: events.RunTool, arguments: Sequence[object], scheduled: HistoryEvent
    ) -> None:
        self._examined["decisions"] += 1
        attempts = scheduled.activity_task_scheduled_event_attributes.retry_policy.maximum_attempts
        if command.attempts != attempts:
            limit = attempts or "any number of"
            text = f"{command.tool} may be started {limit} times, and the rules say {command.attempts}"
            self._problem("decisions", text, scheduled)
        try:
            # An activity that workflow code asked about reads its authorization from the history, as the audit does.
            call = command.input if command.values is not None else ToolCallInput.model_validate((*arguments, None)[0])
        except ValidationError:
            self._problem("decisions", f"the input of {command.tool} cannot be read", scheduled)
            return
        at = max(transition.event.at, time_of(scheduled))
        self._add("decisions", self._authority.problems(command, call, transition.step.run, at), scheduled)

    def _notices(self, event: HistoryEvent) -> None:
        """Keep notices that the run sent: each must have been due, and an ended run waits a while for them."""
        self._open_notices.add(event.event_id)
        arguments = values_of(event.activity_task_scheduled_event_attributes.input.payloads)
        try:
            self._notices_sent.append((notices_by_digest(NoticesInput.model_validate(*arguments)), self._cite(event)))
        except (ValidationError, TypeError):
            self._problem("activities", "the input of send_notices cannot be read", event)

    def _memo(self, event: HistoryEvent) -> None:
        fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
        for name in visibility.pending_keys(fields):
            try:
                entry = entry_of(fields[name])
            except (ValidationError, RuntimeError, KeyError):
                self._problem("inbox", f"the memo {name}, which the inbox reads, is not valid", event)
                continue
            if entry is not None:
                self._inbox.setdefault(text_digest(entry.model_dump_json()), (entry, self._cite(event)))

    # -- the outcome --------------------------------------------------------------------------------------------------

    def verification(self, audit: Audit) -> Verification:
        """Return the outcome of all checks, after the whole history was read.

        Raises:
            HistoryError: there was no history.
            ConfigurationError: there are proofs, and the extra `proof` is not installed.
        """
        self._examined["workers"] = self._origins.examined
        self._check_inbox(audit)
        for sent, cite in self._notices_sent:
            if not sent <= self._notices_due:
                self._problem("activities", "notices were sent about changes that did not happen", cite=cite)
        self._check_end(audit)
        own = (self._check(name) for name in CHECK_TEXTS if name not in {"names", "proofs"})
        checks = [*own, check_names(audit), check_proofs(audit)]
        return Verification(
            run_id=audit.run.run_id,
            ok=all(check.verdict in {"ok", "incomplete", "unverified"} for check in checks),
            complete=not audit.run.missing and self._last is not None and not next_execution_id(self._last),
            head=self._chain.head if self._chain is not None else "",
            events=self._events,
            checks=checks,
        )

    def _check_inbox(self, audit: Audit) -> None:
        records = {each.id: each for each in audit.approvals}
        for entry, cite in self._inbox.values():
            self._examined["inbox"] += 1
            record = records.get(entry.id)
            if record is None:
                self._problem("inbox", f"requirement {entry.id[:8]} was shown as pending, but never was", cite=cite)
            elif field := inbox_difference(entry, record, audit.run.run_id):
                self._problem("inbox", f"requirement {entry.id[:8]} was shown with another {field}", cite=cite)

    def _check_end(self, audit: Audit) -> None:
        state, last = audit.state, self._last
        if last is None:
            return
        self._examined["end"] += 1
        kind = last.event_type
        if kind == event_types.COMPLETED:
            result = self._last_decoded.workflow_execution_completed_event_attributes.result
            [value] = values_of(result.payloads) or (None,)
            if result_of(value) != (state.content, state.output, state.usage, state.turns):
                self._problem("end", "its result differs from that of the rules", last)
        status = event_types.CLOSE_STATUSES.get(kind, state.status)
        if status not in {state.status, *event_types.CLOSED_BY_SERVER}:
            self._problem("end", f"it was closed as {status}, but the rules say {state.status}", last)
        if state.is_finished and kind not in event_types.CLOSING and not self._open_notices:
            self._problem("end", f"the run was {state.status}, but its history has no closing event", last)

    def _cite(self, event: HistoryEvent) -> Citation:
        return Citation(execution_id=self._execution, event_id=event.event_id)

    def _problem(
        self, name: CheckName, text: str, event: HistoryEvent | None = None, cite: Citation | None = None
    ) -> None:
        cite = self._cite(event) if event is not None else cite
        self._problems[name].append(Problem(text=text, events=[cite] if cite is not None else []))

    def _add(self, name: CheckName, texts: Iterable[str], event: HistoryEvent) -> None:
        for text in texts:
            self._problem(name, text, event)

    def _check(self, name: CheckName) -> Check:
        problems = self._problems[name]
        only_gaps = name == "history" and all(not problem.events for problem in problems)
        return Check(
            name=name,
            text=CHECK_TEXTS[name],
            verdict="ok" if not problems else "incomplete" if only_gaps else "failed",
            looked_at=self._examined[name],
            problems=problems[:SHOWN],
            more=max(0, len(problems) - SHOWN),
        )


def _name(command: SchedulingCommand) -> str:
    match command:
        case events.RunTool(tool=tool):
            return tool
        case events.StartAgent(request=request):
            return f"agent {request.agent!r}"
        case _:
            return _ACTIVITY_TYPES[type(command)]


def _task_queue(command: events.RunTool | events.CallModel | events.Summarise) -> str | None:
    return command.options.task_queue if isinstance(command, events.RunTool) else command.task_queue
