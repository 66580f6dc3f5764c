"""What an agent can do: `@tool` and `@approval`, and the `Tool` that they make of a function.

A tool is a plain function with annotations and a Google-style docstring; calling a `Tool` calls the function. What is
wrong with a tool is said when its module is imported, in one line: where, which tool, what, and what to do.

Pure; safe in workflow code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import UnionType
from typing import Annotated, Final, Generic, TypeVar, Union, cast, final, get_args, get_origin, overload

from pydantic import JsonValue
from pydantic_core import to_json
from typing_extensions import ParamSpec
from typing_extensions import TypeVar as TypeVarWithDefault

from assent.protocol import RESERVED_TOOL_NAMES, ApprovalType, ToolOptions
from assent.schema import ArgumentSchema, Parameter, argument_schema, read_docstring, read_signature, refuse, source_of

# With these defaults a bare `Tool` means any tool.
P = ParamSpec("P", default=...)
R = TypeVarWithDefault("R", covariant=True, default=object)
F = TypeVar("F", bound=Callable[..., object])

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI accepts as the name of a function
_MARK: Final = "__assent_approval__"
_PAUSES: Final = ("requires_confirmation", "external_execution", "requires_user_input")


@final
@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool may know about the call it carries out: a parameter annotated so is filled in, unseen by the model.

    *run_id* is the workflow id. *attempt* counts from 1. *idempotency_key* is the same at every attempt of one call.
    *requested_by* is who started the run, as a claim. *approved_by* and *requirement_id* are set when people decided.
    """

    run_id: str
    call_id: str
    tool: str
    agent: str
    attempt: int
    idempotency_key: str
    requested_by: str | None = None
    approved_by: tuple[str, ...] = ()
    requirement_id: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Tool(Generic[P, R]):
    """A function that a model may call, with everything that is decided about it. Made by `tool` and `tool_from`.

    Calling it calls *function*. *source* is where that is, `file:line`. *context_parameter* is the parameter that
    receives the `ToolContext`. *options* is None where all are the default. *return_annotation* is None where there
    is none, and text where it does not resolve.
    """

    name: str
    description: str
    schema: ArgumentSchema
    function: Callable[P, R]
    source: str
    is_async: bool = False
    context_parameter: str | None = None
    requires_confirmation: bool = False
    external_execution: bool = False
    requires_user_input: bool = False
    approval_type: ApprovalType | None = None
    idempotent: bool = False
    options: ToolOptions | None = None
    return_annotation: object = None

    def __post_init__(self) -> None:
        """Refuse contradicting flags, and take the function's metadata as `functools.update_wrapper` would."""
        if problem := _flag_problem(self):
            refuse(self.where, problem)
        names = ("__module__", "__name__", "__qualname__", "__doc__")
        vars(self).update({name: getattr(self.function, name, None) for name in names}, __wrapped__=self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if it were not a tool."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """Its name and where it is."""
        return f"<Tool {self.name!r} ({self.source})>"

    @property
    def where(self) -> str:
        """How a message about it starts."""
        return f"{self.source}: tool {self.name!r}"

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """The JSON schema of the arguments, for the model: self-contained, no other arguments allowed."""
        return self.schema.parameters

    def validate(self, raw: str) -> dict[str, object]:
        """The Python values of a model's arguments, by parameter name. See `ArgumentSchema.validate`.

        Raises:
            ArgumentsError: as there. The message is for the model: one line for each wrong field.

        Pure; safe in workflow code.
        """
        return self.schema.validate(raw)

    def render(self, value: object) -> str:
        """What the tool returned, as text for the model: text as it is, anything else as JSON (None is `null`).

        Models, dataclasses, dates and decimals become JSON as pydantic writes it; what JSON cannot carry becomes its
        `repr`, alone where the rest can be JSON.

        Pure; safe in workflow code.
        """
        # A lone surrogate cannot be encoded, so it would be lost on its way into history: it is escaped instead.
        return _text(value).encode("utf-8", "backslashreplace").decode("utf-8")


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    requires_confirmation: bool = False,
    external_execution: bool = False,
    requires_user_input: bool = False,
    user_input_fields: list[str] | None = None,
    idempotent: bool = False,
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
    requires_confirmation: bool = False,
    external_execution: bool = False,
    requires_user_input: bool = False,
    user_input_fields: list[str] | None = None,
    idempotent: bool = False,
    timeout: timedelta = timedelta(minutes=10),
    heartbeat_timeout: timedelta = timedelta(seconds=30),
    retries: int = 0,
    task_queue: str | None = None,
) -> object:
    """Make a function a tool: `@tool`, or `@tool(...)` with any of these.

    Args:
        function: a sync or async function whose parameters are all annotated and can be passed by name.
        name: what the model calls it; the function's name by default.
        description: what the model is told it does; the docstring's summary and long description by default.
        requires_confirmation: a person must approve each call. Such a call runs at most once unless *idempotent*.
        external_execution: the function is never run; somebody carries the call out elsewhere and submits the result.
        requires_user_input: refused until a later version.
        user_input_fields: refused until a later version.
        idempotent: running a call twice does the same as running it once.
        timeout: the longest that one attempt may take.
        heartbeat_timeout: how long after its worker was last heard of an attempt counts as lost.
        retries: how often a call that failed is tried again.
        task_queue: where its activity runs; the agent's own task queue by default.

    Raises:
        ConfigurationError: the function cannot be a tool, or two of these contradict each other. One line: where,
            which tool, what is wrong, what to do.

    Pure; safe in workflow code.
    """
    settings = _Settings(
        name=name,
        description=description,
        requires_confirmation=requires_confirmation,
        external_execution=external_execution,
        requires_user_input=requires_user_input or user_input_fields is not None,
        idempotent=idempotent,
        timeout=timeout,
        heartbeat_timeout=heartbeat_timeout,
        retries=retries,
        task_queue=task_queue,
    )
    return partial(_make, settings) if function is None else _make(settings, function)


def tool_from(target: Callable[..., object]) -> Tool:
    """The tool that *target* is, or that a plain function makes with every setting at its default.

    Raises:
        ConfigurationError: as `tool`.

    Pure; safe in workflow code.
    """
    return cast("Tool", target) if isinstance(target, Tool) else _make(_Settings(), target)


@overload
def approval(target: F, /) -> F: ...


@overload
def approval(*, type: ApprovalType = "required") -> Callable[[F], F]: ...


def approval(target: F | None = None, /, *, type: ApprovalType = "required") -> F | Callable[[F], F]:
    """Mark a tool's calls as approvals in the sense of the records; above or below `@tool`.

    Args:
        target: a tool, or a function that becomes one.
        type: `required`: recorded from the moment a call waits, and a tool that would not pause then requires
            confirmation. `audit`: recorded once decided, for a tool that pauses anyway.

    Raises:
        ConfigurationError: *type* is another word, the target is marked already or is no function or tool, or `audit`
            is asked of a tool that does not pause.

    Pure; safe in workflow code.
    """
    return partial(_approve, type) if target is None else _approve(type, target)


# -- making a tool ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What `@tool(...)` was given."""

    name: str | None = None
    description: str | None = None
    requires_confirmation: bool = False
    external_execution: bool = False
    requires_user_input: bool = False
    idempotent: bool = False
    timeout: timedelta = timedelta(minutes=10)
    heartbeat_timeout: timedelta = timedelta(seconds=30)
    retries: int = 0
    task_queue: str | None = None


def _make(settings: _Settings, function: Callable[P, R]) -> Tool[P, R]:
    _refuse_non_function(function, "tool")
    name = function.__name__ if settings.name is None else settings.name
    source = source_of(function)
    where = f"{source}: tool {name!r}"
    for problem in _problems(name, function, settings):
        refuse(where, problem)
    signature = read_signature(function, where=where, known={ToolContext.__name__: ToolContext})
    docs = read_docstring(function.__doc__)
    context = _context_parameter(signature.parameters, where)
    shown = [parameter for parameter in signature.parameters if parameter.name != context]
    made = Tool(
        name=name,
        description=settings.description or docs.description or _humanised(name),
        schema=argument_schema(shown, docs.parameters, where=where),
        function=function,
        source=source,
        is_async=inspect.iscoroutinefunction(function),
        context_parameter=context,
        requires_confirmation=settings.requires_confirmation,
        external_execution=settings.external_execution,
        requires_user_input=settings.requires_user_input,
        idempotent=settings.idempotent,
        options=_options(settings),
        return_annotation=signature.returns,
    )
    mark = cast("ApprovalType | None", getattr(function, _MARK, None))
    return made if mark is None else _marked(made, mark)


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
            refuse(where, f"{parameter.name!r} mixes ToolContext with other types; annotate it ToolContext alone")
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


def _text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # the value of a member of a str enum, whose own __str__ is its name
    try:
        return to_json(value, fallback=repr, inf_nan_mode="strings").decode("utf-8")
    except Exception:  # cycles, bytes that are no text, and whatever a user's serializer raises
        return repr(value)


# -- marking an approval ----------------------------------------------------------------------------------------------


def _approve(kind: ApprovalType, target: F) -> F:
    if isinstance(target, Tool):
        return cast("F", _marked(cast("Tool", target), kind))
    _refuse_non_function(target, "approval")
    if problem := _mark_problem(kind, getattr(target, _MARK, None)):
        refuse(f"{source_of(target)}: tool {target.__name__!r}", problem)
    setattr(target, _MARK, kind)
    return target


def _marked(made: Tool[P, R], kind: ApprovalType) -> Tool[P, R]:
    pauses = any(getattr(made, flag) for flag in _PAUSES)
    if problem := _mark_problem(kind, made.approval_type):
        refuse(made.where, problem)
    if kind == "audit" and not pauses:
        refuse(made.where, '@approval(type="audit") is for a tool that pauses; add requires_confirmation=True')
    return replace(made, approval_type=kind, requires_confirmation=made.requires_confirmation or not pauses)


def _mark_problem(kind: object, before: object) -> str | None:
    if kind not in get_args(ApprovalType):
        return f'@approval has no type {kind!r}; use type="required" or type="audit"'
    return None if before is None else "@approval is there twice; keep one"


# -- refusing ---------------------------------------------------------------------------------------------------------


def _flag_problem(made: Tool[P, R]) -> str | None:
    pauses = [flag for flag in _PAUSES if getattr(made, flag)]
    if len(pauses) > 1:
        return f"{' and '.join(pauses)} exclude each other; keep one"
    if made.requires_user_input:
        return "requires_user_input arrives with a later version; leave it and user_input_fields out"
    if made.requires_confirmation and made.options and made.options.attempts and not made.idempotent:
        return "what a person confirms runs at most once; leave retries out, or say idempotent=True"
    return None


def _problems(name: str, function: Callable[..., object], settings: _Settings) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "a name is 1 to 64 ASCII letters, digits, '_' and '-'; give it one: @tool(name=...)"
    if name in RESERVED_TOOL_NAMES:
        yield "Assent uses this name itself; give it another: @tool(name=...)"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        yield "it is a generator; return one value, e.g. a list"
    for option in ("timeout", "heartbeat_timeout"):
        value: object = getattr(settings, option)
        if not isinstance(value, timedelta) or value <= timedelta(0):
            yield f"{option} is {value!r}; give a positive timedelta, e.g. timedelta(seconds=30)"
    if type(settings.retries) is not int or settings.retries < 0:
        yield f"retries is {settings.retries!r}; give a whole number, 0 or more"


def _refuse_non_function(target: object, decorator: str) -> None:
    if inspect.isfunction(target) or inspect.ismethod(target):
        if target.__name__ == "<lambda>":
            refuse(f"{source_of(target)}: @{decorator}", "a lambda has no annotations; define a function with def")
    elif isinstance(target, Tool):
        refuse(f"{target.source}: tool {target.name!r}", "@tool is there twice; keep one")
    else:
        what = f"class {target.__name__!r}" if inspect.isclass(target) else repr(target)
        refuse(f"{source_of(target)}: @{decorator}", f"{what} is not a function; put it on one, options by keyword")
