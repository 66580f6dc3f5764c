"""The list of commands is written beside the modules of the commands, and says the same as they do."""

from __future__ import annotations

from inspect import cleandoc

import pytest

from assent.cli.main import COMMANDS, imported, main


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    described = cleandoc(imported(name).help or "").split("\n\n")[0]
    assert COMMANDS[name][2] == " ".join(described.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_paragraph_of_help_is_folded_by_the_console_alone(name: str) -> None:
    assert all("\n" not in each for each in (imported(name).help or "").split("\n\n"))


def test_the_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    panels = [printed.index(f" {panel} ─") for panel in ("Runs", "Decisions", "Audit", "Worker")]
    assert panels == sorted(panels)
    assert printed.index("│ start ") < panels[1] < printed.index("│ pending ") < panels[2] < printed.index("│ stats ")
