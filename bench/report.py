"""What was measured, and how it is shown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import nan
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import comparison
from bench.comparison import Comparison, number
from bench.processes import ROOT

WIDTH: Final = 132


@dataclass(frozen=True)
class Figure:
    """One line of the report. *assent* and *bare* are the measurements, interleaved in pairs.

    There may be no bare ones. *ratio* says whether the aim *limit* is for Assent's median divided by the bare one, or
    for Assent's own. *higher* says that more is better.
    """

    name: str
    what: str
    unit: str
    assent: Sequence[float]
    bare: Sequence[float]
    limit: float | None = None
    ratio: bool = True
    higher: bool = False

    @property
    def medians(self) -> tuple[float, float]:
        """Assent's and the bare one's."""
        return median(self.assent), median(self.bare) if self.bare else nan

    @property
    def quotient(self) -> float:
        """Assent's median divided by the bare one."""
        ours, theirs = self.medians
        return ours / theirs

    @property
    def spread(self) -> tuple[float, float]:
        """The middle half of the ratios of the single pairs."""
        if not self.bare:
            return nan, nan
        ratios = sorted(ours / theirs for ours, theirs in zip(self.assent, self.bare, strict=True))
        return ratios[(len(ratios) - 1) // 4], ratios[-1 - (len(ratios) - 1) // 4]

    @property
    def met(self) -> bool | None:
        """Whether the aim was met; None where there is none."""
        if self.limit is None:
            return None
        value = self.quotient if self.ratio else self.medians[0]
        return value >= self.limit if self.higher else value <= self.limit

    @property
    def aim(self) -> str:
        """The aim in words."""
        if self.limit is None:
            return ""
        return f"{'≥' if self.higher else '≤'} {self.limit:g}{'' if self.ratio else f' {self.unit}'}"


def machine() -> dict[str, str | float | int]:
    """Where it was measured, and how busy that was at the moment."""
    return {
        "cores": os.cpu_count() or 0,
        "load_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "temporalio": version("temporalio"),
        "openai": version("openai"),
        "platform": platform.platform(),
        "checkout": str(ROOT),
    }


Line = Figure | Comparison
"""A line of the report."""


def as_json(figures: Sequence[Line], where: Sequence[dict[str, str | float | int]]) -> str:
    """The report for programs: every measurement, and the machine before and after."""
    return json.dumps({"machine": list(where), "figures": [_entry(each) for each in figures]}, indent=2)


def _entry(line: Line) -> Mapping[str, object]:
    if isinstance(line, Comparison):
        return asdict(line) | {"medians": line.medians}
    return asdict(line) | {"medians": line.medians, "quotient": line.quotient, "spread": line.spread, "met": line.met}


def show(lines: Sequence[Line], where: dict[str, str | float | int]) -> None:
    """The report for people."""
    console = Console(width=max(Console().width, WIDTH))
    if figures := [line for line in lines if isinstance(line, Figure)]:
        console.print(_table(figures, where))
    if compared := [line for line in lines if isinstance(line, Comparison)]:
        comparison.show(compared, console)


def _table(figures: Sequence[Figure], where: dict[str, str | float | int]) -> Table:
    title = (
        f"Assent beside a bare workflow: medians of interleaved pairs; {where['cores']} cores, load {where['load_1m']}"
    )
    table = Table("figure", "", title=title, title_justify="left")
    for heading in ("Assent", "bare", "", "ratio", "middle half", "aim"):
        table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
    table.add_column("")
    for each in figures:
        ours, theirs = map(number, each.medians)
        low, high = each.spread
        spread = f"{low:.2f}-{high:.2f}" if len(each.assent) > 1 else ""
        met = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[each.met]
        table.add_row(each.name, each.what, ours, theirs, each.unit, number(each.quotient, 2), spread, each.aim, met)
    return table
