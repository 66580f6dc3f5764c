"""One connection to an MCP server, by the `mcp` package. The extra `mcp` installs it.

A connection lives in a task of its own, which opens and closes it. Calls of any activity go through it side by side.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import httpx2
import mcp
from anyio.abc import ObjectReceiveStream
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.message import SessionMessage
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
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    ListRootsResult,
    RequestParamsMeta,
    TextContent,
    ToolListChangedNotification,
)
from pydantic import JsonValue, TypeAdapter, ValidationError

from assent.agents.mcp_question import ELICIT, Answers, Question, question_of
from assent.agents.mcp_server import MCPServer
from assent.wire.digest import json_size
from assent.wire.messages import problems
from assent.wire.text import bounded, one_line

from .mcp_servers import ConnectionLostError, QuestionError, ServerDownError, StateRefusedError, ToolError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CONNECT_LIMIT: Final = 60.0
"""Seconds for a server to start and to answer its first request, and for each list of tools."""
IDLE: Final = 300.0
"""Seconds without a call after which a connection is closed."""
KEY: Final = "assent.idempotencyKey"
"""The name of a call's idempotency key in its `_meta`."""
_NOISE: Final = 100
"""Requests and lines that are no JSON-RPC, without an answer among them, after which a server is given up."""
_VALUES: Final = 100_000
"""Values in a message, objects and lists included: the package may need 2 KB for each."""
_CLOSE_LIMIT: Final = 10.0
_PAGES: Final = 20
_WORDS: Final = 500
_BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of an answer."""
_LINES: Final = "assent_lines"
"""The encoding of a command's output: UTF-8, by `_Lines`."""
_PACKAGE: Final = f"{Path(mcp.__file__).parent}{os.sep}"
_KINDS: Final = ("application/json", "text/event-stream")
_RETRY_LISTEN: Final = 5.0
SETTLED: Final = 2.0
"""Seconds after a connection in which a server may add tools; one that is missing is waited for."""
FIRST: Final = 0.5
"""Seconds that the first list of a connection waits for what the server adds, if it says that its list changes."""
_RESPONSES: Final[TypeAdapter[InputResponses]] = TypeAdapter(InputResponses)
_NOT_ASKED: Final = ErrorData(code=INVALID_REQUEST, message="no person can be asked while a call is under way")
_TURN_LIMIT: Final = 10.0
"""Seconds that a call waits for others to end, where it must be alone with its server."""
_PROCESS: Final = secrets.token_hex(16)
"""No server knows it, so none can claim that a call was not sent."""
_NOT_SENT: Final = f"not sent {_PROCESS}: "
_LOST: Final = f"lost {_PROCESS}: "


@dataclass(eq=False)
class _Held:
    """A call under way, for a server that holds it while it asks: *answers* it may get, *question* it gets none to."""

    answers: dict[str, JsonValue]
    question: Mapping[str, JsonValue] | None = None
    problem: str | None = None


_HELD: Final[ContextVar[_Held]] = ContextVar("held")
"""The call in which a request was sent: over HTTP, what the server asks in its course comes in the same context."""


