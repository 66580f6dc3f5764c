"""What an agent can do: the `Tool` that `@tool` and `@approval` make of a function, and everything decided about it.

A tool is a plain function with annotations and a Google-style docstring; calling a `Tool` calls the function.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import NoneType
from typing import Any, Final, Generic, cast, final

from pydantic import JsonValue, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import ParamSpec
from typing_extensions import TypeVar as TypeVarWithDefault

from assent.agents.schema import EMPTY, ArgumentSchema, without
from assent.agents.schema_errors import explain
from assent.wire.declarations import refuse
from assent.wire.digest import canonical, tool_digest
from assent.wire.errors import ArgumentsError
from assent.wire.policy import Effect
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import ApprovalType, InputField, ToolOptions

# With these defaults a bare `Tool` means any tool.
P = ParamSpec("P", default=...)
R = TypeVarWithDefault("R", covariant=True, default=object)

PAUSES: Final = ("requires_confirmation", "external_execution", "requires_user_input")
"""The flags that make a call wait; a tool has at most one of them."""
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_ANYTHING: Final = (None, NoneType, Any, object)
"""Return annotations that say nothing about a result; a stub that is never run often has one."""

Confirmation = Callable[[dict[str, Any]], bool] | Callable[[dict[str, Any], "GateContext"], bool]
"""Whether a call needs a person: a function of its arguments (Python values by name) and, if it takes two, the context.

Called on the worker, in a thread, when the model makes the call, and again as the tool runs if it did not ask for a
person. It must not change anything, and should give the same answer.
"""


@final
@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool may know about the call it carries out: a parameter annotated so is filled in, unseen by the model.

    *run_id* is the workflow id. *attempt* counts from 1. *idempotency_key* is the same at every attempt of one call.
    *requested_by* is who started the run, and *context* what that person or service gave with it, both as claims.
    *approved_by* and *requirement_id* are set when people decided.
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
    context: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@final
@dataclass(frozen=True, kw_only=True)
class GateContext:
    """What a gate may know about the call that it is asked about. *requested_by* and *context* are claims."""

    run_id: str
    call_id: str
    tool: str
    agent: str
    requested_by: str | None = None
    context: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@final
@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the instructions of an agent may depend on. *requested_by* and *context* are claims."""

    run_id: str
    agent: str
    requested_by: str | None = None
    context: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@final
@dataclass(frozen=True, kw_only=True)
class ApprovalTerms:
    """What `@approval` says: how many people, which, and until when. See there."""

    type: ApprovalType | None = None
    approvals: int = 1
    approvers: tuple[str, ...] | None = None
    expires_after: timedelta | None = None
    remind_every: timedelta | None = None
    escalate: tuple[tuple[timedelta, tuple[str, ...]], ...] = ()
    self_approval: bool = False
    proof: ProofLevel | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Target:
    """The agent that a tool's calls go to. *served* is the `Agent` itself, where the same worker is to serve it.

    With *handoff* it continues the conversation; else it works in a child run, on *task_queue* or that of the calling
    run.
    """

    agent: str
    served: object = field(default=None, repr=False, compare=False)
    handoff: bool = False
    task_queue: str | None = None


