"""An operator with only the Temporal Web UI sees what waits, decides it by clicking, and sees what came of it."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import FloatRect, expect
from pydantic import BaseModel

from assent import Agent, RunHandle, ToolContext, approval, tool
from assent.client.client import AgentClient
from assent.runtime.embedded_server import temporal_binary
from assent.testing import Approved, Environment, call, calls, drive, says
from tests.ui.web_ui import WebUI

pytestmark = pytest.mark.ui

PROMPT = "Ship payments-api 2026.10.3 to production."
RAN: dict[str, list[str]] = {}


class Canary(BaseModel):
    """The first step of a deployment."""

    percent: int
    minutes: int


class Migration(BaseModel):
    """A change of the database."""

    name: str
    reversible: bool


@tool
def read_release_notes(service: str, version: str) -> str:
    """Read the release notes of a version."""
    return f"{service} {version}: refunds carry a reason; the legacy ledger is gone."


@approval
@tool(requires_confirmation=True)
def deploy_to_production(
    context: ToolContext, service: str, version: str, canary: Canary, migrations: list[Migration]
) -> str:
    """Deploy a version, first to a part of the traffic."""
    RAN.setdefault(context.run_id, []).append(f"{service} {version}")
    return f"{service} {version} is live: {canary.percent} % for {canary.minutes} min, {len(migrations)} migrations"


@tool(requires_confirmation=True)
def run_shell(context: ToolContext, command: str) -> str:
    """Run a command."""
    RAN.setdefault(context.run_id, []).append(command)
    return "done"


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its deployment to be approved."""

    client: AgentClient
    run: RunHandle
    id: str


DEPLOYMENT = call(
    "deploy_to_production",
    service="payments-api",
    version="2026.10.3",
    canary={"percent": 10, "minutes": 30},
    migrations=[
        {"name": "0042_add_refund_reason", "reversible": True},
        {"name": "0043_drop_legacy_ledger", "reversible": False},
    ],
)


def release_manager(running: Environment) -> Agent:
    model = running.responses(
        calls(call("read_release_notes", service="payments-api", version="2026.10.3")),
        calls(DEPLOYMENT, text="One of the two migrations cannot be undone, so I begin with 10 % of the traffic."),
        lambda seen: says(f"Done: {seen.last_output}"),
    )
    return Agent(name="release-manager", model=model, tools=[read_release_notes, deploy_to_production])


@asynccontextmanager
async def waiting(running: Environment, run_id: str) -> AsyncGenerator[Waiting]:
    async with running.serve(release_manager(running)) as client:
        run = await client.start("release-manager", PROMPT, requested_by="alice", id=run_id)
        state = await run.until_paused()
        yield Waiting(client, run, state.active_requirements[0].short_id)


