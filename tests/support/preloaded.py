"""Processes of `assent`, `worker.py` and examples, forked from an interpreter that has imported what they import.

Importing takes one to two seconds of CPU. Each is a process of its own, with the streams, environment and folder of
whoever starts it. They are started as they are, too: see `tests/e2e` and `tests/workflows/test_terminal_decisions.py`.
"""

from __future__ import annotations

import gc
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTER = Path(__file__).with_name("preloaded_start.py")


@cache
def _interpreter() -> str:
    """Start the interpreter once for this process, with which it ends, and return the socket where it listens."""
    path = str(Path(tempfile.mkdtemp(prefix="assent-")) / "socket")
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    _KEPT.append(process)
    return path


_KEPT: list[subprocess.Popen[bytes]] = []
"""Its standard input stays open for as long as this process lives."""


def assent_command() -> list[str]:
    """The command that starts `assent`; its arguments follow."""
    if sys.platform != "linux":
        return [sys.executable, "-m", "assent.cli"]
    return [sys.executable, "-I", "-S", str(STARTER), _interpreter(), "assent"]


def python_command(file: Path) -> list[str]:
    """The command that runs a file, as `python FILE` does; its arguments follow."""
    if sys.platform != "linux":
        return [sys.executable, str(file)]
    return [sys.executable, "-I", "-S", str(STARTER), _interpreter(), str(file)]


def serve(path: str) -> None:
    """Fork for each start, until standard input ends."""
    # What only the interpreter imports: it costs the process that starts it nothing.
    from assent.cli.main import COMMANDS, imported  # noqa: PLC0415

    for module in ("openai", "assent.worker"):
        import_module(module)
    for name in COMMANDS:
        imported(name)
    gc.freeze()  # Otherwise each fork copies what its garbage collector looks at.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(100)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while _readable(listener, 0) == [listener.fileno()]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(connection)
                return
            connection.close()


def _readable(connection: socket.socket, other: int) -> list[int]:
    """Wait until one of them can be read, or has ended."""
    return select.select([connection.fileno(), other], [], [])[0]


def _attend(connection: socket.socket) -> None:
    """Run one command in a process of its own: pass signals on to it, and its status back."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, streams, _, _ = socket.recv_fds(connection, 8, 3)
    size = int.from_bytes(data)
    request = b""
    while len(request) < size:
        request += connection.recv(size - len(request))
    child = os.fork()
    if child == 0:
        connection.close()
        _become(marshal.loads(request), streams)  # noqa: S302 - from our own starter
        return
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    while _readable(connection, ended) == [connection.fileno()]:
        received = connection.recv(1)
        os.kill(child, received[0] if received else signal.SIGKILL)
        if not received:
            break
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    with suppress(BrokenPipeError):
        connection.sendall(code.to_bytes(2, signed=True))
    os._exit(0)


def _become(request: tuple[list[str], dict[str, str], str], streams: list[int]) -> None:
    arguments, environment, folder = request
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for the whole process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = arguments
    if arguments[0] != "assent":
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
        return
    from assent.cli.main import main  # noqa: PLC0415 - imported long ago

    sys.exit(main())


if __name__ == "__main__":
    serve(sys.argv[1])
