"""Programs of `examples/` as real processes, with and without a terminal; what they start is found by a mark."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds until a program that still runs has failed its test."""
_MARK = "TEST_PROGRAM_MARK"
_OTHERS = ("OPENAI_", "TEMPORAL_", "ASSENT_", _MARK)


@dataclass
class Program:
    """A running program. *terminal* is the other end of its terminal; None where it has none."""

    process: subprocess.Popen[bytes]
    mark: str
    terminal: int | None = None
    output: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """What it has printed so far, with plain line ends."""
        return self.output.decode().replace("\r\n", "\n")

    def until(self, text: str, *, after: int = 0) -> int:
        """Read on until *text* was printed behind position *after*; answers the position behind it."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.text.find(text, after)) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in {PATIENCE:g} s: {self.text}"
            assert self._read(), f"it ended before it printed {text!r}: {self.text}"
        return found + len(text)

    def type(self, line: str) -> None:
        """Type a line, as somebody who has read the question."""
        assert self.terminal is not None
        time.sleep(0.2)
        os.write(self.terminal, f"{line}\n".encode())

    def end(self) -> int:
        """Read to its end; answers the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read():
            assert time.monotonic() < deadline, f"it still runs after {PATIENCE:g} s: {self.text}"
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        """Read what there is within a moment; False at the end."""
        source = self.terminal
        if source is None:
            assert self.process.stdout is not None
            source = self.process.stdout.fileno()
        if not select.select([source], [], [], 0.2)[0]:
            return True
        try:
            more = os.read(source, 65_536)
        except OSError:  # what Linux answers when the last process has closed the terminal
            return False
        self.output += more
        return bool(more)


@contextmanager
def started(
    name: str, *arguments: str, cwd: Path, terminal: bool = False, env: Mapping[str, str] | None = None
) -> Generator[Program]:
    """A program of `examples/`, in a folder of its own, with no key; nothing of it is left when the block ends."""
    mark = uuid.uuid4().hex
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OTHERS)}
    # Nothing listens on the discard port: Hacker News is out of reach wherever the tests run.
    environment = {**kept, "HACKERNEWS_URL": "http://127.0.0.1:9/v0", "TERM": "xterm", _MARK: mark, **(env or {})}
    ours, theirs = pty.openpty() if terminal else (None, None)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / name), *arguments],
        cwd=cwd,
        env=environment | ({"COLUMNS": "80", "LINES": "40"} if terminal else {}),
        stdin=subprocess.DEVNULL if theirs is None else theirs,
        stdout=subprocess.PIPE if theirs is None else theirs,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if theirs is not None:
        os.close(theirs)
    try:
        yield Program(process, mark, ours)
    finally:
        for pid in running(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if ours is not None:
            os.close(ours)


def running(mark: str) -> list[int]:
    """The processes that carry *mark*: the program, and whatever it has started."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes() if entry.name.isdigit() else b""
        except OSError:  # it has ended, or is somebody else's
            continue
        if f"{_MARK}={mark}".encode() in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def in_order(text: str, *wanted: str) -> None:
    """Check that *text* holds all that is wanted, in this order."""
    position = 0
    for each in wanted:
        found = text.find(each, position)
        assert found >= 0, f"{each!r} is missing, or too early: {text}"
        position = found + len(each)
