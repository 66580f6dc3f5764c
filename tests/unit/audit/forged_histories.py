"""Forges recorded histories: changes, removes, inserts and renumbers their events."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, cast

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from assent.audit.auditor import Auditor
from assent.audit.checks import Verification
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.history.pages import MissingExecution, Page
from assent.wire.visibility import pending_keys
from tests.replay import FOLDER

NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.json"))
Event = dict[str, Any]
"""One event, as the JSON of a history writes it."""


def read(name: str) -> list[Event]:
    """The events of a recorded history."""
    return cast("list[Event]", json.loads((FOLDER / f"{name}.json").read_text())["events"])


def parsed(events: Sequence[Event]) -> list[HistoryEvent]:
    """The events as the auditor takes them."""
    return list(WorkflowHistory.from_json("", {"events": list(events)}).events)


def execution_of(events: Sequence[HistoryEvent]) -> str:
    """Return the id of the events' execution; a forger who removes the first event has to name another."""
    return events[0].workflow_execution_started_event_attributes.original_execution_run_id or "execution"


def found_as(*executions: Sequence[HistoryEvent]) -> list[Page | MissingExecution]:
    """Return executions as pages, as files give them: the execution before the first one is missing."""
    begun = executions[0][0].workflow_execution_started_event_attributes if executions[0] else None
    before = begun.continued_execution_run_id if begun is not None else ""
    return [
        *([MissingExecution(before)] if before else []),
        *(Page(execution_of(each), each, each) for each in executions),
    ]


def audited(*executions: Sequence[HistoryEvent]) -> tuple[Audit, Verification]:
    """Return the audit of a run and its verification.

    Raises:
        HistoryError: the history cannot be read.
    """
    verifier = Verifier("")
    auditor = Auditor("", verifier)
    for each in found_as(*executions):
        auditor.add(each)
    audit = auditor.audit()
    return audit, verifier.verification(audit)


def attributes(event: Event) -> dict[str, Any]:
    """Return the attributes of an event of any type."""
    none: dict[str, Any] = {}
    return next((event[name] for name in event if name.endswith("EventAttributes")), none)


def said(payload: Mapping[str, str]) -> Any:
    """The JSON value of a payload."""
    return json.loads(base64.b64decode(payload["data"]))


def say(payload: dict[str, Any], value: object) -> None:
    """Give a payload another value."""
    payload["data"] = base64.b64encode(json.dumps(value, separators=(",", ":")).encode()).decode()


def _payload(event: Event) -> dict[str, Any]:
    """Return the first payload of an event: of an input, a result, a signal or an update."""
    found = attributes(event)
    found = found.get("acceptedRequest", {}).get("input", found)
    carried = found.get("input") or found.get("args") or found.get("result")
    assert carried is not None, f"event {event['eventId']} carries nothing"
    return cast("dict[str, Any]", carried["payloads"][0])


def _named(event: Event) -> dict[str, str]:
    name = attributes(event).get("signalName")
    return {} if name is None else {"verdict": name}


