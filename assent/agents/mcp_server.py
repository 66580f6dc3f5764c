"""An MCP server whose tools an agent has, and what one of its tools is to Assent.

What a server says of itself is text of others. It may make the gate of a tool stricter; it makes it looser only where
the operator trusts the server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from types import NoneType, UnionType
from typing import Any, Final, cast
from urllib.parse import quote

from pydantic import JsonValue

from assent.agents.approval_decorator import LONGEST_TIME, approval_options
from assent.agents.schema import ArgumentSchema
from assent.agents.server_schema import schema_problem, value_problems
from assent.agents.tool import ApprovalTerms, ServerDefinition, Tool, ToolContext
from assent.wire.declarations import declared, refuse, shown, source_of
from assent.wire.digest import canonical, json_size, parse_arguments, sha256_hex
from assent.wire.errors import ArgumentsError
from assent.wire.protocol import ServerQuestion, ToolOptions
from assent.wire.text import bounded, one_line

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,31}")
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_./-]{1,128}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
DESCRIPTION_LIMIT: Final = 4_000
"""Characters of a tool's description that the model gets; all of it is bound."""
DEFINITION_LIMIT: Final = 32_768
"""Bytes of the name, description and schemas of one tool; a tool with more is left out."""
DEFINITIONS_LIMIT: Final = 524_288
"""Bytes of the definitions of all tools of one server."""
TOOLS_LIMIT: Final = 128
"""Tools of one server. Models take no more than that together."""
_LOOKED_AT: Final = 1_024
"""Tools of one server, the unusable ones included."""
CONTEXT: Final = "assent/context"
ANSWER: Final = "assent/answer"
"""The names under which the function of a server's tool gets the `ToolContext`, and a person's answer to a question of
the server: no tool may take arguments of these names."""
_CHANGE_SHOWN: Final = 400
_PROBLEM_SHOWN: Final = 300

Answer = tuple[ServerQuestion, dict[str, JsonValue]]
"""A question of a server, and what a person filled in."""
Call = Callable[[str, dict[str, JsonValue], ToolContext, Answer | None, JsonValue], Awaitable[str]]
"""Calls a tool of a server, by the server's own name for it; with the answer to a question that it asked, and the
schema of its structured result."""
Made = dict[str, Tool | str]
"""What was made of each tool of a server's list, by the digest of its entry: a tool, or why it cannot be used."""


