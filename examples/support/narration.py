"""Telling what happens: headings, labelled lines, what others wrote behind a bar, and a sign of life each second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.status import Status
from rich.text import Text

from assent import RunEvent
from assent.views.run_events import event_text
from assent.wire.text import bounded, one_line, visible

LABEL: Final = 13
SHOWN: Final = 240
_QUIET: Final = 1.0
"""Seconds without a line after which it is said what is under way."""
_STYLES: Final = {"waiting": "bold yellow", "decided": "bold", "completed": "bold green", "failed": "bold red"}


class Narrator:
    """Lines on standard output: folded and coloured on a terminal, whole and plain anywhere else.

    What models, tools and people wrote is shown with `assent.wire.text`: nothing in it can hide or pass for a line of
    the program's own.
    """

    def __init__(self) -> None:
        """Nothing is under way."""
        self.console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
        self.terminal = self.console.is_terminal
        self._status: Status | None = None
        self._doing: str | None = None
        self._prompted = False
        self._since = self._last = time.monotonic()

    # -- lines --------------------------------------------------------------------------------------------------------

    def print(self, text: str | Text = "", *, style: str = "") -> None:
        """One line; the sign of life makes room for it."""
        self._rest()
        if self._prompted:
            self.console.print()
        self._prompted, self._last = False, time.monotonic()
        self.console.print(text, style=style)

    def prompt(self, text: str) -> None:
        """A question, with the place for its answer beside it."""
        self._rest()
        self.console.print(text, style="bold", end="")
        self._prompted = True

    def answered(self) -> None:
        """The answer's line has ended."""
        self._prompted = False

    def heading(self, text: str) -> None:
        """What the next lines are about."""
        self.print()
        self.print(text, style="bold cyan")

    def field(self, label: str, text: str, *, style: str = "") -> None:
        """A labelled line, folded below itself."""
        self.print(self._row(label, text, style, bar=""))

    def quoted(self, label: str, text: str, *, limit: int = 4_000) -> None:
        """Print text of others with a bar before each line."""
        self.print(self._row(label, bounded(visible(text), limit), "", bar="│ "))

    def event(self, event: RunEvent) -> None:
        """What happened in a run, in one line, and what that sets going."""
        row = Text(f"{event.at.astimezone(UTC):%H:%M:%S}  ", style="dim")
        row.append(f"{event.kind.replace('_', ' '):<16}", style=f"not dim {_STYLES.get(event.kind, '')}")
        room = self.console.width - row.cell_len if self.terminal else SHOWN
        row.append(_fit(one_line(_meaning(event)), room), style="not dim")
        self.print(row)
        self._under_way(_sets_going(event))

    def _row(self, label: str, text: str, style: str, *, bar: str) -> Text:
        width = self.console.width - LABEL - len(bar) if self.terminal else None
        row = Text()
        for number, line in enumerate(_folded(text, width)):
            start = "\n" + " " * LABEL if number else f"{label:<{LABEL}}"
            row.append(start + bar, style="dim").append(line, style=style)
        return row

    # -- signs of life ------------------------------------------------------------------------------------------------

    @contextmanager
    def during(self, doing: str) -> Generator[None]:
        """Show that *doing* is under way: a spinner on a terminal, a line anywhere else."""
        if not self.terminal:
            self.print(f"{doing} …")
        self._spin(doing)
        try:
            yield
        finally:
            self._rest()

    async def signs_of_life(self, obstacle: Callable[[], Awaitable[str]]) -> None:
        """While something is under way and no line says more: a spinner, or a line each second. Never returns.

        *obstacle* answers what to add where it does not get on.
        """
        while True:
            await asyncio.sleep(0.2)
            doing, since = self._doing, self._since
            if doing is None or time.monotonic() - self._last < _QUIET:
                continue
            why = await obstacle()
            if since != self._since:
                continue
            told = f"{doing}, {time.monotonic() - since:.0f} s{why}"
            if self.terminal:
                self._spin(told)
            else:
                self.print(f"          {told}")

    def _under_way(self, doing: str | None) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _spin(self, text: str) -> None:
        if self._status is None:
            self._status = self.console.status(Text(text, style="dim"))
            self._status.start()
        self._status.update(Text(text, style="dim"))

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def moment(at: datetime) -> str:
    """A time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _meaning(event: RunEvent) -> str:
    call = f"{event.tool}({event.arguments})"
    match event.kind:
        case "model_called":
            return f"turn {event.turn}"
        case "model_answered":
            return event_text(event)
        case "waiting" | "tool_started":
            return call
        case "tool_finished":
            return f"{event.tool}: {event.text}"
        case "completed":
            return f"after turn {event.turn}"
        case _:
            return event.text


def _sets_going(event: RunEvent) -> str | None:
    match event.kind:
        case "model_called":
            return "the model is asked"
        case "tool_started":
            return f"{event.tool} runs"
        case "started" | "decided" | "tool_finished" | "message":
            return "the run continues"
        case _:
            return None


def _fit(text: str, room: int) -> str:
    return text if len(text) <= room else bounded(text, max(room - len("… (+1000 characters)"), 0))


def _folded(text: str, width: int | None) -> list[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        rest = line
        while width is not None and len(rest) > width:
            cut = rest.rfind(" ", 1, width + 1)
            cut = width if cut <= 0 else cut
            lines.append(rest[:cut])
            rest = rest[cut:].removeprefix(" ")
        lines.append(rest)
    return lines