async def test_what_waits_is_seen_and_approved_by_clicking(
    web_environment: Environment, web_ui: WebUI, images: Path
) -> None:
    async with waiting(web_environment, "release-payments-api-2026.10.3") as it:
        await web_ui.open_run(it.run.id)
        await web_ui.open_tab("user-metadata")
        await expect(web_ui.metadata("summary")).to_contain_text(PROMPT)
        await expect(web_ui.metadata("details")).to_contain_text("alice")
        shown = web_ui.metadata("current-details")
        await expect(shown.locator("p").first).to_contain_text("1 call waits for a decision")
        await expect(shown.locator("h3").first).to_have_text("Approve or reject: deploy_to_production")
        assert (await shown.locator("pre").first.inner_text()).strip() == ARGUMENTS
        cells = [await cell.inner_text() for cell in await shown.locator("table code").all()]
        assert cells == [
            "approve",
            f'{{"id":"{it.id}", "by":"NAME"}}',
            "reject",
            f'{{"id":"{it.id}", "by":"NAME", "reason":"WHY"}}',
        ]
        await expect(shown).to_contain_text("temporal workflow signal --name approve")
        await expect(shown).to_contain_text('read_release_notes({"service": "payments-api"')
        # Nothing may lie beyond the right edge: it would be read by nobody.
        assert await shown.evaluate("main => document.documentElement.scrollWidth <= document.body.clientWidth")
        await web_ui.page.get_by_test_id("user-metadata-tab").evaluate("tab => tab.scrollIntoView()")
        picture = FloatRect(x=288, y=135, width=960, height=581)
        await web_ui.page.screenshot(path=images / "waiting.png", clip=picture)

        dialog = await web_ui.open_dialog("Signal")
        await web_ui.choose("approve")
        await web_ui.fill(dialog, cells[1].replace("NAME", "bob"))
        await web_ui.page.screenshot(path=images / "signal-dialog.png")
        await web_ui.submit(dialog)

        await web_ui.until_status("Completed")
        await web_ui.until_details("Completed", f"deploy_to_production {it.id} approved by bob, executed")
        assert RAN[it.run.id] == ["payments-api 2026.10.3"]
        [record] = await it.client.audit(it.run.id)
        assert (record.status, record.resolved_by, record.execution) == ("approved", "bob", "executed")

        await web_ui.open_tab("timeline")
        await expect(web_ui.page.get_by_text("call_model • turn 1")).to_be_visible()
        deployed = web_ui.page.get_by_text('deploy_to_production • {"service": "payments-api"')
        await expect(deployed).to_be_visible()
        await expect(web_ui.page.get_by_text("Workflow signaled.").first).to_be_hidden()
        await web_ui.page.get_by_test_id("timeline-tab").evaluate("tab => tab.scrollIntoView()")
        await web_ui.page.screenshot(path=images / "completed.png")


ARGUMENTS = """{
  "service": "payments-api",
  "version": "2026.10.3",
  "canary": {"percent": 10, "minutes": 30},
  "migrations": [
    {
      "name": "0042_add_refund_reason",
      "reversible": true
    },
    {
      "name": "0043_drop_legacy_ledger",
      "reversible": false
    }
  ]
}"""


async def test_a_call_is_rejected_by_clicking_and_the_model_is_told_why(
    web_environment: Environment, web_ui: WebUI
) -> None:
    async with waiting(web_environment, "release-rejected") as it:
        await web_ui.open_run(it.run.id)
        await web_ui.send_signal("reject", f'{{"id": "{it.id}", "by": "bob", "reason": "not on a Friday"}}')
        assert (await it.run.result()).content == "Done: Rejected: not on a Friday"
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details(f"deploy_to_production {it.id} rejected by bob: not on a Friday")
        assert it.run.id not in RAN


@pytest.mark.parametrize(
    ("name", "data", "detail", "sent"),
    [
        ("approve", "", "approve takes one JSON input, not 0", "approve()"),
        ("approve", '"yes"', "approve takes a JSON object", "approve('yes')"),
        ("approve", '{"id": "00000000", "by": "bob"}', "no requirement of this run has the id '00000000'", "00000000"),
        ("approve", '{"idd": "x", "by": "bob"}', "idd: Extra inputs are not permitted", "idd"),
        ("reject", '{"id": "00000000", "by": "bob"}', "reason: Field required", "reject("),
        ("send_message", "{}", "content: Field required", "send_message({})"),
    ],
)
async def test_what_does_not_count_is_shown_and_the_run_waits_on(
    web_environment: Environment, web_ui: WebUI, name: str, data: str, detail: str, sent: str
) -> None:
    async with waiting(web_environment, f"release-mistyped-{uuid.uuid4().hex[:8]}") as it:
        await web_ui.open_run(it.run.id)
        await web_ui.send_signal(name, data)
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details("UTC did not count", detail, "Messages that did not count", sent)
        assert it.run.id not in RAN
        state = await drive(it.run, lambda _: Approved())
        assert state.status == "completed"
        assert len(RAN[it.run.id]) == 1


