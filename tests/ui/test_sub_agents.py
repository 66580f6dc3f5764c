"""An operator with only the Temporal Web UI finds from a run the runs below it, and from these the way up."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from assent import Agent, tool
from assent.testing import Environment, call, calls, says
from tests.support.pending import pending_with_runs
from tests.support.visibility import soon
from tests.ui.web_ui import WebUI

pytestmark = pytest.mark.ui


@tool(requires_confirmation=True)
def restart(service: str) -> str:
    """Restart a service."""
    return f"{service} restarted"


async def test_the_details_of_a_run_lead_to_those_at_work_for_it_and_back(
    web_environment: Environment, web_ui: WebUI, images: Path
) -> None:
    asked = calls(call("restart", service="payments-api"))
    operator = Agent(name="operator", model=web_environment.responses(asked, says("Up again.")), tools=[restart])
    asks = calls(call("ask_operator", input="payments-api answers 503; restart it."))
    lead = Agent(name="incident-lead", model=web_environment.responses(asks, says("Over.")), tools=[operator.as_tool()])
    async with web_environment.serve(lead) as client:
        run = await client.start("incident-lead", "Payments are down.", requested_by="alice", id="incident-42")
        await run.until_paused()
        [(child, requirement, _)] = await pending_with_runs(run)
        await web_ui.open_run(run.id)
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details("1 child run is active", "Child runs", f"assent show {child.id}")
        await web_ui.page.screenshot(path=images / "sub-agents.png")
        await web_ui.open_tab("relationships")
        await web_ui.page.get_by_role("main").get_by_role("link", name=child.id).first.click()
        await expect(web_ui.page.get_by_test_id("user-metadata-tab")).to_be_visible()
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details("Path: incident-lead > operator", f"assent show {run.id}", "Approve or reject")
        await child.approve(requirement, by="bob")
        await run.result()
        await web_ui.open_run(run.id)
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details("Completed after 2 turns of incident-lead")
        assert "at work" not in await soon(web_ui.metadata("current-details").inner_text)
