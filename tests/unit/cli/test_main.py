"""The list of commands is written beside the modules of the commands, and says the same as they do."""

from __future__ import annotations

from inspect import cleandoc

import pytest

from assent.cli.main import COMMANDS, imported


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    described = cleandoc(imported(name).help or "").split("\n\n")[0]
    assert COMMANDS[name][1] == " ".join(described.splitlines())
