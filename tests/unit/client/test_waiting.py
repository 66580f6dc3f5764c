"""The gauges of what waits."""

from __future__ import annotations

from datetime import timedelta

from assent.audit.approval import Approval, ApprovalContext
from assent.client.waiting import waiting_gauges
from tests.unit.strategies import NOW


def approval(agent: str, tool: str, minutes: int) -> Approval:
    return Approval(
        id="1", status="pending", approval_type=None, kind="confirmation", run_id="r", agent=agent, tool=tool,
        arguments="{}", arguments_size=2, context=ApprovalContext(turn=1, call_id="c"),
        created_at=NOW - timedelta(minutes=minutes),
    )  # fmt: skip


def test_what_waits_is_counted_by_agent_and_tool_with_the_age_of_the_oldest() -> None:
    waiting = [approval("a", "pay", 5), approval("a", "pay", 9), approval("b", "pay", 1)]
    found = [(each.metric.name, *each.labels, each.value) for each in waiting_gauges(waiting, NOW, [("a", "gone")])]
    assert found == [
        ("assent_approvals_waiting", "a", "gone", 0),
        ("assent_approvals_waiting", "a", "pay", 2),
        ("assent_approvals_waiting", "b", "pay", 1),
        ("assent_approvals_oldest_seconds", "a", "gone", 0),
        ("assent_approvals_oldest_seconds", "a", "pay", 540),
        ("assent_approvals_oldest_seconds", "b", "pay", 60),
    ]
