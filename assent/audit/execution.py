"""Matches, within one execution of an audited run, the commands of the rules with the events of the history."""

from collections import defaultdict, deque
from dataclasses import dataclass, field

from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit import event_fields
from assent.audit.child_builders import ChildBuilder
from assent.audit.observer import SchedulingCommand, agent_key
from assent.audit.record_builders import ToolRunBuilder
from assent.audit.records import Citation
from assent.history import child_workflows, event_types
from assent.history.fold import HistoryFold, Transition
from assent.wire import protocol


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """A command that no event has scheduled yet; none will if the run ends first."""

    transition: Transition
    command: SchedulingCommand
    builder: ToolRunBuilder | ChildBuilder | None


@dataclass(slots=True)
class ExecutionLedger:
    """The open items of one execution, as of the last page.

    *scheduled* and *pending* are events and commands without their counterpart, by the key that both have. The other
    events and builders are kept for the events that will refer to them: by the number of the event that scheduled an
    activity, by the id of a child run, or by the id of an update.
    """

    id: str
    fold: HistoryFold
    scheduled: defaultdict[str, deque[HistoryEvent]] = field(default_factory=lambda: defaultdict(deque))
    pending: defaultdict[str, deque[PendingCommand]] = field(default_factory=lambda: defaultdict(deque))
    tool_runs: dict[int, ToolRunBuilder] = field(default_factory=dict[int, ToolRunBuilder])
    model_calls: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    activity_starts: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    children: dict[str, ChildBuilder] = field(default_factory=dict[str, ChildBuilder])
    child_starts: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    admitted: dict[str, UpdateRequest] = field(default_factory=dict[str, UpdateRequest])

    def cite(self, event: HistoryEvent) -> Citation:
        """Return the citation of an event of this execution."""
        return Citation(execution_id=self.id, event_id=event.event_id)

    def note(self, event: HistoryEvent) -> None:
        """Keep an event that later events refer to."""
        match event.event_type:
            case event_types.ACTIVITY_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_type.name != protocol.SEND_NOTICES:
                    self.scheduled[key_of(event)].append(event)
            case event_types.CHILD_INITIATED:
                self.scheduled[key_of(event)].append(event)
            case event_types.CHILD_STARTED:
                self.child_starts[child_workflows.child_id_of(event)] = event
            case event_types.ACTIVITY_STARTED:
                self.activity_starts[event_fields.scheduled_id_of(event)] = event
            case event_types.UPDATE_ADMITTED:
                request = event.workflow_execution_update_admitted_event_attributes.request
                self.admitted[request.meta.update_id] = request
            case _:
                pass


def key_of(event: HistoryEvent) -> str:
    """Return the key that a scheduling event shares with the command that asked for it."""
    if event.event_type != event_types.CHILD_INITIATED:
        return event.activity_task_scheduled_event_attributes.activity_id
    request = child_workflows.request_of(event)
    return agent_key(request.parents[-1].call_id if request is not None and request.parents else "")
