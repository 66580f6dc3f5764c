"""The MCP servers of a worker's agents: a connection to each, and the tools that they list.

Nothing of the `mcp` package is loaded before an agent that has servers needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue, ValidationError

from assent.agents.agent import Agent
from assent.agents.mcp_question import ROOTS, answers_of, responses_to
from assent.agents.mcp_server import Answer, Made, MCPServer, server_tools
from assent.agents.server_schema import value_problems
from assent.agents.tool import Tool, ToolContext
from assent.wire.digest import sha256_hex
from assent.wire.errors import ConfigurationError
from assent.wire.limits import PARTS_COUNT
from assent.wire.parts import ImagePart, ServerText
from assent.wire.text import bounded, one_line

from .mcp_errors import ConnectionLostError, QuestionError, StateRefusedError, ToolError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from .mcp_connection import Connection

_log = logging.getLogger(__name__)
_LIST_AGE: Final = 600.0
"""Seconds after which a list of tools is read again, though the server sent no notice."""
_ROUNDS: Final = 10
"""How often a server is called for one call, because it asks for something that is known."""
_AGAIN: Final = 0.5
"""Seconds until a server is called again that only asks for this."""
_WORDS: Final = 2_000
"""Characters of what a server says of a call that failed."""
_INSTALL: Final = "it needs the extra `mcp`: pip install 'assent-agents[mcp]'"


@dataclass
class _KnownServer:
    """One server, as a worker knows it. *warned* are the lines that were logged about it."""

    server: MCPServer
    connection: Connection | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict[str, Tool])
    made: Made = field(default_factory=Made)
    listed_at: float | None = None
    warned: set[str] = field(default_factory=set[str])
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def warn_once(self, problem: str) -> None:
        """Log a problem of the server, the first time."""
        if problem not in self.warned:
            self.warned.add(problem)
            _log.warning("MCP server %r: %s", self.server.name, problem)


class McpServers:
    """The servers of *agents*, each by its name. None is started before a run needs it.

    Raises:
        ConfigurationError: two agents have different servers of one name; the extra `mcp` is not installed; or the
            environment lacks a variable that a server needs.
    """

    def __init__(self, agents: Sequence[Agent]) -> None:
        owners: dict[str, tuple[MCPServer, str]] = {}
        for agent in agents:
            for server in agent.mcp_servers:
                other, owner = owners.setdefault(server.name, (server, agent.name))
                if other != server:
                    message = f"agents {owner!r} and {agent.name!r} have different MCP servers named {server.name!r}"
                    raise ConfigurationError(f"{message}; give one another name")
                if problem := _problem(server):
                    raise ConfigurationError(f"agent {agent.name!r}: MCP server {server.name!r}: {problem}")
        self._servers = {name: _KnownServer(server) for name, (server, _) in owners.items()}
        self.opened: set[Connection] = set()

    def warm_up(self) -> None:
        """Import the `mcp` package, if there is a server. Meant for a thread: it takes more than a second, once."""
        if self._servers:
            importlib.import_module("assent.activities.mcp_connection")

    def serves(self, activity: str) -> bool:
        """Whether an activity of this type is a tool of one of the servers, by its name."""
        name, dot, _ = activity.partition(".")
        return bool(dot) and name in self._servers

    async def listed(self, agent: Agent) -> dict[str, Tool]:
        """Return the tools of *agent* by their names: its own, then those of its servers as they are now.

        Raises:
            ServerDownError: a server cannot be reached, and its tools are not known, or it said that they changed.
        """
        tools = {tool.name: tool for tool in agent.all_tools}
        own_names = {tool.model_name for tool in agent.all_tools}
        for server in agent.mcp_servers:
            known = self._servers[server.name]
            for tool in (await self._listed(known)).values():
                if tool.model_name in own_names:
                    known.warn_once(f"tool {tool.name} is left out: the agent has one of its own")
                else:
                    tools[tool.name] = tool
        return tools

    def known(self, agent: Agent, name: str) -> Tool | None:
        """Return a tool of *agent*; of a server's, as it was listed last."""
        server = self._of(agent, name)
        return agent.tool(name) if server is None else server.tools.get(name)

    async def tool(self, agent: Agent, name: str, *, fresh: bool = False) -> Tool | None:
        """Return a tool of *agent*; of a server's, as it is now if *fresh*, or as it was listed last.

        Raises:
            ServerDownError: its server cannot be reached.
        """
        server = self._of(agent, name)
        if server is None:
            return agent.tool(name)
        listed = (await self._listed(server, fresh=fresh)).get(name)
        if listed is None and server.connection is not None:
            await server.connection.changes_soon(_LIST_AGE)
            listed = (await self._listed(server)).get(name)
        return listed

    async def close(self) -> None:
        """Close all connections, and end all commands."""
        await asyncio.gather(*(each.close() for each in self.opened))

    def _of(self, agent: Agent, name: str) -> _KnownServer | None:
        """The server of *agent* that a tool of this name is of."""
        server, dot, _ = name.partition(".")
        return self._servers[server] if dot and server in {each.name for each in agent.mcp_servers} else None

    async def _listed(self, known: _KnownServer, *, fresh: bool = False) -> Mapping[str, Tool]:
        async with known.lock:
            old = known.listed_at is None or time.monotonic() - known.listed_at > _LIST_AGE
            changed = known.connection is not None and known.connection.changed
            if not (fresh or old or changed):
                return known.tools
            listed = await self._list(known)
            # In a thread: schemas of others may take long to be checked.
            call = partial(self._call, known)
            tools, problems = await asyncio.to_thread(server_tools, known.server, listed, call, known.made)
            for problem in problems:
                known.warn_once(problem)
            known.tools, known.listed_at = {tool.name: tool for tool in tools}, time.monotonic()
            return known.tools

    async def _list(self, known: _KnownServer) -> list[dict[str, JsonValue]]:
        from .mcp_connection import FIRST, SETTLED  # noqa: PLC0415 - the extra `mcp` may not be installed

        connection = await self._connected(known)
        is_first = not connection.is_listed
        listed = await connection.tools()
        if is_first:  # What a connection before this one had is waited for longer.
            missing = known.tools.keys() - {f"{known.server.name}.{each['name']}" for each in listed}
            if await connection.changes_soon(SETTLED if missing else FIRST):
                return await connection.tools()
        return listed

    async def _connected(self, known: _KnownServer) -> Connection:
        """Return the open connection to a server. Raises ServerDownError. Its lock must be held."""
        from .mcp_connection import Connection  # noqa: PLC0415 - the extra `mcp` may not be installed

        if known.connection is None or not known.connection.is_open:
            if known.connection is not None:
                known.connection.retire()
            self.opened = {each for each in self.opened if not each.is_closed}
            known.connection = Connection(known.server)
            self.opened.add(known.connection)
            await known.connection.open()
        return known.connection

    async def _call(
        self,
        known: _KnownServer,
        tool: str,
        arguments: dict[str, JsonValue],
        context: ToolContext,
        answer: Answer | None,
        outputs: JsonValue,
    ) -> str:
        async with known.lock:
            connection = await self._connected(known)
        call = partial(connection.call, tool, arguments, context.idempotency_key)
        stored = {} if answer is None else answers_of(*answer)
        if known.server.roots:
            stored[ROOTS] = known.server.folders()
        # Each answer is given once in a call: a server that asks the same again gets a new one, of a person.
        unused = dict(stored)
        question = None if answer is None or answer[0].held else answer[0]
        for _ in range(_ROUNDS):
            try:
                if question is None:
                    result = await call(answers=unused)
                else:
                    responses = responses_to(question, unused)
                    for digest in {each.digest for each in question.requests} - {ROOTS}:
                        unused.pop(digest, None)
                    result = await call(question.state, responses)
                text = text_of_result(result)
                if isinstance(outputs, dict) and (problem := _problem_of_result(outputs, result)):
                    why = f"it answered with what is no valid result: {problem}"
                    raise ToolError(f"MCP server {known.server.name!r}: {why}")
                return _with_images(text, result, images=known.server.images)
            except StateRefusedError as error:
                _log.info("%s: the call is made again", error)
                unused, question = dict(stored), None
            except QuestionError as error:
                question = error.question.stored
                if question.held or responses_to(question, unused) is None:
                    raise
                if not question.requests:  # It only wants to be called again.
                    await asyncio.sleep(_AGAIN)
        raise ConnectionLostError(f"MCP server {known.server.name!r}: the call did not end in {_ROUNDS} rounds")


