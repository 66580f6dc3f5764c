"""A stand-in for Hacker News, for machines that cannot reach it: the same paths and JSON, over real HTTP."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx
from aiohttp import web

from examples.hackernews import HACKERNEWS_URL
from examples.support.environment import variables

PATIENCE: Final = 1.5
"""Seconds after which Hacker News counts as out of reach."""

_STORIES: Final = [
    ("Show HN: A spreadsheet that lives in a single SQLite file", "tableflip", 412, "https://example.com/sheet"),
    ("What we learned from ten years of one big PostgreSQL", "vacuumfull", 388, "https://example.com/ten-years"),
    ("The bug that only happened on the second Tuesday", "cronjobber", 305, "https://example.com/tuesday"),
    ("Writing a Scheme compiler in a weekend, for real this time", "cdrcoder", 241, "https://example.com/scheme"),
    ("Ask HN: How do you let agents touch production?", "pagerduty4ever", 227, None),
    ("Durable execution explained with kitchen timers", "slowcook", 198, "https://example.com/timers"),
    ("Undersea cables, and the ships that mend them", "deepsplice", 176, "https://example.com/cables"),
    ("A keyboard layout evolved on my own commit messages", "homerow", 133, "https://example.com/keys"),
]
_FIRST_ID: Final = 41_000_001


@asynccontextmanager
async def hacker_news() -> AsyncGenerator[str]:
    """Hacker News while the block runs, the real one or its stand-in; the value says which.

    `HACKERNEWS_URL` names another one. Where that is out of reach too, the variable names the stand-in.
    """
    url = os.environ.get("HACKERNEWS_URL", HACKERNEWS_URL)
    if await asyncio.to_thread(_is_reachable, url):
        yield url
        return
    runner = web.AppRunner(_application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stand_in = f"http://127.0.0.1:{runner.addresses[0][1]}/v0"
        with variables(HACKERNEWS_URL=stand_in):
            yield f"out of reach; a local stand-in answers at {stand_in}"
    finally:
        await runner.cleanup()


def _is_reachable(url: str) -> bool:
    """Look it up in a daemon thread: a name server that does not answer can block it for a minute."""
    answers: list[httpx.Response] = []

    def ask() -> None:
        with suppress(httpx.HTTPError):
            answers.append(httpx.get(f"{url}/topstories.json", timeout=PATIENCE))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(answers) and answers[0].is_success


def _application() -> web.Application:
    application = web.Application()
    application.router.add_get("/v0/topstories.json", _top)
    application.router.add_get(r"/v0/item/{id:\d+}.json", _item)
    return application


async def _top(_request: web.Request) -> web.Response:
    return web.json_response([_FIRST_ID + place for place in range(len(_STORIES))])


async def _item(request: web.Request) -> web.Response:
    place = int(request.match_info["id"]) - _FIRST_ID
    if not 0 <= place < len(_STORIES):
        return web.json_response(None)  # as the real one answers
    title, by, score, url = _STORIES[place]
    story = {"id": _FIRST_ID + place, "type": "story", "title": title, "by": by, "score": score, "time": 1_760_000_000}
    return web.json_response(story | ({"url": url} if url else {}))
