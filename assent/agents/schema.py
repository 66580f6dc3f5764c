"""What a tool takes: the JSON schema that a model sees, and the check of the arguments that it sends.

A function's annotations, defaults and Google-style docstring are the only source. Everything that would make a schema
wrong, or empty where the author meant something, is refused when the module is imported, in one line.
"""

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin, get_type_hints

from docstring_parser import DocstringStyle, ParseError, parse
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import SchemaError

from assent.agents.schema_errors import MAX_MESSAGE, explain, is_lenient, shortened, single_line
from assent.wire.declarations import refuse
from assent.wire.digest import parse_arguments
from assent.wire.errors import ArgumentsError
from assent.wire.text import bounded

EMPTY: Final = inspect.Parameter.empty

_HINT_SHOWN: Final = 80
_ERROR_SHOWN: Final = 160
"""Characters of an annotation, and of what pydantic says of it, in a message."""

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
# Keywords whose value is one schema, a list of schemas, or schemas by name. All else (`default`, `enum`, `const`,
# `examples`) is data, where a key `title` is the user's own.
_NESTED_ONE: Final = frozenset({"items", "additionalProperties", "propertyNames", "contains", "not"})
_NESTED_LIST: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_NESTED_NAMED: Final = frozenset({"properties", "patternProperties", "$defs"})
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True)
class Parameter:
    """One parameter of a tool's function: its *hint* resolved, its *default* `EMPTY` where the signature has none."""

    name: str
    hint: object
    default: object = EMPTY


@dataclass(frozen=True)
class Signature:
    """The parameters of a function, and what it *returns*: None where that is not annotated."""

    parameters: tuple[Parameter, ...]
    returns: object = None


@dataclass(frozen=True)
class Docs:
    """What a docstring says: the *description* (summary and long description) and a text for each parameter."""

    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, eq=False)
class ArgumentSchema:
    """What a tool takes. *parameters* is a self-contained JSON schema; *fields* are parameter names by model field.

    The model's fields have neutral names and carry the parameter's name as an alias, so that a parameter may be
    called `schema`, `json`, `copy` or `model_config`.
    """

    parameters: dict[str, JsonValue]
    model: type[BaseModel]
    fields: Mapping[str, Parameter]

    @cached_property
    def is_plain(self) -> bool:
        """Whether it takes text, numbers, booleans and lists of them alone, which no user's code checks or shows."""
        return all(
            _is_plain(each.hint) and (each.default is EMPTY or type(each.default) in _PLAIN)
            for each in self.fields.values()
        )

    def validate(self, raw: str) -> dict[str, object]:
        """The Python values of a model's arguments, by parameter name; what was left out is left out here too.

        Checked in pydantic's strict JSON mode, whose only conversions are those that JSON needs (text to a date, a
        `Decimal` or an enum's member, an array to a tuple). One leniency, because models make this mistake and it
        cannot change a meaning: a number in quotes and a whole number written `5.0` are taken as the number.
        Never text or a number for a boolean, a boolean for a number, or a number for a date.

        Raises:
            ArgumentsError: *raw* is not a strict JSON object, or does not fit the schema. The message is for the
                model: one line for each wrong field.
        """
        parsed = parse_arguments(raw)
        try:
            return self._values(raw)
        except ValidationError as error:
            raise ArgumentsError(explain(error, parsed, self.parameters)) from None
        except Exception as error:  # a validator of the user's own types may raise anything; the run must not end
            message = f"the arguments could not be checked: {type(error).__name__}: {error}"
            raise ArgumentsError(shortened(single_line(message), MAX_MESSAGE)) from error

    def _values(self, raw: str) -> dict[str, object]:
        try:
            checked = self.model.model_validate_json(raw, strict=True)
        except ValidationError as error:
            if not is_lenient(error):
                raise
            checked = self.model.model_validate_json(raw, strict=False)
        return {
            parameter.name: _materialize(cast("object", getattr(checked, name)))
            for name, parameter in self.fields.items()
            # A default of the signature is applied by the call itself; one inside `Annotated` only pydantic knows.
            if name in checked.model_fields_set or parameter.default is EMPTY
        }


