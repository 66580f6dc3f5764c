"""What is under way in one execution while its history is audited: asked for, begun, not over yet.

I/O free, but needs Temporal's protocol buffers; not in workflow code.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request as UpdateRequest

from assent.audit import event_fields
from assent.audit.child_builders import ChildFile
from assent.audit.observer import Scheduling, agent_key
from assent.audit.record_builders import Working
from assent.audit.records import Citation
from assent.history import child_workflows
from assent.history.fold import Follower, Happening
from assent.wire import protocol

Work = Working | ChildFile


@dataclass(frozen=True, slots=True)
class Asked:
    """What the rules asked for and no event has scheduled yet: held back, or never begun because the run ended."""

    happening: Happening
    command: Scheduling
    work: Work | None


@dataclass(slots=True)
class Underway:
    """One execution, as far as it was read. What was *scheduled* and what was *asked* are matched by a name of each."""

    id: str
    follower: Follower
    scheduled: defaultdict[str, deque[HistoryEvent]] = field(default_factory=lambda: defaultdict(deque))
    started: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    admitted: dict[str, UpdateRequest] = field(default_factory=dict[str, UpdateRequest])
    asked: defaultdict[str, deque[Asked]] = field(default_factory=lambda: defaultdict(deque))
    working: dict[int, Working] = field(default_factory=dict[int, Working])
    asking: dict[int, HistoryEvent] = field(default_factory=dict[int, HistoryEvent])
    begun: dict[str, HistoryEvent] = field(default_factory=dict[str, HistoryEvent])
    below: dict[str, ChildFile] = field(default_factory=dict[str, ChildFile])

    def cite(self, event: HistoryEvent) -> Citation:
        """The citation of an event of this execution."""
        return Citation(execution_id=self.id, event_id=event.event_id)

    def note(self, event: HistoryEvent) -> None:
        """Keep what later events are about: what was scheduled, taken up, begun, sent."""
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                if event.activity_task_scheduled_event_attributes.activity_type.name != protocol.SEND_NOTICES:
                    self.scheduled[key_of(event)].append(event)
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                self.scheduled[key_of(event)].append(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                self.begun[child_workflows.child_id_of(event)] = event
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                self.started[event_fields.scheduled_id_of(event)] = event
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED:
                request = event.workflow_execution_update_admitted_event_attributes.request
                self.admitted[request.meta.update_id] = request
            case _:
                pass


def key_of(event: HistoryEvent) -> str:
    """The name by which an event that schedules something is matched with the command that asks for it."""
    if event.event_type != child_workflows.INITIATED:
        return event.activity_task_scheduled_event_attributes.activity_id
    request = child_workflows.request_of(event)
    return agent_key(request.parents[-1].call_id if request is not None and request.parents else "")
