"""What is wrong with arguments, values or results, in words that a model or a person can act on."""

import json
import math
import re
from collections.abc import Mapping
from typing import Final, cast

from pydantic import JsonValue, ValidationError
from pydantic_core import ErrorDetails

# A refusal is read by a model and kept in history: enough of it to correct the call, whatever was sent.
_MAX_LINES: Final = 20
_MAX_SHOWN: Final = 80
MAX_MESSAGE: Final = 300
_QUOTED_NUMBER: Final = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?")


def is_lenient(error: ValidationError) -> bool:
    """Whether all that strict mode minds is how a number is written."""
    return all(_is_number(item) for item in error.errors(include_url=False))


def _is_number(item: ErrorDetails) -> bool:
    value: object = item["input"]
    if item["type"] == "int_type" and isinstance(value, float):
        return value.is_integer()
    quoted = isinstance(value, str) and _QUOTED_NUMBER.fullmatch(value) is not None and math.isfinite(float(value))
    return quoted and item["type"] in {"int_type", "float_type"}


def explain(error: ValidationError, value: object, schema: Mapping[str, JsonValue], *, root: str = "arguments") -> str:
    """One line for each wrong field of *value*, which is wrong; *root* names the whole of it.

    The branches of a union that all failed share a line. *schema* says what a missing argument should be.
    """
    problems: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        messages = problems.setdefault(_path(item, value, root), [])
        problem = _problem_of(item, schema)
        if problem not in messages:
            messages.append(problem)
    lines = [f"{path}: {', or '.join(messages)}" for path, messages in problems.items()]
    rest = len(lines) - _MAX_LINES
    return "\n".join([*lines[:_MAX_LINES], f"and {rest} more"] if rest > 0 else lines)


def _path(item: ErrorDetails, sent: object, root: str) -> str:
    """Where the error is in what was sent, e.g. `orders[2].amount`.

    Pydantic's location also names the branches of unions, which are nowhere in what was sent: they are left out.
    """
    path, value = "", sent
    last = len(item["loc"]) - 1
    for index, part in enumerate(item["loc"]):
        if isinstance(value, dict) and part in value:
            path, value = f"{path}.{part}", cast("dict[object, object]", value)[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(cast("list[object]", value)):
            path, value = f"{path}[{part}]", cast("list[object]", value)[part]
        elif index == last and item["type"] == "missing":
            path = f"{path}[{part}]" if isinstance(part, int) else f"{path}.{part}"
    path = path.removeprefix(".") or root
    return shortened(path if path.isprintable() else ascii(path))


def _problem_of(item: ErrorDetails, schema: Mapping[str, JsonValue]) -> str:
    at_top = len(item["loc"]) == 1
    known = cast("dict[str, JsonValue]", schema["properties"])
    if item["type"] == "missing":
        expected = _expected(known.get(str(item["loc"][0]))) if at_top else ""
        return f"required, but missing{expected}"
    if item["type"] == "extra_forbidden":
        allowed = f"; this tool takes {', '.join(known) or 'no arguments'}" if at_top else ""
        return f"no argument of this name{allowed}"
    message = shortened(single_line(item["msg"]), MAX_MESSAGE)
    return f"{message[:1].lower()}{message[1:]}, not {_json(item['input'])}"


def _expected(schema: JsonValue) -> str:
    """What a missing argument should be, as the schema says it, without its description."""
    if not isinstance(schema, dict):
        return ""
    rest = {key: value for key, value in schema.items() if key != "description"}
    return f"; expected {_json(rest, MAX_MESSAGE)}" if rest else ""


def _json(value: object, limit: int = _MAX_SHOWN) -> str:
    return shortened(json.dumps(value, ensure_ascii=True, default=repr), limit)


def shortened(text: str, limit: int = _MAX_SHOWN) -> str:
    """The beginning of *text*, with an ellipsis where there is more."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def single_line(text: str) -> str:
    """*text* with every run of white space as one space."""
    return " ".join(text.split())
