"""`make demo`, without its set-up: with a terminal, without one, twice at once, and stopped in the middle."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.e2e.example_programs import Program, in_order, running, started

STEPS = (
    "Model        a script in the place of gpt-5-mini",
    "Hacker News  out of reach; a local stand-in",
    "Web UI       http://localhost:",
    "Worker       process ",
    "alice asks the agent 'hackernews'",
    "model called    turn 1",
    'waiting         get_top_hackernews_stories({"num_stories": 3})',
    "The run waits for a person",
    "workflow signal --address",
    "--name approve",
    "There is no terminal, so the demo decides by itself",
    "decided         approved by bob",
    "tool started",
    "completed       after turn 2",
    "The answer",
    "3. The bug that only happened on the second Tuesday",
    "The record",
    "asked        alice",
    "decision     approved by bob",
    "it only reads",
    "ran          executed",
    "In the Temporal Web UI",
    "/namespaces/default/workflows/hackernews-",
)


def finished(program: Program) -> None:
    assert program.end() == 0, program.text
    in_order(program.text, *STEPS)
    assert "Traceback" not in program.text
    assert running(program.mark) == []


def database(program: Program) -> str:
    found = re.search(r"runs are kept in (\S+)", program.text)
    assert found is not None, program.text
    return found[1]


def test_without_a_terminal_it_decides_by_itself_and_its_runs_survive(tmp_path: Path) -> None:
    for _ in range(2):
        with started("demo.py", cwd=tmp_path) as program:
            finished(program)
        assert database(program) == ".assent/temporal.db"
    assert (tmp_path / ".assent" / "temporal.db").stat().st_size > 0


def test_two_demos_of_one_folder_do_not_meet(tmp_path: Path) -> None:
    with started("demo.py", cwd=tmp_path, terminal=True) as one:
        one.until("Approve it? [y/n]")
        with started("demo.py", cwd=tmp_path) as other:
            finished(other)
        one.type("y")
        one.until("Enter ends the demo")
        one.type("")
        assert one.end() == 0, one.text
    assert ".assent/temporal-2.db" in other.text
    assert ".assent/temporal-2.db" not in one.text


def test_at_a_terminal_a_rejection_reaches_the_model(tmp_path: Path) -> None:
    with started("demo.py", cwd=tmp_path, terminal=True) as program:
        position = program.until("Approve it? [y/n]")
        program.type("what?")
        program.until("Approve it? [y/n]", after=position)
        program.type("n")
        program.until("Why not?")
        program.type("not on a Friday")
        program.until("Enter ends the demo")
        program.type("")
        assert program.end() == 0, program.text
        assert running(program.mark) == []
    in_order(program.text, "rejected by bob", "Rejected: not on", "The record", "not on a Friday")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_its_question_it_leaves_nothing_running(number: signal.Signals, tmp_path: Path) -> None:
    with started("demo.py", cwd=tmp_path, terminal=True) as program:
        program.until("Approve it? [y/n]")
        assert len(running(program.mark)) == 3, "the demo, the server, the worker"
        program.process.send_signal(number)
        assert program.end() == 130, program.text
        assert running(program.mark) == []
    assert "Traceback" not in program.text
    assert "nothing is left running" in program.text