def _is_plain(hint: object) -> bool:
    if get_origin(hint) in {list, Union, UnionType}:
        return all(map(_is_plain, get_args(hint)))
    return isinstance(hint, type) and hint in _PLAIN


def read_signature(function: Callable[..., object], *, where: str, known: Mapping[str, object]) -> Signature:
    """The parameters of *function* with their annotations resolved; *where* starts the messages.

    *known* are names that resolve although the module does not import them at run time (only for the type checker).

    Raises:
        ConfigurationError: a parameter has no annotation, cannot be passed by name, starts with an underscore, has a
            `Field(...)` for its default, or its annotation does not resolve.
    """
    origin = inspect.unwrap(function)
    names: dict[str, object] = {**known, **getattr(origin, "__globals__", {})}
    signature = _inspect(function, where)
    parameters = tuple(_parameter(item, names, where) for item in signature.parameters.values())
    return Signature(parameters, _returns(signature.return_annotation, names))


def read_docstring(docstring: str | None) -> Docs:
    """What a Google-style docstring says; one that cannot be parsed is all description."""
    text = inspect.cleandoc(docstring or "")
    try:
        parsed = parse(text, style=DocstringStyle.GOOGLE)
    except ParseError:
        return Docs(text)
    parts = [part for part in (parsed.short_description, parsed.long_description) if part]
    described = {item.arg_name: item.description for item in parsed.params if item.description}
    return Docs("\n\n".join(parts), described)


def argument_schema(parameters: Sequence[Parameter], docs: Mapping[str, str], *, where: str) -> ArgumentSchema:
    """The schema of *parameters*, described by their annotations or else by *docs*; *where* starts the messages.

    Raises:
        ConfigurationError: a parameter has a type that JSON cannot carry or that pydantic cannot check.
    """
    try:
        return _build(parameters, docs)
    except Exception as error:  # pydantic's own errors have no common root, and a type's schema hook may raise any
        refuse(where, _first_problem(parameters, docs) or f"it takes parameters {no_schema(error)}", error)


# -- reading a signature ----------------------------------------------------------------------------------------------