@dataclass
class Forged:
    """A history while it is forged."""

    events: list[Event]

    def of(self, kind: str) -> list[Event]:
        """The events of a kind, in order."""
        return [event for event in self.events if event["eventType"] == f"EVENT_TYPE_{kind}"]

    def scheduled(self, activity: str, which: int = 0) -> Event:
        """The event that scheduled an activity of this name."""
        found = self.of("ACTIVITY_TASK_SCHEDULED")
        return [each for each in found if attributes(each)["activityType"]["name"] == activity][which]

    def about(self, scheduled: Event) -> list[Event]:
        """The events of one activity: scheduled, started, closed."""
        number = scheduled["eventId"]
        later = [
            each
            for each in self.events
            if attributes(each).get("scheduledEventId") == number and "ACTIVITY" in each["eventType"]
        ]
        return [scheduled, *later]

    def completed(self, activity: str, which: int = 0) -> Event:
        """Return the event that completed an activity of this name."""
        return self.about(self.scheduled(activity, which))[-1]

    def sent(self, **fields: object) -> list[Event]:
        """The signals and updates whose message has these fields; the verdict of a signal is its name."""
        found = [*self.of("WORKFLOW_EXECUTION_SIGNALED"), *self.of("WORKFLOW_EXECUTION_UPDATE_ACCEPTED")]
        found = [each for each in found if (attributes(each).get("input") or "acceptedRequest" in attributes(each))]
        return [each for each in found if fields.items() <= {**_named(each), **said(_payload(each))}.items()]

    def answer_to(self, update: Event) -> list[Event]:
        """A message, and the answer to an update."""
        found = self.of("WORKFLOW_EXECUTION_UPDATE_COMPLETED")
        return [update, *(each for each in found if attributes(each)["acceptedEventId"] == update["eventId"])]

    def change(self, event: Event, change: Callable[[Any], object]) -> None:
        """Change the value of an event, in place."""
        value = said(_payload(event))
        change(value)
        say(_payload(event), value)

    def shown(self, change: Callable[[Any], object]) -> None:
        """Change each pending requirement in the memo."""
        for event in self.of("WORKFLOW_PROPERTIES_MODIFIED"):
            fields = attributes(event)["upsertedMemo"]["fields"]
            for name in pending_keys(fields):
                if "data" in fields[name]:  # A memo that is removed has none.
                    entry = said(fields[name])
                    change(entry)
                    say(fields[name], entry)

    def take_out(self, *taken: Event) -> None:
        """Remove events, and renumber."""
        self.events = [event for event in self.events if all(event is not each for each in taken)]
        self.renumber()

    def put_in(self, after: Event, *more: Event) -> None:
        """Insert copies of events, which refer to each other where the originals did, and renumber."""
        numbers = {each["eventId"]: f"new {position}" for position, each in enumerate(more)}
        inserted = [_referring(copy.deepcopy(each), numbers) for each in more]
        place = next(position for position, event in enumerate(self.events) if event is after) + 1
        self.events[place:place] = inserted
        self.renumber()

    def renumber(self) -> None:
        """Number the events from 1 without a gap, and update every reference."""
        numbers = {event["eventId"]: str(position) for position, event in enumerate(self.events, 1)}
        for event in self.events:
            _referring(event, numbers)

    def verified(self) -> Verification:
        """Return the verification."""
        return audited(parsed(self.events))[1]


def _referring(event: Event, numbers: Mapping[str, str]) -> Event:
    """Renumber an event and its references, in place."""
    for holder in (event, attributes(event)):
        for key, value in holder.items():
            if key.lower().endswith("eventid") and value in numbers:
                holder[key] = numbers[value]
    return event


# -- damage without any design ----------------------------------------------------------------------------------------

ODD: Final[list[Any]] = [
    *(None, "", 0, -1, 1, True, "x", "approve", [], {}, [1], {"a": 1}, "\ud800", "0s", "abc=", 1e999, -1e300),
    *("2026-13-45T99:99:99Z", "1970-01-01T00:00:00Z", "9" * 22, "EVENT_TYPE_TIMER_FIRED", "[" * 5_000),
]
"""Values that replace others."""


def mangled(random: Random, events: Sequence[Event]) -> list[Event]:
    """Return the events with one odd change."""
    found = copy.deepcopy(list(events))
    place, another = random.randrange(len(found)), random.randrange(len(found))
    match random.choice(["out", "twice", "swap", "type", "field", "field", "payload", "payload", "payload"]):
        case "out":
            del found[place]
        case "twice":
            found.insert(another, copy.deepcopy(found[place]))
        case "swap":
            found[place], found[another] = found[another], found[place]
        case "type":
            found[place]["eventType"] = found[another].get("eventType", "")
        case "field":
            _mangle(random, found[place])
        case _:
            _mangle_payload(random, found[place])
    return found


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in a JSON value, with a key or position of it."""
    holder: Any = value
    if not isinstance(value, dict | list):
        return
    for key in list(holder) if hasattr(holder, "keys") else range(len(holder)):
        yield holder, key
        yield from places(holder[key])


def _mangle(random: Random, value: Any) -> None:
    holder, key = random.choice(list(places(value)) or [({"": ""}, "")])
    if random.random() < 1 / 3:
        del holder[key]
    else:
        holder[key] = random.choice(ODD)


def _mangle_payload(random: Random, event: Event) -> None:
    payloads = [holder for holder, key in places(event) if key == "data" and isinstance(holder[key], str)]
    if not payloads:
        return
    payload = random.choice(payloads)
    try:
        value = {"value": said(payload)}
    except ValueError:
        return  # It was mangled before.
    _mangle(random, value)
    say(payload, value.get("value", ""))
