"""An operator with only the Temporal Web UI reads a model's answer while it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from assent import Agent
from assent.testing import Environment, says
from tests.ui.web_ui import WebUI

pytestmark = pytest.mark.ui

CHECKS = (
    "Before payments-api 2026.10.3 goes out, these are the checks. First, the backup of the ledger is younger than an "
    "hour, and somebody has restored it once. Second, the canary has 10 % of the traffic and nobody else deploys. "
    "Third, whoever is on call knows how to go back, and that one of the two migrations cannot be undone. "
)
WORD = 0.2
"""Seconds from word to word."""


async def test_an_answer_is_read_under_the_pending_activity_while_it_is_written(
    web_environment: Environment, web_ui: WebUI, images: Path
) -> None:
    agent = Agent(name="release-manager", model=web_environment.responses(says(CHECKS * 2, delay=WORD)))
    async with web_environment.serve(agent) as client:
        run = await client.start("release-manager", "What is to be checked?", requested_by="alice", id="release-checks")
        # The page shows the heartbeat of when it was opened, and looks again only ten seconds later.
        async for event in run.watch():
            if event.kind == "model_text" and "Second, the canary" in event.text:
                break
        await web_ui.open_run(run.id)
        await web_ui.open_tab("pending-activities")
        await expect(web_ui.page.get_by_role("main").get_by_text("Second, the canary").first).to_be_visible()
        await web_ui.page.screenshot(path=images / "live-text.png")
        await run.cancel()
