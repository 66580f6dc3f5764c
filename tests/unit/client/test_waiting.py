"""The gauges of what waits."""

from __future__ import annotations

from datetime import timedelta

from assent.client.waiting import waiting_gauges
from tests.unit.strategies import NOW

PAY, OTHER = ("a", "pay"), ("b", "other")
WAITING = [(PAY, 5), (PAY, 9), (OTHER, 1)]
"""What waits, and for how many minutes."""


def test_what_waits_is_counted_by_agent_and_tool_with_the_age_of_the_oldest() -> None:
    since = [(names, NOW - timedelta(minutes=minutes)) for names, minutes in WAITING]
    found = [
        (each.metric.name, *each.labels, each.value) for each in waiting_gauges(since, NOW, [PAY, OTHER, ("a", "gone")])
    ]
    assert found == [
        ("assent_approvals_waiting", "a", "pay", 2),
        ("assent_approvals_waiting", "b", "other", 1),
        ("assent_approvals_waiting", "a", "gone", 0),
        ("assent_approvals_oldest_seconds", "a", "pay", 540),
        ("assent_approvals_oldest_seconds", "b", "other", 60),
        ("assent_approvals_oldest_seconds", "a", "gone", 0),
    ]
