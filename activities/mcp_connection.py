"""One connection to an MCP server, by the `mcp` package. The extra `mcp` installs it.

A connection lives in a task of its own, which opens and closes it. Calls of any activity go through it side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, cast

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    URL_ELICITATION_REQUIRED,
    CallToolResult,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    InputRequiredResult,
    InputResponses,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    ListRootsResult,
    RequestParamsMeta,
    TextContent,
    ToolListChangedNotification,
)
from pydantic import JsonValue, TypeAdapter

from assent.agents.mcp_question import ELICIT, Answers, Question, question_of
from assent.agents.mcp_server import MCPServer
from assent.wire.digest import json_size
from assent.wire.text import bounded, one_line

from .mcp_errors import ConnectionLostError, QuestionError, ServerDownError, StateRefusedError, ToolError
from .mcp_incoming import (
    BODY_LIMIT,
    LINES,
    LOST,
    NOT_SENT,
    ON_LONG_LINE,
    VALUES_LIMIT,
    WORDS_LIMIT,
    IncomingMessages,
    http_client,
    is_answer,
    words_of,
)

CONNECT_LIMIT: Final = 60.0
"""Seconds for a server to start and to answer its first request, and for each list of tools."""
IDLE: Final = 300.0
"""Seconds without a call after which a connection is closed."""
KEY: Final = "assent.idempotencyKey"
"""The name of a call's idempotency key in its `_meta`."""
_NOISE: Final = 100
"""Requests and lines that are no JSON-RPC, without an answer among them, after which a server is given up."""
_CLOSE_LIMIT: Final = 10.0
_PAGES: Final = 20
_RETRY_LISTEN: Final = 5.0
SETTLED: Final = 2.0
"""Seconds after a connection in which a server may add tools; one that is missing is waited for."""
FIRST: Final = 0.5
"""Seconds that the first list of a connection waits for what the server adds, if it says that its list changes."""
_RESPONSES: Final[TypeAdapter[InputResponses]] = TypeAdapter(InputResponses)
_NOT_ASKED: Final = ErrorData(code=INVALID_REQUEST, message="no person can be asked while a call is under way")
_TURN_LIMIT: Final = 10.0
"""Seconds that a call waits for others to end, where it must be alone with its server."""


@dataclass(eq=False)
class _Call:
    """A call under way, for a server that holds it while it asks: *answers* it may get, *question* it gets none to."""

    answers: dict[str, JsonValue]
    question: Mapping[str, JsonValue] | None = None
    problem: str | None = None


_CALL: Final[ContextVar[_Call]] = ContextVar("call")
"""The call in which a request was sent: over HTTP, what the server asks in its course comes in the same context."""


