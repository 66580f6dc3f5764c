"""What is under way in one execution while its history is audited: asked for, begun, not over yet.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

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

WorkBuilder = ToolRunBuilder | ChildBuilder


@dataclass(frozen=True, slots=True)
class PendingCommand:
    """What the rules asked for and no event has scheduled yet: held back, or never begun because the run ended."""

    transition: Transition
    command: SchedulingCommand
    work: WorkBuilder | None


@dataclass(slots=True)
class ExecutionLedger:
    """One execution, as far as it was read. What was *scheduled* and what was *asked* are matched by a name of each."""

    id: str
    fold: HistoryFold
    scheduled: defaultdict[str, deque[HistoryEvent]] = field(default_factory=lambda: defaultdict(deque))
    started: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    admitted: dict[str, UpdateRequest] = field(default_factory=dict[str, UpdateRequest])
    asked: defaultdict[str, deque[PendingCommand]] = field(default_factory=lambda: defaultdict(deque))
    working: dict[int, ToolRunBuilder] = field(default_factory=dict[int, ToolRunBuilder])
    asking: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    begun: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    below: dict[str, ChildBuilder] = field(default_factory=dict[str, ChildBuilder])

    def cite(self, event: HistoryEvent) -> Citation:
        """The citation of an event of this execution."""
        return Citation(execution_id=self.id, event_id=event.event_id)

    def note(self, event: HistoryEvent) -> None:
        """Keep what later events are about: what was scheduled, taken up, begun, sent."""
        match event.event_type:
            case event_types.ACTIVITY_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_type.name != protocol.SEND_NOTICES:
                    self.scheduled[key_of(event)].append(event)
            case event_types.CHILD_INITIATED:
                self.scheduled[key_of(event)].append(event)
            case event_types.CHILD_STARTED:
                self.begun[child_workflows.child_id_of(event)] = event
            case event_types.ACTIVITY_STARTED:
                self.started[event_fields.scheduled_id_of(event)] = event
            case event_types.UPDATE_ADMITTED:
                request = event.workflow_execution_update_admitted_event_attributes.request
                self.admitted[request.meta.update_id] = request
            case _:
                pass


def key_of(event: HistoryEvent) -> str:
    """The name by which an event that schedules something is matched with the command that asks for it."""
    if event.event_type != event_types.CHILD_INITIATED:
        return event.activity_task_scheduled_event_attributes.activity_id
    request = child_workflows.request_of(event)
    return agent_key(request.parents[-1].call_id if request is not None and request.parents else "")
