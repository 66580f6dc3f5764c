"""What an approval binds, in addition to the arguments as written: the tool, and the values that it gets.

Pure where the validators and serializers that a tool brings are; not in workflow code, which reads recorded gates.
"""

from collections.abc import Mapping
from typing import Final, cast

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from assent.agents.tool import Tool
from assent.core.approvals import only_adds
from assent.wire.digest import canonical, parse_arguments, sorted_lists, split_binding, values_digest
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import ToolCallInput

TOOL_CHANGED: Final = "the tool is not what it was when a person was asked: its parameters or its flags changed"


def as_json(values: Mapping[str, object]) -> dict[str, JsonValue]:
    """Return Python values as JSON, as pydantic writes them; what JSON cannot carry becomes its `repr`.

    Raises:
        Exception: whatever a user's serializer raises, or a value that JSON does not have.
    """
    read = cast("dict[str, JsonValue]", to_jsonable_python(dict(values), fallback=_text))
    canonical(read)
    return read


def binding(tool: Tool, differing: Mapping[str, JsonValue] | None) -> str:
    """Return the digest of the tool, "-", and that of the values *differing* from the arguments (None: cannot be told).

    The arguments are bound as they are written, so that both together bind every value that the tool gets.
    """
    return f"{tool.digest}-{'' if differing is None else values_digest(_ordered(tool, dict(differing)))}"


def differences(tool: Tool, raw: str, read: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the values of *read* that are not what the *raw* arguments say: defaults, aliases, conversions."""
    parsed = parse_arguments(raw)
    return {
        name: value
        for name, value in read.items()
        if name not in parsed or canonical(_ordered(tool, parsed[name])) != canonical(_ordered(tool, value))
    }


def bound_values(tool: Tool, call: ToolCallInput) -> tuple[dict[str, object], str | None]:
    """Return the values that an approved *call* runs with, by parameter; and why they are not the approved ones.

    Each is validated once: what was compared is what the tool gets. A default that is worked out each time
    (`default_factory`) is given as it was approved.

    Raises:
        ArgumentsError: today's tool does not take the arguments.
    """
    values, approved = tool.validate(call.arguments), call.authorization
    if approved is None:
        return values, None
    tool_then, values_then = split_binding(approved.binding)
    if tool_then != tool.digest:
        return values, TOOL_CHANGED
    read = _told(tool, values)
    now = None if read is None else differences(tool, call.arguments, read)
    if binding(tool, now) == approved.binding:
        return values, None
    if not values_then and not now:
        return values, None  # They were shown as written.
    revalidated = _revalidate(tool, _filled(parse_arguments(call.arguments), approved.read_as or {}))
    shown = None if revalidated is None else _told(tool, revalidated)
    if shown is not None and binding(tool, differences(tool, call.arguments, shown)) == approved.binding:
        return revalidated or {}, None
    return values, _changed(approved.read_as, now)


def input_problem(values: Mapping[str, JsonValue], read: Mapping[str, object]) -> str | None:
    """Return what to say to a person whose *values* the tool reads as something else; None if it does not."""
    try:
        as_read = as_json(read)
    except Exception:  # whatever a user's serializer raises: nothing can be shown or compared
        return None
    if only_adds(dict(values), as_read):
        return None
    return f"the tool would get {canonical(as_read).decode('utf-8', 'replace')}: send that, or reject"


def _filled(written: JsonValue, read: JsonValue) -> JsonValue:
    """Return what is *written*, with what *read* adds to it.

    What is written stays: *read* may not show it (a `SecretStr`), and a validator may change it a second time.
    """
    if isinstance(written, dict) and isinstance(read, dict):
        return {**read, **{name: _filled(value, read.get(name)) for name, value in written.items()}}
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [_filled(*each) for each in zip(written, read, strict=True)]
    return written


def _told(tool: Tool, values: Mapping[str, object]) -> dict[str, JsonValue] | None:
    try:
        return as_json(tool.named_values(values))
    except Exception:  # whatever a user's serializer raises
        return None


def _revalidate(tool: Tool, whole: JsonValue) -> dict[str, object] | None:
    try:
        return tool.validate(canonical(whole).decode("utf-8", "surrogatepass"))
    except (ArgumentsError, ValueError):
        return None


def _changed(then: Mapping[str, JsonValue] | None, now: Mapping[str, JsonValue] | None) -> str:
    then, now = then or {}, now or {}
    names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    about = f" ({', '.join(names)})" if names else ""
    return f"the tool would get other values{about} than a person was shown"


def _ordered(tool: Tool, value: JsonValue) -> JsonValue:
    """Return *value* with its lists sorted where the tool takes sets: the order of a set differs between processes."""
    return sorted_lists(value) if tool.takes_sets else value


def _text(value: object) -> str:
    # The `repr` of an object without its own has an address, which differs each time.
    return f"<{type(value).__qualname__}>" if type(value).__repr__ is object.__repr__ else repr(value)
