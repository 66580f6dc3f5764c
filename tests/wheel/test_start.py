"""The first page of *Start*, followed word for word with the wheel in an empty environment: `make dist`."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from tests.support.transcripts import Command, File, alike, steps

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "start" / "index.md").read_text()
LIMIT = 300
"""Seconds for the whole page: five minutes."""
END = "--end of the output--"
VERSIONS = [f"3.{minor}" for minor in range(11, 15)]


@contextmanager
def shell(folder: Path) -> Generator[subprocess.Popen[str]]:
    """A shell with job control, as a terminal has, and without this environment's Python and settings."""
    names = ("HOME", "LANG", "PIP_CONFIG_FILE", "PIP_INDEX_URL")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if ".venv" not in each)
    env = {**kept, "PATH": path, "PIP_FIND_LINKS": str(ROOT / "dist"), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        ["bash", "--norc", "-m"], cwd=folder, env=env, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.write("kill %assent 2>/dev/null; wait; exit\n")
        process.stdin.close()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def said(process: subprocess.Popen[str], line: str, last: str) -> list[str]:
    """What the shell prints after *line*, up to a line like *last*."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    found: list[str] = []
    for text in process.stdout:
        if alike(text) == last:
            return found
        found.append(text.rstrip("\n"))
    message = f"the shell ended: {found}"
    raise AssertionError(message)


def follow(command: Command, process: subprocess.Popen[str], requirement: str) -> list[str]:
    line = re.sub(r"(?<=ship-1 )[0-9a-f]{8}\b", requirement, command.line)
    if line.endswith("&") or line == "kill %assent":  # What the worker prints comes when it comes.
        last = alike(command.output[-1])
        taken = said(process, line, last)
        for export in re.findall(r"export \S+", "\n".join(taken)):
            said(process, f"{export}; echo '{END}'", END)
        return [*(each for each in taken if "is taken" not in each), command.output[-1]]
    return said(process, f"{line}; echo '{END}'", END)


@pytest.mark.dist
@pytest.mark.timeout(2 * LIMIT)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_page_can_be_followed_word_for_word_in_five_minutes(version: str, tmp_path: Path) -> None:
    python = which(f"python{version}")
    if python is None or subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"there is no python{version} here")
    begun, requirement = time.monotonic(), ""
    with shell(tmp_path) as process:
        for step in steps(PAGE.replace("python3 -m venv", f"{python} -m venv")):
            if isinstance(step, File):
                (tmp_path / step.name).write_text(step.text)
            if not isinstance(step, Command):
                continue
            wanted = [alike(each) for each in step.output]
            patience = time.monotonic() + 30
            printed = follow(step, process, requirement)
            # A person takes a second to type the next command. This is as long as the run needs to get there.
            while step.line == "assent pending" and [alike(each) for each in printed] != wanted:
                assert time.monotonic() < patience, printed
                time.sleep(0.5)
                printed = follow(step, process, requirement)
            if wanted:
                assert [alike(each) for each in printed] == wanted, step.line
            if step.line == "assent pending":
                requirement = printed[1][:8]
    seconds = time.monotonic() - begun
    print(f"Python {version}: followed in {seconds:.0f} s")  # noqa: T201 - the figure that the page promises
    assert seconds < LIMIT
