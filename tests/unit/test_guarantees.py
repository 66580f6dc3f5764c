"""The page of guarantees cites tests that exist, and every abuse case of sections A to J."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
CITED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
SECTIONS = {
    "A": (1, 20),
    "B": (1, 8),
    "C": (9, 12),
    "D": (13, 16),
    "E": (17, 21),
    "F": (22, 24),
    "G": (25, 27),
    "H": (28, 30),
    "I": (31, 34),
    "J": (35, 36),
}
ROWS = [f"{section}{row}" for section, (first, last) in SECTIONS.items() for row in range(first, last + 1)]


def test_the_page_cites_tests() -> None:
    assert len(CITED) >= len(ROWS)


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_cited_test_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_every_abuse_case_has_its_line(row: str) -> None:
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]
    assert re.search(r"`tests/[\w/]+\.py::\w+`", line)


@pytest.mark.parametrize("row", ROWS)
def test_every_abuse_case_has_a_test_that_names_it(row: str) -> None:
    files = [path for folder in ("workflows", "e2e") for path in (ROOT / "tests" / folder).glob("test_*.py")]
    assert any(f'"""{row}: ' in path.read_text() for path in files)
