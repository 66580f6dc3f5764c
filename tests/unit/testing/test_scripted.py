"""`--scripted`: the agents of a module follow its list `script`, and what is missing is one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import httpx
import pytest

from assent.cli.worker import models
from assent.testing.scripted import scripted
from assent.wire.errors import ConfigurationError

MODULE = """
from assent import Agent, OpenAIChat
from assent.testing import says

agent = Agent(name="greeter", model=OpenAIChat("m"{base_url}))
{script}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    name = f"scripted_{abs(hash(request.node.name))}"
    base_url, script = getattr(request, "param", ("", "script = [says('Hello.')]"))
    (tmp_path / f"{name}.py").write_text(MODULE.format(base_url=base_url, script=script))
    return name


def test_the_model_of_an_agent_says_what_the_script_of_its_module_says(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with models([module], scripted=True):
        asked = {"model": "m", "messages": [{"role": "user", "content": "Hi."}]}
        answer = httpx.post(f"{os.environ['OPENAI_BASE_URL']}/chat/completions", json=asked, trust_env=False).json()
    assert answer["choices"][0]["message"]["content"] == "Hello."
    assert f"No model is asked: scripts of {module}" in capsys.readouterr().out


@pytest.mark.parametrize("module", [("", ""), ("", "script = []"), ("", "script = 'Hello.'")], indirect=True)
def test_a_module_without_a_script_is_named(module: str) -> None:
    with pytest.raises(ConfigurationError, match=f"module '{module}' has no list `script`"), scripted([module]):
        pass


@pytest.mark.parametrize("module", [(", base_url='http://127.0.0.1:9/v1'", "script = [says('Hello.')]")], indirect=True)
def test_a_model_elsewhere_is_not_replaced_in_silence(module: str) -> None:
    with pytest.raises(ConfigurationError, match="agent 'greeter' has a base_url"), scripted([module]):
        pass


def test_without_the_extra_its_name_is_given(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "assent.testing.scripted", None)
    line = r"--scripted needs .*: pip install 'assent-agents\[testing\]'"
    with pytest.raises(ConfigurationError, match=line), models([module], scripted=True):
        pass
