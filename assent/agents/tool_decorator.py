"""`@tool`: how a plain function becomes a `Tool`.

What is wrong with a tool is said when its module is imported, in one line: where, which tool, what, and what to do.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import partial
from types import UnionType
from typing import Annotated, Final, Union, cast, get_args, get_origin, overload

from assent.agents.approval_decorator import MARK, ApprovalOptions, is_time, marked, refuse_non_function
from assent.agents.schema import Parameter, argument_schema, read_docstring, read_signature
from assent.agents.tool import Confirmation, P, R, Tool, ToolContext, positional_count
from assent.wire.declarations import refuse, shown, source_of, unknown_options
from assent.wire.protocol import ASK_USER, RESERVED_TOOL_NAMES, ToolOptions

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI accepts as the name of a function


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    requires_confirmation: bool | Confirmation = False,
    external_execution: bool = False,
    requires_user_input: bool = False,
    user_input_fields: Sequence[str] | None = None,
    idempotent: bool = False,
    read_only: bool = False,
    destructive: bool = False,
    stop_after_tool_call: bool = False,
    timeout: timedelta = ...,
    heartbeat_timeout: timedelta = ...,
    retries: int = 0,
    task_queue: str | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    requires_confirmation: bool | Confirmation = False,
    external_execution: bool = False,
    requires_user_input: bool = False,
    user_input_fields: Sequence[str] | None = None,
    idempotent: bool = False,
    read_only: bool = False,
    destructive: bool = False,
    stop_after_tool_call: bool = False,
    timeout: timedelta = timedelta(minutes=10),
    heartbeat_timeout: timedelta = timedelta(seconds=30),
    retries: int = 0,
    task_queue: str | None = None,
    **unknown: object,
) -> object:
    """Make a function a tool: `@tool`, or `@tool(...)` with options.

    Args:
        function: a sync or async function whose parameters are all annotated and can be passed by name.
        name: what the model calls it; the function's name by default.
        description: what it does, for the model; the docstring's summary and long description by default.
        requires_confirmation: a person must approve each call. With a function, only the calls for which it returns
            true. It gets the arguments and, if it takes two, the `GateContext`. If it raises or does not return a
            boolean, a person is asked. Such a call runs at most once unless *idempotent*.
        external_execution: the function is never run; another system makes the call and submits the result.
        requires_user_input: a person fills in parameters that the model never sees; then the call runs.
        user_input_fields: which parameters; all of them by default.
        idempotent: running a call twice does the same as running it once.
        read_only: it changes nothing. Rules of a policy can use this; by itself it allows nothing.
        destructive: its effect cannot be undone. Rules of a policy can use this.
        stop_after_tool_call: the run ends after a call. The call's output is the run's content.
        timeout: the longest that one attempt may take.
        heartbeat_timeout: an attempt counts as lost if its worker sends no heartbeat for this time.
        retries: how often a call that failed is tried again.
        task_queue: where its activity runs; the agent's own task queue by default.
        unknown: no other option exists; a misspelt one is refused.

    Raises:
        ConfigurationError: the function cannot be a tool, an option is unknown or of the wrong type, or two of these
            contradict each other. One line: where, which tool, what is wrong, what to do.

    Example:
        ```python
        @tool(requires_confirmation=True)
        def refund(order: str, cents: int) -> str:
            "Refund an order."
            return "refunded"
        ```
    """
    settings = _Settings(
        name=name,
        description=description,
        requires_confirmation=requires_confirmation,
        external_execution=external_execution,
        requires_user_input=requires_user_input,
        user_input_fields=user_input_fields,
        idempotent=idempotent,
        read_only=read_only,
        destructive=destructive,
        stop_after_tool_call=stop_after_tool_call,
        timeout=timeout,
        heartbeat_timeout=heartbeat_timeout,
        retries=retries,
        task_queue=task_queue,
    )
    make = partial(_make_tool, settings, unknown_options(unknown, _OPTIONS))
    return make if function is None else make(function)


def tool_from(target: Callable[..., object]) -> Tool:
    """The tool that *target* is, or that a plain function makes with every setting at its default.

    Raises:
        ConfigurationError: as `tool`.
    """
    return cast("Tool", target) if isinstance(target, Tool) else _make_tool(_Settings(), None, target)


# -- making a tool ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What `@tool(...)` was given."""

    name: str | None = None
    description: str | None = None
    requires_confirmation: bool | Confirmation = False
    external_execution: bool = False
    requires_user_input: bool = False
    user_input_fields: Sequence[str] | None = None
    idempotent: bool = False
    read_only: bool = False
    destructive: bool = False
    stop_after_tool_call: bool = False
    timeout: timedelta = timedelta(minutes=10)
    heartbeat_timeout: timedelta = timedelta(seconds=30)
    retries: int = 0
    task_queue: str | None = None


_OPTIONS: Final = tuple(each.name for each in fields(_Settings))


