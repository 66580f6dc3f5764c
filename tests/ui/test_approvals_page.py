"""A person who has never heard of Temporal decides on the approvals page, in Chromium, at a desk and on a phone."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Dialog, Page, ViewportSize, expect
from pydantic import BaseModel, JsonValue

from assent import Agent, AgentClient, FilePart, TextPart, approval, ask_user, tool
from assent.testing import Environment, call, calls, says
from assent.web.app import application
from assent.web.rendering import link
from assent.web.settings import WebSettings

pytestmark = pytest.mark.ui

AXE: Final = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
"""`make test-ui` installs it."""
DESK: Final[ViewportSize] = {"width": 1280, "height": 860}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}


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
def deploy_to_production(service: str, version: str, canary: Canary, migrations: list[Migration]) -> str:
    """Deploy a version, first to a part of the traffic."""
    return f"{service} {version} is live: {canary.percent} % for {canary.minutes} min, {len(migrations)} migrations"


@approval(expires_after=timedelta(minutes=45), approvals=2)
@tool(requires_confirmation=True)
def pay_invoice(supplier: str, amount: float, currency: str, iban: str) -> str:
    """Pay an invoice."""
    return f"paid {amount} {currency} to {supplier} ({iban})"


@tool(requires_confirmation=True)
def send_email(to: list[str], subject: str, body: str) -> str:
    """Send an e-mail."""
    return f"sent {subject!r} to {', '.join(to)}: {len(body)} characters"


@dataclass(frozen=True)
class Served:
    """A page that is served, and the client of the runs that wait."""

    url: str
    client: AgentClient


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(web_environment: Environment) -> AsyncGenerator[Served]:
    env = web_environment
    migrations: JsonValue = [
        {"name": "0042_add_refund_reason", "reversible": True},
        {"name": "0043_drop_legacy_ledger", "reversible": False},
    ]
    deployment = call(
        "deploy_to_production",
        service="payments-api",
        version="2026.10.3",
        canary={"percent": 10, "minutes": 30},
        migrations=migrations,
    )
    invoice = call(
        "pay_invoice",
        supplier="Nordwind Logistik GmbH",
        amount=18420.5,
        currency="EUR",
        iban="DE02 1203 0000 0000 2020 51",
    )
    email = call(
        "send_email",
        to=["ana@example.com"],
        subject="Your refund",
        body="Dear Ana,\n\nyour refund of 120 EUR is on its way.\n\nKind regards\nSupport",
    )
    question = call("ask_user", question="Which region should the new cluster be in?", choices=["eu-west", "us-east"])
    agents = [
        Agent(
            name="release-manager",
            model=env.responses(
                calls(call("read_release_notes", service="payments-api", version="2026.10.3")),
                calls(
                    deployment, text="One of the two migrations cannot be undone, so I begin with 10 % of the traffic."
                ),
                lambda seen: says(f"Done: {seen.last_output}"),
            ),
            tools=[read_release_notes, deploy_to_production],
        ),
        Agent(name="accounts-payable", model=env.responses(calls(invoice), says("Paid.")), tools=[pay_invoice]),
        Agent(name="support", model=env.responses(calls(email), says("Sent.")), tools=[send_email]),
        Agent(
            name="planner",
            model=env.responses(calls(question), lambda seen: says(f"In {seen.last_output}.")),
            tools=[ask_user],
        ),
    ]
    async with env.serve(*agents) as client:
        for agent, prompt, by, run_id in (
            ("release-manager", "Ship payments-api 2026.10.3 to production.", "alice", "release-payments-api-page"),
            ("accounts-payable", "Pay the invoices that are due this week.", "nightly-cron", "invoices-2026-w48"),
            ("support", "Answer ticket 4711.", "dana", "ticket-4711"),
            ("planner", "Plan the move of the billing cluster.", "erin", "cluster-move"),
        ):
            await (await client.start(agent, prompt, requested_by=by, id=run_id)).until_paused()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = WebSettings.read(demo_sign_in="bob", listen=f"127.0.0.1:{port}")
        config = uvicorn.Config(application(client, settings), port=port, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.02)
        yield Served(f"http://localhost:{port}", client)
        server.should_exit = True
        await serving


@asynccontextmanager
async def opened(
    browser: Browser, served: Served, size: ViewportSize, *, script: bool = True, dark: bool = False
) -> AsyncGenerator[Page]:
    """A page that may ask nothing of another host, and log no error: a script or style that is blocked is one."""
    errors: list[str] = []
    scheme: Literal["dark", "light"] = "dark" if dark else "light"
    context = await browser.new_context(
        viewport=size, color_scheme=scheme, java_script_enabled=script, base_url=served.url, device_scale_factor=2,
        timezone_id="Asia/Tokyo",
    )  # fmt: skip
    async with context:
        page = await context.new_page()
        page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
        page.on("request", lambda request: None if request.url.startswith(served.url) else errors.append(request.url))
        yield page
    assert [each for each in errors if not re.search("status of 40[04]", each)] == []


async def open_request(page: Page, words: str) -> None:
    await page.goto("/?show=all")
    await page.locator(".card", has_text=words).click()


async def check_accessibility(page: Page) -> None:
    """Refuse what axe finds against WCAG 2.2 AA. It runs beside the page, whose policy lets no other script in."""
    session = await page.context.new_cdp_session(page)

    async def ask(method: str, parameters: dict[str, object]) -> Any:
        return cast("Any", await session.send(method, cast("Any", parameters)))

    tree = await ask("Page.getFrameTree", {})
    world = await ask("Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"]})
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    run = f"axe.run({{runOnly: {tags}}}).then(found => JSON.stringify(found.violations.map(each => \
[each.id, each.nodes.map(node => node.html + ' ' + node.failureSummary)])))"
    script = {"expression": f"{AXE.read_text()};{run}", "contextId": world["executionContextId"]}
    result = await ask("Runtime.evaluate", {**script, "awaitPromise": True, "returnByValue": True})
    assert result["result"]["value"] == "[]", json.dumps(json.loads(result["result"]["value"]), indent=1)
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def test_every_view_is_accessible_at_both_widths_in_light_and_dark(
    browser: Browser, served: Served, images: Path
) -> None:
    for name, size, dark in (("desk", DESK, False), ("phone", PHONE, False), ("dark", DESK, True)):
        async with opened(browser, served, size, dark=dark) as page:
            await page.goto("/")
            await expect(page.get_by_role("heading", name="4 requests wait for you")).to_be_visible()
            await check_accessibility(page)
            await page.screenshot(path=images / f"approvals-inbox-{name}.png")
            for words, picture in (
                ("deploy_to_production", "request"),
                ("pay_invoice", "quorum"),
                ("send_email", "text"),
                ("Which region", "question"),
            ):
                await open_request(page, words)
                await check_accessibility(page)
                if picture == "request" and not dark:
                    await page.screenshot(path=images / f"approvals-{picture}-{name}.png")
            for link in ("/request?run=no-such-run&id=abcdef12", "/nothing-here"):
                await page.goto(link)
                await check_accessibility(page)


async def test_a_person_decides_without_javascript(browser: Browser, served: Served) -> None:
    async with opened(browser, served, PHONE, script=False) as page:
        await open_request(page, "Which region")
        await page.get_by_text("Your answer").scroll_into_view_if_needed()
        await page.get_by_label("us-east").check()
        await page.get_by_role("button", name="Send the answer").click()
        await expect(page.get_by_role("status")).to_contain_text("Approved.")
    assert (await served.client.get_run("cluster-move").result()).content == "In us-east."


async def test_times_are_the_viewers_own_and_utc_without_javascript(browser: Browser, served: Served) -> None:
    for script in (True, False):
        async with opened(browser, served, DESK, script=script) as page:
            await open_request(page, "pay_invoice")
            until = page.get_by_text("after that, it counts as rejected").locator("time")
            at = datetime.fromisoformat(await until.get_attribute("datetime") or "")
            utc, tokyo = at.astimezone(UTC), at.astimezone(ZoneInfo("Asia/Tokyo"))
            local = f"{tokyo.day} {tokyo:%b} {tokyo.year}, {tokyo:%H:%M:%S} GMT+9".replace(" Sep ", " Sept ")
            local, zoned = local.replace(":00 GMT", " GMT"), f"{utc:%Y-%m-%d %H:%M:%S} UTC".replace(":00 UTC", " UTC")
            assert await until.inner_text() == (local if script else zoned)
            assert await until.get_attribute("title") == (f"{local}, {zoned}" if script else zoned)
            chip = page.locator("time.chip")
            await expect(chip).to_have_text(re.compile("^due in 4[0-9] min$"))
            assert await chip.get_attribute("title") == await until.get_attribute("title")


async def test_what_changes_meanwhile_appears_by_itself(browser: Browser, served: Served) -> None:
    run = served.client.get_run("ticket-4711")
    async with opened(browser, served, DESK) as inbox, opened(browser, served, DESK) as page:
        await inbox.goto("/?show=all")
        await open_request(page, "send_email")
        await expect(inbox.locator(".card", has_text="send_email")).to_be_visible()
        await inbox.wait_for_timeout(3_500)
        await run.reject((await run.state()).active_requirements[0], by="carol", reason="The refund is not decided.")
        await expect(inbox.locator(".card", has_text="send_email")).to_be_hidden(timeout=15_000)
        await expect(page.get_by_text("Rejected by carol").first).to_be_visible(timeout=15_000)
        await expect(page.get_by_role("heading", name="Calls of this run")).to_be_visible(timeout=15_000)
        await expect(page.get_by_role("alert")).to_contain_text("It has just been decided")
        await expect(page.get_by_role("button", name="Approve", exact=True)).to_be_disabled()


async def test_changed_arguments_are_approved_by_keyboard(browser: Browser, served: Served, images: Path) -> None:
    async with opened(browser, served, DESK) as page:
        await page.goto("/?show=all")
        card = page.locator(".card", has_text="deploy_to_production")
        for _ in range(4):
            await page.keyboard.press("j")
            if await card.evaluate("card => card === document.activeElement"):
                break
        await page.keyboard.press("Enter")
        await page.get_by_text("Change the arguments").click()
        editor = page.get_by_label("New arguments")
        await editor.fill((await editor.input_value()).replace('"percent": 10', '"percent": 5'))
        await page.get_by_role("button", name="See what changes").click()
        await expect(page.locator(".diff")).to_contain_text(re.compile(r"canary > percent was 10 becomes 5"))
        await check_accessibility(page)
        await page.screenshot(path=images / "approvals-edit-desk.png")
        await page.get_by_role("button", name="Approve", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("Approved.")
        await check_accessibility(page)
        await served.client.get_run("release-payments-api-page").result()
        for path, name in (
            ("/run?id=release-payments-api-page", "run"),
            ("/audit?id=release-payments-api-page", "audit"),
            ("/mine", "mine"),
            ("/statistics", "statistics"),
        ):
            await page.goto(path)
            await check_accessibility(page)
            if name == "audit":
                await page.screenshot(path=images / "approvals-audit-desk.png")
            await page.set_viewport_size(PHONE)
            await check_accessibility(page)
            await page.set_viewport_size(DESK)
    assert "5 % for 30 min" in (await served.client.get_run("release-payments-api-page").result()).content


async def test_one_of_two_approvals_is_recorded_and_the_other_is_awaited(browser: Browser, served: Served) -> None:
    async with opened(browser, served, PHONE) as page:
        await open_request(page, "pay_invoice")
        await page.get_by_role("link", name="Decide").click()
        await page.get_by_label("Reason").first.fill("matches the order")
        await page.get_by_role("button", name="Approve", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("Your approval is recorded.")
        await expect(page.get_by_text("1 of 2 people have approved.")).to_be_visible()
        await expect(page.get_by_role("button", name="Approve", exact=True)).to_be_hidden()
        await check_accessibility(page)


SCRIPT: Final = """<script>alert(1)</script>"><img src=x onerror="alert(2)"><svg onload='alert(3)'>{{7*7}}"""
"""What others may write wherever they write: each part of it would open a dialog."""
LINK: Final = "javascript:alert(4)"