class Connection:
    """A connection to *server*; `open` before anything else."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server
        self._client: Client | None = None
        self._read: Any = None
        """The stream of the command's messages, as anyio has it."""
        self._garbage = self._asks = 0
        """Lines that are no JSON-RPC, and requests, since the last answer."""
        self._why = ""
        """Why the connection was ended from this side."""
        self._uses = 0
        self._calls = set[_Call]()
        self._alone = False
        """Whether calls go one at a time, because a command asks in the middle of calls and does not say of which."""
        self._turn = asyncio.Lock()
        self._retired = False
        self._used = self._opened = time.monotonic()
        self._end = asyncio.Event()
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._noticed = True
        self._listed: float | None = None
        self._adds = False
        """Whether the server says that its list of tools may change, and that it then sends a notice."""

    @property
    def is_listed(self) -> bool:
        """Whether its tools were listed."""
        return self._listed is not None

    @property
    def changed(self) -> bool:
        """Whether its tools may be others than those that were listed last.

        A notice of the first seconds may be lost: over HTTP, the stream for it is opened meanwhile.
        """
        settled = self._opened + SETTLED
        return self._noticed or (self._adds and (self._listed or 0) < settled <= time.monotonic())

    @property
    def is_open(self) -> bool:
        """Whether a call may be sent: it was not closed, and the command has not ended."""
        if self._task is None or self._task.done() or self._retired or self._end.is_set():
            return False
        return self._read is None or self._read.statistics().open_send_streams > 0

    @property
    def is_closed(self) -> bool:
        """Whether nothing of it is left."""
        return self._task is not None and self._task.done()

    async def open(self) -> None:
        """Start the server, or connect to it.

        Raises:
            ServerDownError: it did not start, or does not answer.
        """
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._live(ready))
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self.close()
            raise ServerDownError(self._line(f"it did not answer within {CONNECT_LIMIT:g} s")) from None
        except asyncio.CancelledError:
            self._scope.cancel()
            raise
        if not ready.done():
            error = None if self._task.cancelled() else self._task.exception()
            raise ServerDownError(self._line("it ended" if error is None else words_of(error))) from None

    async def changes_soon(self, seconds: float) -> bool:
        """Whether the server's tools change within *seconds*: some add tools just after they started."""
        end = min(self._opened + SETTLED, time.monotonic() + seconds)
        while self._adds and not self.changed and time.monotonic() < end:  # noqa: ASYNC110 - a notice sets it
            await asyncio.sleep(0.05)
        return self.changed

    def retire(self) -> None:
        """Take no further calls, and close once those under way have their answers."""
        self._retired = True
        if not self._uses:
            self._end.set()

    async def close(self) -> None:
        """Close it, and end the command."""
        self._end.set()
        if self._task is not None:
            if self._client is None:
                self._scope.cancel()
            # The package gives a command seconds to end, and then kills it.
            await asyncio.wait([self._task], timeout=_CLOSE_LIMIT)
            if self._task.done() and not self._task.cancelled():
                self._task.exception()

    async def tools(self) -> list[dict[str, JsonValue]]:
        """Return what the server answers to `tools/list`, all pages.

        Raises:
            ServerDownError: it does not answer, or with what is no list.
        """
        tools: list[dict[str, JsonValue]] = []
        cursor: str | None = None
        self._noticed, self._listed = False, time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_LIMIT), self._busy() as client:
                for _ in range(_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    tools += [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in page.tools]
                    if (cursor := page.next_cursor) is None or json_size(tools) > BODY_LIMIT:
                        break
        except TimeoutError:
            self.retire()
            raise ServerDownError(self._line(f"it gave no list of its tools within {CONNECT_LIMIT:g} s")) from None
        except Exception as error:  # of the package, of pydantic, of anyio: whatever a server's answer leads to
            self.retire()
            raise ServerDownError(self._line(f"it gave no list of its tools: {words_of(error)}")) from None
        return tools

    async def call(
        self,
        tool: str,
        arguments: dict[str, JsonValue],
        key: str,
        state: str | None = None,
        responses: Mapping[str, JsonValue] | None = None,
        answers: Answers | None = None,
    ) -> CallToolResult:
        """Call a tool of the server, by its own name for it; *key* is the call's idempotency key.

        *responses* are the answer to its question, *state* is that of the question. *answers* are for what a server of
        an earlier protocol asks during the call.

        Raises:
            QuestionError: it asks a question first.
            StateRefusedError: it does not take *state* back; nothing was done.
            ServerDownError: the call was not sent.
            ConnectionLostError: it was sent, and there was no answer.
            ToolError: the server answered with an error, or with what is no result.
        """
        call = _Call(dict(answers or {}))
        async with self._may_ask(call):
            result = await self._sent(call, tool, arguments, _meta(key), state, responses)
        if isinstance(result, InputRequiredResult):
            raise self._question_error(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        if result.is_error and (unanswered := self._unanswered(call, " ".join(texts))):
            raise unanswered
        if call.question is not None:  # It did without the answer, and may have had its effect.
            asked = one_line(bounded(str(call.question.get("message")), WORDS_LIMIT))
            note = TextContent(text=f"[the server asked meanwhile, and got no answer: {asked}]")
            return result.model_copy(update={"content": [*result.content, note]})
        return result

    async def _sent(
        self,
        call: _Call,
        tool: str,
        arguments: dict[str, JsonValue],
        meta: RequestParamsMeta,
        state: str | None,
        responses: Mapping[str, JsonValue] | None,
    ) -> CallToolResult | InputRequiredResult:
        try:
            async with self._busy() as client:
                return await client.session.call_tool(
                    tool,
                    arguments,
                    meta=meta,
                    input_responses=_RESPONSES.validate_python(responses) if responses else None,
                    request_state=state,
                    allow_input_required=True,
                )
        except asyncio.CancelledError:
            if self._read is not None:  # The command may hang, and every later call with it.
                self.retire()
            raise
        except MCPError as error:
            if (state or responses) and error.code == INVALID_PARAMS:
                raise StateRefusedError(self._line(f"it does not take its question back: {words_of(error)}")) from None
            if error.code == URL_ELICITATION_REQUIRED:
                raise self._question_error(_urls(error.data), held="") from None
            to_raise = self._to_error(error)
            raise (isinstance(to_raise, ToolError) and self._unanswered(call, error.message)) or to_raise from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            self.retire()
            raise ConnectionLostError(self._line("it was lost during the call")) from None
        except Exception as error:  # as above: the package checks the answer
            raise ToolError(self._line(f"it answered with what is no valid result: {words_of(error)}")) from None

    def _question_error(self, asked: Mapping[str, JsonValue], held: str | None = None) -> Exception:
        question = question_of(asked, roots=bool(self._server.roots), held=held)
        return ToolError(self._line(question)) if isinstance(question, str) else QuestionError(question)

    def _unanswered(self, call: _Call, words: str) -> Exception | None:
        """Return what follows for a call that failed because a question of the server got no answer."""
        if call.problem is not None:
            return ToolError(self._line(f"{call.problem}; it then said: {one_line(bounded(words, WORDS_LIMIT))}"))
        if call.question is None:
            return None
        return self._question_error({"inputRequests": {"": {"method": ELICIT, "params": dict(call.question)}}}, words)

    @contextlib.asynccontextmanager
    async def _may_ask(self, call: _Call) -> AsyncGenerator[None]:
        """Let the server ask during a call. One with answers is alone with its command, so that no other gets them."""
        alone = self._alone or (self._read is not None and bool(call.answers))
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_TURN_LIMIT):
                    await stack.enter_async_context(self._turn)
                    while alone and self._calls:  # noqa: ASYNC110 - calls end in many ways
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise ServerDownError(self._line("it is busy with other calls")) from None
            self._calls.add(call)
            if not alone:
                await stack.aclose()
            token = _CALL.set(call)
            try:
                yield
            finally:
                _CALL.reset(token)
                self._calls.discard(call)

    async def _elicited(self, context: object, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        """Answer a server of before 2026-07-28, which asks in the middle of a call and holds it meanwhile.

        The call ends without an answer, and a person is asked. It is made again with the answer.
        """
        del context
        call = _CALL.get(None) or (next(iter(self._calls)) if len(self._calls) == 1 else None)
        asked = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        if call is None:
            self._alone = True
            for call in self._calls:
                call.problem = (
                    "it asked a question while several calls were under way; from now on it gets one at a time"
                )
            return _NOT_ASKED
        question = question_of({"inputRequests": {"": {"method": ELICIT, "params": asked}}})
        if isinstance(question, Question):
            answer = call.answers.pop(question.stored.requests[0].digest, None)
            if answer is not None:
                return ElicitResult.model_validate(answer)
        call.question = call.question or asked
        return _NOT_ASKED

    async def _roots(self, context: object) -> ListRootsResult:
        del context
        return ListRootsResult.model_validate(self._server.folders())

    def _to_error(self, error: MCPError) -> Exception:
        message = error.message
        if message.startswith(NOT_SENT):
            self.retire()
            return ServerDownError(self._line(message.removeprefix(NOT_SENT)))
        if message.startswith(LOST):
            return ConnectionLostError(self._line(f"it was lost during the call: {message.removeprefix(LOST)}"))
        if error.code == PARSE_ERROR:  # It may have done what it was called for.
            why = f"its answer is no JSON-RPC, or has more than {BODY_LIMIT:,} bytes or {VALUES_LIMIT:,} values"
            return ConnectionLostError(self._line(why))
        if error.code == CONNECTION_CLOSED:
            self.retire()
            return ConnectionLostError(self._line("it was lost during the call: the connection was closed"))
        return ToolError(self._line(f"{one_line(bounded(message, WORDS_LIMIT))} (code {error.code})"))

    def _line(self, problem: str) -> str:
        noise = f"; it wrote {self._garbage} lines that are no JSON-RPC" if self._garbage else ""
        return f"MCP server {self._server.name!r}: {problem}{self._why or noise}"

    def _end_for_long_line(self) -> None:
        self._give_up(f"it wrote a line of more than {BODY_LIMIT:,} bytes")

    def _give_up(self, why: str) -> None:
        self._why = f"; {why}"
        self._scope.cancel()

    # -- the task of the connection -----------------------------------------------------------------------------------

    async def _live(self, ready: asyncio.Future[None]) -> None:
        # Not by `Task.cancel`, which breaks the end of the command off: it would stay.
        with self._scope:
            ON_LONG_LINE.set(self._end_for_long_line)
            await self._connected(ready)

    async def _connected(self, ready: asyncio.Future[None]) -> None:
        async with (
            self._transport() as way,
            Client(
                way,
                cache=None,
                message_handler=self._received,
                elicitation_callback=self._elicited,
                list_roots_callback=self._roots if self._server.roots else None,
            ) as client,
        ):
            self._client, self._used, self._opened = client, time.monotonic(), time.monotonic()
            client.session.validate_tool_result = _unchecked  # type: ignore[method-assign]  # its docstring says why
            tools = client.server_capabilities.tools
            self._adds = tools is not None and tools.list_changed is True
            ready.set_result(None)
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(client))
                try:
                    await self._until_idle()
                finally:
                    listening.cancel()

    async def _until_idle(self) -> None:
        while not self._end.is_set():
            if not self._uses and time.monotonic() - self._used > IDLE:
                self._end.set()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(IDLE / 2, 30.0)):
                    await self._end.wait()

    async def _listen(self, client: Client) -> None:
        """Follow the server's notices of other tools; servers of before 2026-07-28 send them by themselves."""
        while self._adds:
            try:
                async with client.listen(tools_list_changed=True) as notices:
                    async for _ in notices:
                        self._noticed = True
            except ListenNotSupportedError:
                return
            except (MCPError, SubscriptionLost, TimeoutError) as error:
                if isinstance(error, MCPError) and error.code == METHOD_NOT_FOUND:
                    return
            self._noticed = True
            await asyncio.sleep(_RETRY_LISTEN)

    async def _received(self, message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            self._noticed = True
        elif isinstance(message, Exception):
            self._garbage += 1
            if is_answer(message):
                self._give_up("it wrote an answer that is no JSON-RPC")
            elif self._garbage == _NOISE:
                self._scope.cancel()

    def _count(self, message: JSONRPCMessage) -> None:
        """Count what the server asks in a row: one that does not stop is given up."""
        if isinstance(message, JSONRPCRequest):
            self._asks += 1
            if self._asks > _NOISE * max(1, len(self._calls)):
                self._give_up(f"it asked {self._asks} times")
        elif not isinstance(message, JSONRPCNotification):
            self._asks = self._garbage = 0

    @contextlib.asynccontextmanager
    async def _busy(self) -> AsyncGenerator[Client]:
        if self._client is None or not self.is_open:
            raise MCPError(CONNECTION_CLOSED, f"{NOT_SENT}the connection is closed")
        self._uses += 1
        try:
            yield self._client
        finally:
            self._uses -= 1
            self._used = time.monotonic()
            if self._retired and not self._uses:
                self._end.set()

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Any]:
        server, headers = self._server, self._server.headers
        if server.in_process is not None:
            yield server.in_process
        elif server.command is not None:
            command = StdioServerParameters(
                command=server.command, args=list(server.args), env=server.environment(os.environ), encoding=LINES
            )
            yield self._watched(stdio_client(command), is_command=True)
        else:
            headers = {name: os.environ[variable] for name, variable in headers.items()}
            async with http_client(headers, server.timeout.total_seconds()) as http:
                # `http_client` has the limit of an answer; the package's is 1 MiB, and ends the connection.
                way = streamable_http_client(server.url or "", http_client=http, max_sse_event_size=None)
                yield self._watched(way)

    @contextlib.asynccontextmanager
    async def _watched(self, way: Any, *, is_command: bool = False) -> AsyncGenerator[Any]:  # noqa: ANN401 - the package's
        async with way as (read, write):
            self._read = read if is_command else None
            yield IncomingMessages(read, self._count), write


async def _unchecked(name: str, result: CallToolResult) -> None:
    """Leave the output schema of a tool to `McpServers`: the package would check the server's patterns, in the loop."""
    del name, result


def _urls(data: object) -> dict[str, JsonValue]:
    """Return what a server of before 2026-07-28 wants done at URLs before it takes a call, as an `input_required`."""
    listed = cast("dict[str, JsonValue]", data).get("elicitations") if isinstance(data, dict) else None
    params = enumerate(listed if isinstance(listed, list) else [])
    return {"inputRequests": {str(number): {"method": ELICIT, "params": param} for number, param in params}}


def _meta(key: str) -> RequestParamsMeta:
    # The specification allows any names in `_meta`; the package's type lists some.
    return cast("RequestParamsMeta", {KEY: key})
