"""A page whose files and shell sessions are followed word for word."""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_VARYING = (
    (r"\b\d\d:\d\d:\d\dZ", "TIME"),
    (r"(?<=\bship-1 )[0-9a-f]{8}\b|\b[0-9a-f]{8}(?=  )|\b[0-9a-f]{8}(?= deploy)", "ID"),
    (r"\b(127\.0\.0\.1|localhost):\d+", r"\1:PORT"),
    (r"\d+ s(?=  )", "AGE"),
    (r"in \d+\.\d+s", "in SECONDS"),
    (r" {2,}", "  "),  # The width of a column follows its longest value.
    (r"\(\d+\)$", "(N)"),  # How many events there are depends on how the server groups them.
)


@dataclass(frozen=True)
class File:
    """A block whose first line names the file that it is."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A line after `$ `, and the lines that the page shows below it."""

    line: str
    output: tuple[str, ...]


def steps(page: str) -> list[File | Command]:
    """The files and commands of a page, in order."""
    found: list[File | Command] = []
    for language, block in _BLOCK.findall(page):
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                line, *output = part.splitlines()
                found.append(Command(line, tuple(output)))
        elif name := re.match(r"# (\w+\.\w+)\n", block):
            found.append(File(name[1], block))
    return found


def alike(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, word in _VARYING:
        line = re.sub(pattern, word, line)
    return line.rstrip()
