"""What a stranger asks the search of the site that `make docs` built, and the page that has to come first."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

SITE = Path(__file__).parents[2] / "site"
QUESTIONS = {
    "How do I start?": ("install", "start/index.html"),
    "How does a person approve a tool call?": ("gate a tool", "guides/gate-a-tool.html"),
    "Who may approve?": ("approvers", "guides/name-approvers.html"),
    "What if no one decides?": ("deadline", "guides/deadlines.html"),
    "Can two people have to approve?": ("four eyes", "guides/four-eyes.html"),
    "How do I forbid a tool?": ("policy file", "guides/policy-file.html"),
    "How do approvers get a message in Slack?": ("slack", "guides/notices.html"),
    "How do I upgrade while runs wait?": ("upgrade", "guides/upgrades.html"),
    "How do I prove who approved what?": ("audit", "guides/audit.html"),
    "What happens when a worker is killed?": ("worker killed", "guides/lost-workers.html"),
    "Can I keep my own Temporal worker?": ("own worker", "guides/own-worker.html"),
    "What does this setting mean?": ("ASSENT_PRICES", "reference/settings.html"),
    "I use LangGraph. What changes?": ("langgraph", "guides/coming-from.html"),
}
"""Each question, the words that are typed, and the page that answers it."""


@pytest_asyncio.fixture(scope="module")
async def page() -> AsyncGenerator[Page]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "the search is asked in Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.goto((SITE / "index.html").as_uri())
        yield page
        await browser.close()


@pytest.mark.site
@pytest.mark.timeout(40)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_search_answers_a_question_with_its_page_first(question: str, page: Page) -> None:
    words, wanted = QUESTIONS[question]
    typed = page.locator("input.md-search__input")
    await page.reload()
    await typed.click()
    await typed.press_sequentially(words)
    first = page.locator(".md-search-result__link").first
    await first.wait_for(state="attached", timeout=20_000)
    address = await first.get_attribute("href")
    assert address is not None
    assert f"/{wanted}" in f"/{address.split('?')[0]}", address
