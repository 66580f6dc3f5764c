"""Real processes: a worker, a program started afresh, an operator's `temporal` command."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from assent.runtime.embedded_server import temporal_binary
from examples.support.environment import ROOT, child_environment

_STARTING: Final = 30.0
_STOPPING: Final = 10.0


@asynccontextmanager
async def worker_process(agents: str, *, address: str, log: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`python worker.py --agents AGENTS`, once it serves and until the block ends. Its output goes to *log*.

    Raises:
        RuntimeError: it ended, or said nothing for 30 seconds; the message holds what it said last.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(ROOT / "worker.py"), "--agents", agents),
            env=child_environment(address),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches this program alone, which stops its worker in good order
        )
    try:
        await _until_serving(process, log)
        yield process
    finally:
        await _stop(process)


async def _until_serving(process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = time.monotonic() + _STARTING
    while process.returncode is None and time.monotonic() < deadline:
        if "Serving" in _text(log):
            return
        await asyncio.sleep(0.02)
    message = f"the worker does not serve: {_text(log)[-500:] or 'it said nothing'}"
    raise RuntimeError(message)


def _text(log: Path) -> str:
    return log.read_text(errors="replace").strip()


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOPPING):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def run_python(program: str, *arguments: str, address: str) -> str:
    """Run a Python program in a process of its own; answers what it printed.

    Raises:
        RuntimeError: it failed; the message is what it printed.
    """
    return await _run(sys.executable, program, *arguments, address=address)


async def signal_by_hand(run_id: str, name: str, body: Mapping[str, JsonValue], *, address: str) -> str:
    """Send a signal as an operator does, with the `temporal` command; answers the command line that was run.

    Raises:
        RuntimeError: the command failed; the message is what it printed.
    """
    arguments = signal_arguments(run_id, name, body, address=address)
    await _run(temporal_binary(), *arguments, address=address)
    return shlex.join(["temporal", *arguments])


def signal_arguments(run_id: str, name: str, body: Mapping[str, JsonValue], *, address: str) -> list[str]:
    """The arguments of the `temporal` command that sends a signal."""
    where = ["workflow", "signal", "--address", address, "--workflow-id", run_id]
    return [*where, "--name", name, "--input", json.dumps(body, ensure_ascii=False)]


def shell_lines(run_id: str, name: str, body: Mapping[str, JsonValue], *, address: str) -> str:
    """The same command, ready to paste into a shell that stands here, in lines that fit a terminal."""
    arguments = [shlex.quote(argument) for argument in signal_arguments(run_id, name, body, address=address)]
    lines = [[temporal_here(), *arguments[:4]], arguments[4:8], arguments[8:]]
    return "  " + " \\\n    ".join(" ".join(line) for line in lines)


def temporal_here() -> str:
    """What to type for the `temporal` binary in a shell that stands here."""
    if shutil.which("temporal"):
        return "temporal"
    binary = Path(temporal_binary())
    return shlex.quote(str(binary.relative_to(Path.cwd()) if binary.is_relative_to(Path.cwd()) else binary))


async def _run(*command: str, address: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        env=child_environment(address),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await _stop(process)
    told = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise RuntimeError(told)
    return told
