"""A codec server for Temporal's Web UI, behind the sign-in: the payload codec of this page, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from assent.web.guard import RateLimit, read_body
from assent.web.pages import Site
from assent.wire.errors import ConfigurationError

_RATE: Final = (600, 60.0)
"""The Web UI asks once for each part of a page."""
_METHODS: Final = "POST, OPTIONS"

Code = Callable[[Sequence[Payload]], Awaitable[list[Payload]]]


class CodecServer:
    """`/encode` and `/decode`, as the Temporal documentation describes them, for the origins of the Web UI alone."""

    def __init__(self, site: Site) -> None:
        """Find the codec.

        Raises:
            ConfigurationError: there is none.
        """
        codec = site.client.temporal.data_converter.payload_codec
        if codec is None:
            raise ConfigurationError(
                "ASSENT_WEB_CODEC_ORIGINS is set, and ASSENT_PAYLOAD_CODEC is not: no codec to serve"
            )
        self._site = site
        self._codec: PayloadCodec = codec
        self._rate = RateLimit(*_RATE)

    def routes(self) -> list[Route]:
        """Return the routes."""
        each = [("/encode", self._codec.encode), ("/decode", self._codec.decode)]
        return [Route(path, self._endpoint(code), methods=["POST", "OPTIONS"]) for path, code in each]

    def _endpoint(self, code: Code) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            origin = request.headers.get("origin", "").lower()
            if origin not in self._site.settings.codec_origins:
                raise HTTPException(
                    403, "This page may not use the codec server; ASSENT_WEB_CODEC_ORIGINS names the pages that may."
                )
            try:
                response = Response(status_code=204) if request.method == "OPTIONS" else await self._code(request, code)
            except HTTPException as error:
                response = JSONResponse({"problem": error.detail}, error.status_code, error.headers)
            response.headers["access-control-allow-origin"] = origin
            response.headers["access-control-allow-credentials"] = "true"
            response.headers["access-control-allow-methods"] = _METHODS
            response.headers["access-control-allow-headers"] = "content-type, x-namespace, authorization"
            response.headers["vary"] = "origin"
            return response

        return endpoint

    async def _code(self, request: Request, code: Code) -> Response:
        person = self._site.person_of(request)
        if person is None or not person.listed:
            raise HTTPException(401, f"Sign in at {self._site.settings.base} first.")
        self._rate.check(person.name)
        namespace = self._site.client.temporal.namespace
        if request.headers.get("x-namespace", namespace) != namespace:
            raise HTTPException(404, f"This codec server is for the namespace {namespace}.")
        try:
            payloads = Parse(await read_body(request), Payloads(), ignore_unknown_fields=True)
        except (ParseError, UnicodeDecodeError):
            raise HTTPException(400, "That is not a list of payloads.") from None
        try:
            coded = await code(list(payloads.payloads))
        except Exception:  # a codec may raise anything, and its words may hold what it is to hide
            raise HTTPException(400, "The codec refused these payloads.") from None
        return Response(MessageToJson(Payloads(payloads=coded)), media_type="application/json")
