"""The programs of a page, run as printed."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Sequence
from inspect import isawaitable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.support.transcripts import Command, File, Step


def _compiled(program: str) -> CodeType:
    code: CodeType = compile(program, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    return code


def waits(program: str) -> bool:
    """Whether a program awaits something outside of its functions."""
    return bool(_compiled(program).co_flags & 0x80)


async def execute(program: str, names: dict[str, Any]) -> None:
    """Run a program with these names, to which it adds its own."""
    done = FunctionType(_compiled(program), names)()
    if isawaitable(done):
        await done


def define(steps: Sequence[Step], folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write the files of a page, run its programs that await nothing, and return the names that they define.

    A program that names a file may be imported by later ones.
    """
    patch.chdir(folder)
    names: dict[str, Any] = {**vars(builtins), "__name__": "docs", "input": print}
    for step in steps:
        if isinstance(step, File):
            (folder / step.name).write_text(step.text)
        if isinstance(step, Command) or (isinstance(step, File) and not step.name.endswith(".py")) or waits(step.text):
            continue
        exec(_compiled(step.text), names)
        if isinstance(step, File):
            module = ModuleType(step.name[:-3])
            patch.setitem(sys.modules, module.__name__, module)
            vars(module).update(names)
    return names
