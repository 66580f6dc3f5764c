"""A page whose files and shell sessions are followed word for word."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from textwrap import dedent

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_ID = re.compile(r"\b[0-9a-f]{8}\b")
_VARYING = (
    (r"\b\d\d:\d\d:\d\dZ", "TIME"),
    (r"\.[\w-]+-[0-9a-f]{12}\b", ".CHILD"),
    (r"\b[0-9a-f]{8}\b", "ID"),
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
class Python:
    """A block of a program that is no file."""

    text: str


@dataclass(frozen=True)
class Command:
    """A command of a shell, and the lines that the page shows below it. *block* counts the blocks of the page."""

    line: str
    output: tuple[str, ...]
    block: int


Step = File | Python | Command


def steps(page: str) -> list[Step]:
    """The files, programs and commands of a page, in order."""
    found: list[Step] = []
    for number, (_, language, indented) in enumerate(_BLOCK.findall(page)):
        block = dedent(indented)
        if language == "console":
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                [line, *_] = _commands(part)
                found.append(Command(line, tuple(part[len(line) :].strip("\n").splitlines()), number))
        elif language == "sh":
            found += [Command(line, (), number) for line in _commands(block)]
        elif name := re.match(r"# (\w+\.\w+)\n", block):
            found.append(File(name[1], block))
        elif language == "python":
            found.append(Python(block))
    return found


def _commands(block: str) -> list[str]:
    """Split the lines of a shell into commands: one goes on after a backslash, and within quotes."""
    found: list[str] = []
    begun = ""
    for line in block.splitlines():
        begun += line
        if line.endswith("\\") or not _closed(begun):
            begun += "\n"
        else:
            found.append(begun)
            begun = ""
    return [each for each in found if each.strip() and not each.startswith("#")]


def _closed(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def alike(line: str) -> str:
    """A line of output without what differs from run to run."""
    for pattern, word in _VARYING:
        line = re.sub(pattern, word, line)
    return line.rstrip()


def ids(line: str) -> list[str]:
    """The short ids in a line of output, which the next run has others of."""
    return _ID.findall(line)
