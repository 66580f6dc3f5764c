"""The approvals page as an ASGI application, and the server that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope
from temporalio.service import RPCError
from typing_extensions import override

from assent.client.client import AgentClient
from assent.web.api import Api
from assent.web.codec_server import CodecServer
from assent.web.guard import Guard
from assent.web.pages import SIGN_IN_MINUTES, Site
from assent.web.rendering import STATIC
from assent.web.run_pages import RunPages
from assent.web.settings import WebSettings
from assent.web.slack import Slack
from assent.wire.errors import AssentError, ConfigurationError


class _Files(StaticFiles):
    """Files whose links change when they do."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def application(client: AgentClient, settings: WebSettings) -> ASGIApp:
    """Return the approvals page over *client*; the settings are checked already (`WebSettings.read`)."""
    site = Site(client, settings)
    page, runs = site.signed_in, RunPages(site)
    routes: list[BaseRoute] = [
        Route("/", page(site.show_inbox)),
        Route("/request", page(site.show_request)),
        Route("/request", page(site.decide), methods=["POST"]),
        Route("/challenge", page(site.challenge), methods=["POST"]),
        Route("/enrol", site.show_enrolment),
        Route("/enrol", site.enrol, methods=["POST"]),
        Route("/arguments", page(site.show_arguments)),
        Route("/run", page(runs.show_run)),
        Route("/revoke", page(runs.revoke), methods=["POST"]),
        Route("/revoke/challenge", page(runs.challenge), methods=["POST"]),
        Route("/audit", page(runs.show_audit)),
        Route("/mine", page(runs.show_mine)),
        Route("/statistics", page(runs.show_statistics)),
        *Api(site, runs).routes(),
        Route("/sign-in", site.sign_in),
        Route("/sign-in", site.sign_in_by_passkey, methods=["POST"]),
        Route("/signed-in", site.signed_in_by_provider),
        Route("/sign-out", page(site.sign_out), methods=["POST"]),
        Route("/healthz", _health(client)),
        Mount("/static", _Files(directory=STATIC)),
    ]
    if settings.codec_origins:
        routes += CodecServer(site).routes()
    if settings.slack_signing_secret.get_secret_value():
        routes.append(Route("/slack/actions", Slack(site).act, methods=["POST"]))
    # Holds state, nonce and code verifier of a sign-in that is under way; the session is another cookie.
    while_signing_in = Middleware(
        SessionMiddleware,
        secret_key=site.sign_ins.key,
        session_cookie="__Host-assent-sign-in" if settings.secure else "assent-sign-in",
        max_age=SIGN_IN_MINUTES * 60,
        same_site="lax",
        https_only=settings.secure,
    )
    handlers = dict.fromkeys((HTTPException, AssentError, RPCError, Exception), site.show_error)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        del app
        warm = await site.inbox.start()
        yield
        warm.cancel()

    app = Starlette(routes=routes, middleware=[while_signing_in], exception_handlers=handlers, lifespan=lifespan)
    return Guard(app, origins=settings.origins, secure=settings.secure)


def _health(client: AgentClient) -> Callable[[Request], Awaitable[Response]]:
    async def health(request: Request) -> Response:
        """Say whether the page can reach the Temporal server."""
        del request
        try:
            is_up = await client.temporal.service_client.check_health(timeout=timedelta(seconds=2))
        except RPCError:
            is_up = False
        return PlainTextResponse("ok\n" if is_up else "the Temporal server does not answer\n", 200 if is_up else 503)

    return health


def listen(settings: WebSettings) -> socket.socket:
    """Listen where the settings say. I/O.

    Raises:
        ConfigurationError: the address is not HOST:PORT, not one of this machine, or taken.
    """
    host, port = settings.address
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = (error.strerror or str(error)).partition(" (")[0]
        raise ConfigurationError(f"the page cannot listen on {settings.listen}: {why}; see --listen") from None


async def serve(
    client: AgentClient, settings: WebSettings, listening: socket.socket | None = None, *, grace: int = 5
) -> None:
    """Serve the page until SIGTERM, Ctrl-C or a cancellation; requests under way get *grace* seconds. I/O.

    Raises:
        ConfigurationError: as `listen`, which made *listening*.
    """
    config = uvicorn.Config(
        application(client, settings), log_config=None, access_log=False, server_header=False,
        proxy_headers=False, lifespan="on", timeout_graceful_shutdown=grace, ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    try:
        await server.serve([listening or listen(settings)])
    except asyncio.CancelledError:
        # uvicorn itself leaves its tasks to the end of the process, which logs their tracebacks.
        if server.started:
            await server.shutdown()
        raise