@declared
@dataclass(frozen=True, kw_only=True)
class MCPServer:
    """A server of the Model Context Protocol, whose tools an agent has: `Agent(mcp_servers=[MCPServer(…)])`.

    Needs the extra `mcp`. Give one of three: *command*, which the worker starts with *args* and talks to over standard
    input and output; *url*, over streamable HTTP; or *in_process*, a server of the `mcp` package in the worker itself,
    for tests. A worker keeps one connection to a server for all runs.

    A tool is called *name*, a dot, and the server's own name for it, in policy rules and in histories:
    `files.read_file`. *tools* are globs on the server's own names: only these tools are used. Tools that match
    *exclude* are not used.

    Each call waits for a person, unless a rule of the agent's policy allows it, or the server is *trusted* and says
    that the tool only reads. If the server calls a tool destructive, only a rule that names it exactly, or that has
    `effect="destructive"`, allows it. *trusted* means that the operator believes what this server says of its tools.

    *env* and *headers* hold no secrets, only names of variables of the worker's environment. `env=["TOKEN"]` passes
    the variable on; `env={"TOKEN": "FILES_TOKEN"}` does so under another name. `headers={"Authorization":
    "FILES_AUTH"}` sends the value of `FILES_AUTH`, for example `Bearer …`. A command gets no other variables than
    those, and `PATH`, `HOME` and their like. *timeout* is the longest that one call may take. *approvers* and
    *expires_after* are those of `@approval`, for calls that wait.

    *gates* set the rules of single tools, by globs on the server's own names; the first match counts:
    `gates={"delete_*": approval(approvals=2, approvers=["ops"])}`. Such a call always waits for a person, as one of a
    tool of your own with `@approval` does. *roots* are the folders that the server gets when it asks; none by default.
    With *images*, the model sees the images of results, over the Responses API. Otherwise it gets a description.

    Raises:
        ConfigurationError: none or several of *command*, *url* and *in_process* are given; *name* is not 1 to 32
            letters, digits and `-`; or an option is of the wrong type. One line.
    """

    name: str
    command: str | None = None
    args: Sequence[str] = ()
    env: Sequence[str] | Mapping[str, str] = ()
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    in_process: object = field(default=None, repr=False)
    tools: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    trusted: bool = False
    timeout: timedelta = timedelta(minutes=10)
    approvers: Sequence[str] | None = None
    expires_after: timedelta | None = None
    gates: Mapping[str, Callable[..., object]] = field(default_factory=dict[str, Callable[..., object]])
    roots: Sequence[str] = ()
    images: bool = False

    def __post_init__(self) -> None:
        """Check all that can be checked without the server."""
        for problem in self._problems():
            refuse(f"{source_of()}: MCP server {shown(self.name)}", problem)

    def _problems(self) -> Iterator[str]:
        for name, kind, todo in _TYPES:
            value: object = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, str) and kind not in {str, str | None}):
                yield f"{name} is {shown(value)}; {todo}"
        if not _NAME.fullmatch(self.name):
            yield "a name is 1 to 32 ASCII letters, digits and '-', a letter or digit first"
        ways = [name for name in ("command", "url", "in_process") if getattr(self, name) is not None]
        if len(ways) != 1:
            yield f"it has {' and '.join(ways) or 'no way to be reached'}; give one of command, url and in_process"
        if isinstance(self.env, str) or not all(map(_is_variable, self.variables.values())):
            todo = (
                'give names of variables of the worker, e.g. env=["TOKEN"] or headers={"Authorization": "FILES_AUTH"}'
            )
            yield f"env and headers hold no values; {todo}"
        if self.url is not None and not re.match(r"https?://[^@/?#]+([/?#]|$)", self.url):
            yield "url starts with http:// or https:// and has no name and password in it; these belong into headers"
        for name, time in (("timeout", self.timeout), ("expires_after", self.expires_after)):
            if time is not None and not timedelta(0) < time <= LONGEST_TIME:
                yield f"{name} is {shown(time)}; give a positive timedelta, e.g. timedelta(seconds=30)"
        if self.approvers is not None and not all(str(each).strip() for each in self.approvers):
            yield f"approvers is {shown(self.approvers)}; give a list of names of people or groups"
        yield from self._further_problems()

    def _further_problems(self) -> Iterator[str]:
        for glob, gate in self.gates.items():
            approval = approval_options(gate)
            if approval is None or approval.type == "audit":
                yield f'gates has {shown(gate)} for {shown(glob)}; give approval(…) with options, and not type="audit"'
            elif problem := approval.problem():
                yield f"the gate of {shown(glob)}: {problem}"
        if isinstance(self.roots, str) or not all(str(each).startswith("/") for each in self.roots):
            yield f'roots is {shown(self.roots)}; give a list of absolute paths, e.g. ["/srv/shared"]'

    @property
    def variables(self) -> dict[str, str]:
        """What each variable for the command, and each header, is taken from: a name of the worker's environment."""
        variables = self.env if isinstance(self.env, Mapping) else {name: name for name in self.env}
        return {**variables, **self.headers}

    def missing(self, environment: Mapping[str, str]) -> list[str]:
        """Return the names of the variables that *environment* lacks."""
        return [name for name in dict.fromkeys(self.variables.values()) if not environment.get(name)]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that the command gets, from those of the worker."""
        return {name: environment[self.variables[name]] for name in self.env}

    def has(self, tool: str) -> bool:
        """Return whether the filters let an agent have the tool of this name, which is the server's own."""
        wanted = self.tools is None or any(fnmatchcase(tool, glob) for glob in self.tools)
        return wanted and not any(fnmatchcase(tool, glob) for glob in self.exclude)

    def gated(self, tool: Tool, name: str) -> Tool:
        """Return the *tool* with what *gates* say of the server's own *name* for it."""
        gate = next((gate for glob, gate in self.gates.items() if fnmatchcase(name, glob)), None)
        return tool if gate is None else cast("Tool", gate(tool))

    def folders(self) -> dict[str, JsonValue]:
        """Return what the server gets when it asks for folders, as JSON."""
        return {"roots": [{"uri": f"file://{quote(each)}"} for each in self.roots]}

    def declared(self) -> list[object]:
        """Return what the version of an agent has of it."""
        way = self.command or self.url or "in_process"
        filters = [None if self.tools is None else list(self.tools), list(self.exclude)]
        terms = [None if self.approvers is None else list(self.approvers), str(self.expires_after)]
        gates = {glob: repr(approval_options(gate)) for glob, gate in self.gates.items()}
        more = [gates, list(self.roots), self.images] if gates or self.roots or self.images else []
        return [self.name, way, list(self.args), *filters, self.trusted, self.timeout.total_seconds(), *terms, *more]