async def test_a_decision_may_be_sent_as_an_update(web_environment: Environment, web_ui: WebUI) -> None:
    async with waiting(web_environment, "release-by-update") as it:
        await web_ui.open_run(it.run.id)
        dialog = await web_ui.send_update("decide", '{"id": "00000000", "by": "bob", "verdict": "approve"}')
        await expect(dialog).to_contain_text("no requirement of this run has the id '00000000'")
        await web_ui.page.reload()
        # The Web UI calls every update that was handled a success; what it came to is in the details.
        dialog = await web_ui.send_update("decide", f'{{"id": "{it.id}", "by": "alice", "verdict": "approve"}}')
        await expect(dialog).to_be_hidden()
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details("UTC did not count: 'alice' asked for this run and may not approve")
        dialog = await web_ui.send_update("decide", f'{{"id": "{it.id}", "by": "bob", "verdict": "approve"}}')
        await expect(dialog).to_be_hidden()
        assert (await it.run.result()).content.startswith("Done: payments-api 2026.10.3 is live")
        [record] = await it.client.audit(it.run.id)
        assert (record.resolved_by, record.votes[0].channel) == ("bob", "update")


async def test_every_signal_and_update_on_offer_says_what_to_send(web_environment: Environment, web_ui: WebUI) -> None:
    async with waiting(web_environment, "release-descriptions") as it:
        await web_ui.open_run(it.run.id)
        await web_ui.open_dialog("Signal")
        signals = await web_ui.offered()
        assert {"approve", "reject", "submit_result", "submit_input", "send_message"} <= set(signals)
        for name in ("approve", "reject", "submit_result", "submit_input"):
            assert '{"id"' in signals[name]
        await web_ui.page.reload()
        await web_ui.open_dialog("Update")
        updates = await web_ui.offered()
        assert {"decide", "deliver"} <= set(updates)
        assert updates["decide"]
        assert updates["deliver"]
        await web_ui.page.reload()
        await web_ui.open_tab("queries")
        await expect(web_ui.page.get_by_role("textbox", name="Query Type")).to_have_value("state")
        await drive(it.run, lambda _: Approved())


async def test_the_list_shows_which_runs_wait_and_for_what(
    web_environment: Environment, web_ui: WebUI, images: Path
) -> None:
    shell = Agent(
        name="janitor",
        model=web_environment.responses(calls(call("run_shell", command="rm -r /srv/cache/2026-09")), says("Cleaned.")),
        tools=[run_shell],
    )
    async with web_environment.serve(release_manager(web_environment), shell) as client:
        runs = [
            await client.start("release-manager", PROMPT, requested_by="alice", id="release-payments-api-2026.10.4"),
            await client.start("janitor", "Free some disk space.", requested_by="nightly-cron", id="disk-space-eu-1"),
            await client.start("janitor", "Free some disk space.", requested_by="nightly-cron", id="disk-space-eu-2"),
        ]
        for run in runs:
            await run.until_paused()
        await web_ui.list_runs('AssentStatus="waiting"')
        await web_ui.page.get_by_test_id("workflows-summary-table-configuration-button").click()
        drawer = web_ui.page.locator("#workflows-table-configuration-drawer")
        for column in ("AssentAgent", "AssentWaitingOn", "AssentRequestedBy"):
            await drawer.get_by_role("button", name=f"Add {column} column").click()
        for column in ("Run ID", "Type", "Start", "End"):
            await drawer.get_by_role("button", name=f"Remove {column} column").click()
        await drawer.get_by_test_id("drawer-close-button").click()
        await expect(drawer).to_be_hidden()
        rows = web_ui.page.locator("tbody tr")
        for run, waits_on, asker in zip(
            runs, ["deploy_to_production", "run_shell", "run_shell"], ["alice", *["nightly-cron"] * 2], strict=True
        ):
            row = rows.filter(has_text=run.id)
            await expect(row).to_contain_text(waits_on)
            await expect(row).to_contain_text(asker)
        await web_ui.page.screenshot(path=images / "workflows.png")
        for run in runs:
            await drive(run, lambda _: Approved())


