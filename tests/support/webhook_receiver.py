"""A receiver of notices, over real HTTP."""

from __future__ import annotations

import asyncio
import base64
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import standardwebhooks
from aiohttp import web

Answer = Callable[[int], web.Response]


SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes.....").decode()

NAME = "TEST_NOTICES_SECRET"


@dataclass
class Receiver:
    """A real HTTP server. *answers* says what it answers to the nth POST; everything that came is kept, verified."""

    answers: Answer = lambda _: web.Response(status=204)
    hangs: float = 0.0
    port: int = 0
    came: list[tuple[dict[str, str], bytes, float]] = field(default_factory=list[tuple[dict[str, str], bytes, float]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook/t0ken"

    @property
    def notices(self) -> list[dict[str, Any]]:
        """What came, each message once and each verified by the reference library."""
        verify = standardwebhooks.Webhook(SECRET).verify
        return list({headers["webhook-id"]: verify(body, headers) for headers, body, _ in self.came}.values())

    @property
    def types(self) -> Counter[str]:
        return Counter(each["type"] for each in self.notices)

    async def until(self, number: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(60):
            while len(self.notices) < number:  # noqa: ASYNC110 - another task's handler writes it
                await asyncio.sleep(0.02)
        return self.notices

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.came.append((headers, await request.read(), time.monotonic()))
        await asyncio.sleep(self.hangs)
        return self.answers(len(self.came))


@asynccontextmanager
async def receiving(answers: Answer | None = None, *, hangs: float = 0.0) -> AsyncGenerator[Receiver]:
    receiver = Receiver(hangs=hangs) if answers is None else Receiver(answers, hangs)
    app = web.Application()
    app.router.add_post("/hook/{token}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
