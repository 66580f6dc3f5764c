"""Never run, only type-checked: what `@tool` and `@approval` keep of a function's static type."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, assert_type

from assent.agents.approval_decorator import approval
from assent.agents.tool import GateContext, Tool, ToolContext
from assent.agents.tool_decorator import tool, tool_from
from assent.wire.policy import Effect
from assent.wire.protocol import InputField


@tool
def add(a: int, b: int = 0) -> int:
    """Add."""
    return a + b


@tool(idempotent=True, retries=3, timeout=timedelta(seconds=5))
async def fetch(url: str, context: ToolContext | None = None) -> bytes:
    """Fetch."""
    return url.encode()


@approval
@tool(requires_confirmation=True)
def outermost(a: int) -> str:
    """Outermost."""
    return str(a)


@tool(external_execution=True)
@approval(type="audit")
async def innermost(a: int) -> str:
    """Innermost."""
    return str(a)


@approval
def unwrapped(a: int) -> str:
    """Not a tool yet."""
    return str(a)


assert_type(add(1), int)
assert_type(add(a=1, b=2), int)
assert_type(outermost(1), str)
assert_type(unwrapped(1), str)
assert_type(add.validate("{}"), dict[str, object])
assert_type(tool_from(unwrapped), Tool)
assert_type(tool_from(add), Tool[..., object])


async def awaited() -> None:
    """An async tool is awaited as its function is."""
    assert_type(await fetch("https://example.com"), bytes)
    assert_type(await innermost(a=1), str)
    coroutine: Coroutine[Any, Any, bytes] = fetch("https://example.com")
    await coroutine


# A parameter of the wrong type is an error; were it none, the comment would be one (`warn_unused_ignores`).
add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
add(1, c=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
tool(retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
approval(type="recommended")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

# Any tool fits where tools of all kinds are listed, and so does a plain function.
any_tool: Tool = add
tools: Sequence[Tool | Callable[..., object]] = [add, fetch, outermost, innermost, unwrapped]


@tool(user_input_fields=["b"])
def filled_in(a: int, b: str) -> str:
    """Filled in by a person, and called with both all the same."""
    return f"{a} {b}"


@approval(approvals=2, approvers=["finance"], escalate=[(timedelta(hours=4), ["ceo"])], expires_after=timedelta(days=1))
@tool(requires_confirmation=lambda arguments: arguments["a"] > 5, destructive=True)
def decided_by_two(a: int) -> str:
    """A gate may be a function of the arguments."""
    return str(a)


def asks_for_strangers(arguments: dict[str, Any], context: GateContext) -> bool:
    """A gate may be a function of the context too."""
    return context.requested_by != arguments.get("owner")


@tool(requires_confirmation=asks_for_strangers, read_only=True, stop_after_tool_call=True)
def owned(owner: str) -> str:
    """Owned."""
    return owner


def no_gate(arguments: dict[str, Any]) -> str:
    """A gate that answers with text is none."""
    return str(arguments)


assert_type(filled_in(1, "b"), str)
assert_type(decided_by_two(1), str)
assert_type(owned("a"), str)
assert_type(owned.effects, frozenset[Effect])
assert_type(filled_in.input_fields("{}"), list[InputField])
assert_type(filled_in.result_problem(1), str | None)

tool(requires_confirmation=no_gate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
approval(expires_after=60)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
approval(escalate=[timedelta(hours=4)])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
