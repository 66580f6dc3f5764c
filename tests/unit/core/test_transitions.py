"""The transition tables: all rows are used, all changes have a row, final statuses are never left, the page draws them.

The random runs (`run_invariants.py`) check each of their steps against the tables too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from assent.core.events import AgentAnswered, AgentStarted, StartAgent
from assent.core.run_state import Run
from assent.core.transitions import CALL, REQUIREMENT, RUN, Table
from assent.wire.protocol import Gate, RunResult
from tests.unit.core.transition_rows import ALL, TABLES, changes, explains, recorded
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, INPUT, ONCE, TO_B, Play, playing, turn_of

PAGE: Final = Path(__file__).parents[3] / "docs" / "why" / "architecture.md"
DENY: Final = Gate(verdict="deny")
EXPIRES: Final = Gate(verdict="ask", expires_after=60.0)
ENDS: Final = Gate(verdict="external", stop=True)


def talking(*gates: Gate, **request: object) -> Play:
    """A conversation whose first turn makes these calls, or answers."""
    play = Play()
    play.start(conversation=True, **request)
    if gates:
        play.model(turn_of(*gates))
    return play


def idle_is_left() -> None:
    play = talking()
    play.answer()
    play.send("send_message", {"content": "more", "by": "alice"})
    play.answer()
    play.send("close", {"by": "alice"})


def idle_is_cancelled() -> None:
    play = talking()
    play.answer()
    play.cancel()


def paused_run_awaits_a_message() -> None:
    talking(ASK, max_turns=1).reject()


def paused_run_ends_with_a_result() -> None:
    playing(ENDS).submit(output=1)


def paused_run_gets_no_more_budget() -> None:
    play = playing(ASK, budget={"max_time": 60})
    play.wait(minutes=2)
    play.reject(position=1)


def idle_run_gets_no_more_time() -> None:
    play = talking(ALLOW, budget={"max_time": 60})
    play.tool(output="ok")
    play.wait(minutes=2)
    play.answer()
    assert play.run.status == "idle"
    play.reject()


def model_fails() -> None:
    play = Play()
    play.start()
    play.model_fails()


def running_run_is_cancelled() -> None:
    playing(ALLOW).cancel()


def paused_run_is_cancelled() -> None:
    playing(ASK).cancel()


def calls_are_decided() -> None:
    play = playing(DENY, ALLOW, ASK, ASK, EXTERNAL, EXPIRES)
    play.approve(position=0)
    play.reject(position=1)
    play.submit(position=2, output=1)
    play.wait(minutes=2)


def call_is_decided_with_values() -> None:
    play = playing(INPUT)
    play.offer("submit_input", {"id": play.requirement.id, "by": "bob", "values": {"amount": 1}})
    play.check()


def call_is_edited() -> None:
    playing(ASK).edit(to="B")


def call_is_granted() -> None:
    play = playing(ASK)
    play.approve(remember={"uses": 1})
    play.tool(output="ok")
    play.model(turn_of(ASK, prefix="d"))
    play.tool(output="ok")
    play.answer()


def call_needs_more_today() -> None:
    playing(ALLOW).tool(refused="stricter", gate=ASK)


def worker_is_lost() -> None:
    play = playing(ONCE)
    play.approve()
    play.lose()


def call_is_retried() -> None:
    play = playing(ALLOW)
    play.tool(refused="not here", again_after=1.0)
    play.wait(minutes=1)


def call_is_delegated() -> None:
    play = playing(TO_B)
    play.tool(delegation={"agent": "b", "input": "Go."})
    assert isinstance(play.commands[-1], StartAgent)
    play.tell(AgentStarted(play.at, "c0", "child"))
    play.tell(AgentAnswered(play.at, "child", RunResult(content="done")))


def call_is_only_decided() -> None:
    play = Play()
    play.ask()
    play.approve()


SCENARIOS: Final[list[Callable[[], None]]] = [
    idle_is_left,
    idle_is_cancelled,
    paused_run_awaits_a_message,
    paused_run_ends_with_a_result,
    paused_run_gets_no_more_budget,
    idle_run_gets_no_more_time,
    model_fails,
    running_run_is_cancelled,
    paused_run_is_cancelled,
    calls_are_decided,
    call_is_decided_with_values,
    call_is_edited,
    call_is_granted,
    call_needs_more_today,
    worker_is_lost,
    call_is_retried,
    call_is_delegated,
    call_is_only_decided,
]


def test_every_row_is_reached() -> None:
    with recorded() as rows:
        for scenario in SCENARIOS:
            scenario()
    assert rows == ALL


@pytest.mark.parametrize("table", [RUN, REQUIREMENT, CALL])
def test_every_status_can_be_reached_and_leads_to_a_final_one(table: Table[Any, Any]) -> None:
    statuses = {table.first, *table.rows.values(), *(status for status, _ in table.rows)}
    final = statuses - {status for status, _ in table.rows}
    rows = {(name, *row) for name, each in TABLES.items() if each is table for row in table.rows}
    [name] = {name for name, _, _ in rows}
    assert all(explains(rows, name, table.first, status) for status in statuses)
    assert all(any(explains(rows, name, status, end) for end in final) for status in statuses)
    assert "pending" not in final


@pytest.mark.parametrize(("table", "status", "event"), [(REQUIREMENT, "rejected", "approve"), (RUN, "failed", "fail")])
def test_a_final_status_is_never_left(table: Table[Any, Any], status: str, event: str) -> None:
    with pytest.raises(KeyError):
        table.next(status, event)


def test_a_change_without_a_row_is_found() -> None:
    assert ("run", "running", "failed") in list(changes(Run(), Run(status="failed")))
    assert not explains({("run", "running", "pause")}, "run", "running", "failed")


def test_the_page_draws_the_tables() -> None:
    drawn = re.findall(r"```mermaid\n(stateDiagram.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert drawn == [RUN.diagram(), REQUIREMENT.diagram(), CALL.diagram()]
