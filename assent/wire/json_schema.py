"""Checks values against the JSON schemas of fields, where no worker has the types that the schemas were made from.

Pydantic's core checks, strictly, as JSON. It is given what a schema says of types, formats, choices, bounds, patterns,
items and properties; other keywords are notes for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from pydantic import JsonValue
from pydantic_core import CoreSchema, SchemaError, SchemaValidator, core_schema

from assent.wire.digest import canonical
from assent.wire.protocol import InputField
from assent.wire.text import bounded

_SHOWN: Final = 200
_REFERENCE: Final = "#/$defs/"
_SIMPLE: Final[dict[str, Callable[..., CoreSchema]]] = {
    "null": core_schema.none_schema,
    "boolean": core_schema.bool_schema,
    "integer": core_schema.int_schema,
    "number": core_schema.float_schema,
    "string": core_schema.str_schema,
}
_FORMATS: Final[dict[str, Callable[[], CoreSchema]]] = {
    "date": core_schema.date_schema,
    "date-time": core_schema.datetime_schema,
    "time": core_schema.time_schema,
    "uuid": core_schema.uuid_schema,
}
_NUMBER: Final = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
}  # fmt: skip
_BOUNDS: Final[dict[str, dict[str, str]]] = {
    "integer": _NUMBER,
    "number": _NUMBER,
    "string": {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"},
}
"""The keywords of JSON schema that limit a value, by its type, and pydantic's names for them."""
_Schema = Mapping[str, Any]


def check(fields: Sequence[InputField], values: Mapping[str, JsonValue]) -> None:
    """Check the *values* of *fields*: all that are required, and no others.

    Raises:
        ValidationError: of pydantic; they do not fit.
    """
    _validator(fields).validate_json(canonical(values), strict=True)


def schema_problem(fields: Sequence[InputField]) -> str | None:
    """Return why no values can be checked against the schemas of *fields*, in one line; None if they can."""
    for each in fields:
        try:
            _validator([each])
        except (SchemaError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            return f"{each.name}: its type is no JSON schema that values can be checked against: {bounded(why, _SHOWN)}"
    return None


def _validator(fields: Sequence[InputField]) -> SchemaValidator:
    named = {
        each.name: core_schema.typed_dict_field(_with_definitions(each.type, f"{index}."), required=each.required)
        for index, each in enumerate(fields)
    }
    return SchemaValidator(core_schema.typed_dict_schema(named, extra_behavior="forbid"))


def _with_definitions(schema: _Schema, scope: str) -> CoreSchema:
    """Return a schema with its own definitions, whose names other fields may use for something else."""
    definitions: _Schema = schema.get("$defs") or {}
    known = [{**_core(each, scope), "ref": scope + name} for name, each in definitions.items()]
    whole = _core(schema, scope)
    return core_schema.definitions_schema(whole, cast("list[CoreSchema]", known)) if known else whole


def _core(schema: _Schema, scope: str) -> CoreSchema:
    reference = schema.get("$ref")
    if reference is not None:
        if not reference.startswith(_REFERENCE):
            raise ValueError(f"{reference!r} is not in $defs")
        return core_schema.definition_reference_schema(scope + reference.removeprefix(_REFERENCE))
    if "enum" in schema or "const" in schema:
        return core_schema.literal_schema(schema["enum"] if "enum" in schema else [schema["const"]])
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches is not None:
        return core_schema.union_schema([_core(each, scope) for each in branches])
    kind: object = schema.get("type")
    if isinstance(kind, list):
        kinds = cast("list[str]", kind)
        return core_schema.union_schema([_core({**schema, "type": each}, scope) for each in kinds])
    return _of_type(cast("str | None", kind), schema, scope)


def _of_type(kind: str | None, schema: _Schema, scope: str) -> CoreSchema:
    match kind:
        case None:
            return core_schema.any_schema()
        case "array":
            items = schema.get("items")
            inner = None if items is None else _core(items, scope)
            least, most = schema.get("minItems"), schema.get("maxItems")
            return core_schema.list_schema(inner, min_length=least, max_length=most)
        case "object":
            return _object(schema, scope)
        case _:
            if kind == "string" and schema.get("format") in _FORMATS:
                return _FORMATS[schema["format"]]()
            bounds = {name: schema[key] for key, name in _BOUNDS.get(kind, {}).items() if key in schema}
            return _SIMPLE[kind](**bounds)


def _object(schema: _Schema, scope: str) -> CoreSchema:
    required: Sequence[str] = schema.get("required", ())
    more: object = schema.get("additionalProperties", True)
    values = _core(cast("_Schema", more), scope) if isinstance(more, dict) else None
    if not schema.get("properties"):
        return core_schema.dict_schema(core_schema.str_schema(), values)
    named = {
        name: core_schema.typed_dict_field(_core(each, scope), required=name in required)
        for name, each in schema["properties"].items()
    }
    return core_schema.typed_dict_schema(named, extra_behavior="allow" if more else "forbid", extras_schema=values)
