"""Reads what an MCP server sends, within limits, whatever it sends.

The `mcp` package reads without limits. What is too large, compressed, no JSON-RPC or no answer at all must end one call
with a clear line. It must not take the worker's memory, close the connection under other calls or fill the log.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
import mcp
from anyio.abc import ObjectReceiveStream
from mcp import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, PARSE_ERROR, ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCResponse
from pydantic import ValidationError

from assent.wire.messages import problems
from assent.wire.text import bounded, one_line

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BODY_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of an answer."""
VALUES_LIMIT: Final = 100_000
"""Values in a message, objects and lists included: the package may need 2 KB for each."""
WORDS_LIMIT: Final = 500
"""Characters of what a server says, in a line of ours."""
_PROCESS: Final = secrets.token_hex(16)
"""No server knows it, so none can claim that a call was not sent."""
NOT_SENT: Final = f"not sent {_PROCESS}: "
"""The beginning of an error's message: the request was not sent."""
LOST: Final = f"lost {_PROCESS}: "
"""The beginning of an error's message: the request was sent, and its answer is lost."""
LINES: Final = "assent_lines"
"""The encoding of a command's output: UTF-8, by `_LineDecoder`."""
ON_LONG_LINE: Final[ContextVar[Callable[[], None]]] = ContextVar("on_long_line")
"""Called in the task that reads a command, when a line is longer than an answer may be."""
_PACKAGE: Final = f"{Path(mcp.__file__).parent}{os.sep}"
_CONTENT_TYPES: Final = ("application/json", "text/event-stream")


