"""Every recorded history replays, and its fold tells what the run said of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from assent.conversation import Conversation
from assent.history import fold
from assent.testing import check_replay
from tests.replay.record import CONTINUED, DECIDED, DEPLOYED, FOLDER, STORIES

HISTORIES = sorted(FOLDER.glob("*.json"))
WAITING = ("continuing", "waiting", "half-decided", "expiring", "filling-in", "outcome-unknown")
ENDS = {**dict.fromkeys(WAITING, "waiting"), "cancelled": "cancelled", "provider-refused": "failed"}


def test_there_is_a_history_of_every_story() -> None:
    assert {path.stem for path in HISTORIES} >= {*STORIES, *DECIDED, *CONTINUED, DEPLOYED}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_the_history_replays(path: Path) -> None:
    await check_replay(path)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_history_folds(path: Path) -> None:
    history = WorkflowHistory.from_json("folded", path.read_text())
    run = fold(history.events)
    assert run.request is not None
    assert run.id == f"recorded-{'continued' if path.stem in CONTINUED else path.stem}"
    assert Conversation().append(run.conversation.items).digest == run.conversation.digest
    assert run.status == ENDS.get(path.stem, "completed")


def test_a_run_goes_on_in_a_new_execution_as_it_was() -> None:
    before, after = (WorkflowHistory.from_json("", (FOLDER / f"{name}.json").read_text()) for name in CONTINUED)
    last = before.events[-1].workflow_execution_continued_as_new_event_attributes
    begun = after.events[0].workflow_execution_started_event_attributes
    assert last.new_execution_run_id == begun.original_execution_run_id
    first = fold(after.events, until=lambda _: True)
    assert replace(first, run_id=begun.first_execution_run_id) == fold(before.events)
    [asked] = first.pending
    assert [each.id for each in fold(after.events).requirements] == [asked.id]


async def test_a_changed_command_order_is_noticed() -> None:
    history = json.loads((FOLDER / "approved.json").read_text())
    for event in history["events"]:
        scheduled = event.get("activityTaskScheduledEventAttributes", {})
        if scheduled.get("activityType", {}).get("name") == "pay":
            scheduled["activityType"]["name"] = "look_up"
    with pytest.raises(NondeterminismError):
        await check_replay(json.dumps(history))