@final
@dataclass(frozen=True)
class ServerDefinition:
    """What an MCP *server* says of a tool, as canonical JSON: its description and schemas.

    *trusted*: the operator believes what the server says of its tools.
    """

    server: str
    trusted: bool
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class Tool(Generic[P, R]):
    """A function that a model may call, with everything that is decided about it. Made by `tool` and `tool_from`.

    Calling it calls *function*. *source* is where that is, `file:line`. *schema* is what the model fills in,
    *input_schema* what a person does. *context_parameter* is the parameter that receives the `ToolContext`. *options*
    is None where all are the default. *return_annotation* is None where there is none, and text where it does not
    resolve. *choices* names the argument that lists what may be chosen for the one field that a person fills in.
    *target* is the agent that its calls go to, where they do, *definition* what the MCP server says that it is of.
    """

    name: str
    description: str
    schema: ArgumentSchema
    function: Callable[P, R]
    source: str
    is_async: bool = False
    context_parameter: str | None = None
    requires_confirmation: bool | Confirmation = False
    external_execution: bool = False
    requires_user_input: bool = False
    input_schema: ArgumentSchema | None = None
    terms: ApprovalTerms = ApprovalTerms()
    idempotent: bool = False
    read_only: bool = False
    destructive: bool = False
    stop_after_tool_call: bool = False
    choices: str | None = None
    options: ToolOptions | None = None
    return_annotation: object = None
    target: Target | None = None
    definition: ServerDefinition | None = None

    def __post_init__(self) -> None:
        """Refuse contradicting flags, and take the function's metadata as `functools.update_wrapper` would."""
        if problem := flag_problem(self):
            refuse(self.label, problem)
        names = ("__module__", "__name__", "__qualname__", "__doc__")
        vars(self).update({name: getattr(self.function, name, None) for name in names}, __wrapped__=self.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if it were not a tool."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """Its name and where it is."""
        return f"<Tool {self.name!r} ({self.source})>"

    @property
    def model_name(self) -> str:
        """What the model calls it: its name, in the characters that providers permit."""
        return permitted_name(self.name)

    @property
    def label(self) -> str:
        """How a message about it starts."""
        return f"{self.source}: tool {self.name!r}"

    @property
    def approval_type(self) -> ApprovalType | None:
        """What `@approval` says the records of its calls are; None without it."""
        return self.terms.type

    @property
    def effects(self) -> frozenset[Effect]:
        """What it declares about itself, for the rules of a policy. A declaration never loosens anything by itself."""
        declared: tuple[tuple[Effect, bool], ...] = (("read_only", self.read_only), ("destructive", self.destructive))
        return frozenset(effect for effect, is_declared in declared if is_declared)

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """The JSON schema of the arguments, for the model: self-contained, no other arguments allowed."""
        return self.schema.parameters

    @cached_property
    def digest(self) -> str:
        """What an approval binds of the tool: its name, what it takes, and its flags; not its texts and its code.

        Of a tool of an MCP server also the texts: the one who changes them does not write the agent.
        """
        asked = None if self.input_schema is None else without("description", self.input_schema.parameters)
        return tool_digest(
            {
                "name": self.name,
                "parameters": without("description", self.parameters),
                "asked": asked,
                "confirms": bool(self.requires_confirmation),
                "external": self.external_execution,
                "attempts": None if self.options is None else self.options.attempts,
                "stops": self.stop_after_tool_call,
                "effects": sorted(self.effects),
                "idempotent": self.idempotent,
                "target": None if self.target is None else {self.target.agent: self.target.handoff},
                **({} if self.definition is None else {"definition": self.definition.text}),
            }
        )

    @cached_property
    def takes_sets(self) -> bool:
        """Whether a set is somewhere in its parameters."""
        return b'"uniqueItems":true' in canonical(self.parameters)

    @property
    def has_own_types(self) -> bool:
        """Whether checking its arguments may run validators of the user's, which may block."""
        if self.definition is not None:
            return False
        return not (self.schema.is_plain and (self.input_schema is None or self.input_schema.is_plain))

    def validate(self, raw: str) -> dict[str, object]:
        """The Python values of a model's arguments, by parameter name. See `ArgumentSchema.validate`.

        Raises:
            ArgumentsError: as there. The message is for the model: one line for each wrong field.
        """
        return self.schema.validate(raw)

    def named_values(self, values: Mapping[str, object]) -> dict[str, object]:
        """What `validate` gave, with the defaults of the signature for what was left out: what a gate judges."""
        fields = {**self.schema.fields, **(self.input_schema.fields if self.input_schema else {})}
        defaults = {each.name: each.default for each in fields.values() if each.default is not EMPTY}
        asked = {each.name for each in self.input_schema.fields.values()} if self.input_schema else set[str]()
        return {**{name: value for name, value in defaults.items() if name not in asked}, **values}

    def input_fields(self, raw: str) -> list[InputField]:
        """What a person fills in for a call with these arguments; raw, and validated before."""
        if self.input_schema is None:
            return []
        choices = self._choices(raw)
        shapes: object = self.input_schema.parameters["properties"]
        named: dict[str, Any] = shapes if isinstance(shapes, dict) else {}
        definitions = self.input_schema.parameters.get("$defs")
        fields: list[InputField] = []
        for each in self.input_schema.fields.values():
            shape: dict[str, JsonValue] = dict(named[each.name])
            description = shape.pop("description", None)
            if definitions is not None and "$ref" in canonical(shape).decode():
                shape["$defs"] = definitions
            if choices is not None:
                shape = {"enum": list(choices)}
            fields.append(
                InputField(
                    name=each.name,
                    type=shape,
                    description=str(description) if description else None,
                    required=each.default is EMPTY,
                )
            )
        return fields

    def validate_input(self, raw: str, values: Mapping[str, JsonValue]) -> dict[str, object]:
        """The Python values of what a person filled in, by parameter name; *raw* are the model's own arguments.

        Raises:
            ArgumentsError: a value is missing, is of the wrong type, or is not among the choices.
        """
        if self.input_schema is None:
            raise ArgumentsError("this tool takes nothing from a person")
        checked = self.input_schema.validate(canonical(dict(values)).decode("utf-8", "surrogatepass"))
        choices = self._choices(raw)
        for name, value in checked.items():
            if choices is not None and value not in choices:
                raise ArgumentsError(f"{name}: it must be one of: {', '.join(choices)}")
        return checked

    def _choices(self, raw: str) -> list[str] | None:
        listed = self.validate(raw).get(self.choices) if self.choices else None
        return [str(each) for each in cast("list[object]", listed)] if isinstance(listed, list) and listed else None

    @cached_property
    def _result(self) -> TypeAdapter[Any] | None:
        if isinstance(self.return_annotation, str) or any(self.return_annotation is each for each in _ANYTHING):
            return None
        try:
            return TypeAdapter(cast("type[Any]", self.return_annotation))
        except (PydanticUserError, TypeError):  # what pydantic cannot check is not checked
            return None

    @property
    def checks_result(self) -> bool:
        """Whether its return annotation says what a result from outside must be."""
        return self._result is not None

    def result_field(self) -> InputField | None:
        """Return the field `output` of a result from outside, by the return annotation; None if it says nothing."""
        if self._result is None:
            return None
        try:
            return InputField(name="output", type=self._result.json_schema())
        except Exception:  # a type that pydantic checks but cannot describe, or whose own schema code raises
            return None

    def result_problem(self, output: JsonValue) -> str | None:
        """What is wrong with a result from outside by the return annotation, one line for each field; None if nothing.

        Checked in pydantic's strict JSON mode, as arguments are.
        """
        if self._result is None:
            return None
        try:
            self._result.validate_json(canonical(output), strict=True)
        except ValidationError as error:
            return explain(error, output, {"properties": {}}, root="the output")
        except Exception as error:  # a validator of the user's own types may raise anything; the run must not end
            return f"the output could not be checked: {type(error).__name__}: {error}"
        return None

    def render(self, value: object) -> str:
        """What the tool returned, as text for the model: text as it is, anything else as JSON (None is `null`).

        Models, dataclasses, dates and decimals become JSON as pydantic writes it; what JSON cannot carry becomes its
        `repr`, alone where the rest can be JSON.
        """
        # A lone surrogate cannot be encoded, so it would be lost on its way into history: it is escaped instead.
        return _text(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # the value of a member of a str enum, whose own __str__ is its name
    try:
        return to_json(value, fallback=repr, inf_nan_mode="strings").decode("utf-8")
    except Exception:  # cycles, bytes that are no text, and whatever a user's serializer raises
        return repr(value)


def permitted_name(name: JsonValue) -> str:
    """Return *name*, or one like it that providers permit."""
    return _NOT_IN_NAMES.sub("_", name if isinstance(name, str) else "")[:64] or "_"


def flag_problem(tool: Tool[P, R]) -> str | None:
    """What contradicts itself in what a tool says of itself, and what to do; None if nothing does."""
    pauses = [flag for flag in PAUSES if getattr(tool, flag)]
    if len(pauses) > 1:
        return f"{' and '.join(pauses)} exclude each other; keep one"
    if tool.read_only and tool.destructive:
        return "read_only and destructive exclude each other; keep one"
    if tool.terms.approvals > 1 and not tool.requires_confirmation:
        many = f"approvals={tool.terms.approvals}"
        return f"{many} is for a tool that is approved; one person hands in a result or fills in values"
    runs = tool.requires_confirmation or tool.requires_user_input
    if runs and tool.options and tool.options.attempts and not tool.idempotent:
        return "what a person confirms runs at most once; leave retries out, or say idempotent=True"
    return None


def positional_count(function: Callable[..., object]) -> int:
    """How many arguments a gate's function is given: its positional parameters, 0 where that cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in positional for each in parameters)
