"""Never run, only type-checked: what `@tool` and `@approval` keep of a function's static type."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, assert_type

from assent.tools import Tool, ToolContext, approval, tool, tool_from


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
