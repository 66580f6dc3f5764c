"""A shell in which the commands of one page are run, one after the other, as a reader does."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from assent.runtime.embedded_server import temporal_binary
from tests.support.preloaded import ROOT, assent_command, python_command

_END = "--end of the output--"
SERVERS = ("assent worker", "assent web", "python worker.py")
"""What serves until it is told to stop."""
READY = ("Serving ", "Approvals at ", "Until a current version is set")
STOPPED = 128 + signal.SIGTERM
PATIENCE = 60


@dataclass(frozen=True)
class Shell:
    """One process of bash for a page. A worker is started beside it, and stopped when the page goes on."""

    process: Process

    async def run(self, line: str) -> tuple[list[str], int]:
        """What a command prints, and its exit code."""
        if line.startswith(SERVERS):
            return await self._served(line)
        return await self._said(line)

    async def _said(self, line: str) -> tuple[list[str], int]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{{ {line}\n}} </dev/null\nprintf '\\n%s %s\\n' '{_END}' $?\n".encode())
        found: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while text := (await stdout.readline()).decode():
                if text.startswith(_END):
                    return found[:-1] if found and not found[-1] else found, int(text.split()[-1])
                found.append(text.rstrip("\n"))
        message = f"the shell ended: {line}: {found}"
        raise AssertionError(message)

    async def _served(self, line: str) -> tuple[list[str], int]:
        """Start a server, wait until it is ready, and stop it as an operator does: its exit code counts."""
        ready = "|".join(READY)
        await self._said(f"{line.partition('  #')[0]} >served 2>&1 &")
        await self._said(f"until grep -qE '{ready}' served || ! kill -0 $!; do sleep 0.05; done")
        if (named := re.search(r"--deployment (\S+)", line)) is not None:
            # The server knows a deployment from the first poll of its worker on.
            known = f"temporal worker deployment describe --name {named[1]}"
            await self._said(f"until {known} >/dev/null 2>&1 || ! kill -0 $!; do sleep 0.2; done")
        _, code = await self._said("kill -TERM $! && wait $!")
        printed, _ = await self._said("cat served")
        return printed, 0 if code == STOPPED else code


def _shim(path: Path, *command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


@asynccontextmanager
async def shell(folder: Path, variables: Mapping[str, str]) -> AsyncGenerator[Shell]:
    """A shell in *folder*, with the programs of a checkout and of its environment, and no settings of this process."""
    programs = folder / ".programs"
    programs.mkdir()
    _shim(programs / "assent", *assent_command())
    _shim(programs / "temporal", str(temporal_binary()))
    _shim(programs / "python", sys.executable)
    _shim(programs / "worker", *python_command(ROOT / "worker.py"))
    for name in ("deploy", "examples", "worker.py"):
        (folder / name).symlink_to(ROOT / name)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        "-o",
        "pipefail",
        cwd=folder,
        env=env | dict(variables),
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        yield Shell(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
