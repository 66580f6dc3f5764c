"""One word for one thing (docs/reference/glossary.md): what it replaced stays out of pages, docstrings and messages.

And what the glossary lists is in use.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from assent.wire.protocol import RequirementKind

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
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


def words(text: str) -> str:
    return " ".join(re.sub(r"[*`]", "", text.lower()).split())


def test_each_word_of_the_glossary_is_used_outside_of_it() -> None:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != GLOSSARY]
    screens = [path for folder in ("cli", "views", "web") for path in (ROOT / "assent" / folder).rglob("*.py")]
    used = words("\n".join([*map(Path.read_text, pages), *(text for path in screens for _, text in prose(path))]))
    defined = [
        word
        for cell in re.findall(r"^\| (\*\*.*?) \|", GLOSSARY.read_text(), re.MULTILINE)
        for word in re.findall(r"\*\*(.+?)\*\*", cell)
    ]
    assert len(defined) > 40
    assert not [word for word in defined if not re.search(rf"\b{re.escape(word)}(?:s|es)?\b", used)]


def test_each_name_in_the_glossary_is_one_of_the_code() -> None:
    code = "\n".join(
        path.read_text() for folder in ("assent", "activities", "workflows") for path in (ROOT / folder).rglob("*.py")
    )
    named = set(re.findall(r"`(\w+)`", GLOSSARY.read_text()))
    assert len(named) > 10
    assert not [name for name in named if not re.search(rf"(?<!\w){name}(?!\w)", code)]


def test_the_glossary_has_each_kind_of_requirement() -> None:
    kinds = re.findall(r"^\| `(\w+)` \|", GLOSSARY.read_text(), re.MULTILINE)
    assert sorted(kinds) == sorted(get_args(RequirementKind))
