"""A passkey is made by invitation and signs decisions, in Chromium with its virtual authenticator."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cbor2
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.async_api import Browser, Page, StorageState, expect

from assent import Agent, AgentClient, approval, tool
from assent.audit import bundles
from assent.testing import Environment, call, calls, says
from assent.web.app import application
from assent.web.enrolment import NAMESPACE, Invitation
from assent.web.settings import WebSettings
from tests.support.signing import SshSigner, base64url
from tests.ui.test_approvals_page import DESK, check_accessibility

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.ui


@approval(proof="person", approvers=["finance"])
@tool
def wire_transfer(to: str, cents: int) -> str:
    """Send money."""
    return f"sent {cents} to {to}"


@dataclass(frozen=True)
class Eve:
    """Somebody of the approvers file, and of finance as bob is, whose passkey this is."""

    key: ec.EllipticCurvePrivateKey
    identity: bytes = b"passkey-of-eve-0001"

    @property
    def entry(self) -> str:
        numbers = self.key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)})
        return f"""
[[people]]
name = "eve"
groups = ["finance"]
[[people.keys]]
passkey = "{base64url(self.identity)}"
public_key = "{base64url(cose)}"
"""

    @property
    def credential(self) -> dict[str, object]:
        """As Chromium takes one."""
        secret = self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        binary = {"credentialId": self.identity, "privateKey": secret, "userHandle": b"eve"}
        texts = {name: base64.b64encode(data).decode() for name, data in binary.items()}
        return {**texts, "rpId": "localhost", "isResidentCredential": True, "signCount": 1}


async def with_authenticator(page: Page, *, verifies: bool = True, owner: Eve | None = None) -> None:
    """Give a page an authenticator, without passkeys or with that of its owner."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options: dict[str, object] = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True}
    options |= {"hasUserVerification": True, "isUserVerified": verifies}
    made = cast("Any", await session.send("WebAuthn.addVirtualAuthenticator", cast("Any", {"options": options})))
    if owner is not None:
        given = {"authenticatorId": made["authenticatorId"], "credential": owner.credential}
        await session.send("WebAuthn.addCredential", cast("Any", given))


@asynccontextmanager
async def served(client: AgentClient, settings: WebSettings, port: int) -> AsyncGenerator[None]:
    server = uvicorn.Server(uvicorn.Config(application(client, settings), port=port, log_config=None, ws="none"))
    serving = asyncio.create_task(server.serve())
    yield
    server.should_exit = True
    await serving


