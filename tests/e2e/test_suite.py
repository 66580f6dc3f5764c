"""What the other tests rely on: that a test that hangs fails, and that Ctrl-C works wherever the suite was started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.example_programs import ROOT

TESTS = """
import asyncio, signal, subprocess, sys
import pytest

@pytest.mark.timeout(13)
async def test_hangs():
    try:
        await asyncio.Event().wait()
    finally:
        print("cleaned", "up")

async def test_rest():
    program = "import time; print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT
"""


def ignore_interrupts() -> None:
    """Do as a shell does that starts a background job for a script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_a_test_that_hangs_fails_and_the_rest_goes_on_also_in_the_background_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", f"--config-file={ROOT}/pyproject.toml", "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=ignore_interrupts,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "await asyncio.Event().wait()" in done.stdout, "it says what it waited for"
    assert "cleaned up" in done.stdout
