"""Pytest fixtures; ask for them with `pytest_plugins = ["assent.testing.fixtures"]` in a `conftest.py`.

They live for the whole session, so tests need `asyncio_default_test_loop_scope = "session"` and the same for fixtures.
"""

from collections.abc import AsyncIterator

import pytest_asyncio

from assent.testing.environment import Environment, environment


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def assent_environment() -> AsyncIterator[Environment]:
    """A running environment, one for the whole session: a test costs a worker, not a server."""
    async with environment() as running:
        yield running
