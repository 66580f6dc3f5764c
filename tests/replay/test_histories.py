"""Every recorded history replays, and its fold tells what the run said of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from assent.conversation import Conversation
from assent.history import fold
from assent.testing import check_replay
from tests.replay.record import DECIDED, DEPLOYED, FOLDER, STORIES

HISTORIES = sorted(FOLDER.glob("*.json"))
WAITING = ("waiting", "half-decided", "expiring", "filling-in", "outcome-unknown")
ENDS = {**dict.fromkeys(WAITING, "waiting"), "cancelled": "cancelled", "provider-refused": "failed"}


def test_there_is_a_history_of_every_story() -> None:
    assert {path.stem for path in HISTORIES} >= {*STORIES, *DECIDED, DEPLOYED}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_the_history_replays(path: Path) -> None:
    await check_replay(path)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_history_folds(path: Path) -> None:
    history = WorkflowHistory.from_json("folded", path.read_text())
    run = fold(history.events)
    assert run.request is not None
    assert run.id == f"recorded-{path.stem}"
    assert Conversation().append(run.conversation.items).digest == run.conversation.digest
    assert run.status == ENDS.get(path.stem, "completed")


async def test_a_changed_command_order_is_noticed() -> None:
    history = json.loads((FOLDER / "approved.json").read_text())
    for event in history["events"]:
        scheduled = event.get("activityTaskScheduledEventAttributes", {})
        if scheduled.get("activityType", {}).get("name") == "pay":
            scheduled["activityType"]["name"] = "look_up"
    with pytest.raises(NondeterminismError):
        await check_replay(json.dumps(history))
