"""One server with its Web UI and one browser for all tests of this folder, a fresh page for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, async_playwright

from assent.testing import Environment, environment
from tests.ui.web_ui import WebUI

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
QUIET: Final = (
    "--no-sandbox",  # Chromium's own sandbox does not work for root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest_asyncio.fixture(scope="session")
async def web_environment() -> AsyncGenerator[Environment]:
    async with environment(ui=True) as running:
        await running.client("none").setup()
        yield running


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncGenerator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("the tests of the Web UI need Chromium: apt-get install chromium", pytrace=False)
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=chromium, args=QUIET)
        except Error as error:
            pytest.fail(f"{chromium} does not start: {error.message.splitlines()[0]}", pytrace=False)
        yield browser
        await browser.close()


@pytest_asyncio.fixture
async def web_ui(browser: Browser, web_environment: Environment) -> AsyncGenerator[WebUI]:
    """A page whose every request must stay on this machine."""
    assert web_environment.server.ui_url is not None
    async with await browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        ui = WebUI.on(await context.new_page(), web_environment.server.ui_url)
        yield ui
        assert ui.strangers == []


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: to the documentation if asked for with ASSENT_SCREENSHOTS=1, else away."""
    return IMAGES if os.environ.get("ASSENT_SCREENSHOTS") == "1" else tmp_path_factory.mktemp("images")