def _is_variable(name: object) -> bool:
    return isinstance(name, str) and _VARIABLE.fullmatch(name) is not None


_TYPES: Final[tuple[tuple[str, type | UnionType | tuple[type, ...], str], ...]] = (
    ("name", str, 'give text, e.g. name="files"'),
    ("command", str | None, "give text, the arguments apart: args=[…]"),
    ("args", Sequence, "give a list of texts"),
    ("env", (Sequence, Mapping), "give a list of names, or a mapping"),
    ("url", str | None, "give text"),
    ("headers", Mapping, "give a mapping of headers to names of variables"),
    ("tools", (Sequence, NoneType), 'give a list of globs, e.g. ["read_*"]'),
    ("exclude", Sequence, 'give a list of globs, e.g. ["delete_*"]'),
    ("trusted", bool, "give True or False"),
    ("images", bool, "give True or False"),
    ("timeout", timedelta, "give a timedelta"),
    ("approvers", (Sequence, NoneType), 'give a list of names of people or groups, e.g. ["finance", "ann"]'),
    ("expires_after", timedelta | None, "give a timedelta, e.g. timedelta(hours=4)"),
    ("gates", Mapping, 'give a mapping of globs to approval(…), e.g. {"delete_*": approval(approvals=2)}'),
    ("roots", Sequence, 'give a list of absolute paths, e.g. ["/srv/shared"]'),
)
"""The options of a server, what each must be, and what to do where it is not."""


def definition_change(then: str | None, now: str) -> str:
    """Return what a server changed in the definition of a tool, for a person: *then* is what a gate kept of it."""
    try:
        before, after = json.loads(then or "{}"), json.loads(now)
    except ValueError:  # A gate keeps the beginning of a long one.
        before, after = {"definition": then}, {"definition": now}
    lines = [
        f"{key} was {_from_difference(old, new)}, and is {_from_difference(new, old)}"
        for key in after
        if (old := _shown_json(before.get(key))) != (new := _shown_json(after[key]))
    ]
    return "; ".join(lines)


def _shown_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _from_difference(text: str, other: str) -> str:
    """Return *text* from shortly before where it differs from *other*."""
    same = next((at for at, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), len(other))
    start = max(0, same - 20)
    return ("…" if start else "") + one_line(bounded(text[start:], _CHANGE_SHOWN))


# -- the tools of a server --------------------------------------------------------------------------------------------


