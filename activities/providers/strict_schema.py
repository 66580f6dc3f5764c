"""A JSON schema in the strict form that the provider can enforce while the model writes.

Strict means: every object is closed and all of its properties are required. That is how the `openai` package treats a
pydantic model too (`openai.lib._pydantic`). What strictness cannot express is sent as it is, with `strict: false`; the
answer is validated by the agent's own type either way.
"""

import re
from typing import Final

from pydantic import JsonValue

from .exchange import JsonObject

_PLAIN: Final = frozenset(
    {
        "type", "title", "description", "enum", "const", "pattern", "multipleOf", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "$ref",
    }
)  # fmt: skip
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_NAMED_SCHEMAS: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_SCHEMAS: Final = frozenset({"items", "prefixItems", "anyOf", "oneOf", "allOf", "not", "additionalProperties"})
_LOOK_AROUND: Final = re.compile(r"\(\?<?[=!]")


class _NotStrictError(ValueError):
    """The schema says something that strict mode does not know."""


def portable(schema: JsonObject) -> JsonObject:
    """*schema* without what providers refuse in any schema: fixed positions of an array, look-around in a pattern.

    It says less then. What the model writes is checked here by the type itself.
    """
    result = {key: _portable_keyword(key, value) for key, value in schema.items() if not _has_look_around(key, value)}
    positions = result.pop("prefixItems", None)
    if isinstance(positions, list) and not isinstance(result.get("items"), dict):
        kinds = [each for index, each in enumerate(positions) if each not in positions[:index]]
        result["items"] = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return result


def _portable_keyword(key: str, value: JsonValue) -> JsonValue:
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: portable(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
    if key in _SCHEMAS and isinstance(value, dict):
        return portable(value)
    if key in _SCHEMAS and isinstance(value, list):
        return [portable(inner) if isinstance(inner, dict) else inner for inner in value]
    return value


def _has_look_around(key: str, value: JsonValue) -> bool:
    return key == "pattern" and isinstance(value, str) and _LOOK_AROUND.search(value) is not None


def strictest(schema: JsonObject) -> tuple[JsonObject, bool]:
    """*schema* in strict form and True, or *schema* in portable form and False."""
    schema = portable(schema)
    if schema.get("type") != "object":
        return schema, False
    try:
        return _strict(schema), True
    except _NotStrictError:
        return schema, False


def _strict(schema: JsonValue) -> JsonObject:
    if not isinstance(schema, dict):
        raise _NotStrictError
    result = {key: _keyword(key, value) for key, value in schema.items() if key != "default"}
    if schema.get("type") == "object":
        return _closed(result)
    if "$ref" in result and len(result) > 1:
        # A reference may have no siblings; a union of one may.
        return {"anyOf": [{"$ref": result.pop("$ref")}], **result}
    return result


def _keyword(key: str, value: JsonValue) -> JsonValue:
    if key in _PLAIN or (key == "additionalProperties" and value is False) or (key == "required"):
        return value
    if key in _NAMED_SCHEMAS and isinstance(value, dict):
        return {name: _strict(inner) for name, inner in value.items()}
    if key == "anyOf" and isinstance(value, list):
        return [_strict(inner) for inner in value]
    if key == "items":
        return _strict(value)
    if key == "format" and value in _FORMATS:
        return value
    raise _NotStrictError


def _closed(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        raise _NotStrictError  # an object of free form
    return {**schema, "required": list(properties), "additionalProperties": False}
