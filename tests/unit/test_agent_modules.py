"""Modules of a user's: what is wrong with one is said in one line, with the file and the line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from assent.runtime.settings import load_agents
from assent.wire.errors import ConfigurationError

HELPER = """
def look_up(key):
    return {}[key]
"""


def refused(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the one line that is said of a module with this *body*."""
    (folder / "my_agents.py").write_text(body)
    (folder / "my_helper.py").write_text(HELPER)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in ("my_agents", "my_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigurationError) as caught:
        load_agents(["my_agents"])
    [line] = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("x = 1\n1/0", "ZeroDivisionError: division by zero (my_agents.py, line 2)"),
        ("def f(:\n  pass", "SyntaxError: invalid syntax (my_agents.py, line 1)"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' (my_agents.py, line 1)"),
        ("import my_helper\nmy_helper.look_up('k')", "KeyError: 'k' (my_helper.py, line 3)"),
        ("import json\njson.loads('{')", "JSONDecodeError: Expecting property name enclosed in double quotes: line 1"),
        ("raise ValueError('one\\ntwo')", "ValueError: one (my_agents.py, line 1)"),
        ("raise ValueError", "ValueError (my_agents.py, line 1)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (my_agents.py, line 2)"),
        (
            "import pydantic\nclass C(pydantic.BaseModel):\n    x: int\nC(x='hunter2')",
            "ValidationError: x: Input should be a valid integer, unable to parse string as an integer (my_agents.py,",
        ),
        (
            "from assent import *\nAgent(name='a', model=OpenAIChat('m')).as_tool(zzz='x')",
            "TypeError: Agent.as_tool() got an unexpected keyword argument 'zzz' (my_agents.py, line 2)",
        ),
    ],
)
def test_a_module_that_fails_is_told_of_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, told: str
) -> None:
    assert refused(tmp_path, body, monkeypatch).startswith(f"module 'my_agents' does not import: {told}")


def test_a_wrong_option_in_a_module_is_told_of_with_the_line_of_its_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "from assent import tool\n\n@tool(retires=3)\ndef pay() -> str:\n    '''Pay.'''\n"
    told = "my_agents.py:3: tool 'pay': there is no option 'retires'; did you mean retries?"
    assert refused(tmp_path, body, monkeypatch) == told
    body = "from assent import Agent\nagent = Agent(\n    name='a', model='gpt-5')\n"
    assert refused(tmp_path, body, monkeypatch).startswith("my_agents.py:2: agent 'a': model is 'gpt-5'; write OpenAI")