def server_tools(
    server: MCPServer, listed: Sequence[Mapping[str, JsonValue]], call: Call, made: Made | None = None
) -> tuple[list[Tool], list[str]]:
    """Return the tools of a *server* by its answer to `tools/list`, and a line for each thing that is left out.

    *call* carries a call out. *made* is of the list before, and then of this one: to check a schema takes a while. At
    most `TOOLS_LIMIT` tools, and `DEFINITIONS_LIMIT` bytes of definitions, are taken.
    """
    tools: dict[str, Tool] = {}
    problems: list[str] = []
    size = 0
    before, new = made or {}, Made()
    wanted = [each for each in listed if server.has(str(each.get("name")))]
    for count, each in enumerate(wanted):
        if len(tools) == TOOLS_LIMIT or size > DEFINITIONS_LIMIT or count == _LOOKED_AT:
            todo = "name those that are needed: MCPServer(tools=[…])"
            problems.append(f"it lists {len(wanted):,} tools, of which {len(tools)} are used; {todo}")
            break
        key = sha256_hex(canonical(each))
        one = new[key] = before.get(key) or _tool(server, each, call)
        named = f"tool {count + 1} ({one_line(bounded(str(each.get('name')), 100))}) is left out"
        if isinstance(one, str):
            problems.append(f"{named}: {one}")
        elif one.model_name in tools:
            problems.append(f"{named}: towards the model it would have the name of another, {one.model_name}")
        else:
            tools[one.model_name] = one
            size += len(cast("ServerDefinition", one.definition).text)
    if made is not None:
        made.clear()
        made.update(new)
    return list(tools.values()), problems


def _tool(server: MCPServer, listed: Mapping[str, JsonValue], call: Call) -> Tool | str:
    """Return a tool of a server, or why it cannot be used."""
    name, schema, outputs = listed.get("name"), listed.get("inputSchema"), listed.get("outputSchema")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        return "a name is 1 to 128 ASCII letters, digits, '_', '-', '.' and '/'"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "its input schema is not that of an object"
    description = listed.get("description")
    description_text = description if isinstance(description, str) else ""
    definition: dict[str, JsonValue] = {"description": description_text, "inputSchema": schema, "outputSchema": outputs}
    if (size := json_size(definition)) > DEFINITION_LIMIT:
        return f"its description and schemas have {size:,} bytes; the limit is {DEFINITION_LIMIT:,}"
    if (problem := schema_problem(schema)) or (isinstance(outputs, dict) and (problem := schema_problem(outputs))):
        return problem
    annotations = listed.get("annotations")
    hints = annotations if isinstance(annotations, dict) else {}
    destructive = hints.get("destructiveHint") is True

    async def run(**arguments: object) -> str:
        context = cast("ToolContext", arguments.pop(CONTEXT))
        answer = cast("Answer | None", arguments.pop(ANSWER, None))
        return await call(name, cast("dict[str, JsonValue]", arguments), context, answer, outputs)

    options = ToolOptions(timeout=server.timeout.total_seconds())
    made = Tool(
        name=f"{server.name}.{name}",
        description=bounded(description_text, DESCRIPTION_LIMIT),
        schema=_ServerSchema(_for_models(schema), cast("Any", None), {}),
        function=run,
        source=f"MCP server {server.name!r}",
        is_async=True,
        context_parameter=CONTEXT,
        terms=ApprovalTerms(
            approvers=None if server.approvers is None else tuple(server.approvers), expires_after=server.expires_after
        ),
        # Of a server that is not trusted, no word loosens anything.
        idempotent=server.trusted and hints.get("idempotentHint") is True,
        read_only=server.trusted and hints.get("readOnlyHint") is True and not destructive,
        destructive=destructive,
        options=None if options == ToolOptions() else options,
        definition=ServerDefinition(server.name, server.trusted, canonical(definition).decode("utf-8", "replace")),
    )
    return server.gated(made, name)


def _for_models(schema: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"properties": {}, **{key: value for key, value in schema.items() if key != "$schema"}}


class _ServerSchema(ArgumentSchema):
    """What a tool of a server takes: its own JSON schema. The arguments reach the server as the model wrote them."""

    def validate(self, raw: str) -> dict[str, object]:
        """See `ArgumentSchema.validate`."""
        arguments = parse_arguments(raw)
        for name in (CONTEXT, ANSWER):
            if name in arguments:
                raise ArgumentsError(f"{name}: there is no such parameter")
        try:
            lines = value_problems(self.parameters, arguments)
        except Exception as error:  # a reference that leads nowhere, a schema that is too deep
            raise ArgumentsError(f"the arguments could not be checked: {_words(str(error))}") from None
        if lines:
            raise ArgumentsError("\n".join(lines))
        return cast("dict[str, object]", arguments)


def _words(message: str) -> str:
    return one_line(bounded(message, _PROBLEM_SHOWN))
