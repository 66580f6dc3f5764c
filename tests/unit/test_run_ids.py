"""A run and its executions keep their names: `run_id` is the workflow id, `execution_id` the id that Temporal draws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = ("assent", "activities", "workflows", "examples", "bench", "worker.py", "starter.py")
TEMPORAL_CALLS: Final = frozenset({"get_workflow_handle", "get_async_activity_handle", "WorkflowExecution"})
"""Calls whose keyword `run_id` takes an execution's id, and `workflow_id` a run's."""
EXECUTION_IDS: Final = re.compile(
    r"(^|\.)(\w*execution_id|workflow_run_id|continued_run_id|new_run_id|parent_run_id|\w+_execution_run_id)$"
    r"|(^|\W)(\w*info|info\(\)|\w*handle|describe\(\)|description|description\(\)|\w*execution|up|begun)\)?\.run_id$"
)
RUN_IDS: Final = re.compile(r"(^|\.)workflow_id$|^run_id$")


def names_given(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None, int]]:
    """Every name that the code gives to a value: variable, attribute, parameter, keyword, key of a dict."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _assigned(target, value)
            case ast.AnnAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
                yield from _assigned(target, value)
            case ast.arg(arg=name):
                yield name, None, node.lineno
            case ast.Call(func=func, keywords=keywords) if _last_name(func) not in TEMPORAL_CALLS:
                yield from ((each.arg, each.value, each.value.lineno) for each in keywords if each.arg)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield key.value, value, value.lineno
            case _:
                pass


def _assigned(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None, int]]:
    if isinstance(target, ast.Tuple):
        values = value.elts if isinstance(value, ast.Tuple) else [None] * len(target.elts)
        for part, given in zip(target.elts, values, strict=True):
            yield from _assigned(part, given)
    elif isinstance(target, ast.Name | ast.Attribute):
        yield _last_name(target), value, target.lineno


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _sources(value: ast.expr | None) -> Iterator[str]:
    """The texts of what *value* may be, without defaults: `x or ""`, `str(x)`, `x if y else z`."""
    match value:
        case None:
            pass
        case ast.BoolOp(values=values):
            for each in values:
                yield from _sources(each)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _sources(body)
            yield from _sources(orelse)
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            yield from _sources(inner)
        case _:
            yield ast.unparse(value)


def problems(code: str) -> Iterator[str]:
    """Each name in *code* that gives one of the two ids the name of the other."""
    for name, value, line in names_given(ast.parse(code)):
        sources = list(_sources(value))
        if name in {"workflow_id", "first_run_id"}:
            yield f"line {line}: {name} is run_id or first_execution_id in a value of ours"
        elif re.fullmatch(r"_?(child_|parent_)?run_id", name) and any(map(EXECUTION_IDS.search, sources)):
            yield f"line {line}: {name} is given the id of an execution: {sources}"
        elif name.endswith("execution_id") and any(map(RUN_IDS.search, sources)):
            yield f"line {line}: {name} is given the id of a run: {sources}"


@pytest.mark.parametrize("place", PRODUCT)
def test_no_run_id_holds_the_id_of_an_execution(place: str) -> None:
    paths = [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py"))
    assert paths
    found = [f"{path.relative_to(ROOT)}, {each}" for path in paths for each in problems(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        "x.run_id = info.run_id",
        "Started(run_id=workflow.info().run_id)",
        "run_id = handle.first_execution_run_id",
        "run_id, other = (await run.description()).run_id, 1",
        "run_id = description.run_id or ''",
        "self._run_id = str(event.execution.run_id)",
        "found = {'run_id': begun.original_execution_run_id}",
        "Execution(run_id=execution_id)",
        "execution_id = run_id",
        "execution_id = info.workflow_id",
        "def find(workflow_id): ...",
        "class File:\n    first_run_id: str",
    ],
)
def test_a_wrong_name_is_found(code: str) -> None:
    assert len(list(problems(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "client.get_workflow_handle(run_id, run_id=description.run_id)",
        "Execution(run_id=up.workflow_id, execution_id=up.run_id)",
        "run_id = child.run_id",
        "execution_id = (await run.description()).run_id",
    ],
)
def test_a_right_name_is_no_problem(code: str) -> None:
    assert not list(problems(code))
