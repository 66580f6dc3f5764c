"""What one step of a run adds to the metrics. `test_random_runs.py` compares the sums with the state."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from assent.core.events import AgentAnswered, AgentStarted, Event, Failure, Started
from assent.core.measurements import METRICS, measurements
from assent.core.run_state import Run, Step
from assent.wire.protocol import ModelTurn, RunResult, Usage
from tests.unit.strategies import ASK, RUN_ID, Play, turn_of
from tests.unit.strategies import function_call as asked

ALLOW = ASK.model_copy(update={"verdict": "allow"})
DENY = ASK.model_copy(update={"verdict": "deny"})
INVALID = ASK.model_copy(update={"verdict": "invalid"})


@dataclass
class Measured(Play):
    """A play that keeps what is measured, as (name, *labels), with its value."""

    found: dict[tuple[str, ...], float] = field(default_factory=dict[tuple[str, ...], float])

    def decided(self, before: Run, event: Event, step: Step) -> None:
        """Add up."""
        for metric, value, labels in measurements(before, event, step):
            key = (metric.name, *labels)
            self.found[key] = self.found.get(key, 0) + value

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """The series of one metric, by their labels."""
        return {
            labels: value for (metric, *rest), value in self.found.items() if metric == name and (labels := (*rest,))
        }


def playing(*gates: object, **request: object) -> Measured:
    play = Measured()
    play.start(**request)
    play.model(turn_of(*gates))  # type: ignore[arg-type]
    return play


def test_an_edit_closes_one_requirement_and_does_not_restart_the_clock() -> None:
    play = playing(ASK.model_copy(update={"needed": 2}))
    play.wait(minutes=5)
    play.edit("bob", gate=ASK.model_copy(update={"needed": 2}), to="B")
    play.wait(minutes=5)
    play.approve("carol", position=1)
    assert play.of("assent_approvals_requested") == {("a", "pay", "confirmation"): 2}
    assert play.of("assent_approvals_closed") == {
        ("a", "pay", "confirmation", "superseded"): 1,
        ("a", "pay", "confirmation", "approved"): 1,
    }
    [waited] = play.of("assent_decision_seconds").values()
    assert 600 <= waited < 610


def test_calls_are_counted_by_how_they_ended() -> None:
    play = playing(ALLOW, ALLOW, ALLOW, ALLOW)
    play.tool(0, "fine")
    play.tool(1, error="no")
    play.tool(2, refused="not now")
    play.lose(3)
    assert play.of("assent_tool_calls") == {
        ("a", "pay", "executed"): 1,
        ("a", "pay", "failed"): 2,
        ("a", "pay", "refused"): 1,
    }


def test_a_call_that_is_tried_again_or_asks_again_is_not_over() -> None:
    play = playing(ALLOW, ASK.model_copy(update={"at_most_once": True}))
    play.tool(0, refused="not served here", again_after=1.0)
    play.approve()
    play.lose(1)
    assert play.of("assent_tool_calls") == {("a", "pay", "unknown"): 1}
    assert play.of("assent_approvals_requested") == {("a", "pay", "confirmation"): 1, ("a", "pay", "outcome"): 1}


def test_a_name_that_a_model_or_a_client_invented_is_no_label() -> None:
    play = Measured()
    play.start(max_tool_calls=1)
    named = {"c0": DENY, "c1": INVALID, "c2": ALLOW, "c3": ALLOW}
    items = [asked(each, "pay" if each != "c0" else "invented", "{}") for each in named]
    play.model(ModelTurn(items=items, gates=named))
    play.offer("invented", {"id": 1})
    assert play.of("assent_tool_calls") == {("a", "", "denied"): 2, ("a", "pay", "invalid"): 1}
    assert play.of("assent_messages_ignored") == {("a", "other", "unreadable"): 1}
    assert "invented" not in str(play.found)


def test_what_a_child_run_used_is_counted_by_the_child_alone() -> None:
    play = playing(ALLOW.model_copy(update={"agent": "clerk"}))
    play.tool(0, delegation={"agent": "clerk", "input": "why?"})
    assert not play.of("assent_tool_calls")
    play.tell(AgentStarted(play.at, "c0", "child"))
    usage = Usage(requests=1, input_tokens=7, cost=1.0)
    play.tell(AgentAnswered(play.at, "child", RunResult(content="so"), usage))
    assert play.run.usage == usage
    assert not play.of("assent_tokens")
    assert not play.of("assent_cost_micros")
    assert play.of("assent_tool_calls") == {("a", "pay", "executed"): 1}


@pytest.mark.parametrize("cost", [float("inf"), float("nan")])
def test_a_cost_that_is_no_number_stops_nothing(cost: float) -> None:
    play = Measured()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"usage": Usage(requests=1, input_tokens=-5, cost=cost)}))
    assert play.of("assent_model_calls") == {("a", "answered"): 1}
    assert not play.of("assent_cost_micros")
    assert not play.of("assent_tokens")


def test_runs_are_counted_as_they_start_and_end() -> None:
    play = playing(ASK)
    play.model_fails()
    play.cancel()
    assert play.of("assent_runs") == {("a", "started"): 1, ("a", "cancelled"): 1}
    assert play.of("assent_approvals_closed") == {("a", "pay", "confirmation", "cancelled"): 1}
    assert not play.of("assent_decision_seconds")


def test_an_execution_that_continues_a_run_counts_nothing_again() -> None:
    event = Started(Play().at, RUN_ID, "r2", "r1", (), continued=True)
    failed = Step(Run(status="failed", failure=Failure("x", "y"), usage=Usage(requests=3)))
    assert not measurements(Run(), event, failed)


def test_names_are_those_that_prometheus_takes() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("assent_")
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket"))
