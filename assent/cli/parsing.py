"""Arguments and options that are more than text: the calls that are meant, JSON, and lengths of time.

Pure; not in workflow code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from assent.cli.prompts import read_json
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, MessageError

_TIME: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def calls_of(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """The run and the id of each call that is named: `RUN ID [ID...]`, or `RUN/ID [RUN/ID...]`.

    Raises:
        MessageError: it is neither.
    """
    first, *more = arguments
    if more and not any("/" in each for each in more):
        return [(first, each) for each in more]
    pairs = [each.rpartition("/") for each in arguments]  # A run's id may have slashes, a call's has none.
    if not all(run and call for run, _, call in pairs):
        message = "name each call: RUN ID [ID...], or RUN/ID [RUN/ID...] for calls of several runs"
        raise MessageError(message)
    return [(run, call) for run, _, call in pairs]


def json_value(option: str, text: str) -> JsonValue:
    """The JSON value of an option.

    Raises:
        MessageError: it is none.
    """
    try:
        return read_json(text)
    except ValueError as error:
        message = f"{option} is not JSON ({error}); text goes in double quotes: {option} '\"done\"'"
        raise MessageError(message) from None


def json_object(option: str, text: str) -> dict[str, JsonValue]:
    """The JSON object of an option, read as strictly as a model's arguments: no key twice.

    Raises:
        MessageError: it is none.
    """
    if not text.strip():
        message = f"{option} is empty; give a JSON object, {{}} if need be"
        raise MessageError(message)
    try:
        return parse_arguments(text)
    except ArgumentsError as error:
        why = str(error).removeprefix("the arguments ")
        message = f'{option}: {why}; give a JSON object: {option} \'{{"name": "value"}}\''
        raise MessageError(message) from None


def seconds_of(option: str, text: str) -> int:
    """A length of time as `30m`, `2h` or `7d`, in seconds.

    Raises:
        MessageError: it is none.
    """
    found = _TIME.fullmatch(text.strip().lower())
    if found is None or int(found[1]) == 0:
        message = f"{option} {text!r} is no length of time; give e.g. 90s, 30m, 2h or 7d"
        raise MessageError(message)
    return int(found[1]) * _SECONDS[found[2]]
