"""What the form of a request becomes: a signal and its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from assent.client.signals import Signal
from assent.views.field_values import read_json, value_of
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.protocol import APPROVE, REJECT, SUBMIT_INPUT, SUBMIT_RESULT, InputField
from assent.wire.requirements import Requirement

Decision = tuple[Signal, dict[str, JsonValue]]
"""A signal, and its body without the requirement's id and the person's name."""

_MINUTE: Final = 60


def field_key(index: int) -> str:
    """Return the name of the control of a field: fields have any name, and this one has not."""
    return f"field-{index}"


def decision_of(form: Mapping[str, str], requirement: Requirement) -> Decision:
    """Return the decision that a form says.

    Raises:
        MessageError: something is missing or cannot be read. One line for the person who filled it in.
    """
    match form.get("action"):
        case "approve":
            body = _reason(form) | _remember(form)
            if "arguments" in form:
                body["arguments"] = arguments_of(form)
            return APPROVE, body
        case "reject":
            return REJECT, {"reason": _text(form, "reason", "Say why: the reason is missing.")} | _remember(form)
        case "result":
            return SUBMIT_RESULT, {"output": _output(form, requirement)} | _evidence(form)
        case "failed":
            return SUBMIT_RESULT, {"error": _text(form, "error", "Say how it failed.")} | _evidence(form)
        case "fill":
            return SUBMIT_INPUT, {"values": _values(form, requirement.fields)}
        case _:
            raise MessageError("Choose what to do.")


def arguments_of(form: Mapping[str, str]) -> dict[str, JsonValue]:
    """Return the edited arguments of a form, read as strictly as a model's.

    Raises:
        MessageError: they are no JSON object.
    """
    try:
        return parse_arguments(form.get("arguments", ""))
    except ArgumentsError as error:
        raise MessageError(f"The arguments cannot be used: {error}") from None


def _text(form: Mapping[str, str], name: str, missing: str) -> str:
    text = form.get(name, "").strip()
    if not text:
        raise MessageError(missing)
    return text


def _reason(form: Mapping[str, str]) -> dict[str, JsonValue]:
    text = form.get("reason", "").strip()
    return {"reason": text} if text else {}


def _remember(form: Mapping[str, str]) -> dict[str, JsonValue]:
    remember: dict[str, JsonValue] = {}
    for name, key, unit in (("remember_uses", "uses", 1), ("remember_minutes", "expires_after", _MINUTE)):
        text = form.get(name, "").strip()
        if not text:
            continue
        if not text.isascii() or not text.isdigit() or not 0 < len(text) < 8 or not int(text):
            raise MessageError("How many further calls, or for how many minutes: give a whole number above 0.")
        remember[key] = int(text) * unit
    return {"remember": remember} if remember else {}


def _output(form: Mapping[str, str], requirement: Requirement) -> JsonValue:
    text = _text(form, "output", "The result is missing.")
    if requirement.fields:
        return _value(requirement.fields[0], text)
    if form.get("output_json"):
        return _json(text, "The result")
    return text


def _evidence(form: Mapping[str, str]) -> dict[str, JsonValue]:
    text = form.get("evidence", "").strip()
    return {"evidence": text} if text else {}


def _values(form: Mapping[str, str], fields: list[InputField]) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {}
    for index, field in enumerate(fields):
        text = form.get(field_key(index), "")
        if text.strip():
            values[field.name] = _value(field, text)
        elif field.required:
            raise MessageError(f"{field.name} is missing.")
    return values


def _value(field: InputField, text: str) -> JsonValue:
    try:
        return value_of(field, text)
    except ValueError as error:
        raise MessageError(f"{field.name}: {error}") from None


def _json(text: str, what: str) -> JsonValue:
    try:
        return read_json(text)
    except ValueError as error:
        raise MessageError(f"{what} is not JSON: {error}") from None