def _inspect(function: Callable[..., object], where: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except Exception as error:
        refuse(where, f"its signature cannot be read ({_first_line(error)}); use a plain function", error)


def _parameter(item: inspect.Parameter, names: dict[str, object], where: str) -> Parameter:
    if problem := _problem(item):
        refuse(where, problem)
    try:
        return Parameter(item.name, _resolve(item.annotation, names), item.default)
    except Exception as error:  # evaluating an annotation runs the user's expression, which may raise anything
        todo = "define or import its names at module level, outside `if TYPE_CHECKING`"
        refuse(where, f"the annotation of {item.name!r} does not resolve ({_first_line(error)}); {todo}", error)


def _problem(item: inspect.Parameter) -> str | None:
    """What is wrong with a parameter whatever its annotation means, and what to do about it."""
    name = item.name
    if item.kind not in _BY_NAME:
        shown = f"'{str(item).partition(name)[0]}{name}'"
        return f"{shown} cannot be passed by name; declare parameters that can, without '*', '**' and '/'"
    if name == "self" and item.annotation is EMPTY:
        return "it is a method; give the bound method to Agent(tools=[...]), or use a plain function"
    if name.startswith("_"):
        return f"{name!r} starts with an underscore, but the model is shown every parameter; rename it"
    if item.annotation is EMPTY:
        return f"{name!r} has no annotation; annotate it, e.g. {name}: {_example(item.default)}"
    if isinstance(item.default, FieldInfo):
        return f"{name!r} has Field(...) as its default; put it inside the annotation: Annotated[<type>, Field(...)]"
    return None


def _example(default: object) -> str:
    return "int" if default is EMPTY or default is None else type(default).__name__


def _resolve(annotation: object, names: dict[str, object]) -> object:
    holder = SimpleNamespace(__annotations__={"it": annotation})
    return cast("object", get_type_hints(holder, names, include_extras=True)["it"])


def _returns(annotation: object, names: dict[str, object]) -> object:
    if annotation is EMPTY:
        return None
    try:
        return _resolve(annotation, names)
    except Exception:  # nothing depends on it, and linters move such imports under `if TYPE_CHECKING`
        return annotation


def _materialize(value: object) -> object:
    """Return *value*; as a list if it can be read only once, as pydantic makes of an `Iterable`."""
    return list(cast("Iterator[object]", value)) if isinstance(value, Iterator) else value


# -- building a schema ------------------------------------------------------------------------------------------------


class _Generator(GenerateJsonSchema):
    # A default that JSON cannot carry is left out of the schema; the call applies it all the same.
    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic declares it so


def _build(parameters: Sequence[Parameter], docs: Mapping[str, str]) -> ArgumentSchema:
    fields = {f"p{index}": parameter for index, parameter in enumerate(parameters)}
    # `Any`, because type checkers read `**` as pydantic's own keyword arguments, whose names these cannot be.
    definitions: dict[str, Any] = {name: _field(parameter, docs) for name, parameter in fields.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a default that does not fit its annotation: the author's
        config = ConfigDict(extra="forbid", allow_inf_nan=False)
        model: type[BaseModel] = create_model("Arguments", __config__=config, **definitions)
        schema = model.model_json_schema(schema_generator=_Generator)
    # Pydantic derives titles from names that the model sees anyway, and they cost tokens.
    return ArgumentSchema({"properties": {}, **without("title", schema)}, model, fields)


def _field(parameter: Parameter, docs: Mapping[str, str]) -> tuple[object, object]:
    description = _description(parameter.hint) or docs.get(parameter.name)
    if parameter.default is EMPTY:
        return parameter.hint, Field(alias=parameter.name, description=description)
    return parameter.hint, Field(parameter.default, alias=parameter.name, description=description)


def _description(hint: object) -> str | None:
    """What the annotation says: the last `Field(description=...)`, else the first plain string."""
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    fields = [item.description for item in metadata if isinstance(item, FieldInfo) and item.description]
    return fields[-1] if fields else next((item for item in metadata if isinstance(item, str)), None)


def without(keyword: str, schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return a JSON schema without one *keyword*, at every depth; a parameter of that name stays."""
    return {key: _child(keyword, key, value) for key, value in schema.items() if key != keyword}


def _child(keyword: str, key: str, value: JsonValue) -> JsonValue:
    if key in _NESTED_ONE and isinstance(value, dict):
        return without(keyword, value)
    if key in _NESTED_LIST and isinstance(value, list):
        return [without(keyword, item) if isinstance(item, dict) else item for item in value]
    if key in _NESTED_NAMED and isinstance(value, dict):
        return {name: without(keyword, item) if isinstance(item, dict) else item for name, item in value.items()}
    return value


def _first_problem(parameters: Iterable[Parameter], docs: Mapping[str, str]) -> str | None:
    """What is wrong with the first parameter that has no schema even by itself."""
    for parameter in parameters:
        try:
            _build([parameter], docs)
        except Exception as error:
            hint = bounded(inspect.formatannotation(parameter.hint), _HINT_SHOWN)
            return f"{parameter.name!r} is annotated {hint}, {no_schema(error)}"
    return None


def no_schema(error: Exception) -> str:
    """Return what to say of a type for which pydantic raised *error*: that JSON cannot carry it, and what to do."""
    match error:
        case PydanticSchemaGenerationError() | PydanticInvalidForJsonSchema():
            why = ""  # pydantic's words are a paragraph about its own configuration
        case SchemaError():
            why = f" ({bounded(str(error).strip().splitlines()[-1].strip(), _ERROR_SHOWN)})"
        case _:
            why = f" ({bounded(_first_line(error), _ERROR_SHOWN)})"
    return f"which has no JSON schema{why}; use a type that JSON can carry, e.g. str, a pydantic model or a dataclass"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
