"""The rows of the transition tables that code uses, and whether they explain what changed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import pytest

from assent.core.run_state import Run
from assent.core.transitions import CALL, REQUIREMENT, RUN, Table

TABLES: Final[dict[str, Table[Any, Any]]] = {"run": RUN, "call": CALL, "requirement": REQUIREMENT}
Row = tuple[str, str, str]
"""The name of a table, a status and an event."""
ALL: Final[set[Row]] = {(name, *row) for name, table in TABLES.items() for row in table.rows}


@contextmanager
def recorded() -> Generator[set[Row]]:
    """Record the rows that are used from now on."""
    rows: set[Row] = set()
    following = cast("Callable[[Table[Any, Any], str, str], str]", Table.__dict__["next"])

    def record(table: Table[Any, Any], status: str, event: str) -> str:
        after = following(table, status, event)
        rows.update((name, status, event) for name, each in TABLES.items() if each is table)
        return after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "next", record)
        yield rows


def changes(before: Run, after: Run) -> Iterator[tuple[str, str, str]]:
    """Yield each status that a step changed: the table's name, the status before and after."""
    yield "run", before.status, after.status
    known = {each.id: each.status for each in before.requirements}
    for each in after.requirements:
        yield "requirement", known.get(each.id, REQUIREMENT.first), each.status
    if not after.ended:
        for position, call in enumerate(after.calls):
            was = before.calls[position].status if position < len(before.calls) else CALL.first
            yield "call", was, call.status


def explains(rows: set[Row], name: str, before: str, after: str) -> bool:
    """Return whether a way leads from one status to the other by rows that were used."""
    reached = {before}
    while (
        more := {
            TABLES[name].rows[status, event] for table, status, event in rows if table == name and status in reached
        }
        - reached
    ):
        reached |= more
    return after in reached
