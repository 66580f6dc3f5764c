"""Reads what people type into the fields of a tool: at the terminal and in the approvals page."""

import json
from typing import Final, NoReturn

from pydantic import JsonValue

from assent.views.commands import format_json, resolved
from assent.views.facts import choices_of
from assent.wire.protocol import InputField
from assent.wire.text import one_line

_PLAIN: Final = {"integer": "a whole number", "number": "a number", "boolean": "true or false"}
"""What a person types for the types of JSON that need no explanation."""


def schema_of(field: InputField) -> dict[str, JsonValue]:
    """The JSON schema of what may be filled in: references followed, and `null` left out of two alternatives."""
    definitions = field.type.get("$defs")
    schema = resolved(field.type, definitions)
    branches = schema.get("anyOf")
    if isinstance(branches, list):
        others = [each for each in branches if isinstance(each, dict) and each.get("type") != "null"]
        if len(others) == 1 and len(branches) == 2:
            return resolved(others[0], definitions)
    return schema


def value_of(field: InputField, text: str) -> JsonValue:
    """Read a typed text as a value of *field*: one of its choices, text as it is, or JSON.

    Raises:
        ValueError: it is not one of the choices, or not JSON.
    """
    schema = schema_of(field)
    listed = choices_of(schema)
    if listed:
        for each in listed:
            # Characters that cannot be typed, or that are invisible, may be typed as they are shown.
            spellings = (each, one_line(each)) if isinstance(each, str) else ()
            if text.strip() in (*spellings, format_json(each, ", ")):
                return each
        raise ValueError(f"choose one of {', '.join(format_json(each, ', ') for each in listed)}")
    if schema.get("type") == "string":
        return text
    try:
        return read_json(text)
    except ValueError as error:
        wanted = _PLAIN.get(str(schema.get("type")))
        raise ValueError(
            f"give {wanted}" if wanted else f"that is not JSON ({error}); text goes in double quotes"
        ) from None


def read_json(text: str) -> JsonValue:
    """Read a JSON value; NaN and Infinity, which JSON does not have, are refused.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        value: JsonValue = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
