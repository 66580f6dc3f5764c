"""The Temporal Web UI, as far as an operator of Assent uses it. Written against version 2.54."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, urlsplit

from playwright.async_api import Locator, Page, Request, expect

LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
PATIENCE: Final = 15_000
"""Milliseconds."""

Part = Literal["summary", "details", "current-details"]


@dataclass
class WebUI:
    """One page of a browser, and what it asked for outside this machine (*strangers*)."""

    page: Page
    url: str
    strangers: list[str]

    @classmethod
    def on(cls, page: Page, url: str) -> WebUI:
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        ui = cls(page, url, [])
        page.on("request", ui._note)
        return ui

    def _note(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname not in LOOPBACK:
            self.strangers.append(request.url)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def list_runs(self, query: str) -> None:
        await self.page.goto(f"{self.url}/namespaces/default/workflows?query={quote(query)}")

    async def open_run(self, run_id: str) -> None:
        await self.page.goto(f"{self.url}/namespaces/default/workflows/{quote(run_id, safe='')}")
        await expect(self.page.get_by_test_id("user-metadata-tab")).to_be_visible()

    async def open_tab(self, tab: str) -> None:
        await self.page.get_by_test_id(f"{tab}-tab").click()

    def metadata(self, part: Part) -> Locator:
        """What the Web UI made of a piece of Markdown; the tab "User Metadata" has to be open."""
        return self.page.frame_locator(f"#user-metadata-{part}").locator("main")

    async def until_details(self, *texts: str) -> None:
        """Press R, as the page says, until the current details show all *texts*."""
        for _ in range(9):
            seen = await self.metadata("current-details").inner_text()
            if all(text in seen for text in texts):
                return
            await self.page.wait_for_timeout(500)
            await self.page.keyboard.press("r")
        for text in texts:
            await expect(self.metadata("current-details")).to_contain_text(text)

    async def until_status(self, status: str) -> None:
        """The page shows it by itself, some seconds later."""
        await expect(self.page.get_by_role("main").get_by_role("status").first).to_have_text(status)

    # -- sending ------------------------------------------------------------------------------------------------------

    async def open_dialog(self, kind: Literal["Signal", "Update"]) -> Locator:
        await self.page.get_by_role("button", name="More Actions").click()
        await self.page.get_by_role("menuitem", name=f"Send a{'n' if kind == 'Update' else ''} {kind}").click()
        dialog = self.page.locator("dialog[open]")
        await dialog.get_by_test_id(f"{kind.lower()}-select-button").click()
        return dialog

    async def offered(self) -> dict[str, str]:
        """The names on offer in the open drop-down, and what is said of each."""
        await expect(self.page.get_by_role("option").first).to_be_visible()
        texts = [await option.inner_text() for option in await self.page.get_by_role("option").all()]
        named = (text.strip().partition("\n") for text in texts)
        return {name.strip(): description.strip() for name, _, description in named}

    async def choose(self, name: str) -> None:
        await self.page.get_by_role("option", name=re.compile(rf"^\s*{name}\b")).click()

    async def fill(self, dialog: Locator, data: str) -> None:
        await dialog.locator(".cm-content[contenteditable=true]").first.click()
        await self.page.keyboard.press("Control+A")
        await self.page.keyboard.insert_text(data)

    async def submit(self, dialog: Locator) -> None:
        """Click until it is taken: leaving the editor spreads the JSON over lines, so that the button slips away."""
        button = dialog.get_by_test_id("confirm-modal-button")
        await button.click()
        await self.page.wait_for_timeout(500)
        if await button.is_visible() and await button.is_enabled():
            await button.click()

    async def send_signal(self, name: str, data: str) -> None:
        dialog = await self.open_dialog("Signal")
        await self.choose(name)
        if data:
            await self.fill(dialog, data)
        await self.submit(dialog)
        await expect(dialog).to_be_hidden()

    async def send_update(self, name: str, data: str) -> Locator:
        """The dialog: it closes once the update is handled, and stays, with the reason, if it is not accepted."""
        dialog = await self.open_dialog("Update")
        await self.choose(name)
        await self.fill(dialog, data)
        await self.submit(dialog)
        return dialog
