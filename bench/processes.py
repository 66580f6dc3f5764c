"""The processes beside this one, the model server and the workers: each is ended by its own handle."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
GRACE: Final = 10.0
PATIENCE: Final = 120.0


async def spawn(arguments: Sequence[str], variables: Mapping[str, str], python: str = sys.executable) -> Process:
    """Start *python* with *arguments* in the checkout. Its standard output is a pipe that need not be read."""
    return await asyncio.create_subprocess_exec(
        python, *arguments, cwd=ROOT, env={**_with_bytecode(), **variables}, stdin=DEVNULL, stdout=PIPE
    )


def _with_bytecode() -> dict[str, str]:
    # Else every workflow's sandbox compiles the workflow's source again, and so does every start.
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


async def end(process: Process) -> None:
    """End it gracefully, else at once."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(GRACE):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()


@asynccontextmanager
async def running(
    arguments: Sequence[str], variables: Mapping[str, str], python: str = sys.executable
) -> AsyncGenerator[Process]:
    """A process for as long as the block runs."""
    process = await spawn(arguments, variables, python)
    try:
        yield process
    finally:
        await end(process)


async def first_line(process: Process) -> str:
    """The first line that it prints.

    Raises:
        RuntimeError: it ended without one.
    """
    line = await process.stdout.readline() if process.stdout else b""
    if not line:
        message = f"process {process.pid} ended before it was ready; its own message is above"
        raise RuntimeError(message)
    return line.decode().strip()


def cpu_seconds(process: Process) -> float:
    """The processor time that it has used; NaN where there is no `/proc`."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def until(ready: Callable[[], Awaitable[bool]], interval: float) -> None:
    """Ask every *interval* seconds until it is ready.

    Raises:
        RuntimeError: it was not within two minutes.
    """
    for _ in range(int(PATIENCE / interval)):
        if await ready():
            return
        await asyncio.sleep(interval)
    message = f"what was waited for did not come within {PATIENCE:.0f} s"
    raise RuntimeError(message)


def cpu_of(arguments: Sequence[str]) -> float:
    """Run Python with *arguments* to its end; the processor seconds that it used.

    Raises:
        RuntimeError: it failed.
    """
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], _with_bytecode(), file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    if status:
        message = f"python {' '.join(arguments)} failed; its own message is above"
        raise RuntimeError(message)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def quiet_output() -> Generator[None]:
    """Send what is printed, by child processes too, to standard error while the block runs: the report comes alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
