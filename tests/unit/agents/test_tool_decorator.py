"""What `@tool` makes of a function, what it refuses, and how a tool's return value reads."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

import pytest
from pydantic import BaseModel, Field

from assent.agents.tool import ToolContext
from assent.agents.tool_decorator import tool, tool_from
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import RESERVED_TOOL_NAMES, ToolOptions


class Order(BaseModel):
    """An order."""

    item: str
    price: Decimal = Decimal("1.50")


class Colour(str, Enum):  # noqa: UP042  # the older spelling is what this is about
    """Its `str()` is `Colour.RED`."""

    RED = "red"


@dataclasses.dataclass
class Point:
    """A point."""

    x: int
    seen: datetime


class Opaque:
    """Nothing that JSON could carry."""

    def __repr__(self) -> str:
        """Always the same."""
        return "<opaque>"


CONTEXT = ToolContext(run_id="r", call_id="c", tool="t", agent="a", attempt=1, idempotency_key="k")


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def fetch(url: str) -> str:
    """Fetch a page."""
    return f"page of {url}"


def refusal(function: Callable[..., object], **options: object) -> str:
    """The message with which *function* is refused, without the place, which is checked here."""
    with pytest.raises(ConfigurationError) as caught:
        tool(**options)(function)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    message = str(caught.value)
    assert "\n" not in message
    place, _, rest = message.partition(": ")
    assert re.fullmatch(r"test_tool\w*\.py:\d+", place), message
    return rest


def written(source: str) -> Callable[..., object]:
    """The function that *source* defines, as no type checker would let it stand in a file."""
    names: dict[str, Callable[..., object]] = {}
    exec(compile(f"from __future__ import annotations\n{source}", "test_tools.py", "exec"), names)
    return names[source.split()[1].split("(", maxsplit=1)[0]]


# -- a tool is its function -------------------------------------------------------------------------------------------


def test_calling_a_tool_calls_its_function() -> None:
    assert tool(add)(2, b=3) == 5


async def test_an_async_tool_is_awaited_as_its_function() -> None:
    made = tool(fetch)
    assert made.is_async
    assert await made("x") == "page of x"


def test_a_tool_looks_like_its_function() -> None:
    made = tool(add)
    assert (vars(made)["__name__"], made.__doc__, made.__module__) == ("add", "Add two numbers.", __name__)
    assert inspect.signature(made) == inspect.signature(add)
    assert inspect.unwrap(made) is add


def test_bare_and_called_decorators_make_the_same_tool() -> None:
    bare, called = tool(add), tool()(add)
    assert (bare.name, bare.description, bare.parameters) == (called.name, called.description, called.parameters)
    assert bare.options is called.options is None


def test_a_tool_says_what_and_where_it_is() -> None:
    line = inspect.getsourcelines(add)[1]
    assert repr(tool(add)) == f"<Tool 'add' (test_tool_decorator.py:{line})>"


def test_a_tool_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(tool(add), "name", "other")  # noqa: B010  # what is refused is the assignment, at run time too


def test_name_and_description_given_win() -> None:
    made = tool(name="plus", description="Adds.")(add)
    assert (made.name, made.description) == ("plus", "Adds.")


def test_without_a_docstring_the_name_describes() -> None:
    def deploy_to_production() -> None: ...

    assert tool(deploy_to_production).description == "Deploy to production"


def test_the_return_annotation_is_kept_resolved() -> None:
    def none() -> None: ...

    assert tool(add).return_annotation is int
    assert tool(none).return_annotation is type(None)
    assert tool(written("def unresolved() -> Missing: ...")).return_annotation == "Missing"
    assert tool(written("def unannotated(): ...")).return_annotation is None


def test_plain_functions_and_bound_methods_become_tools_and_tools_stay() -> None:
    class Shop:
        def order(self, item: str) -> str:
            """Order it."""
            return item

    made = tool_from(Shop().order)
    assert made.parameters["properties"] == {"item": {"type": "string"}}
    assert made("tea") == "tea"
    assert tool_from(made) is made
    assert tool_from(add).name == "add"


def test_a_wrapped_function_has_the_signature_of_the_original() -> None:
    @functools.wraps(add)
    def wrapper(*args: int, **kwargs: int) -> int:
        return add(*args, **kwargs)

    assert tool_from(wrapper).parameters == tool(add).parameters


# -- options ----------------------------------------------------------------------------------------------------------


def test_default_options_are_left_out() -> None:
    assert tool(timeout=timedelta(minutes=10), heartbeat_timeout=timedelta(seconds=30))(add).options is None


def test_options_count_the_first_attempt() -> None:
    made = tool(timeout=timedelta(seconds=5), heartbeat_timeout=timedelta(seconds=2), retries=2, task_queue="gpu")(add)
    assert made.options == ToolOptions(timeout=5.0, heartbeat=2.0, attempts=3, task_queue="gpu")


@pytest.mark.parametrize("option", ["timeout", "heartbeat_timeout"])
@pytest.mark.parametrize("value", [timedelta(0), timedelta(seconds=-1), 30])
def test_times_are_positive_timedeltas(option: str, value: object) -> None:
    assert refusal(add, **{option: value}).startswith(f"tool 'add': {option} is {value!r}; give a positive timedelta")


@pytest.mark.parametrize("retries", [-1, True, "2", 1.0])
def test_retries_are_a_whole_number(retries: object) -> None:
    assert "give a whole number" in refusal(add, retries=retries)


def test_what_a_person_confirms_is_retried_only_when_idempotent() -> None:
    assert "runs at most once" in refusal(add, requires_confirmation=True, retries=1)
    assert tool(requires_confirmation=True, retries=1, idempotent=True)(add).options == ToolOptions(attempts=2)


def test_two_pauses_exclude_each_other() -> None:
    both = refusal(add, requires_confirmation=True, external_execution=True)
    assert both == "tool 'add': requires_confirmation and external_execution exclude each other; keep one"
    assert "exclude each other" in refusal(add, requires_confirmation=True, requires_user_input=True)


async def asks_async(arguments: dict[str, object]) -> bool:
    """A gate of the wrong kind."""
    return bool(arguments)


def always(_: object) -> bool:
    """A gate that asks."""
    return True


def three(arguments: object, context: object, more: object) -> bool:
    """A gate that nobody could call."""
    return bool(arguments and context and more)


@pytest.mark.parametrize("value", [None, "yes", 1, three, lambda: True])
def test_requires_confirmation_is_a_boolean_or_a_function_of_one_or_two(value: object) -> None:
    line = refusal(add, requires_confirmation=value)
    assert line.startswith(f"tool 'add': requires_confirmation is {value!r}; give a boolean, or a function of")


def test_a_gate_is_not_async() -> None:
    assert "give a function that is not async" in refusal(add, requires_confirmation=asks_async)


def test_a_function_for_a_gate_is_kept_and_pauses() -> None:
    made = tool(requires_confirmation=lambda arguments: bool(arguments["a"]))(add)
    assert callable(made.requires_confirmation)
    assert "exclude each other" in refusal(add, requires_confirmation=always, external_execution=True)
    assert "runs at most once" in refusal(add, requires_confirmation=always, retries=1)


def test_effects_are_declared_and_exclude_each_other() -> None:
    assert tool(read_only=True)(add).effects == {"read_only"}
    assert tool(destructive=True)(add).effects == {"destructive"}
    assert tool(add).effects == frozenset()
    line = "tool 'add': read_only and destructive exclude each other; keep one"
    assert refusal(add, read_only=True, destructive=True) == line


def test_a_person_fills_in_something_that_there_is() -> None:
    def nothing(context: ToolContext) -> None: ...

    assert "user_input_fields names 'c', but its parameters are: a, b" in refusal(add, user_input_fields=["a", "c"])
    assert "has no parameter to ask for" in refusal(add, user_input_fields=[])
    assert "has no parameter to ask for" in refusal(nothing, requires_user_input=True)
    assert "but its parameters are: none" in refusal(nothing, user_input_fields=["context"])


def test_what_a_person_fills_in_runs_at_most_once_unless_idempotent() -> None:
    assert "runs at most once" in refusal(add, requires_user_input=True, retries=1)
    assert tool(requires_user_input=True, retries=1, idempotent=True)(add).requires_user_input


# -- what is no tool --------------------------------------------------------------------------------------------------


def test_a_parameter_without_annotation_is_refused() -> None:
    pay = written("def pay(amount): ...")
    assert refusal(pay) == "tool 'pay': 'amount' has no annotation; annotate it, e.g. amount: int"


def test_a_parameter_that_cannot_be_named_is_refused() -> None:
    def many(*numbers: int) -> None: ...
    def any_of(**numbers: int) -> None: ...
    def positional(number: int, /) -> None: ...

    for function, name in ((many, "'*numbers'"), (any_of, "'**numbers'"), (positional, "'number'")):
        assert f"{name} cannot be passed by name" in refusal(function)


def test_a_hidden_looking_parameter_is_refused() -> None:
    def pay(_amount: int) -> None: ...

    assert "'_amount' starts with an underscore" in refusal(pay)


def test_a_type_without_schema_is_refused_by_name() -> None:
    def first(ok: int, it: Opaque) -> None: ...
    def second(it: Callable[[], int]) -> None: ...

    assert "'it' is annotated" in refusal(first)
    assert "which has no JSON schema" in refusal(second)


def test_an_annotation_that_does_not_resolve_is_refused_by_name() -> None:
    missing, odd = written("def pay(amount: Missing): ..."), written("def pay(amount: 1 / 0): ...")
    assert "the annotation of 'amount' does not resolve (name 'Missing' is not defined)" in refusal(missing)
    assert "the annotation of 'amount' does not resolve (division by zero)" in refusal(odd)


def test_a_field_as_default_is_refused() -> None:
    def pay(amount: int = Field(1)) -> None: ...

    assert "'amount' has Field(...) as its default" in refusal(pay)


def test_a_default_names_the_type_to_annotate() -> None:
    assert refusal(written("def pay(note='x'): ...")).endswith("e.g. note: str")


@pytest.mark.parametrize("name", ["", "two words", "naïve", "a" * 65, "dot.ted", "line\n"])
def test_a_name_that_providers_refuse_is_refused(name: str) -> None:
    assert "a name is 1 to 64 ASCII letters" in refusal(add, name=name)


@pytest.mark.parametrize("name", sorted(RESERVED_TOOL_NAMES))
def test_a_reserved_name_is_refused(name: str) -> None:
    assert "Assent uses this name itself" in refusal(add, name=name)


def test_generators_are_refused() -> None:
    def lines() -> Iterator[int]:
        yield 1

    async def alines() -> AsyncIterator[int]:
        yield 1

    assert "it is a generator" in refusal(lines)
    assert "it is a generator" in refusal(alines)


def test_methods_are_refused_where_they_are_defined() -> None:
    class Shop:
        def order(self, item: str) -> None: ...

    assert "it is a method" in refusal(Shop.order)


NOT_FUNCTIONS: list[object] = [Order, "name", 3, len, functools.partial(add, 1), lambda: 1]


@pytest.mark.parametrize("target", NOT_FUNCTIONS)
def test_only_functions_become_tools(target: Callable[..., object]) -> None:
    rest = refusal(target)
    assert rest.startswith("@tool: ")
    assert "not a function" in rest or "a lambda" in rest


def test_a_tool_is_not_made_twice() -> None:
    assert refusal(tool(add)) == "tool 'add': @tool is applied twice; keep one"
