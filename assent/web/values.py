"""Lays JSON values out for a page: a row for each field, text as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from assent.agents.ask_user import ask_user
from assent.views.json_layout import wrap_json
from assent.wire.text import bounded, hidden, one_line

DEEPEST: Final = 4
"""Levels of objects that have rows of their own; what is deeper is shown as JSON."""
MOST_ROWS: Final = 200
LONGEST: Final = 6_000
"""Characters of one value; all of it is in the exact text."""
_BRIEF: Final = 3
_BRIEF_LENGTH: Final = 48

Shape = Literal["text", "block", "token", "json", "rows", "items", "empty"]


@dataclass(frozen=True, slots=True)
class Row:
    """One field: *text* is its value, or *rows* are; those of a list of strings (`items`) have no name."""

    name: str
    shape: Shape
    text: str = ""
    rows: tuple[Row, ...] = ()


def rows_of(value: Mapping[str, JsonValue]) -> tuple[Row, ...]:
    """Return a row for each field of an object, with rows for objects and lists in it; lists of numbers stay JSON."""
    room = [MOST_ROWS]
    return tuple(_row(name, each, 1, room) for name, each in value.items())


def _row(name: str, value: JsonValue, depth: int, room: list[int]) -> Row:
    room[0] -= 1
    if isinstance(value, str):
        shape: Shape = "block" if "\n" in value or len(value) > 2 * _BRIEF_LENGTH else "text"
        return Row(name, shape if value else "empty", bounded(value, LONGEST))
    if not isinstance(value, dict | list):
        return Row(name, "token", json.dumps(value))
    if not value:
        return Row(name, "token", "{}" if isinstance(value, dict) else "[]")
    has_room = room[0] - len(value) >= 0
    if has_room and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return Row(name, "items", rows=tuple(_row("", each, depth, room) for each in value))
    is_plain = isinstance(value, list) and not any(isinstance(each, dict | list) for each in value)
    if is_plain or depth >= DEEPEST or not has_room:
        text = json.dumps(value, ensure_ascii=False)
        short = is_plain and len(text) <= 2 * _BRIEF_LENGTH
        return Row(name, "token", text) if short else Row(name, "json", bounded(wrap_json(text), LONGEST))
    fields = value.items() if isinstance(value, dict) else ((str(at), each) for at, each in enumerate(value, 1))
    return Row(name, "rows", rows=tuple(_row(each, inner, depth + 1, room) for each, inner in fields))


def brief(value: Mapping[str, JsonValue] | None) -> list[tuple[str, str]]:
    """Return the first fields of an object, in a few words each."""
    fields = list((value or {}).items())[:_BRIEF]
    texts = [(name, each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)) for name, each in fields]
    return [(_short(name, _BRIEF_LENGTH // 2), _short(text, _BRIEF_LENGTH)) for name, text in texts]


def _short(text: str, length: int) -> str:
    line = one_line(" ".join(text[: 2 * length].split()))
    return line if len(line) <= length else f"{line[: length - 1]}…"


def editable(value: Mapping[str, JsonValue]) -> str:
    """Return an object as JSON for a text area: what would not show is written as JSON escapes it."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(json.dumps(each)[1:-1] if hidden(each) and each != "\n" else each for each in text)


def title_of(tool: str, arguments: Mapping[str, JsonValue] | None) -> str:
    """Return what a request is called: its question where an agent asks one, else the name of its tool."""
    question = (arguments or {}).get("question")
    return question if tool == ask_user.name and isinstance(question, str) and question else tool


def differences(before: JsonValue, after: JsonValue, path: str = "") -> list[tuple[str, str | None, str | None]]:
    """Return where two JSON values differ: the path of each field, and both values, None where there is none."""
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(at), *each) for at, each in enumerate(zip(before, after, strict=True), 1)]
        return [each for name, old, new in pairs for each in differences(old, new, _path(path, name))]
    if not isinstance(before, dict) or not isinstance(after, dict):
        return [] if _same(before, after) else [(path, _shown(before), _shown(after))]
    changed: list[tuple[str, str | None, str | None]] = []
    for name in {**before, **after}:
        inner = _path(path, name)
        if name in before and name in after:
            changed += differences(before[name], after[name], inner)
        else:
            old, new = (_shown(each[name]) if name in each else None for each in (before, after))
            changed.append((inner, old, new))
    return changed


def _path(path: str, name: str) -> str:
    return f"{path} > {name}" if path else name


def _same(one: JsonValue, other: JsonValue) -> bool:
    # In Python `True == 1`, and in JSON they are not the same.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _shown(value: JsonValue) -> str:
    return bounded(json.dumps(value, ensure_ascii=False), LONGEST)
