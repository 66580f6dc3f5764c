"""What the Temporal Web UI downloads is audited as the run itself is, or it is said what to choose instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from assent import Agent, HistoryError
from assent.audit.offline import audit_files
from assent.audit.verifier import Verifier
from assent.testing import Approved, Environment, call, calls, drive, says
from tests.support import tools
from tests.ui.web_ui import WebUI

pytestmark = pytest.mark.ui


async def downloaded(ui: WebUI, choice: str, path: Path) -> Path:
    """The history of the run whose page is open, by this choice of the download's dialog."""
    await ui.page.get_by_role("button", name="Download").first.click()
    dialog = ui.page.locator("dialog[open]")
    await dialog.get_by_text(choice, exact=True).click()
    async with ui.page.expect_download() as download:
        await dialog.get_by_test_id("confirm-modal-button").click()
    await (await download.value).save_as(path)
    await ui.page.keyboard.press("Escape")
    return path


async def test_a_download_has_the_chain_head_of_the_run_or_says_what_to_choose(
    web_environment: Environment, web_ui: WebUI, tmp_path: Path
) -> None:
    model = web_environment.responses(calls(call("pay", to="bob", amount=5)), says("done"))
    async with web_environment.serve(Agent(name="payer", model=model, tools=tools.ALL)) as client:
        run = await client.start("payer", "Pay Bob.", requested_by="alice")
        await drive(run, lambda _: Approved(), by="bob")
        live = Verifier(run.id)
        expected = live.verification(await run.audit(live))
        await web_ui.open_run(run.id)
        await web_ui.open_tab("history")
        for choice in ("Encoded", "Decoded"):  # The same where there is no codec server.
            path = await downloaded(web_ui, choice, tmp_path / f"{choice}.json")
            read = Verifier(run.id)
            assert read.verification(await audit_files([path], run.id, observer=read)) == expected
        path = await downloaded(web_ui, "Human Readable", tmp_path / "human.json")
        with pytest.raises(HistoryError, match="'Human Readable', which lacks bytes; choose 'Encoded'"):
            await audit_files([path], run.id)