# -- hostile content --------------------------------------------------------------------------------------------------

HOSTILE = (
    "x | y `code` ```\n</code></pre><img src=http://192.0.2.1/a.png onerror=alert(1)><script>alert(2)</script>"
    " ![i](http://192.0.2.1/b.png) [click](http://192.0.2.1/) <b>bold</b> https://192.0.2.1/auto"
    " \u202egnp.exe\u202c \u200b $(id) 'quoted' \"double\" \\ # {#id} | --- |"
)
HOSTILE_ID = "it's | a `hostile` $(touch /tmp/x) <b>id</b>"


@asynccontextmanager
async def hostile(running: Environment, run_id: str) -> AsyncGenerator[Waiting]:
    """A run whose prompt, asker, arguments, model's words and decisions are all hostile."""
    model = running.responses(
        calls(call("run_shell", command=HOSTILE), call("run_shell", command="y" * 40_000), text=HOSTILE), says("done")
    )
    async with running.serve(Agent(name="shell", model=model, tools=[run_shell])) as client:
        run = await client.start("shell", HOSTILE, requested_by=HOSTILE[:200], id=run_id)
        state = await run.until_paused()
        yield Waiting(client, run, state.active_requirements[0].short_id)


async def assert_inert(web_ui: WebUI, *parts: str) -> None:
    for part in parts:
        frame = web_ui.page.frame_locator(f"#user-metadata-{part}").locator("main")
        await expect(frame).to_contain_text("onerror")
        assert await frame.locator("img, a, script, b, iframe, style, .math").count() == 0
        text = await frame.inner_text()
        assert not {"\u202e", "\u202c", "\u200b"} & set(text)
        assert "\\u{202e}gnp.exe\\u{202c}" in text


async def test_hostile_content_is_shown_and_stays_inert(web_environment: Environment, web_ui: WebUI) -> None:
    async with hostile(web_environment, "hostile") as it:
        await it.run.send("reject", {"id": it.id, "by": HOSTILE[:200], "reason": HOSTILE})
        await it.run.send("aprove", {"id": HOSTILE, HOSTILE: HOSTILE})
        await it.run.send("approve", {"id": "ffffffff", "by": HOSTILE[:200]})
        web_ui.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        await web_ui.open_run(it.run.id)
        await web_ui.open_tab("user-metadata")
        await web_ui.until_details(
            "did not count", "aprove", "rejected by", "Cut: this is only the beginning of 40,015 bytes"
        )
        await assert_inert(web_ui, "details", "current-details")
        await it.run.cancel()


async def test_a_hostile_prompt_stays_inert_in_the_summary(web_environment: Environment, web_ui: WebUI) -> None:
    async with hostile(web_environment, "hostile-summary") as it:
        await it.run.cancel()
        await web_ui.open_run(it.run.id)
        await web_ui.open_tab("user-metadata")
        await expect(web_ui.metadata("summary")).to_contain_text("x | y")
        links = await web_ui.metadata("summary").locator("img, a, script, b").count()
        web_ui.strangers.clear()
        assert links == 0


async def test_the_command_on_the_page_can_be_pasted_into_a_shell(web_environment: Environment, web_ui: WebUI) -> None:
    async with hostile(web_environment, HOSTILE_ID) as it:
        await web_ui.open_run(it.run.id)
        await web_ui.open_tab("user-metadata")
        blocks = web_ui.metadata("current-details").locator("pre").filter(has_text="signal --name reject")
        command = await blocks.first.inner_text()
        path = f"{Path(temporal_binary()).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", command.replace("NAME", "carol").replace("WHY", "no shell"),
            env={**os.environ, "PATH": path, "TEMPORAL_ADDRESS": web_environment.server.address},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        await web_ui.until_details("rejected by carol: no shell")
        await it.run.cancel()
