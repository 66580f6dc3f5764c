"""Reading an answer as a stream: server-sent events by the `openai` package, straight from its low-level `post`.

What a stream says is put together to the JSON that the same call answers without one, and read from there on as that
is. So there is one reading of answers, and half an answer is never taken for one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from .errors import EmptyStreamError, unreadable
from .exchange import JsonObject

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai._streaming import ServerSentEvent

_NO_STREAM: Final = ("json", "html")
"""What is in the content type of a body that is no stream."""
_DONE: Final = "assent_done"
_REST: Final = 1.0
"""Seconds for what comes behind the answer. It is read so that the connection can be used again."""


class Assembler(Protocol):
    """Puts the events of one stream together."""

    def read(self, event: object) -> bool:
        """Take in *event*; True when the answer is whole.

        Raises:
            CallError: the event says that there will be no answer.
        """
        ...

    def whole(self, *, done: bool) -> object | None:
        """The answer as the call without a stream gives it; None when it is not whole.

        *done* is whether the stream said `[DONE]`.
        """
        ...


async def ask_streamed(client: AsyncOpenAI, path: str, body: JsonObject, assembler: Assembler) -> object:
    """Post *body*, and give the whole answer. A server that answers without a stream all the same is fine.

    Raises:
        openai.APIError: the provider refused, was not reached, or broke off.
        EmptyStreamError: it sent nothing.
        CallError: what it sent is no answer, or only a part of one.
        json.JSONDecodeError: it is not even JSON.
    """
    asked: JsonObject = {**body, "stream": True}
    kind = _stream_class()
    stream = await client.post(path, body=asked, cast_to=object, stream=True, stream_cls=kind)
    async with stream:
        content_type = stream.response.headers.get("content-type", "")
        if any(each in content_type for each in _NO_STREAM):
            return await _body_of(stream)
        empty = True
        try:
            async for event in stream:
                empty = False
                if assembler.read(event):
                    await _finish(stream)
                    break
        except Exception:  # whatever goes wrong behind a whole answer is of no account: that is paid for
            if assembler.whole(done=False) is None:
                raise
    if empty:
        raise EmptyStreamError
    answer = assembler.whole(done=getattr(stream, _DONE, False) is True)
    if answer is None:
        raise unreadable("The provider's stream ended before its answer was whole.")
    return answer


@cache
def _stream_class() -> type[AsyncStream[object]]:
    """The package's stream, which notes whether it was told that it ends."""
    from openai import AsyncStream

    class NotingStream(AsyncStream[object]):
        async def _iter_events(self) -> AsyncIterator[ServerSentEvent]:
            async for event in super()._iter_events():
                if event.data.startswith("[DONE]"):
                    setattr(self, _DONE, True)
                yield event

    return NotingStream


async def _body_of(stream: AsyncStream[object]) -> object:
    from openai import APIConnectionError

    try:
        text = await stream.response.aread()
    except Exception as error:  # The package wraps the errors of its HTTP client everywhere but here
        raise APIConnectionError(request=stream.response.request) from error
    return json.loads(text)


async def _finish(stream: AsyncStream[object]) -> None:
    from openai import APIError

    # The answer is there and paid for: whatever goes wrong behind it is of no account.
    with suppress(APIError, TimeoutError, ValueError):
        async with asyncio.timeout(_REST):
            async for _ in stream:
                pass