def _make_tool(settings: _Settings, unknown: str | None, function: Callable[P, R]) -> Tool[P, R]:
    refuse_non_function(function, "tool")
    source = source_of(function)
    if unknown is not None:
        refuse(f"{source}: tool {function.__name__!r}", unknown)
    name = function.__name__ if settings.name is None else settings.name
    where = f"{source}: tool {name!r}"
    for problem in _problems(name, function, settings):
        refuse(where, problem)
    asks = settings.requires_user_input or settings.user_input_fields is not None
    signature = read_signature(function, where=where, known={ToolContext.__name__: ToolContext})
    docs = read_docstring(function.__doc__)
    context = _context_parameter(signature.parameters, where)
    shown = [parameter for parameter in signature.parameters if parameter.name != context]
    asked = _asked(settings, shown, where) if asks else []
    made = Tool(
        name=name,
        description=settings.description or docs.description or _humanised(name),
        schema=argument_schema([each for each in shown if each not in asked], docs.parameters, where=where),
        input_schema=argument_schema(asked, docs.parameters, where=where) if asked else None,
        function=function,
        source=source,
        is_async=inspect.iscoroutinefunction(function),
        context_parameter=context,
        requires_confirmation=settings.requires_confirmation,
        external_execution=settings.external_execution,
        requires_user_input=asks,
        idempotent=settings.idempotent,
        read_only=settings.read_only,
        destructive=settings.destructive,
        stop_after_tool_call=settings.stop_after_tool_call,
        choices="choices" if name == ASK_USER else None,
        options=_options(settings),
        return_annotation=signature.returns,
    )
    mark = cast("ApprovalOptions | None", getattr(function, MARK, None))
    return made if mark is None else marked(made, mark)


def _asked(settings: _Settings, shown: Sequence[Parameter], where: str) -> list[Parameter]:
    """The parameters that a person fills in."""
    names = [each.name for each in shown]
    wanted = names if settings.user_input_fields is None else list(settings.user_input_fields)
    if not wanted:
        refuse(where, "requires_user_input has no parameter to ask for; add one, or leave it out")
    for name in wanted:
        if name not in names:
            refuse(where, f"user_input_fields names {name!r}, but its parameters are: {', '.join(names) or 'none'}")
    return [each for each in shown if each.name in wanted]


def _options(settings: _Settings) -> ToolOptions | None:
    options = ToolOptions(
        timeout=settings.timeout.total_seconds(),
        heartbeat=settings.heartbeat_timeout.total_seconds(),
        attempts=settings.retries + 1 if settings.retries else None,
        task_queue=settings.task_queue,
    )
    return None if options == ToolOptions() else options


def _context_parameter(parameters: Iterable[Parameter], where: str) -> str | None:
    """The name of the parameter that takes the `ToolContext`, hence is hidden from the model."""
    contexts = [parameter for parameter in parameters if _mentions_context(parameter.hint)]
    for parameter in contexts:
        if not _is_context(parameter.hint):
            refuse(where, f"{parameter.name!r} mixes ToolContext with other types; annotate it as ToolContext alone")
    if len(contexts) > 1:
        refuse(where, f"{' and '.join(repr(item.name) for item in contexts)} are both a ToolContext; keep one")
    return contexts[0].name if contexts else None


def _is_context(hint: object) -> bool:
    if get_origin(hint) is Annotated:
        return _is_context(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return all(item is type(None) or _is_context(item) for item in get_args(hint))
    return hint is ToolContext


def _mentions_context(hint: object) -> bool:
    return hint is ToolContext or any(_mentions_context(item) for item in get_args(hint))


def _humanised(name: str) -> str:
    words = re.sub(r"[_-]+", " ", name).strip() or name
    return words[:1].upper() + words[1:]


# -- refusing ---------------------------------------------------------------------------------------------------------


def _problems(name: object, function: Callable[..., object], settings: _Settings) -> Iterator[str]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield "a name is 1 to 64 ASCII letters, digits, '_' and '-'; give it one: @tool(name=...)"
    if name in RESERVED_TOOL_NAMES and function.__module__ != "assent.agents.ask_user":
        yield "Assent uses this name itself; give it another: @tool(name=...)"
    confirmation = settings.requires_confirmation
    if not isinstance(confirmation, bool) and (problem := gate_problem(confirmation)):
        yield f"requires_confirmation is {shown(confirmation)}; {problem}"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        yield "it is a generator; return one value, e.g. a list"
    for option, fits, todo in _CHECKS:
        value: object = getattr(settings, option)
        if not fits(value):
            yield f"{option} is {shown(value)}; {todo}"


def _is_text(value: object) -> bool:
    return isinstance(value, str | None)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_list(value: object) -> bool:
    return value is None or (isinstance(value, Iterable) and not isinstance(value, str))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


_CHECKS: Final[tuple[tuple[str, Callable[[object], bool], str], ...]] = (
    ("description", _is_text, "give text"),
    ("external_execution", _is_flag, "give True or False"),
    ("requires_user_input", _is_flag, "give True or False"),
    ("user_input_fields", _is_list, 'give a list of names of parameters, e.g. ["reason"]'),
    ("idempotent", _is_flag, "give True or False"),
    ("read_only", _is_flag, "give True or False"),
    ("destructive", _is_flag, "give True or False"),
    ("stop_after_tool_call", _is_flag, "give True or False"),
    ("timeout", is_time, "give a positive timedelta, e.g. timedelta(seconds=30)"),
    ("heartbeat_timeout", is_time, "give a positive timedelta, e.g. timedelta(seconds=30)"),
    ("retries", _is_count, "give a whole number, 0 or more"),
    ("task_queue", _is_text, "give text"),
)
"""The options of `@tool` whose types are checked, how, and what to do where one does not fit."""


def gate_problem(function: object) -> str | None:
    """Why a function cannot be asked whether a call needs a person; None when it can."""
    if inspect.iscoroutinefunction(function):
        return "it is asked in a thread; give a function that is not async"
    if not callable(function) or positional_count(function) not in {1, 2}:
        return "give a boolean, or a function of the arguments and, if you like, of the context"
    return None
