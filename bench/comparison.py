"""What was measured of more than two sides, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Comparison:
    """One line of the peers' table: the measurements of every side, by its name; whoever has none is missing.

    *remarks* are shown below the table.
    """

    name: str
    what: str
    unit: str
    sides: Mapping[str, Sequence[float]]
    remarks: list[str] = field(default_factory=list[str])

    @property
    def medians(self) -> dict[str, float]:
        """Of every side that was measured."""
        return {name: median(values) for name, values in self.sides.items() if values}

    def median(self, name: str) -> float:
        """A side's; NaN where nothing was measured."""
        return self.medians.get(name, nan)

    def against(self, name: str) -> float:
        """A side's median divided by Assent's."""
        return self.median(name) / self.median("Assent")


def table(lines: Sequence[Comparison], title: str) -> Table:
    """The lines as a table: Assent's median, then every other side's, with the ratio to Assent's."""
    names = list(dict.fromkeys(name for line in lines for name in line.sides))
    others = [name for name in names if name != "Assent"]
    found = Table("figure", "", title=title, title_justify="left")
    for heading in ("Assent", "", *(column for name in others for column in (name, "to ours"))):
        found.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    for line in lines:
        cells = [cell for name in others for cell in (number(line.median(name)), number(line.against(name), 2))]
        found.add_row(line.name, line.what, number(line.median("Assent")), line.unit, *cells)
    return found


def show(lines: Sequence[Comparison], console: Console) -> None:
    """The table, and the remarks below it."""
    console.print(table(lines, "Assent, a bare workflow and peers: medians; the ratio is theirs divided by Assent's"))
    for remark in (remark for line in lines for remark in line.remarks):
        console.print(remark, markup=False, highlight=False, soft_wrap=True)


def number(value: float, digits: int | None = None) -> str:
    """A measurement, in as many digits as it deserves, or so many behind the point; a dash where there is none."""
    if isnan(value):
        return "-"
    if digits is not None:
        return f"{value:.{digits}f}"
    if value >= 1_000 or value % 1 == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"