class Connection:
    """A connection to *server*; `open` before anything else."""

    def __init__(self, server: MCPServer) -> None:
        """Nothing is started yet."""
        self._server = server
        self._client: Client | None = None
        self._read: Any = None
        """The stream of the command's messages, as anyio has it."""
        self._garbage = self._asks = 0
        """Lines that are no JSON-RPC, and requests, since the last answer."""
        self._why = ""
        """Why the connection was ended from this side."""
        self._calls = 0
        self._held = set[_Held]()
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
            raise ServerDownError(self._words(f"it did not answer within {CONNECT_LIMIT:g} s")) from None
        except asyncio.CancelledError:
            self._scope.cancel()
            raise
        if not ready.done():
            error = None if self._task.cancelled() else self._task.exception()
            raise ServerDownError(self._words("it ended" if error is None else _words(error))) from None

    async def changes_soon(self, seconds: float) -> bool:
        """Whether the server's tools change within *seconds*: some add tools just after they started."""
        end = min(self._opened + SETTLED, time.monotonic() + seconds)
        while self._adds and not self.changed and time.monotonic() < end:  # noqa: ASYNC110 - a notice sets it
            await asyncio.sleep(0.05)
        return self.changed

    def too_long(self) -> None:
        """Close the connection, because its command wrote more than an answer may have."""
        self._give_up(f"it wrote a line of more than {_BODY_LIMIT:,} bytes")

    def retire(self) -> None:
        """Take no further calls, and close once those under way have their answers."""
        self._retired = True
        if not self._calls:
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
        found: list[dict[str, JsonValue]] = []
        cursor: str | None = None
        self._noticed, self._listed = False, time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_LIMIT), self._busy() as client:
                for _ in range(_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in page.tools]
                    if (cursor := page.next_cursor) is None or json_size(found) > _BODY_LIMIT:
                        break
        except TimeoutError:
            self.retire()
            raise ServerDownError(self._words(f"it gave no list of its tools within {CONNECT_LIMIT:g} s")) from None
        except Exception as error:  # of the package, of pydantic, of anyio: whatever a server's answer leads to
            self.retire()
            raise ServerDownError(self._words(f"it gave no list of its tools: {_words(error)}")) from None
        return found

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
        held = _Held(dict(answers or {}))
        async with self._may_ask(held):
            result = await self._sent(held, tool, arguments, _meta(key), state, responses)
        if isinstance(result, InputRequiredResult):
            raise self._asked(result.model_dump(mode="json", by_alias=True, exclude_none=True))
        texts = [each.text for each in result.content if isinstance(each, TextContent)]
        if result.is_error and (unanswered := self._unanswered(held, " ".join(texts))):
            raise unanswered
        if held.question is not None:  # It did without the answer, and may have had its effect.
            asked = one_line(bounded(str(held.question.get("message")), _WORDS))
            note = TextContent(text=f"[the server asked meanwhile, and got no answer: {asked}]")
            return result.model_copy(update={"content": [*result.content, note]})
        return result

    async def _sent(
        self,
        held: _Held,
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
                raise StateRefusedError(self._words(f"it does not take its question back: {_words(error)}")) from None
            if error.code == URL_ELICITATION_REQUIRED:
                raise self._asked(_urls(error.data), held="") from None
            meant = self._meant(error)
            raise (isinstance(meant, ToolError) and self._unanswered(held, error.message)) or meant from None
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            self.retire()
            raise ConnectionLostError(self._words("it was lost during the call")) from None
        except Exception as error:  # as above: the package checks the answer
            raise ToolError(self._words(f"it answered with what is no valid result: {_words(error)}")) from None

    def _asked(self, asked: Mapping[str, JsonValue], held: str | None = None) -> Exception:
        found = question_of(asked, roots=bool(self._server.roots), held=held)
        return ToolError(self._words(found)) if isinstance(found, str) else QuestionError(found)

    def _unanswered(self, held: _Held, said: str) -> Exception | None:
        """Return what follows for a call that failed because a question of the server got no answer."""
        if held.problem is not None:
            return ToolError(self._words(f"{held.problem}; it then said: {one_line(bounded(said, _WORDS))}"))
        if held.question is None:
            return None
        return self._asked({"inputRequests": {"": {"method": ELICIT, "params": dict(held.question)}}}, said)

    @contextlib.asynccontextmanager
    async def _may_ask(self, held: _Held) -> AsyncGenerator[None]:
        """Let the server ask during a call. One with answers is alone with its command, so that no other gets them."""
        alone = self._alone or (self._read is not None and bool(held.answers))
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_TURN_LIMIT):
                    await stack.enter_async_context(self._turn)
                    while alone and self._held:  # noqa: ASYNC110 - calls end in many ways
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise ServerDownError(self._words("it is busy with other calls")) from None
            self._held.add(held)
            if not alone:
                await stack.aclose()
            token = _HELD.set(held)
            try:
                yield
            finally:
                _HELD.reset(token)
                self._held.discard(held)

    async def _elicited(self, context: object, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        """Answer a server of before 2026-07-28, which asks in the middle of a call and holds it meanwhile.

        The call ends without an answer, and a person is asked. It is made again with the answer.
        """
        del context
        held = _HELD.get(None) or (next(iter(self._held)) if len(self._held) == 1 else None)
        given = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        if held is None:
            self._alone = True
            for each in self._held:
                each.problem = (
                    "it asked a question while several calls were under way; from now on it gets one at a time"
                )
            return _NOT_ASKED
        found = question_of({"inputRequests": {"": {"method": ELICIT, "params": given}}})
        if isinstance(found, Question):
            answer = held.answers.pop(found.stored.requests[0].digest, None)
            if answer is not None:
                return ElicitResult.model_validate(answer)
        held.question = held.question or given
        return _NOT_ASKED

    async def _roots(self, context: object) -> ListRootsResult:
        del context
        return ListRootsResult.model_validate(self._server.folders())

    def _meant(self, error: MCPError) -> Exception:
        said = error.message
        if said.startswith(_NOT_SENT):
            self.retire()
            return ServerDownError(self._words(said.removeprefix(_NOT_SENT)))
        if said.startswith(_LOST):
            return ConnectionLostError(self._words(f"it was lost during the call: {said.removeprefix(_LOST)}"))
        if error.code == PARSE_ERROR:  # It may have done what it was called for.
            why = f"its answer is no JSON-RPC, or has more than {_BODY_LIMIT:,} bytes or {_VALUES:,} values"
            return ConnectionLostError(self._words(why))
        if error.code == CONNECTION_CLOSED:
            self.retire()
            return ConnectionLostError(self._words("it was lost during the call: the connection was closed"))
        return ToolError(self._words(f"{one_line(bounded(said, _WORDS))} (code {error.code})"))

    def _words(self, problem: str) -> str:
        noise = f"; it wrote {self._garbage} lines that are no JSON-RPC" if self._garbage else ""
        return f"MCP server {self._server.name!r}: {problem}{self._why or noise}"

    def _give_up(self, why: str) -> None:
        self._why = f"; {why}"
        self._scope.cancel()

    # -- the task of the connection -----------------------------------------------------------------------------------

    async def _live(self, ready: asyncio.Future[None]) -> None:
        # Not by `Task.cancel`, which breaks the end of the command off: it would stay.
        with self._scope:
            _OWN.set(self)
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
            if not self._calls and time.monotonic() - self._used > IDLE:
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
            if _is_answer(message):
                self._give_up("it wrote an answer that is no JSON-RPC")
            elif self._garbage == _NOISE:
                self._scope.cancel()

    def notice(self, message: JSONRPCMessage) -> None:
        """Count what the server asks in a row: one that does not stop is given up."""
        if isinstance(message, JSONRPCRequest):
            self._asks += 1
            if self._asks > _NOISE * max(1, len(self._held)):
                self._give_up(f"it asked {self._asks} times")
        elif not isinstance(message, JSONRPCNotification):
            self._asks = self._garbage = 0

    @contextlib.asynccontextmanager
    async def _busy(self) -> AsyncGenerator[Client]:
        if self._client is None or not self.is_open:
            raise MCPError(CONNECTION_CLOSED, f"{_NOT_SENT}the connection is closed")
        self._calls += 1
        try:
            yield self._client
        finally:
            self._calls -= 1
            self._used = time.monotonic()
            if self._retired and not self._calls:
                self._end.set()

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncGenerator[Any]:
        server, headers = self._server, self._server.headers
        if server.in_process is not None:
            yield server.in_process
        elif server.command is not None:
            given = StdioServerParameters(
                command=server.command, args=list(server.args), env=server.environment(os.environ), encoding=_LINES
            )
            yield self._watched(stdio_client(given), is_command=True)
        else:
            headers = {name: os.environ[variable] for name, variable in headers.items()}
            async with http_client(headers, server.timeout.total_seconds()) as http:
                # `_Bounded` has the limit of an answer; the package's is 1 MiB, and ends the connection.
                way = streamable_http_client(server.url or "", http_client=http, max_sse_event_size=None)
                yield self._watched(way)

    @contextlib.asynccontextmanager
    async def _watched(self, way: Any, *, is_command: bool = False) -> AsyncGenerator[Any]:  # noqa: ANN401 - the package's
        async with way as (read, write):
            self._read = read if is_command else None
            yield _Incoming(self, read), write


_OWN: Final[ContextVar[Connection]] = ContextVar("own")
"""The connection whose task it is."""


class _Incoming(ObjectReceiveStream[SessionMessage | Exception]):
    """What a server sends. A message of very many values would take the package's memory: it becomes an error."""

    def __init__(self, connection: Connection, whole: ObjectReceiveStream[SessionMessage | Exception]) -> None:
        """*whole* is the stream of the package, which is one of anyio's or like it."""
        self._connection = connection
        self._whole = whole

    @property
    def last_context(self) -> object:
        """The context in which the last message was sent, over HTTP."""
        return getattr(self._whole, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message."""
        while True:
            item = await self._whole.receive()
            if not isinstance(item, SessionMessage):
                return item
            self._connection.notice(item.message)
            if not _has_too_many(item.message):
                return item
            if isinstance(item.message, JSONRPCResponse):
                error = ErrorData(code=PARSE_ERROR, message=f"more than {_VALUES:,} values")
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=item.message.id, error=error))

    async def aclose(self) -> None:
        """Close the stream."""
        await self._whole.aclose()


def _has_too_many(message: JSONRPCMessage) -> bool:
    left: list[object] = [message.result if isinstance(message, JSONRPCResponse) else getattr(message, "params", None)]
    seen = 0
    while left and seen <= _VALUES:
        one = left.pop()
        inner = cast("dict[str, object]", one).values() if isinstance(one, dict) else cast("list[object]", one or [])
        seen += len(inner)
        if seen <= _VALUES:
            left += [each for each in inner if isinstance(each, dict | list)]
    return seen > _VALUES


def _is_answer(error: Exception) -> bool:
    """Whether what is no JSON-RPC was to be an answer: its call would wait for it until its time is up."""
    if not isinstance(error, ValidationError):
        return False
    line: object = error.errors(include_url=False, include_context=False)[0]["input"]
    return isinstance(line, str) and '"jsonrpc"' in line and ('"result"' in line or '"error"' in line)


class _Lines(codecs.IncrementalDecoder):
    """Decodes what a command writes, whole lines at a time: the package joins each part with all before it.

    If a line is longer than an answer may be, the connection is closed.
    """

    def __init__(self, errors: str = "strict") -> None:
        """Nothing was read yet."""
        super().__init__(errors)
        self._parts = list[bytes]()
        self._size = 0

    def decode(self, input: ReadableBuffer, final: bool = False) -> str:  # noqa: FBT001, FBT002 - the class's own
        del final
        lines, end, rest = bytes(input).rpartition(b"\n")
        found = b"".join([*self._parts, lines, end]) if end else b""
        self._parts = [rest] if end else [*self._parts, rest]
        self._size = len(rest) + (0 if end else self._size)
        if self._size > _BODY_LIMIT:
            self._parts, self._size = [], 0
            _OWN.get().too_long()
        return found.decode("utf-8", self.errors)


def _codec(name: str) -> codecs.CodecInfo | None:
    utf8 = codecs.lookup("utf-8")
    return codecs.CodecInfo(utf8.encode, utf8.decode, incrementaldecoder=_Lines, name=name) if name == _LINES else None


codecs.register(_codec)


class _Http(httpx2.AsyncClient):
    """Turns what goes wrong with one request into the answer to it.

    The package would close the connection under every other call, and say of none whether it was sent.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - the class's own
        try:
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _answer(request, 503, f"{_NOT_SENT}it cannot be reached: {_words(error)}")
        except httpx2.TransportError as error:
            return _answer(request, 502, f"{_LOST}{_words(error)}")
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":  # What is read may be a hundred times as large.
            await response.aclose()
            return _answer(request, 502, f"{_LOST}it answered in the encoding {one_line(coding[:50])!r}, unasked")
        kind = response.headers.get("content-type", "")
        if response.status_code >= 400 and not kind.startswith("application/json"):
            await response.aclose()
            said = f"it answered HTTP {response.status_code} {response.reason_phrase}"
            # 400 is how a server of before 2026-07-28 answers the first request of the package, and no refusal.
            refused = response.status_code in {401, 403, 404, 429, 503}
            return _answer(request, response.status_code, (_NOT_SENT if refused else _LOST) + said)
        if response.status_code in {202, 204} and _is_call(request):
            await response.aclose()
            return _answer(request, 502, f"{_LOST}it accepted the call, and gave no answer")
        if response.status_code == 200 and not kind.startswith(_KINDS) and request.method == "POST":
            await response.aclose()
            return _answer(request, 502, f"{_LOST}it answered with {one_line(kind[:50]) or 'nothing'}")
        if kind.startswith(_KINDS):
            response.stream = _Bounded(cast("httpx2.AsyncByteStream", response.stream))
        return response


def http_client(
    headers: Mapping[str, str], read: float, transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncClient:
    """Return what sends requests with *headers*. *read* are the seconds that an answer may pause."""
    headers = {**headers, "Accept-Encoding": "identity"}
    return _Http(headers=headers, timeout=httpx2.Timeout(30.0, read=read), transport=transport)


class _Bounded(httpx2.AsyncByteStream):
    """An answer, or each event of a stream, up to its limit; what is cut off is no JSON, and fails one request."""

    def __init__(self, whole: httpx2.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        size = 0
        async for part in self._whole:
            size = 0 if b"\n\n" in part or b"\r\n\r\n" in part else size + len(part)
            if size > _BODY_LIMIT:
                yield b"\n\n"  # Ends the event, which the package then refuses; otherwise it might wait for the rest.
                return
            yield part

    async def aclose(self) -> None:
        await self._whole.aclose()


async def _unchecked(name: str, result: CallToolResult) -> None:
    """Leave the output schema of a tool to `McpServers`: the package would check the server's patterns, in the loop."""
    del name, result


def _as_one_line(record: logging.LogRecord) -> bool:
    """Log what the package says of a server in one line: it has a traceback of each line that is no JSON-RPC.

    One of its loggers is named `client`, as a logger of the application may be.
    """
    if record.pathname.startswith(_PACKAGE) and record.exc_info and (error := record.exc_info[1]) is not None:
        record.msg, record.args = f"MCP server: {one_line(record.getMessage())}: {_words(error)}", None
        record.exc_info = None
    return True


for _name in ("client", "mcp.client.stdio", "mcp.client.streamable_http"):
    logging.getLogger(_name).addFilter(_as_one_line)


def _urls(data: object) -> dict[str, JsonValue]:
    """Return what a server of before 2026-07-28 wants done at URLs before it takes a call, as an `input_required`."""
    listed = cast("dict[str, JsonValue]", data).get("elicitations") if isinstance(data, dict) else None
    found = listed if isinstance(listed, list) else []
    return {"inputRequests": {str(at): {"method": ELICIT, "params": each} for at, each in enumerate(found)}}


def _meta(key: str) -> RequestParamsMeta:
    # The specification allows any names in `_meta`; the package's type lists some.
    return cast("RequestParamsMeta", {KEY: key})


def _answer(request: httpx2.Request, status: int, message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": CONNECTION_CLOSED, "message": message}}
    headers = {"content-type": "application/json"}
    return httpx2.Response(status, headers=headers, content=json.dumps(error).encode(), request=request)


def _is_call(request: httpx2.Request) -> bool:
    """Whether the server owes an answer, and may act before it fails to give one. It owes none to a notice."""
    message = json.loads(request.content or b"null")
    return isinstance(message, dict) and {"id", "method"} <= message.keys()


def _words(error: BaseException) -> str:
    """Return an error in one line; of a group, its first that is none."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"there is no command {error.filename!r}"
    if isinstance(error, ValidationError):
        return bounded(problems(error), _WORDS)
    said = error.message if isinstance(error, MCPError) else f"{type(error).__name__}: {error}"
    for mark in (_NOT_SENT, _LOST):
        said = said.removeprefix(mark)
    return one_line(bounded(said, _WORDS))
