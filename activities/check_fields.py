"""Checks what people send for a call of workflow code, where no worker has the types that its schemas were made from.

An activity does it, and not the rules: which values a schema accepts may differ between versions of the library.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from jsonschema import Draft202012Validator, FormatChecker, SchemaError
from pydantic import JsonValue
from referencing import Registry
from referencing.exceptions import Unresolvable

from assent.wire.protocol import InputField
from assent.wire.text import bounded, one_line

_SHOWN: Final = 200
_FORMATS: Final = FormatChecker()


def fields_problem(fields: Sequence[InputField], values: Mapping[str, JsonValue]) -> str | None:
    """Return what is wrong with the *values* of *fields*, in one line: all that are required, and no others."""
    known = {each.name: each for each in fields}
    if unknown := values.keys() - known.keys():
        return f"there is no field {', '.join(sorted(unknown))}; there are: {', '.join(known)}"
    for each in fields:
        if each.name in values:
            if (problem := _problem(each, values[each.name])) is not None:
                return f"{each.name}: {bounded(one_line(problem), _SHOWN)}"
        elif each.required:
            return f"{each.name}: it is missing"
    return None


def _problem(field: InputField, value: JsonValue) -> str | None:
    try:
        Draft202012Validator.check_schema(field.type)
        # A registry of its own: nothing is fetched that a schema refers to.
        validator = Draft202012Validator(field.type, registry=Registry(), format_checker=_FORMATS)
        error = next(validator.iter_errors(value), None)
        return None if error is None else f"{error.json_path}: {error.message}".removeprefix("$: ").removeprefix("$.")
    except (SchemaError, Unresolvable, RecursionError) as error:
        return f"its type is no JSON schema that values can be checked against: {error}"


@_FORMATS.checks("date-time", raises=ValueError)  # The library would need another package for it.
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None
