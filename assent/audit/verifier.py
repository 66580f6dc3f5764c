"""Checking an audit: is the history whole, does it follow the rules, did anything run that nobody had decided?

The checks look at what the history says was done, byte by byte, and compare it with what the rules say had to be done.
What a history cannot show is said too.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.json_format import MessageToDict
from pydantic import ValidationError
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from assent.audit import event_fields, lineage
from assent.audit.authority import Authority
from assent.audit.checks import CHECK_TEXTS, SHOWN, Check, Name, Problem, Verification, misshown, names
from assent.audit.comparing import difference, listed, noticed, result_of, timeless
from assent.audit.hash_chain import HashChain, execution_line, missing_line
from assent.audit.observer import SchedulingCommand, task_queue_of
from assent.audit.records import Audit, Citation
from assent.core.continue_as_new import carry, restore
from assent.core.events import (
    CallModel,
    CheckCall,
    MessageReceived,
    ModelAnswered,
    RunTool,
    SendNotices,
    StartAgent,
    Started,
    Summarise,
    ToolAnswered,
)
from assent.core.notices import NoticesInput
from assent.core.state_machine import Run
from assent.history import child_workflows, event_types
from assent.history.event_types import time_of
from assent.history.fold import Transition
from assent.history.pages import Missing, Page, goes_on_in
from assent.history.payloads import values_of
from assent.wire import protocol
from assent.wire.digest import canonical, text_digest
from assent.wire.errors import MessageError
from assent.wire.protocol import ToolCallInput
from assent.wire.requirements import PendingRequirement

_CLOSING: Final = frozenset({event_types.CONTINUED, *event_types.CLOSE_STATUSES})
_TYPES: Final = {
    CallModel: protocol.CALL_MODEL,
    CheckCall: protocol.CHECK_CALL,
    Summarise: protocol.SUMMARISE,
}
_PATCH: Final = "core_patch"
_FOREIGN: Final = {
    EventType.EVENT_TYPE_MARKER_RECORDED: "a local activity",
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: "a signal to another workflow",
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: "the end of another workflow",
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: "a Nexus operation",
}
"""What a run of Assent never does: its worker ran other code."""


def line_of(event: HistoryEvent) -> bytes:
    """An event as one line of JSON, the same wherever the history is read: what the hash chain is made of."""
    return canonical(MessageToDict(event))


class Verifier:
    """Checks a history while it is audited: the `Witness` of an `Auditor`. *lines* are handed each line of the chain.

    I/O free; not in workflow code.
    """

    def __init__(self, run_id: str, lines: Callable[[bytes], None] | None = None) -> None:
        """Nothing was read yet."""
        self._run_id = run_id
        self._chain: HashChain | None = None
        self._lines = lines
        self._problems: dict[Name, list[Problem]] = {name: [] for name in CHECK_TEXTS}
        self._looked: dict[Name, int] = dict.fromkeys(CHECK_TEXTS, 0)
        self._authority = Authority()
        self._execution = ""
        self._expected = ""
        self._last: HistoryEvent | None = None
        self._run = Run()
        self._closing = HistoryEvent()
        self._carried_by: Run | None = None
        self._shown: dict[str, tuple[PendingRequirement, Citation]] = {}
        self._queue = ""
        self._parting: set[int] = set()
        self._due: set[str] = set()
        self._noticed: list[tuple[frozenset[str], Citation]] = []
        self._events = 0
        self.lineage = lineage.Lineage()

    # -- the observer --------------------------------------------------------------------------------------------------

    def on_page(self, page: Page) -> None:
        """Look at the events as they are stored: none is missing, none out of order."""
        first = page.events[0]
        if page.execution_id != self._execution:
            self._begin(page.execution_id, first)
        for stored in page.stored:
            self._looked["history"] += 1
            before = self._last.event_id if self._last is not None else 0
            if stored.event_id != before + 1:
                self._problem("history", f"event {before + 1} is missing; {stored.event_id} comes next", stored)
            self._last = stored
            self._events += 1
            self._extend(line_of(stored))
        self._closing = page.events[-1]
        for event in page.events:
            if (wrong := self.lineage.read(event, self._execution)) is not None:
                self._problem("activities", wrong, event)
            if event.event_type == event_types.MEMO_UPSERTED:
                self._memo(event)
            elif event.activity_task_scheduled_event_attributes.activity_type.name == protocol.SEND_NOTICES:
                self._notices(event)
            elif event.event_type in event_types.ACTIVITY_CLOSED:
                self._parting.discard(event_fields.scheduled_id_of(event))
            elif (foreign := _FOREIGN.get(event.event_type)) is not None and not _is_patch(event):
                self._problem("activities", f"the rules never ask for {foreign}", event)

    def on_missing(self, missing: Missing) -> None:
        """Remember that there is a gap: what happened there is not known."""
        self._expected = missing.execution_id
        self._problem("history", f"execution {missing.execution_id} is gone: deleted, or past its retention")
        self._extend(missing_line(missing.execution_id))

    def on_transition(self, transition: Transition, execution_id: str) -> None:
        """Follow who said what, and what was asked."""
        del execution_id
        match transition.event:
            case Started(continued=True) as started:
                self._restored(transition, started)
            case MessageReceived() as message:
                self._authority.heard(message)
            case ModelAnswered() as answered:
                self._authority.asked(answered)
            case ToolAnswered() as answered:
                self._authority.sent_back(answered, transition.before)
            case _:
                pass
        if (found := lineage.problems(transition)) is not None:
            self._looked["agents"] += 1
            self._found("agents", found, transition.source)
        for command in transition.step.commands:
            if isinstance(command, SendNotices):
                self._due |= noticed(command.input)
        self._run = transition.step.run

    def on_scheduled(self, transition: Transition, command: SchedulingCommand, scheduled: HistoryEvent | None) -> None:
        """Compare what the rules asked for with what the history says was scheduled."""
        self._looked["activities"] += 1
        if scheduled is None:
            self._never_begun(command)
            return
        if isinstance(command, StartAgent):
            found = lineage.start_problems(command, transition.step.run, scheduled, self._queue)
            self._found("activities", found, scheduled)
            return
        attributes = scheduled.activity_task_scheduled_event_attributes
        given = (*values_of(attributes.input.payloads), None)[0]
        wanted = _name(command)
        if attributes.activity_type.name != wanted:
            self._problem("activities", f"{attributes.activity_type.name} ran in the place of {wanted}", scheduled)
        another = difference(command, given)
        if another is not None:
            self._problem("activities", f"{wanted} was given another {another} than the rules say", scheduled)
        queue = task_queue_of(command) or self._queue
        if attributes.task_queue.name != queue:
            text = f"{wanted} was given to task queue {attributes.task_queue.name!r}, and not to {queue!r}"
            self._problem("activities", text, scheduled)
        if isinstance(command, RunTool):
            self._tool(transition, command, given, scheduled)

    def on_unrequested(self, scheduled: HistoryEvent, execution_id: str) -> None:
        """Say that something ran that no rule asked for."""
        del execution_id
        name = scheduled.activity_task_scheduled_event_attributes.activity_type.name
        if scheduled.event_type == event_types.CHILD_INITIATED:
            name = f"child workflow {child_workflows.child_id_of(scheduled)!r}"
        self._problem("activities", f"{name} ran, and the rules did not ask for it", scheduled)

    # -- the checks ---------------------------------------------------------------------------------------------------

    def _begin(self, execution_id: str, first: HistoryEvent) -> None:
        begun = first.workflow_execution_started_event_attributes
        # An execution that a workflow reset made is the same link of the chain as the one that was reset.
        known = {execution_id, begun.original_execution_run_id}
        if self._last is not None and goes_on_in(self._last) not in known:
            self._problem("history", f"execution {execution_id} does not come after {self._execution}", first)
        before, self._queue = begun.continued_execution_run_id, begun.task_queue.name
        if before and before not in {self._execution, self._expected}:
            self._problem("history", f"execution {execution_id} goes on from {before}, which is not here", first)
        self._carried_by = self._run if self._execution else None
        self._execution, self._last, self._run = execution_id, None, Run()
        self._parting = set()
        self._run_id = self._run_id or begun.workflow_id
        self._extend(execution_line(execution_id))

    def _extend(self, line: bytes) -> None:
        if self._chain is None:
            self._chain = HashChain(self._run_id)
        self._chain.extend(line)
        if self._lines is not None:
            self._lines(line)

    def _restored(self, transition: Transition, started: Started) -> None:
        """What an execution began with is what the one before left."""
        self._looked["continued"] += 1
        left = self._carried_by
        if left is None:
            self._authority.left(transition.step.run)
            return
        try:
            carried = restore((carry(left).model_dump(mode="json"),))
            found = restore(started.arguments)
        except MessageError as error:
            self._problem("continued", str(error), transition.source)
            return
        if found is None or carried is None or timeless(found) != timeless(carried):
            self._problem("continued", "it began with something else than the execution before left", transition.source)

    def _never_begun(self, command: SchedulingCommand) -> None:
        """In order where the execution ended first; and of a model call also while it is about to."""
        closed = self._last is not None and self._last.event_type in _CLOSING
        if not closed and not isinstance(command, CallModel):
            self._problem("activities", f"the rules asked for {_name(command)}, and it never was", self._last)

    def _tool(self, transition: Transition, command: RunTool, given: object, scheduled: HistoryEvent) -> None:
        self._looked["decisions"] += 1
        attributes = scheduled.activity_task_scheduled_event_attributes
        if command.attempts != attributes.retry_policy.maximum_attempts:
            often = attributes.retry_policy.maximum_attempts or "any number of"
            text = f"{command.tool} may be started {often} times, and the rules say {command.attempts}"
            self._problem("decisions", text, scheduled)
        try:
            ran = ToolCallInput.model_validate(given)
        except ValidationError:
            self._problem("decisions", f"what {command.tool} was given cannot be read", scheduled)
            return
        at = max(transition.event.at, time_of(scheduled))
        for text in self._authority.problems(command, ran, transition.step.run, at):
            self._problem("decisions", text, scheduled)

    def _notices(self, event: HistoryEvent) -> None:
        """Notices on their way out, for which a run that is over waits a while; each must have been due."""
        self._parting.add(event.event_id)
        given = values_of(event.activity_task_scheduled_event_attributes.input.payloads)
        cite = Citation(execution_id=self._execution, event_id=event.event_id)
        try:
            self._noticed.append((noticed(NoticesInput.model_validate(*given)), cite))
        except (ValidationError, TypeError):
            self._problem("activities", "what notices were given cannot be read", event)

    def _memo(self, event: HistoryEvent) -> None:
        fields = event.workflow_properties_modified_event_attributes.upserted_memo.fields
        if protocol.MEMO_PENDING not in fields:
            return
        [told] = values_of([fields[protocol.MEMO_PENDING]])
        try:
            entries = [PendingRequirement.model_validate(each) for each in listed(told)]
        except ValidationError:
            self._problem("inbox", "what the inbox was told cannot be read", event)
            return
        cite = Citation(execution_id=self._execution, event_id=event.event_id)
        for entry in entries:
            self._shown.setdefault(text_digest(entry.model_dump_json()), (entry, cite))

    # -- the outcome --------------------------------------------------------------------------------------------------

    def verification(self, audit: Audit) -> Verification:
        """What all checks came to, once the whole history was read.

        Raises:
            HistoryError: there was no history.
        """
        self._check_inbox(audit)
        for sent, cite in self._noticed:
            if not sent <= self._due:
                self._problem("activities", "notices were sent of what did not happen", cite=cite)
        self._check_end(audit)
        checks = [*(self._check(name) for name in CHECK_TEXTS if name != "names"), names(audit)]
        return Verification(
            run_id=audit.run.run_id,
            ok=all(check.verdict in {"ok", "incomplete", "unverified"} for check in checks),
            complete=not audit.run.missing and self._last is not None and not goes_on_in(self._last),
            head=self._chain.head if self._chain is not None else "",
            events=self._events,
            checks=checks,
        )

    def _check_inbox(self, audit: Audit) -> None:
        known = {each.id: each for each in audit.approvals}
        for entry, cite in self._shown.values():
            self._looked["inbox"] += 1
            record = known.get(entry.id)
            if record is None:
                self._problem("inbox", f"requirement {entry.id[:8]} was shown as waiting, and never did", cite=cite)
            elif wrong := misshown(entry, record, audit.run.run_id):
                self._problem("inbox", f"requirement {entry.id[:8]} was shown with another {wrong}", cite=cite)

    def _check_end(self, audit: Audit) -> None:
        state, last = audit.state, self._last
        if last is None:
            return
        self._looked["end"] += 1
        kind = last.event_type
        if kind == event_types.COMPLETED:
            closed = self._closing.workflow_execution_completed_event_attributes
            [given] = values_of(closed.result.payloads) or (None,)
            if result_of(given) != (state.content, state.output, state.usage, state.turns):
                self._problem("end", "its result is not the one that the rules give", last)
        status = event_types.CLOSE_STATUSES.get(kind, state.status)
        if status not in {state.status, *event_types.CLOSED_BY_SERVER}:
            self._problem("end", f"it was closed as {status}, and the rules say {state.status}", last)
        if state.is_finished and kind not in _CLOSING and not self._parting:
            self._problem("end", f"the run was {state.status}, and its history has no event that says so", last)

    def _problem(self, name: Name, text: str, event: HistoryEvent | None = None, cite: Citation | None = None) -> None:
        if event is not None:
            cite = Citation(execution_id=self._execution, event_id=event.event_id)
        self._problems[name].append(Problem(text=text, events=[cite] if cite is not None else []))

    def _found(self, name: Name, texts: Iterable[str], event: HistoryEvent) -> None:
        for text in texts:
            self._problem(name, text, event)

    def _check(self, name: Name) -> Check:
        found = self._problems[name]
        only_gaps = bool(found) and all(not problem.events for problem in found) and name == "history"
        verdict = "incomplete" if only_gaps else "failed" if found else "ok"
        return Check.model_validate(
            {
                "name": name,
                "text": CHECK_TEXTS[name],
                "verdict": verdict,
                "looked_at": self._looked[name],
                "problems": found[:SHOWN],
                "more": max(0, len(found) - SHOWN),
            }
        )


def _name(command: SchedulingCommand) -> str:
    """What the rules asked for, in words."""
    match command:
        case RunTool(tool=tool):
            return tool
        case StartAgent(request=request):
            return f"agent {request.agent!r}"
        case _:
            return _TYPES[type(command)]


def _is_patch(event: HistoryEvent) -> bool:
    """Whether a marker says which version of the workflow's code ran: the SDK's own, of `workflow.patched`."""
    return event.marker_recorded_event_attributes.marker_name == _PATCH
