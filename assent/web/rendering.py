"""Templates. Every text that a template shows is escaped twice: what would not show, and what HTML reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from assent.views.facts import format_time
from assent.wire.text import UntrustedText, Words, bounded, one_line, visible

FOLDER: Final = Path(__file__).parent
STATIC: Final = FOLDER / "static"
_URGENT: Final = 60 * 60
"""Seconds before a deadline from which it is shown as urgent."""


def _shown(value: object) -> object:
    """Return what a template shows for a value: hidden characters as escapes. What is markup is so already."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _exact(text: str) -> Markup:
    """Escape for HTML alone, for controls that send their text back."""
    return escape(text)


def _words(words: Words) -> Markup:
    """Mark what others said within Assent's own words."""
    parts = (
        Markup('<bdi class="said">{}</bdi>').format(visible(each.text))
        if isinstance(each, UntrustedText)
        else escape(each)
        for each in words
    )
    return Markup("").join(parts)


def age(at: datetime, now: datetime | None = None) -> str:
    """Return how far away a time is, in its largest unit."""
    seconds = abs(int(((now or datetime.now(UTC)) - at).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return "under a minute"


def seconds(length: float | None) -> str:
    """Return a length of time, in its largest unit."""
    if length is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if length >= size:
            return f"{length / size:.1f} {unit}"
    return f"{length:.1f} s"


def _stamp(at: datetime) -> Markup:
    """Return the attributes of an element `time`. The script shows its text in the viewer's own zone."""
    return Markup('datetime="{}" title="{}"').format(at.astimezone(UTC).isoformat(timespec="seconds"), format_time(at))


def moment(at: datetime) -> Markup:
    """Return a time in UTC, for the script as well."""
    return Markup("<time {}>{}</time>").format(_stamp(at), format_time(at))


def clock(at: datetime, now: datetime | None = None) -> str:
    """Return the time of an event in UTC, with its day if that is not today."""
    utc = at.astimezone(UTC)
    return f"{utc:%H:%M:%S}" if utc.date() == (now or datetime.now(UTC)).date() else f"{utc.day} {utc:%b, %H:%M:%S}"


def _is_past(at: datetime) -> bool:
    return at <= datetime.now(UTC)


def _is_urgent(at: datetime) -> bool:
    return (at - datetime.now(UTC)).total_seconds() < _URGENT


def link(path: str, /, **query: str | int | None) -> str:
    """Return a link within the page. Ids are in the query: a run may have any id, as `..` or `a/b`."""
    pairs = [f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value not in {None, ""}]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _version() -> str:
    """Return what changes when a static file does: browsers keep these files."""
    parts = b"".join(path.read_bytes() for path in sorted(STATIC.iterdir()))
    return hashlib.sha256(parts).hexdigest()[:12]


class Renderer:
    """Renders templates to answers."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, finalize=_shown,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        # jinja2 says of these dictionaries what it puts there itself.
        filters, tests, names = (
            cast("dict[str, object]", each)
            for each in (self._environment.filters, self._environment.tests, self._environment.globals)
        )
        filters |= {
            "words": _words, "exact": _exact, "age": age, "moment": moment, "stamp": _stamp, "clock": clock,
            "line": one_line, "bounded": bounded, "seconds": seconds,
        }  # fmt: skip
        tests |= {"urgent": _is_urgent, "past": _is_past}
        names |= {"link": link, "version": _version()}

    def text(self, template: str, values: Mapping[str, object]) -> str:
        """Return a rendered template."""
        return self._environment.get_template(template).render(values)

    def page(self, template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
        """Return a page."""
        return HTMLResponse(self.text(template, values), status)
