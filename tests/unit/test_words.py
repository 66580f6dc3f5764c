"""One word for one thing (docs/reference/glossary.md): what it replaced stays out of pages, docstrings and messages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = [
    *(path.relative_to(ROOT).as_posix() for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])),
    *(f"assent/{path.name}" for path in sorted((ROOT / "assent").iterdir()) if path.suffix == ".py" or path.is_dir()),
    "activities", "workflows", "examples", "worker.py", "starter.py",
]  # fmt: skip
BANNED = re.compile(
    r"""\b(?:
    (?:came|comes|coming)\s+(?:to\s+(?:one\s+thing|the\s+same|this|that)|to\s*(?=[`.,:;)]|$)|of\s+it)
    | (?:what|it|each|they|message|decision)\s+(?:came|comes)\s+to
    | go(?:es|ing)?\s+on | went\s+on | gone\s+on
    | (?:runs?|agents?|child|ones?|those|polic(?:y|ies)|parents?|histor(?:y|ies))\s+(?:above|below)
    | whoever | somebody(?:'s)? | nobody(?:'s)? | anew | besides | tells
    | of\s+which\s+nothing\s+(?:comes|came) | put\s+in\s+by\s+hand | a\s+stranger | stumbled
    | witness(?:es)? | dossiers? | resting | askers? | happenings? | riddles?
    )(?!\w)""",
    re.VERBOSE | re.IGNORECASE,
)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """The docstrings and other strings of a Python file, and its comments by paragraph, each with its line."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    paragraph: list[str] = []
    begin = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row = token.start[0]
            if row != last + 1:
                yield begin, " ".join(paragraph)
                paragraph, begin = [], row
            paragraph.append(token.string.lstrip("# "))
            last = row
    yield begin, " ".join(paragraph)


def violations(path: Path) -> list[str]:
    parts = prose(path) if path.suffix == ".py" else [(1, path.read_text())]
    return [
        f"{path.relative_to(ROOT)}:{line + text.count(chr(10), 0, match.start())}: {' '.join(match[0].split())}"
        for line, text in parts
        for match in BANNED.finditer(text)
    ]


@pytest.mark.parametrize("place", PLACES)
def test_pages_docstrings_comments_and_messages_use_the_words_of_the_glossary(place: str) -> None:
    root = ROOT / place
    found = [each for path in (sorted(root.rglob("*.py")) if root.is_dir() else [root]) for each in violations(path)]
    assert not found