async def test_an_invited_person_makes_a_passkey_and_signs_with_it(
    web_environment: Environment, browser: Browser, images: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    eve = Eve(ec.generate_private_key(ec.SECP256R1()))
    alice, file = SshSigner.make(tmp_path, "alice"), tmp_path / "approvers.toml"
    text = f"""
[site]
rp_id = "localhost"
origins = ["http://localhost:{port}"]

[[people]]
name = "alice"
groups = ["administrators"]
[[people.keys]]
ssh = "{alice.public}"
{eve.entry}
[[people]]
name = "bob"
groups = ["finance"]
"""
    file.write_text(text)
    model = web_environment.responses(
        calls(call("wire_transfer", to="Nordwind", cents=184_205_0)), lambda seen: says(str(seen.last_output))
    )
    agent = Agent(name="treasurer", model=model, tools=[wire_transfer])
    origin = f"http://localhost:{port}"
    settings = WebSettings.read(passkeys=True, url=origin, listen=f"127.0.0.1:{port}", approvers=str(file))
    async with web_environment.serve(agent, approvers=file) as client, served(client, settings, port):
        run = await client.start("treasurer", "Pay the invoice.", requested_by="carol")
        state = await run.until_paused()
        path = f"/request?run={run.id}&id={state.active_requirements[0].id}"
        async with await browser.new_context(viewport=DESK, base_url=f"http://localhost:{port}") as context:
            page = await context.new_page()
            await with_authenticator(page)
            await page.goto(path)
            await check_accessibility(page)
            await page.screenshot(path=images / "approvals-sign-in-desk.png")
            await page.get_by_role("button", name="Sign in with your passkey").click()
            await expect(page.get_by_role("alert")).to_contain_text("The passkey was not used", timeout=30_000)

            forged = Invitation("bob", "bob", "localhost", "2099-01-01T00:00:00Z")
            mallory = SshSigner.make(tmp_path, "mallory").sign(forged.signed_bytes(), NAMESPACE)
            await page.goto(f"/enrol?invitation={forged.token(mallory)}")
            await expect(page.get_by_text("No administrator has signed this invitation")).to_be_visible()

            invitation = Invitation("bob", "alice", "localhost", "2099-01-01T00:00:00Z")
            token = invitation.token(alice.sign(invitation.signed_bytes(), NAMESPACE))
            await page.goto(f"/enrol?invitation={token}")
            await check_accessibility(page)
            await page.get_by_role("button", name="Make a passkey").click()
            entry = await page.locator("#entry").inner_text()
            await check_accessibility(page)
            file.write_text(text + entry)

            await page.goto(path)
            await page.get_by_role("button", name="Sign in with your passkey").click()
            await expect(page.get_by_text("Your passkey signs the decision.")).to_be_visible()
            await check_accessibility(page)
            await page.screenshot(path=images / "approvals-passkey-desk.png")
            await page.get_by_role("button", name="Approve", exact=True).click()
            await expect(page.get_by_role("status")).to_contain_text("Approved.")
            await expect(page.get_by_text("signed by bob (passkey")).to_be_visible()
            await a_stolen_session_approves_nothing(browser, await context.storage_state(), client, origin, eve)
        assert (await run.result()).content == "sent 1842050 to Nordwind"
        verification = await run.verify()
        assert verification.ok
        await bundles.export(run.id, run.audit, tmp_path / "run.zip")
    await an_auditor_needs_no_server(tmp_path / "run.zip", file)


async def an_auditor_needs_no_server(bundle: Path, approvers: Path) -> None:
    command = [str(Path(sys.executable).with_name("assent")), "audit", "verify", str(bundle), "--approvers"]
    no_server = {**os.environ, "TEMPORAL_ADDRESS": "127.0.0.1:9"}
    auditor = await asyncio.create_subprocess_exec(*command, str(approvers), stdout=PIPE, env=no_server)
    output = " ".join((await asyncio.wait_for(auditor.communicate(), 60))[0].decode().split())
    assert (auditor.returncode, "1 proven, in namespace default, 0 claimed" in output) == (0, True), output


async def a_stolen_session_approves_nothing(
    browser: Browser, stolen: StorageState, client: AgentClient, origin: str, eve: Eve
) -> None:
    run = await client.start("treasurer", "Pay it again.", requested_by="carol")
    waiting = (await run.until_paused()).active_requirements[0]
    path = f"/request?run={run.id}&id={waiting.id}"
    for verifies, owner in ((True, None), (False, None), (True, eve)):
        async with await browser.new_context(base_url=origin, storage_state=stolen) as context:
            page = await context.new_page()
            await with_authenticator(page, verifies=verifies, owner=owner)
            await page.goto(path)
            await page.get_by_role("button", name="Approve", exact=True).click()
            await expect(page.get_by_role("alert")).to_contain_text("The passkey was not used", timeout=30_000)
            # Past the script, with the token of the form.
            await page.locator("form", has=page.get_by_role("button", name="Approve", exact=True)).evaluate(
                "form => HTMLFormElement.prototype.submit.call(form)"
            )
            await expect(page.get_by_text("that your passkey signs. Nothing was sent.")).to_be_visible()
            if owner is not None:
                await page.goto(path)
                await page.locator("form", has=page.get_by_role("button", name="Approve", exact=True)).evaluate(ANY_KEY)
                await expect(page.get_by_text("is that of 'eve', not of 'bob'").first).to_be_visible()

            # The same address, as another site has it: its pages sign nothing for this one, and their forms do nothing.
            await page.goto(origin.replace("localhost", "127.0.0.1") + "/healthz")
            asked = """rpId => navigator.credentials.get({publicKey: {challenge: new Uint8Array(32), rpId}})
                .then(() => "signed", error => error.name)"""
            assert await page.evaluate(asked, "localhost") == "SecurityError"
            await page.goto("about:blank")
            form = f"<form method=post action='{origin}{path}'><input name=action value=approve></form>"
            await page.set_content(f"{form}<script>document.forms[0].submit()</script>")
            await expect(page.get_by_text("nothing was done")).to_be_visible()
    assert [each.status for each in (await run.state()).requirements] == ["pending"]
    assert [(each.status, each.by) for each in (await run.state()).ignored_messages] == [("refused", "bob")]
    await run.cancel()


ANY_KEY = """async form => {
    const answer = await fetch(form.dataset.sign, {method: "POST", body: new URLSearchParams(new FormData(form))});
    const asked = await answer.json();
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON({...asked.options, allowCredentials: []});
    const {id, response} = (await navigator.credentials.get({publicKey})).toJSON();
    const proof = {credential_id: id, authenticator_data: response.authenticatorData, signature: response.signature,
        client_data: response.clientDataJSON, issued_at: asked.issued_at, expires_at: asked.expires_at};
    const field = form.appendChild(document.createElement("input"));
    Object.assign(field, {type: "hidden", name: "proof", value: JSON.stringify(proof)});
    HTMLFormElement.prototype.submit.call(form);
}"""
"""What a thief runs in the page: lets any passkey sign for bob."""


async def test_the_demo_shows_its_page_and_ends(tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "demo_web.py"), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    output, _ = await asyncio.wait_for(program.communicate(), 60)
    assert (program.returncode, output.decode().splitlines()[-1]) == (0, "Every check passed.")
