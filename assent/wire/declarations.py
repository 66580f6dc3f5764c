"""What people write in Python, such as agents, tools, budgets and policies: what is wrong with it, in one line.

The line says where it is written, what it is about, what is wrong and what to do.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import PurePath
from types import CodeType
from typing import Final, NoReturn, TypeVar, cast

from pydantic import ValidationError

from assent.wire.errors import ConfigurationError
from assent.wire.text import bounded, one_line

T = TypeVar("T")

_PASSED: Final = frozenset({__name__.partition(".")[0], "pydantic", "functools", "dataclasses"})
"""Packages through which a call of ours may go: the line that is wanted is the first outside of them."""
_SHOWN: Final = 100
"""Characters of a wrong value in a message."""


def refuse(where: str, problem: str, cause: Exception | None = None) -> NoReturn:
    """Raise the one line that says *where*, what the *problem* is and what to do.

    Raises:
        ConfigurationError: always.
    """
    raise ConfigurationError(f"{where}: {' '.join(problem.split())}") from cause


def source_of(target: object = None) -> str:
    """Return where *target* is written, as `file:line`; if it has no code of its own, the line that uses Assent now."""
    code = getattr(inspect.unwrap(target) if callable(target) else target, "__code__", None)
    if isinstance(code, CodeType):
        return f"{PurePath(code.co_filename).name}:{code.co_firstlineno}"
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PASSED:
        frame = frame.f_back
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?"


def shown(value: object) -> str:
    """Return a wrong value as a message shows it: one bounded line."""
    return bounded(one_line(repr(value)), _SHOWN)


def unknown_name(name: str, known: Iterable[str]) -> str:
    """Return what to say of a name that is not among the *known* ones, with the one that is probably meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"


def unknown_options(options: Iterable[str], known: Iterable[str]) -> str | None:
    """Return what is wrong with the first option of *options* that is not *known*; None if all are known."""
    names = list(known)
    wrong = next((name for name in options if name not in names), None)
    return None if wrong is None else f"there is no option {wrong!r}; {unknown_name(wrong, names)}"


def declared(kind: type[T]) -> type[T]:
    """Make the constructor of *kind* refuse wrong arguments with a `ConfigurationError`.

    For dataclasses and for pydantic's models. What reads values from outside (`model_validate`) raises as before.
    """
    construct: Callable[..., None] = kind.__init__
    signature = inspect.signature(kind)
    settings: object = getattr(kind, "model_config", getattr(kind, "__pydantic_config__", None))
    hides = isinstance(settings, Mapping) and bool(cast("Mapping[str, object]", settings).get("hide_input_in_errors"))

    @wraps(construct)
    def checked(self: T, *args: object, **options: object) -> None:
        problem = unknown_options(options, signature.parameters)
        if problem is None:
            try:
                construct(self, *args, **options)
            except ValidationError as error:
                problem = _misfit(signature, args, options) or _first_problem(error, signature, hide=hides)
            except TypeError:
                problem = _misfit(signature, args, options)
                if problem is None:
                    raise
        if problem is not None:
            refuse(f"{source_of()}: {kind.__name__}", problem)

    type.__setattr__(kind, "__init__", checked)
    return kind


def _misfit(signature: inspect.Signature, args: Sequence[object], options: Mapping[str, object]) -> str | None:
    """Return what is wrong with how many arguments there are; None if nothing is."""
    try:
        signature.bind(*args, **options)
    except TypeError as error:
        return f"{error}; give them by name" if len(args) > 1 or not options else str(error)
    return None


def _first_problem(error: ValidationError, signature: inspect.Signature, *, hide: bool) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    path: list[str | int] = list(first["loc"])
    if path[:1] == [0]:  # the first argument of a dataclass, given without its name
        path[0] = next(iter(signature.parameters))
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    problem = f"{message[:1].lower()}{message[1:]}"
    if not path:
        return problem
    where = ".".join(map(str, path))
    return f"{where}: {problem}" if hide else f"{where} is {shown(first['input'])}; {problem}"
