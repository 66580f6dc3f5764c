"""Temporal's Web UI shows encrypted payloads in clear to who is signed in to the approvals page, and to no one else."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace

import pytest
from playwright.async_api import Browser, expect
from starlette.responses import Response
from temporalio.client import Client

from assent import AgentClient
from assent.testing import Environment
from assent.web.settings import WebSettings
from assent.web.sign_in import Person, SignIn
from tests.support.encrypting_codec import Encrypting
from tests.ui.test_passkeys import served

pytestmark = pytest.mark.ui


async def test_the_web_ui_shows_encrypted_payloads_to_who_is_signed_in(
    web_environment: Environment, browser: Browser
) -> None:
    server = web_environment.server
    assert server.ui_url is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ui, page_url = server.ui_url.replace("127.0.0.1", "localhost"), f"http://localhost:{port}"
    converter = replace(server.client.data_converter, payload_codec=Encrypting())
    client = await Client.connect(server.address, namespace=server.client.namespace, data_converter=converter)
    settings = WebSettings.read(
        url=page_url, listen=f"127.0.0.1:{port}", oidc_issuer="http://localhost:9", oidc_client_id="c",
        oidc_client_secret="s", secret="x" * 32, codec_origins=[ui],
    )  # fmt: skip
    session = Response()
    SignIn(settings).begin(session, Person("bob", "oidc"))
    name, _, value = session.headers["set-cookie"].partition(";")[0].partition("=")
    waiting = await client.start_workflow("Anything", {"to": "Nordwind", "cents": 42}, id="sealed", task_queue="nobody")
    # What a person enters in the form "codec server" of the Web UI, which keeps it there.
    entered = {"endpoint": page_url, "includeCredentials": True, "overrideRemoteCodecConfiguration": True}
    kept = "".join(f"localStorage.setItem({key!r}, {json.dumps(json.dumps(each))});" for key, each in entered.items())
    async with served(AgentClient(client), settings, port):
        for is_signed_in in (False, True):
            async with await browser.new_context(viewport={"width": 1280, "height": 900}) as context:
                if is_signed_in:
                    await context.add_cookies([{"name": name, "value": value, "url": page_url}])
                await context.add_init_script(kept)
                page = await context.new_page()
                async with page.expect_response(re.compile(f"^{page_url}/decode")) as answer:
                    await page.goto(f"{ui}/namespaces/default/workflows/{waiting.id}")
                assert (await answer.value).status == (200 if is_signed_in else 401)
                shown = page.get_by_text("Nordwind").first
                if is_signed_in:
                    await expect(shown).to_be_visible(timeout=15_000)
                else:
                    await expect(page.get_by_role("alert").filter(has_text="could not connect")).to_be_visible(
                        timeout=15_000
                    )
                    assert await shown.count() == 0
    await waiting.terminate()
