"""The scripted server, and the adapters that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from assent.activities.providers import Providers
from assent.testing import ModelServer


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with ModelServer() as running:
        yield running


@pytest_asyncio.fixture
async def providers() -> AsyncIterator[Providers]:
    opened = Providers()
    yield opened
    await opened.close()
