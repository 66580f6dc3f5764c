"""Writes the parts of the pages that come from the code: `python docs/site/tables.py`. A test compares them.

A part stands between `<!-- from the code: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from typer._click import Command, Context
from typer.main import get_command

import assent
from assent.audit.checks import NOT_PROVEN
from assent.cli import exit_codes
from assent.cli.errors import exit_code
from assent.cli.main import COMMANDS, app, imported
from assent.core.transitions import CALL, REQUIREMENT, RUN
from assent.runtime.settings import Settings
from assent.wire import errors

ROOT = Path(__file__).parents[2]
PART = re.compile(r"(<!-- from the code: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> Iterator[tuple[Path, str]]:
    """Each page with such a part, and what it should be."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        if PART.search(text):
            yield path, PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]().strip()}\n\n{part[3]}", text)


def table(*rows: tuple[str, ...]) -> str:
    """Return a table in Markdown; the first row is its head."""
    cells = [[re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def described(path: str, *, within: str | None = None) -> Iterator[tuple[str, ast.AnnAssign | None, str]]:
    """Yield the names of a file (or of the class *within* it) that have a text below them, with that text.

    A comment line `# -- TITLE ---` is yielded too, without a value.
    """
    text = (ROOT / path).read_text()
    body = ast.parse(text).body
    if within is not None:
        [body] = [node.body for node in body if isinstance(node, ast.ClassDef) and node.name == within]
    titles = [
        (number, match[1])
        for number, line in enumerate(text.splitlines(), 1)
        if (match := re.match(r"# -- (.+?) -+$", line))
    ]
    for node, below in pairwise(body):
        while titles and titles[0][0] < node.lineno:
            yield "", None, titles.pop(0)[1]
        if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            yield ast.unparse(node.target), node, str(below.value.value)


def limits() -> str:
    """Return one table for each section of `assent/wire/limits.py`."""
    sections: list[str] = []
    rows: list[tuple[str, ...]] = []
    values = vars(sys.modules["assent.wire.limits"])
    for name, _, text in [*described("assent/wire/limits.py"), ("", None, "")]:
        if name:
            rows.append((f"{values[name]:,}", text, f"`{name}`"))
            continue
        if len(rows) > 1:
            sections.append(table(*rows))
        sections += [f"## {text[:1].upper()}{text[1:]}"] if text else []
        rows = [("limit", "of what", "name in `assent.wire.limits`")]
    return "\n\n".join(sections)


def settings() -> str:
    """Return the table of the settings, from the texts below the fields of `Settings`."""
    rows = [("variable", "default", "what it is")]
    for name, _, text in described("assent/runtime/settings.py", within="Settings"):
        default = Settings.model_fields[name].get_default(call_default_factory=True)
        shown = "not set" if default in (None, "", [], {}) else f"{default:,}" if type(default) is int else str(default)
        rows.append((f"`ASSENT_{name.upper()}`", shown, text))
    assert len(rows) == len(Settings.model_fields) + 1, "a setting has no text below it"
    return table(*rows)


def error_table() -> str:
    """Return the table of the errors, each with the exit code of a command that ends with it."""
    rows = [("error", "what is wrong", "exit code")]
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.AssentError):
            error = value("", kind="") if value is errors.RunFailedError else value("")
            public = f"`{name}`" if name in assent.__all__ else f"`{name}` (a kind of `{value.__mro__[1].__name__}`)"
            rows.append((public, str(value.__doc__).splitlines()[0].replace("*", "`"), str(exit_code(error))))
    return table(*rows)


def exits() -> str:
    """Return the table of the exit codes."""
    return table(("code", "meaning"), *((str(code), meaning) for code, meaning in exit_codes.TABLE))


def commands() -> str:
    """Return every command with its arguments and options."""
    context = Context(get_command(app), info_name="assent")
    sections = ["## Global options", options(context.command, context)]
    for name, (panel, _, text) in COMMANDS.items():
        sections += [f"## `assent {name}`", f"*{panel}.* {text}", *command(imported(name), name)]
    return "\n\n".join(part for part in sections if part)


def command(it: Command, name: str) -> Iterator[str]:
    """Yield the tables of a command, and those of its own commands."""
    context = Context(it, info_name=f"assent {name}")
    more = "\n\n".join(inspected.split("\n\n")[1:]) if (inspected := it.help or "") else ""
    if more:
        yield re.sub(r"(?<!`)\[/?\w[^\]`]*\]", "", more)
    yield options(it, context)
    for inner, each in getattr(it, "commands", {}).items():
        yield f"### `assent {name} {inner}`"
        yield str(each.help or "")
        yield options(each, context)


def options(it: Command, context: Context) -> str:
    """Return the table of a command's arguments and options."""
    rows: list[tuple[str, ...]] = [("argument or option", "what it is")]
    for parameter in it.get_params(context):
        record = parameter.get_help_record(context)
        if parameter.name == "help" or record is None:
            continue
        what = record[1].replace("[", "(").replace("]", ")")
        rows.append((f"`{record[0].strip()}`", what))
    return table(*rows) if len(rows) > 1 else ""


def public() -> str:
    """Return a heading for each group of public names, with the mark that mkdocstrings fills."""
    rows: list[str] = []
    for title, names in GROUPS.items():
        rows.append(f"## {title}")
        rows += [f"::: {name}" for name in names]
    listed = {name.removeprefix("assent.") for names in GROUPS.values() for name in names}
    rest = [name for name in assent.__all__ if name not in listed and name != "__version__" and name[0].isupper()]
    rows.append("## Values and aliases")
    rows += [f"::: assent.{name}" for name in rest]
    return "\n\n".join(rows)


GROUPS = {
    "Agents and tools": [
        f"assent.{name}"
        for name in ("Agent", "tool", "approval", "ask_user", "Tool", "ToolContext", "RunContext", "GateContext")
    ],
    "Models": ["assent.OpenAIResponses", "assent.OpenAIChat"],
    "Rules": [f"assent.{name}" for name in ("PermissionPolicy", "Rule", "Condition", "Gate", "Escalation", "Budget")],
    "Client": [f"assent.{name}" for name in ("AgentClient", "RunHandle", "RunTree", "Filters", "Remember")],
    "Worker": ["assent.worker.AssentPlugin"],
    "In workflow code": ["assent.workflow"],
    "Testing": ["assent.testing.Environment", "assent.testing.ModelServer", "assent.testing.drive"],
}
PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "errors": error_table,
    "exit_codes": exits,
    "limits": limits,
    "not_proven": lambda: "\n".join(f"- {each}" for each in NOT_PROVEN),
    "public": public,
    "settings": settings,
    "run": lambda: f"```mermaid\n{RUN.diagram()}\n```",
    "call": lambda: f"```mermaid\n{CALL.diagram()}\n```",
    "requirement": lambda: f"```mermaid\n{REQUIREMENT.diagram()}\n```",
}

if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text)