@tool(requires_confirmation=True)
def publish(title: str, to: list[str], fields: dict[str, str]) -> str:
    """Publish something."""
    raise NotImplementedError


async def test_script_of_others_is_text_on_every_page(
    browser: Browser, served: Served, web_environment: Environment
) -> None:
    asked = call("publish", title=SCRIPT, to=[SCRIPT, LINK], fields={SCRIPT: f"{SCRIPT}\n{LINK}"})
    model = web_environment.responses(calls(asked, text=SCRIPT), says(SCRIPT))
    dialogs: list[str] = []

    async def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        await dialog.dismiss()

    async def check(page: Page, *, texts: int) -> None:
        """Refuse an element, an attribute or a link that a text of others became; the text is there to be read."""
        made = "main script, main img, main [onerror], main [onload], a[href^='javascript:' i]"
        assert await page.locator(made).count() == 0
        assert (await page.locator("main").inner_text()).count(SCRIPT) >= texts

    async with (
        web_environment.serve(Agent(name="mallory", model=model, tools=[publish])) as client,
        opened(browser, served, DESK) as page,
        opened(browser, served, PHONE, script=False) as plain,
    ):
        page.on("dialog", dismiss)
        file = FilePart(data=b"x", media_type="text/plain", name=SCRIPT)
        run = await client.start("mallory", [TextPart(text=SCRIPT), file], requested_by=SCRIPT, id=f"{SCRIPT}-{LINK}")
        [waiting] = (await run.until_paused()).active_requirements
        about = link("/request", run=run.id, id=waiting.id)
        for each in (page, plain):
            await each.goto("/?show=all")
            if each is page:  # It reads what is new by itself, and what it has read is then shown to all.
                await expect(each.locator(".card", has_text="mallory")).to_be_visible(timeout=30_000)
            await check(each, texts=1)  # Who asked; the title is cut.
            await each.goto(about)
            # The run, who asked, the arguments, what the model said, the prompt and the name of the file.
            await check(each, texts=11)
            await expect(each.get_by_text(f"[file: {SCRIPT}, text/plain, 1 bytes")).to_be_visible()
        await page.get_by_text("Change the arguments").click()
        editor = page.get_by_label("New arguments")
        await editor.fill((await editor.input_value()).replace("{{7*7}}", "{{7*8}}"))
        await page.get_by_role("button", name="See what changes").click()
        await check(page, texts=1)

        # The script of the page puts the reason, and the name, into the page that is open.
        await page.goto(about)
        await page.wait_for_timeout(3_500)
        await run.reject(waiting, by=f"{SCRIPT}2", reason=SCRIPT)
        await run.result()
        await expect(page.locator(".votes blockquote")).to_have_text(SCRIPT, timeout=15_000)
        await check(page, texts=13)
        for path, texts in (
            (link("/run", id=run.id), 10), (link("/audit", id=run.id), 3), ("/mine", 0),
            (link("/", show="all", agent=SCRIPT, tool=SCRIPT), 2), (link("/request", run=SCRIPT, id=SCRIPT), 0),
            (link("/enrol", invitation=SCRIPT), 0), (link("/sign-in", next=LINK), 0), (f"/{SCRIPT}", 0),
        ):  # fmt: skip
            await page.goto(path)
            await check(page, texts=texts)
        for _ in range(40):  # Statistics are kept for half a minute.
            await page.goto("/statistics")
            if SCRIPT in await page.locator("main").inner_text():
                break
            await page.wait_for_timeout(1_000)
        await check(page, texts=1)
    assert dialogs == []