def words_of(error: BaseException) -> str:
    """Return an error in one line; of a group, the first error that is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"there is no command {error.filename!r}"
    if isinstance(error, ValidationError):
        return bounded(problems(error), WORDS_LIMIT)
    text = error.message if isinstance(error, MCPError) else f"{type(error).__name__}: {error}"
    return one_line(bounded(text.removeprefix(NOT_SENT).removeprefix(LOST), WORDS_LIMIT))


# -- messages ---------------------------------------------------------------------------------------------------------


class IncomingMessages(ObjectReceiveStream[SessionMessage | Exception]):
    """The messages of a server. One of very many values would take the package's memory: it becomes an error."""

    def __init__(
        self, messages: ObjectReceiveStream[SessionMessage | Exception], on_message: Callable[[JSONRPCMessage], None]
    ) -> None:
        """*messages* is the package's stream, one of anyio's or like it. *on_message* is called for each message."""
        self._messages = messages
        self._on_message = on_message

    @property
    def last_context(self) -> object:
        """The context in which the last message was sent, over HTTP."""
        return getattr(self._messages, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message."""
        while True:
            item = await self._messages.receive()
            if not isinstance(item, SessionMessage):
                return item
            self._on_message(item.message)
            if not _has_too_many_values(item.message):
                return item
            if isinstance(item.message, JSONRPCResponse):
                error = ErrorData(code=PARSE_ERROR, message=f"more than {VALUES_LIMIT:,} values")
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=item.message.id, error=error))

    async def aclose(self) -> None:
        """Close the stream."""
        await self._messages.aclose()


def _has_too_many_values(message: JSONRPCMessage) -> bool:
    left: list[object] = [message.result if isinstance(message, JSONRPCResponse) else getattr(message, "params", None)]
    count = 0
    while left and count <= VALUES_LIMIT:
        outer = left.pop()
        inner = (
            cast("dict[str, object]", outer).values() if isinstance(outer, dict) else cast("list[object]", outer or [])
        )
        count += len(inner)
        if count <= VALUES_LIMIT:
            left += [value for value in inner if isinstance(value, dict | list)]
    return count > VALUES_LIMIT


def is_answer(error: Exception) -> bool:
    """Whether what is no JSON-RPC was to be an answer: its call would wait for it until its time is up."""
    if not isinstance(error, ValidationError):
        return False
    line: object = error.errors(include_url=False, include_context=False)[0]["input"]
    return isinstance(line, str) and '"jsonrpc"' in line and ('"result"' in line or '"error"' in line)


# -- the output of a command ------------------------------------------------------------------------------------------


class _LineDecoder(codecs.IncrementalDecoder):
    """Decodes what a command writes, whole lines at a time: the package joins each part with all before it.

    If a line is longer than an answer may be, `ON_LONG_LINE` closes the connection.
    """

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._parts = list[bytes]()
        self._size = 0

    def decode(self, input: ReadableBuffer, final: bool = False) -> str:  # noqa: FBT001, FBT002 - the class's own
        del final
        lines, end, rest = bytes(input).rpartition(b"\n")
        whole = b"".join([*self._parts, lines, end]) if end else b""
        self._parts = [rest] if end else [*self._parts, rest]
        self._size = len(rest) + (0 if end else self._size)
        if self._size > BODY_LIMIT:
            self._parts, self._size = [], 0
            ON_LONG_LINE.get()()
        return whole.decode("utf-8", self.errors)


def _codec(name: str) -> codecs.CodecInfo | None:
    utf8 = codecs.lookup("utf-8")
    if name != LINES:
        return None
    return codecs.CodecInfo(utf8.encode, utf8.decode, incrementaldecoder=_LineDecoder, name=name)


codecs.register(_codec)


def _as_one_line(record: logging.LogRecord) -> bool:
    """Log what the package says of a server in one line: it has a traceback of each line that is no JSON-RPC.

    One of its loggers is named `client`, as a logger of the application may be.
    """
    if record.pathname.startswith(_PACKAGE) and record.exc_info and (error := record.exc_info[1]) is not None:
        record.msg, record.args = f"MCP server: {one_line(record.getMessage())}: {words_of(error)}", None
        record.exc_info = None
    return True


for _name in ("client", "mcp.client.stdio", "mcp.client.streamable_http"):
    logging.getLogger(_name).addFilter(_as_one_line)


# -- HTTP -------------------------------------------------------------------------------------------------------------


def http_client(
    headers: Mapping[str, str], read: float, transport: httpx2.AsyncBaseTransport | None = None
) -> httpx2.AsyncClient:
    """Return what sends requests with *headers*. *read* are the seconds that an answer may pause."""
    headers = {**headers, "Accept-Encoding": "identity"}
    return _HttpClient(headers=headers, timeout=httpx2.Timeout(30.0, read=read), transport=transport)


class _HttpClient(httpx2.AsyncClient):
    """Turns what goes wrong with one request into the answer to it.

    The package would close the connection under every other call, and say of none whether it was sent.
    """

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - the class's own
        try:
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _error_response(request, 503, f"{NOT_SENT}it cannot be reached: {words_of(error)}")
        except httpx2.TransportError as error:
            return _error_response(request, 502, f"{LOST}{words_of(error)}")
        content_type = response.headers.get("content-type", "")
        if (refusal := _refusal(request, response, content_type)) is not None:
            await response.aclose()
            return refusal
        if content_type.startswith(_CONTENT_TYPES):
            response.stream = _BoundedStream(cast("httpx2.AsyncByteStream", response.stream))
        return response


def _refusal(request: httpx2.Request, response: httpx2.Response, content_type: str) -> httpx2.Response | None:
    """Return the answer instead of one that is not read; None if it is."""
    status, encoding = response.status_code, response.headers.get("content-encoding", "identity")
    if encoding != "identity":  # What is read may be a hundred times as large.
        return _error_response(request, 502, f"{LOST}it answered in the encoding {one_line(encoding[:50])!r}, unasked")
    if status >= 400 and not content_type.startswith("application/json"):
        # 400 is how a server of before 2026-07-28 answers the first request of the package, and no refusal.
        mark = NOT_SENT if status in {401, 403, 404, 429, 503} else LOST
        return _error_response(request, status, f"{mark}it answered HTTP {status} {response.reason_phrase}")
    if status in {202, 204} and _is_call(request):
        return _error_response(request, 502, f"{LOST}it accepted the call, and gave no answer")
    if status == 200 and not content_type.startswith(_CONTENT_TYPES) and request.method == "POST":
        return _error_response(request, 502, f"{LOST}it answered with {one_line(content_type[:50]) or 'nothing'}")
    return None


def _error_response(request: httpx2.Request, status: int, message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": CONNECTION_CLOSED, "message": message}}
    return httpx2.Response(status, json=error, request=request)


def _is_call(request: httpx2.Request) -> bool:
    """Whether the server owes an answer, and may act before it fails to give one. It owes none to a notice."""
    message = json.loads(request.content or b"null")
    return isinstance(message, dict) and {"id", "method"} <= message.keys()


class _BoundedStream(httpx2.AsyncByteStream):
    """An answer, or each event of a stream, up to its limit; what is cut off is no JSON, and fails one request."""

    def __init__(self, parts: httpx2.AsyncByteStream) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        size = 0
        async for part in self._parts:
            size = 0 if b"\n\n" in part or b"\r\n\r\n" in part else size + len(part)
            if size > BODY_LIMIT:
                yield b"\n\n"  # Ends the event, which the package then refuses; otherwise it might wait for the rest.
                return
            yield part

    async def aclose(self) -> None:
        await self._parts.aclose()
