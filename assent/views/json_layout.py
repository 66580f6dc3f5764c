"""Laying arguments out for people: over lines, within a width, without a token changed."""

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from assent.wire.text import one_line, visible

WIDTH: Final = 56
"""Columns of a code block in the Web UI's narrow column; what is longer can only be reached by scrolling sideways."""
BROKEN: Final = "↵"
"""Marks the end of a line that was broken to fit."""


def wrap_text(text: str) -> str:
    """Prose in lines of at most `WIDTH` columns, for a code block."""
    lines = visible(text).split("\n")
    return "\n".join(textwrap.fill(line, WIDTH, replace_whitespace=False) for line in lines)


_TOKEN: Final = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*(?:"|\\?\Z)|[{}\[\],:]|[^\s{}\[\],:"]+)[ \t\r\n]*', re.DOTALL)
_UNIT: Final = re.compile(r"\\u\{[0-9a-f]+\}|\\u[0-9a-fA-F]{4}|\\x[0-9a-f]{2}|\\.|.", re.DOTALL)
_OPENING: Final = frozenset("{[")
_CLOSING: Final = frozenset("}]")
_BETWEEN: Final = frozenset(",:")
_MARKS: Final = _OPENING | _CLOSING | _BETWEEN
_WIDE: Final = frozenset("WF")
_DEEPEST: Final = 8
_BACK: Final = 12


def wrap_json(arguments: str) -> str:
    """JSON in lines of at most `WIDTH` columns: the white space between tokens changes, the tokens do not.

    A token that is too long is broken, after a line break that it spells out or where the line is full; `BROKEN` then
    ends the line. JSON has no raw line breaks inside a token, so this can be told from what it holds. The last token
    may be cut off. Text that is not JSON is one token.
    """
    parts = _tokens(arguments)
    ends = _closing_positions(parts)
    page = _LineWriter()
    position = 0
    while position < len(parts):
        end = ends.get(position, len(parts))
        flat = _flat(parts[position : end + 1]) if end - position < WIDTH else None
        if position in ends and flat is not None and page.fits(flat):
            page.lines[-1] += flat
            position = end
        else:
            page.write(parts[position])
        position += 1
    return "\n".join(page.lines)


def _tokens(text: str) -> list[str]:
    parts: list[str] = []
    position = 0
    scalar = False
    while match := _TOKEN.match(text, position):
        if scalar and match[1] not in _MARKS:
            break
        scalar = match[1] not in _MARKS
        parts.append(one_line(match[1]))
        position = match.end()
    if position == len(text):
        return parts
    return [one_line(text)] if text.strip() else []


def _closing_positions(parts: Sequence[str]) -> dict[int, int]:
    """Where each bracket that opens is closed."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for position, part in enumerate(parts):
        if part in _OPENING:
            opened.append(position)
        elif part in _CLOSING and opened:
            ends[opened.pop()] = position
    return ends


def _flat(parts: Sequence[str]) -> str:
    return "".join(f"{part} " if part in _BETWEEN else part for part in parts)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in _WIDE else 1 for character in text)


@dataclass(slots=True)
class _LineWriter:
    """Lines being written, at a depth of brackets."""

    lines: list[str] = field(default_factory=lambda: [""])
    depth: int = 0

    def fits(self, text: str) -> bool:
        """Whether *text* fits into the line, with a comma after it."""
        return len(text) < WIDTH and _columns(self.lines[-1]) + _columns(text) < WIDTH

    def write(self, part: str) -> None:
        """Write one token, and begin a new line where JSON has one."""
        self.depth += (part in _OPENING) - (part in _CLOSING)
        if part in _CLOSING:
            self._begin()
        if part in _MARKS:
            self.lines[-1] += ": " if part == ":" else part
        else:
            self._fold(part)
        if part == "," or part in _OPENING:
            self._begin()

    def _begin(self, further: int = 0) -> None:
        self.lines.append("  " * min(max(self.depth, 0) + further, _DEEPEST))

    def _fold(self, part: str) -> None:
        """Write a token over as many lines as it needs."""
        if "\\n" not in part and self.fits(part):
            self.lines[-1] += part
            return
        units: list[str] = _UNIT.findall(part)
        position = 0
        while position < len(units):
            if position:
                self.lines[-1] += BROKEN
                self._begin(further=1)
            taken = self._fitting(units[position : position + WIDTH])
            self.lines[-1] += "".join(units[position : position + taken])
            position += taken

    def _fitting(self, units: Sequence[str]) -> int:
        """How many of *units* go into the line: up to a line break, or as far as it goes, ending at a space if near."""
        room = WIDTH - _columns(self.lines[-1]) - 1
        for index, unit in enumerate(units):
            room -= _columns(unit)
            if room < 0:
                near = range(index, max(0, index - _BACK), -1)
                return next((end for end in near if units[end - 1] == " "), max(1, index))
            if unit == "\\n" and index + 2 < len(units):
                return index + 1
        return len(units)
