"""The environments of the peers, each made once by pip, below `.bench/`, which git ignores. The project needs none."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import ROOT, end

CACHE: Final = ROOT / ".bench"
SHARED: Final = ("temporalio==1.35.0", "openai==3.51.0", "pydantic==2.14.3")
"""What every side has, in the versions that Assent is locked to: they are not what is compared."""


class NotInstalledError(Exception):
    """An environment could not be made. It says why in one line."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with *packages*, and with what every side has."""

    name: str
    packages: tuple[str, ...]

    @property
    def pins(self) -> tuple[str, ...]:
        """All that pip is asked for."""
        return (*self.packages, *SHARED)

    @property
    def folder(self) -> Path:
        """Where it is: other pins or another Python have another folder."""
        asked = " ".join((sys.version, *self.pins))
        return CACHE / f"{self.name}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}"

    async def python(self) -> str:
        """Its Python. It is made when it is not there yet, which takes half a minute.

        Raises:
            NotInstalledError: pip could not, as there is no index, or it has no such versions.
        """
        python, made = self.folder / "bin" / "python", self.folder / ".made"
        if not made.exists():
            await _run(sys.executable, "-m", "venv", "--clear", str(self.folder))
            await _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.pins)
            made.touch()
        return str(python)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            await end(process)
    if process.returncode:
        lines = [line for line in said.decode(errors="replace").splitlines() if line.startswith("ERROR")]
        raise NotInstalledError(lines[-1].removeprefix("ERROR: ") if lines else f"{command[0]} said nothing")
