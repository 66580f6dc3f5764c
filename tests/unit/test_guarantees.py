"""The page of guarantees cites tests that exist, one or more for each guarantee."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "why" / "guarantees.md").read_text()
CITED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
ROWS = {
    cells[0]: cells[1:] for cells in re.findall(r"^\| ([a-z]+-\d+) \| (.+) \| (.*) \| (.+) \|$", PAGE, re.MULTILINE)
}


def test_each_section_numbers_its_guarantees_from_one() -> None:
    ids = re.findall(r"^\| ([a-z]+)-(\d+) ", PAGE, re.MULTILINE)
    assert len(ids) == len(ROWS) > 60
    counts: dict[str, int] = {}
    for section, number in ids:
        counts[section] = counts.get(section, 0) + 1
        assert int(number) == counts[section], (section, number)


@pytest.mark.parametrize("row", ROWS)
def test_each_guarantee_has_a_test(row: str) -> None:
    guarantee, _, tests = ROWS[row]
    assert guarantee.endswith((".", "?")), guarantee
    assert re.fullmatch(r"`tests/[\w/]+\.py::\w+`(, `tests/[\w/]+\.py::\w+`)*", tests)


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_cited_test_exists(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
