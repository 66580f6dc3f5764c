"""An edited, removed or reordered event in a history breaks its verification.

The head of the hash chain is another one, always. The checks notice by themselves what does not follow from the rules.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.api.history.v1 import HistoryEvent

from assent.audit import verifier
from assent.audit.auditor import Auditor
from assent.audit.verifier import Verifier, line_of
from assent.history.files import from_files
from assent.wire.errors import HistoryError
from tests.unit.audit.forged_histories import NAMES, audited, mangled, parsed, read

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def each_line_is_made_once() -> Iterator[None]:
    """Keep the lines of the hash chain by the bytes of their events: all histories here differ in one or two."""
    lines: dict[bytes, bytes] = {}

    def cached(event: HistoryEvent) -> bytes:
        key = event.SerializeToString(deterministic=True)
        if key not in lines:
            lines[key] = line_of(event)
        return lines[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "line_of", cached)
        yield


# -- every event, whatever it says ------------------------------------------------------------------------------------


def head_of(events: Sequence[HistoryEvent]) -> tuple[str, bool]:
    """Return the head of the chain, and whether all checks pass; an unreadable history has no head."""
    try:
        _, found = audited(events)
    except HistoryError:
        return "", False
    return found.head, found.ok


@cache
def tried() -> dict[str, list[int]]:
    """Return the events to tamper with, as their positions by history: each kind of event in three of the histories.

    The kind of an event is its type, the types of its neighbours, and the activity or message that it is about.
    """
    found: dict[str, list[int]] = {name: [] for name in NAMES}
    times: Counter[tuple[object, ...]] = Counter()
    for name in NAMES:
        events = parsed(read(name))
        types = [0, *(event.event_type for event in events), 0]
        about: dict[int, str] = {}
        for position, event in enumerate(events):
            begun = (
                event.activity_task_started_event_attributes.scheduled_event_id
                or event.activity_task_completed_event_attributes.scheduled_event_id
            )
            about[event.event_id] = (
                event.activity_task_scheduled_event_attributes.activity_type.name
                or event.workflow_execution_signaled_event_attributes.signal_name
                or about.get(begun, "")
            )
            kind = (*types[position : position + 3], about[event.event_id])
            times[kind] += 1
            if times[kind] <= 3:
                found[name].append(position)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_history_as_it_was_recorded_is_in_order(name: str) -> None:
    head, ok = head_of(parsed(read(name)))
    assert ok
    assert head == head_of(parsed(read(name)))[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_event_is_noticed_and_changes_the_head(name: str) -> None:
    events = parsed(read(name))
    whole, _ = head_of(events)
    for position in tried()[name]:
        head, ok = head_of([*events[:position], *events[position + 1 :]])
        assert head != whole
        # Only the head shows that a history was cut at its end: the run may have come only so far.
        assert not ok or position == len(events) - 1, f"event {position + 1} of {name}"


@pytest.mark.parametrize("name", NAMES)
def test_two_swapped_events_are_noticed_and_change_the_head(name: str) -> None:
    events = parsed(read(name))
    whole, _ = head_of(events)
    for position in tried()[name]:
        if position == len(events) - 1:
            continue
        first, second = events[position : position + 2]
        head, ok = head_of([*events[:position], second, first, *events[position + 2 :]])
        assert head != whole
        assert not ok


def other(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}x"
    return value + (b"x" if isinstance(value, bytes) else 1)


def messages_in(value: Any) -> list[Message]:
    """Return the messages of a field: one, several, or those of a map."""
    if isinstance(value, Message):
        return [value]
    found: list[Any] = [value[key] for key in value] if hasattr(value, "items") else list(value)
    return [each for each in found if isinstance(each, Message)]


def changes(message: Message) -> Iterator[None]:
    """Change every set scalar of a message, one at a time."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            yield from (None for each in messages_in(value) for _ in changes(each))
        elif isinstance(value, str | bytes | bool | int | float):
            setattr(message, field.name, other(value))
            yield
            setattr(message, field.name, value)


@pytest.mark.parametrize("name", NAMES)
def test_every_changed_field_changes_the_line_of_its_event(name: str) -> None:
    changed = 0
    for event in parsed(read(name)):
        line = line_of(event)
        for _ in changes(event):
            assert line_of(event) != line
            changed += 1
        assert line_of(event) == line
    assert changed > 50


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_line_changes_the_head(name: str) -> None:
    events = parsed(read(name))
    whole, _ = head_of(events)
    for event in (events[position] for position in tried()[name]):
        event.task_id += 1  # Nothing but the chain looks at it.
        head, ok = head_of(events)
        assert ok
        assert head != whole
        event.task_id -= 1
    assert head_of(events)[0] == whole


# -- histories that no run made ---------------------------------------------------------------------------------------


async def read_through(file: Path) -> str:
    """Audit a file down to the last record, and return the error if there is one."""
    verifier = Verifier("")
    auditor = Auditor("", verifier)
    try:
        async for page in from_files([file]):
            auditor.add(page)
        audit = auditor.audit()
    except HistoryError as error:
        return str(error)
    return "".join(record.model_dump_json() for record in (*audit.records(), verifier.verification(audit)))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mangled") / "history.json"


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(NAMES), random=st.randoms(use_true_random=False), times=st.integers(1, 4))
def test_a_mangled_history_is_read_or_refused_with_one_line(file: Path, name: str, random: Random, times: int) -> None:
    events = read(name)
    for _ in range(times):
        events = mangled(random, events)
    file.write_text(json.dumps({"events": events}))
    refused = asyncio.run(read_through(file))
    assert "\n" not in refused
