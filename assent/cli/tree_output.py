"""What the commands print of the runs above and below a run."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue
from rich.console import Console
from rich.text import Text

from assent.cli.console import field, print_requirement
from assent.client.run_tree import RunTree
from assent.views.commands import show_command
from assent.views.facts import path_text
from assent.wire.requirements import RunState
from assent.wire.text import one_line


def print_above(console: Console, state: RunState, program: str) -> None:
    """The path to a run that works for others, and the runs on it."""
    if not state.parents:
        return
    field(console, "path", path_text([*(each.agent for each in state.parents), state.agent]))
    for each in state.parents:
        field(
            console,
            "above",
            f"{one_line(each.agent)} calls {one_line(each.tool)}: {show_command(program, each.run_id)}",
        )


def print_below(console: Console, below: Sequence[RunTree], program: str) -> None:
    """What waits in each run below, with the commands that decide it there."""
    for branch in (each for one in below for each in one.runs()):
        state = branch.state
        console.print()
        field(console, "below", Text.assemble((path_text(branch.path), "bold"), f": {status(state)}"))
        field(console, "see", show_command(program, state.id))
        if branch.error is not None:
            field(console, "unreadable", one_line(branch.error), style="red")
        for requirement in state.active_requirements:
            print_requirement(console, state, requirement, program)


def documents(below: Sequence[RunTree]) -> list[JsonValue]:
    """The same as JSON: of each run what waits in it, and those below it in turn."""
    return [
        {
            "run_id": each.state.id,
            "agent": each.state.agent,
            "status": each.state.status,
            "unreadable": each.error,
            "requirements": [one.model_dump(mode="json") for one in each.state.active_requirements],
            "child_runs": documents(each.children),
        }
        for each in below
    ]


def status(state: RunState) -> str:
    """What a run is at, in a few words."""
    if state.is_idle:
        return "idle: waits for the next message"
    waiting, below = len(state.active_requirements), len(state.children)
    if state.is_finished or not (waiting or below):
        return state.status
    calls = "1 call waits" if waiting == 1 else f"{waiting} calls wait"
    agents = "1 agent is" if below == 1 else f"{below} agents are"
    under_way = state.running - below
    parts = [f"{calls} for a person"] if waiting else []
    parts += [f"{agents} at work for it"] if below else []
    parts += [f"{under_way} under way"] if under_way > 0 else []
    return f"{state.status}: {', '.join(parts)}"
