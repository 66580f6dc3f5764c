"""Text for people, from bytes that a model made: nothing hidden, nothing cut silently.

One renderer for the terminal, the Temporal Web UI and notices. (Trojan Source, Boucher and Anderson 2021, is why bidi
and zero-width characters are shown as escapes.)
"""

import re
import traceback
import unicodedata
from dataclasses import dataclass
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_STACK_LIMIT: Final = 10_000
"""Characters of a traceback."""
_KEPT: Final = frozenset("\n\t")
# Invisible, though Unicode files them under letters and marks.
_BLANK: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f")


def visible(text: str) -> str:
    """*text* with every character that would not show, or would show as another, written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def one_line(text: str) -> str:
    """As `visible`, with line breaks and tabs escaped too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def hidden(character: str) -> bool:
    """Whether *character* would not show, or as another: controls, bidi, zero width, blanks other than the space."""
    category = unicodedata.category(character)
    blank = category == "Zs" and character != " "
    variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return category in _HIDDEN or blank or variation or character in _BLANK


def is_blank(text: str) -> bool:
    """Whether nothing of *text* would show."""
    return all(character.isspace() or hidden(character) for character in text)


def _shown(character: str) -> str:
    if character not in _KEPT and hidden(character):
        return f"\\x{ord(character):02x}" if ord(character) < 0x100 else f"\\u{{{ord(character):x}}}"
    return character


def bounded(text: str, limit: int) -> str:
    """*text*, or its first *limit* characters and how many more there are."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… (+{len(text) - limit} characters)"


def error_text(error: BaseException, limit: int) -> str:
    """Return the type and the message of *error*, which may be a user's own, in one line of *limit* characters."""
    try:
        return bounded(one_line(f"{type(error).__name__}: {error}"), limit)
    except Exception:  # an error whose own words raise
        return type(error).__name__


def stack_text(error: BaseException) -> str:
    """Return the traceback of *error*, which may be a user's own, for a log: nothing hidden in it, and bounded."""
    # Its words may hold what no log can be written in, or be of any length.
    try:
        return bounded(visible("".join(traceback.format_exception(error))), _STACK_LIMIT)
    except Exception:  # as above
        return error_text(error, _STACK_LIMIT)


def fenced(text: str, language: str = "") -> str:
    """*text* as a Markdown code block that no run of backticks in it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def code(text: str) -> str:
    """*text* as Markdown inline code that no backtick in it can close."""
    line = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    tick = "`" * (longest + 1)
    space = " " if longest or not line else ""
    return f"{tick}{space}{line}{space}{tick}"


# -- Assent's words and other people's --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UntrustedText:
    """Text of others within Assent's own words."""

    text: str


Words = tuple[str | UntrustedText, ...]
"""A sentence: Assent's own words as they are, and what others said."""


def markdown(words: Words, limit: int) -> str:
    """A sentence in Markdown: what others said as inline code, of at most *limit* characters each, the rest counted."""
    return "".join(code(bounded(part.text, limit)) if isinstance(part, UntrustedText) else part for part in words)


def plain(words: Words, limit: int | None = None) -> str:
    """A sentence in one line of text, what others said in it bounded to *limit* characters each, the rest counted."""
    return "".join(_plain_part(part, limit) for part in words)


def _plain_part(part: str | UntrustedText, limit: int | None) -> str:
    if isinstance(part, str):
        return part
    text = one_line(part.text)
    return text if limit is None else bounded(text, limit)
