"""Every recorded history replays, and its fold tells what the run said of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from assent.history.event_types import CLOSE_STATUSES
from assent.history.fold import fold
from assent.testing import check_replay
from assent.wire.conversation import Conversation
from assent.wire.protocol import RequirementKind, RunStatus
from tests.replay import (
    FOLDER,
    HISTORIES,
    budget_runs,
    continued_runs,
    conversation_runs,
    model_routing_runs,
    outcome_runs,
    sub_agent_runs,
    summary_runs,
    waiting_runs,
    workflow_call_runs,
)
from tests.replay.record import CONTINUED, DECIDED, DEPLOYED, STORIES
from tests.replay.replayed_commands import given, written
from tests.unit.audit.forged_histories import audited

RECORDED = sorted(HISTORIES.glob("rules-*/*.json"))
WAITING = (
    "continuing",
    "waiting",
    "half-decided",
    "expiring",
    "filling-in",
    "outcome-unknown",
    "upgrading",
    "waiting-for-budget",
    budget_runs.TIME,
    "asking-an-agent-below",
    sub_agent_runs.GATED,
    "handing-over",
    continued_runs.NAMES[0],
    *waiting_runs.NAMES,
    workflow_call_runs.NAMES[0],
)
RUNNING = (
    "waiting-for-the-model",
    "waiting-for-a-tool",
    "summarising",
    "asking-an-agent",
    model_routing_runs.NAMES[1],
    waiting_runs.POSTPONED,
)
ENDS = {
    **dict.fromkeys(WAITING, "waiting"),
    **dict.fromkeys(RUNNING, "running"),
    "conversing": "idle",
    "handed-over": "idle",
    "cancelled": "cancelled",
    "provider-refused": "failed",
    "upgraded": "completed",
    **outcome_runs.ENDS,
}
TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
GOES_ON = {name: names[1] for names in (CONTINUED, waiting_runs.UPGRADED, continued_runs.NAMES) for name in names}
ABOVE = {below: name for name, below in sub_agent_runs.CHILDREN.items()}


def test_there_is_a_history_of_every_story() -> None:
    assert {path.stem for path in RECORDED} >= {
        *STORIES,
        *DECIDED,
        *CONTINUED,
        DEPLOYED,
        *waiting_runs.NAMES,
        *conversation_runs.NAMES,
        *summary_runs.NAMES,
        *budget_runs.NAMES,
        budget_runs.TIME,
        *model_routing_runs.NAMES,
        *continued_runs.NAMES,
        *outcome_runs.NAMES,
        *workflow_call_runs.NAMES,
    }


def test_there_is_a_history_of_every_kind_of_wait_and_of_every_outcome() -> None:
    outcomes = set[tuple[str, str]]()
    runs = set[str]()
    for path in RECORDED:
        events = WorkflowHistory.from_json("", path.read_text()).events
        audit, _ = audited(events)
        outcomes |= {(each.kind, each.status) for each in audit}
        runs.add(CLOSE_STATUSES.get(events[-1].event_type, audit.state.status))
    everywhere = {"pending", "approved", "rejected", "cancelled"}
    assert outcomes == {
        *((kind, status) for kind in get_args(RequirementKind) for status in everywhere),
        *((kind, "expired") for kind in ("confirmation", "input", "external")),  # no other kind has a deadline
        ("confirmation", "superseded"),  # by an edit
    }
    assert runs == {*get_args(RunStatus), "terminated", "timed out"}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_the_history_replays(path: Path) -> None:
    await check_replay(path)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_history_folds(path: Path) -> None:
    history = WorkflowHistory.from_json("folded", path.read_text())
    run = fold(history.events)
    assert run.request is not None
    above = ABOVE.get(path.stem, GOES_ON.get(path.stem, path.stem))
    own, _, below = run.id.partition(".")
    assert (own, below[:7]) == (f"recorded-{above}", "writer-" if path.stem in ABOVE else "")
    assert Conversation().append(run.conversation.items).digest == run.conversation.digest
    assert run.status == ENDS.get(path.stem, "completed")


@pytest.mark.parametrize("names", [CONTINUED, waiting_runs.UPGRADED, continued_runs.NAMES])
def test_a_run_goes_on_in_a_new_execution_as_it_was(names: tuple[str, str]) -> None:
    before, after = (WorkflowHistory.from_json("", (FOLDER / f"{name}.json").read_text()) for name in names)
    last = before.events[-1].workflow_execution_continued_as_new_event_attributes
    begun = after.events[0].workflow_execution_started_event_attributes
    assert last.new_execution_run_id == begun.original_execution_run_id
    first = fold(after.events[:1])
    assert replace(first, execution_id=begun.first_execution_run_id) == fold(before.events)
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


def own(path: Path) -> WorkflowHistory:
    """A recorded history under the id of its run."""
    events = WorkflowHistory.from_json("", path.read_text()).events
    return WorkflowHistory(events[0].workflow_execution_started_event_attributes.workflow_id, events)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_the_code_of_today_gives_the_commands_of_the_history_and_no_others(path: Path) -> None:
    history = own(path)
    assert await given(history) == written(history.events)


@pytest.mark.parametrize("name", ["waiting", "waiting-for-a-check", "waiting-postponed"])
async def test_a_command_that_is_added_where_a_run_waits_is_noticed_though_it_replays(name: str) -> None:
    whole = own(FOLDER / f"{name}.json")
    last = max(number for number, each in enumerate(whole.events) if each.event_type == TASK_COMPLETED)
    without = WorkflowHistory(whole.workflow_id, whole.events[: last + 1])
    await check_replay(without)
    assert await given(without) == written(whole.events) != written(without.events)
