"""What every request passes: its host, its size, where a post comes from, and how many there are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from cachetools import TTLCache
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_LIMIT: Final = 2 * 1024 * 1024
"""Bytes of a post: more than the largest arguments and results of a decision."""
FIELDS_LIMIT: Final = 1_000
_KEYS: Final = 10_000
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    # With `no-referrer` browsers send `Origin: null`, and a post could not be told from that of another site.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), "
    "microphone=(), geolocation=(), payment=()",
}


class Guard:
    """Refuses requests for another host, and adds the headers that keep the pages to themselves."""

    def __init__(self, app: ASGIApp, *, origins: frozenset[str], secure: bool) -> None:
        self._app = app
        self._hosts = {urlsplit(each).netloc for each in origins}
        self._headers = _HEADERS | ({"strict-transport-security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        # A page of another site whose name leads to this address would be let in by the browser.
        is_own_host = Headers(scope=scope).get("host", "").lower() in self._hosts
        if is_own_host or scope["path"] == "/healthz":
            await self._app(scope, receive, guarded)
        else:
            answer = PlainTextResponse("This page has another address.\n", status_code=421)
            await answer(scope, receive, guarded)


def check_origin(request: Request, origins: frozenset[str], *, required: bool = True) -> None:
    """Refuse a post that a page of another site made. Browsers send the origin with each post.

    Raises:
        HTTPException: the origin is another one; or there is none although it is *required*.
    """
    origin = request.headers.get("origin")
    if origin is None and not required and request.headers.get("sec-fetch-site", "same-origin") == "same-origin":
        return
    if origin is None or origin.lower() not in origins:
        raise HTTPException(403, "This form was sent by another site, so nothing was done.")


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: it is too large.
    """
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise HTTPException(413, f"The form is too large: at most {BODY_LIMIT:,} bytes. Nothing was done.")
        parts.append(part)
    return b"".join(parts)


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form; of several with one name, the last.

    Raises:
        HTTPException: it is no form, or too large.
    """
    body = await read_body(request)
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "This is not a form of this page. Nothing was done.")
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_LIMIT, errors="strict")
    except ValueError:
        raise HTTPException(400, "The form cannot be read. Nothing was done.") from None
    # Browsers send line breaks of text areas as CR LF.
    return {name: value.replace("\r\n", "\n") for name, value in fields}


class RateLimit:
    """Lets each key do something *most* times within *seconds*."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._times = TTLCache[str, deque[float]](_KEYS, seconds, timer=clock)

    def check(self, key: str) -> None:
        """Count one.

        Raises:
            HTTPException: it is one too many. `Retry-After` says in how many seconds to try again.
        """
        now = self._clock()
        times = self._times.get(key, deque[float]())
        while times and now - times[0] >= self._seconds:
            times.popleft()
        if len(times) >= self._most:
            wait = int(self._seconds - (now - times[0])) + 1
            raise HTTPException(429, f"Too many attempts. Try again in {wait} s.", {"Retry-After": str(wait)})
        times.append(now)
        self._times[key] = times