def _problem_of_result(schema: Mapping[str, JsonValue], result: CallToolResult) -> str | None:
    """Return why the structured content of a result does not fit the output schema of its tool; None if it does."""
    if "structured_content" not in result.model_fields_set:
        return "it has no structured content"
    try:
        return next(iter(value_problems(schema, result.structured_content)), None)
    except Exception as error:  # a reference that leads nowhere, a schema that is too deep
        return f"it cannot be checked: {bounded(one_line(str(error)), _WORDS)}"


def _with_images(text: str, result: CallToolResult, *, images: bool) -> str:
    """Return the text of a result, with its *images* if the model is to see them, and all that it only describes."""
    blocks = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in result.content]
    blobs = [each for each in blocks if "data" in each or "blob" in each.get("resource", {})]
    if not blobs:
        return text
    shown = ServerText(text.encode("utf-8", "backslashreplace").decode())  # Half of a character would be lost later.
    shown.whole, shown.images = json.dumps(blocks), []
    for each in blobs if images else ():
        with contextlib.suppress(KeyError, ValidationError):  # What providers do not read stays described.
            shown.images.append(ImagePart(data=each["data"], media_type=each["mimeType"]))
    shown.images = shown.images[:PARTS_COUNT]
    return shown


def text_of_result(result: CallToolResult) -> str:
    """Return what a server answered as text for the model; what is no text is described.

    Raises:
        ToolError: the server says that the call failed.
    """
    parts = [_text_of_block(each.model_dump(mode="json", by_alias=True, exclude_none=True)) for each in result.content]
    # The text is a copy of the structured content, by the specification; where a server sends none, it is made here.
    if result.structured_content is not None and not any(parts):
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    text = "\n".join(parts)
    if result.is_error:
        raise ToolError(bounded(text, _WORDS) or "the server says so, and no more")
    return text


def _text_of_block(block: Mapping[str, JsonValue]) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource", "resource": {"text": str(text), "uri": str(uri)}}:
            return f"[resource {uri}]\n{text}"
        case {"type": "resource", "resource": {"blob": str(data), "uri": str(uri)}}:
            return f"[resource {uri}: {_size(data)}]"
        case {"type": "resource_link", "uri": str(uri)}:
            return f"[link to resource {uri}]"
        case {"type": str(kind), "data": str(data), "mimeType": str(mime)}:
            return f"[{kind}, {mime}: {_size(data)}]"
        case _:
            return f"[content of type {block.get('type')!r}]"


def _size(data: str) -> str:
    return (
        f"{len(data) * 3 // 4 - data[-2:].count('='):,} bytes, SHA-256 of the base64 text {sha256_hex(data.encode())}"
    )


def _problem(server: MCPServer) -> str | None:
    """What keeps this worker from using a server; None if nothing does."""
    if importlib.util.find_spec("mcp") is None:
        return _INSTALL
    if missing := server.missing(os.environ):
        return f"the environment has no variable {', '.join(missing)}"
    return None
