"""Reads arguments and options that are more than text: ids of calls, JSON, and durations."""

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from assent.client.attachments import attachment
from assent.views.field_values import read_json
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.parts import Part, TextPart

_TIME: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def calls_of(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return the run id and the call id of each call in `RUN ID [ID...]` or `RUN/ID [RUN/ID...]`.

    Raises:
        MessageError: the arguments are in neither form.
    """
    first, *more = arguments
    if more and not any("/" in each for each in more):
        return [(first, each) for each in more]
    pairs = [each.rpartition("/") for each in arguments]  # A run's id may contain slashes.
    if not all(run and call for run, _, call in pairs):
        raise MessageError("name each call: RUN ID [ID...], or RUN/ID [RUN/ID...] for calls of several runs")
    return [(run, call) for run, _, call in pairs]


def content_of(text: str, attached: Sequence[str] | None) -> str | list[Part]:
    """Return what a prompt or message says, with the files and URLs of `--attach`.

    Raises:
        MessageError: as `attachment`.
    """
    parts: list[Part] = [attachment(each) for each in attached or ()]
    return [*([TextPart(text=text)] if text.strip() else []), *parts] if parts else text


def json_value(option: str, text: str) -> JsonValue:
    """Read the JSON value of an option.

    Raises:
        MessageError: it is not JSON.
    """
    try:
        return read_json(text)
    except ValueError as error:
        raise MessageError(f"{option} is not JSON ({error}); text goes in double quotes: {option} '\"done\"'") from None


def json_object(option: str, text: str) -> dict[str, JsonValue]:
    """Read the JSON object of an option, as strictly as a model's arguments: no duplicate keys.

    Raises:
        MessageError: it is not a JSON object.
    """
    if not text.strip():
        raise MessageError(f"{option} is empty; give a JSON object, or {{}}")
    try:
        return parse_arguments(text)
    except ArgumentsError as error:
        why = str(error).removeprefix("the arguments ")
        raise MessageError(f'{option}: {why}; for example: {option} \'{{"name": "value"}}\'') from None


def seconds_of(option: str, text: str) -> int:
    """Read a duration, as `30m`, `2h` or `7d`, in seconds.

    Raises:
        MessageError: it is not a duration.
    """
    match = _TIME.fullmatch(text.strip().lower())
    if match is None or int(match[1]) == 0:
        raise MessageError(f"{option} {text!r} is not a duration; give e.g. 90s, 30m, 2h or 7d")
    return int(match[1]) * _SECONDS[match[2]]
