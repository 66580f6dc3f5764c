"""JSON schemas of MCP servers: text of others, which must not take a worker's time.

Patterns could, and comparisons of each item with each other, and references that lead to one place in many ways. So a
check leaves some keywords out, and ends after a number of steps. What it does not see, the server checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import JsonValue

from assent.agents.schema import without
from assent.wire.digest import canonical
from assent.wire.text import bounded, one_line

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

STEPS: Final = 50_000
"""Keywords of a schema that one check looks at: a second, at the most."""
_UNCHECKED: Final = ("pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
_SHOWN: Final = 300
_PROBLEMS: Final = 5
_Check = Callable[..., Iterator[Any] | None]
_taken: ContextVar[Iterator[int]] = ContextVar("taken")


class _TooManyStepsError(Exception):
    """The check of a value has taken all of its steps."""


def schema_problem(schema: Mapping[str, JsonValue]) -> str | None:
    """Return why a server's *schema* is none, in a line; None if it is one."""
    from jsonschema import Draft202012Validator, exceptions  # noqa: PLC0415 - 0.1 s, for agents with servers only

    best_match = cast("Callable[[Iterable[ValidationError]], ValidationError | None]", exceptions.best_match)
    _taken.set(count())
    try:
        error = best_match(_validators()(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    except (RecursionError, _TooManyStepsError):
        return "a schema of it is too large or too deep"
    return None if error is None else f"a schema of it is none: {_line(error.message)}"


def value_problems(schema: Mapping[str, JsonValue], value: JsonValue) -> list[str]:
    """Return what is wrong with a *value* by a server's *schema*, a line for each.

    Raises:
        Exception: it cannot be checked: a reference leads nowhere, or the schema is too deep.
    """
    from referencing import Registry  # noqa: PLC0415 - as above

    problems = list[str]()
    nothing: Registry[Any] = Registry()  # of its own: nothing is fetched that a schema refers to
    _taken.set(count())
    try:
        for error in _validators()(schema, registry=nothing).iter_errors(value):
            problems.append(f"{error.json_path}: {_line(error.message)}".removeprefix("$: ").removeprefix("$."))
            if len(problems) == _PROBLEMS:
                break
    except _TooManyStepsError:
        pass
    return problems


def plain_field(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the *schema* of one field of a server's form, without what could take a worker's time."""
    reduced = dict(schema)
    for keyword in (*_UNCHECKED, "$ref", "$dynamicRef"):
        if keyword == "patternProperties" and b'"patternProperties"' in canonical(reduced):
            reduced = without("additionalProperties", reduced)  # What they allow cannot be told without them.
        reduced = without(keyword, reduced)
    return reduced


@cache
def _validators() -> Callable[..., Validator]:
    from jsonschema import Draft202012Validator, validators  # noqa: PLC0415 - as above

    keywords: dict[str, _Check] = {
        name: _counted(check) for name, check in Draft202012Validator.VALIDATORS.items() if name not in _UNCHECKED
    }
    properties = keywords["additionalProperties"]

    def additional(validator: Validator, value: object, instance: object, schema: Mapping[str, object]) -> Any:  # noqa: ANN401 - as the library's
        return None if "patternProperties" in schema else properties(validator, value, instance, schema)

    keywords |= {"additionalProperties": additional, **dict.fromkeys(_UNCHECKED, _nothing)}
    extend = cast("Callable[..., Callable[..., Validator]]", validators.extend)
    return extend(Draft202012Validator, keywords)


def _counted(check: _Check) -> _Check:
    def counted(*args: object) -> Iterator[Any] | None:
        if next(_taken.get()) > STEPS:
            raise _TooManyStepsError
        return check(*args)

    return counted


def _nothing(*_given: object) -> None:
    return None


def _line(message: str) -> str:
    return one_line(bounded(message.partition("\n")[0], _SHOWN))
