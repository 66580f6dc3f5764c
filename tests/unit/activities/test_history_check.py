"""Whether an approved call is asked for, where the run that asks is in the same process."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from temporalio.testing import ActivityEnvironment

from assent.activities import history_check
from assent.activities.history_check import live_call, requested_since
from assent.core.events import RunTool
from assent.wire.protocol import WORKFLOW, ToolCallInput, ToolOptions

SINCE = datetime(2026, 11, 29, tzinfo=UTC)
CALL = ToolCallInput(agent="ops", call_id="c", arguments='{"amount":1}', key="k")
COMMAND = RunTool(position=0, turn=1, tool="pay", input=CALL, options=ToolOptions(), attempts=1)


@pytest.fixture
def activity(monkeypatch: pytest.MonkeyPatch) -> ActivityEnvironment:
    """The activity of the call, in a run whose history asks for nothing."""

    async def nothing() -> None:
        return None

    monkeypatch.setattr(history_check, "requested_call", nothing)
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info, workflow_type=WORKFLOW, workflow_id="r", workflow_run_id="e", activity_id="1.0"
    )
    return environment


async def test_a_run_of_this_process_asks_for_one_start_of_its_call(activity: ActivityEnvironment) -> None:
    with live_call("e", COMMAND, SINCE):
        assert await activity.run(requested_since, "pay", CALL.model_copy()) == SINCE
        assert not await activity.run(requested_since, "pay", CALL)
    with live_call("e", COMMAND, SINCE):
        pass
    assert not await activity.run(requested_since, "pay", CALL)


@pytest.mark.parametrize(
    ("execution_id", "command", "tool", "call"),
    [
        ("other", COMMAND, "pay", CALL),
        ("e", replace(COMMAND, position=1), "pay", CALL),
        ("e", replace(COMMAND, turn=2), "pay", CALL),
        ("e", COMMAND, "refund", CALL),
        ("e", COMMAND, "pay", CALL.model_copy(update={"arguments": '{"amount":2}'})),
        ("e", COMMAND, "pay", CALL.model_copy(update={"values": {"amount": 2}})),
    ],
)
async def test_another_call_is_looked_for_in_the_history(
    activity: ActivityEnvironment, execution_id: str, command: RunTool, tool: str, call: ToolCallInput
) -> None:
    with live_call(execution_id, command, SINCE):
        assert not await activity.run(requested_since, tool, call)
