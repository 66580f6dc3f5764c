"""Webhooks as values: what is accepted, how a notice is worded and signed, when two notices are the same."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import standardwebhooks
from aiohttp import web
from pydantic import ValidationError

from assent.activities.send_notices import Endpoint, outcome_of
from assent.core.notices import Notice, NoticesInput
from assent.runtime.embedded_server import free_port
from assent.runtime.settings import Settings
from assent.runtime.webhooks import Arguments, Webhook, body, message_id, signature, signing_keys
from assent.wire.errors import ConfigurationError

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
HOOK = Webhook(url="https://bot:hunter2@hooks.test:8443/T0/token?key=abc", secret_env="HOOK_SECRET")
OPENED = Notice(
    type="requirement.opened", at=AT, requirement_id="ab" * 32, kind="confirmation", tool="pay", status="pending"
)
BATCH = NoticesInput(agent="ops", notices=[OPENED], requested_by="alice")


@pytest.mark.parametrize("url", ["ftp://a.test/", "hooks.test", "https://", "http://[::1", "http://a.test:x/",
                                 "https://a.test/a b", "https://a.test/\x1b", ""])  # fmt: skip
def test_a_webhook_goes_to_an_http_address(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^test_webhooks.py:\d+: Webhook: url: [^\n]*$"):
        Webhook(url=url, secret_env="S")


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://a.test/{run}", "https://a.test/{", "https://a:b@c.test",
                                  "https://a.test/{run_id.x}"])  # fmt: skip
def test_a_link_is_an_address_with_the_two_ids_and_nothing_else(link: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Webhook: link: "):
        Webhook(url="https://a.test", secret_env="S", link=link)


def test_an_unknown_field_or_event_is_refused() -> None:
    wrongs: list[dict[str, object]] = [
        {"secret": SECRET}, {"events": ["requirement.closed"]}, {"events": []}, {"secret_env": ""},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(ValidationError) as caught:
            Webhook.model_validate({"url": "https://a.test", "secret_env": "S", **wrong})
        assert SECRET not in str(caught.value)


def test_what_is_shown_of_a_webhook_has_no_credential() -> None:
    assert HOOK.origin == "https://hooks.test:8443"
    for shown in (repr(HOOK), str(HOOK), repr(Settings(webhooks=[HOOK]))):
        assert "hunter2" not in shown
        assert "token" not in shown
    with pytest.raises(ConfigurationError) as caught:
        Webhook(url="ftp://bot:hunter2@hooks.test", secret_env="S")
    assert "hunter2" not in str(caught.value)


def test_the_reference_library_verifies_a_signature() -> None:
    now = int(time.time())
    name, text = message_id(OPENED), body(HOOK, "run", BATCH, OPENED)
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(signing_keys(SECRET), name, now, text),
    }
    assert standardwebhooks.Webhook(SECRET).verify(text, headers) == json.loads(text)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(text.replace(b"pay", b"say"), headers)


def test_a_secret_is_replaced_while_both_are_signed_with() -> None:
    newer = "whsec_" + base64.b64encode(b"n" * 24).decode()
    now = int(time.time())
    both = signature(signing_keys(f"{newer} {SECRET}"), "msg_1", now, b"{}")
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": both}
    for secret in (SECRET, newer):
        assert standardwebhooks.Webhook(secret).verify(b"{}", headers) == {}


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "is not set"),
        ("  ", "is not set"),
        ("c2VjcmV0", "does not begin with whsec_"),
        ("whsec_***", "is not base64"),
        ("whsec_é", "is not base64"),
        ("whsec_c2hvcnQ=", "holds 5 bytes; at least 24"),
    ],
)
def test_a_secret_that_cannot_be_used_is_named_and_not_repeated(secret: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"HOOK_SECRET {why}") as caught:
        Endpoint.of(HOOK, {"HOOK_SECRET": secret})
    said = str(caught.value)
    assert said.startswith("webhook https://hooks.test:8443: ")
    assert "\n" not in said
    assert "hunter2" not in said


def test_a_notice_has_ids_names_times_and_a_link() -> None:
    hook = Webhook(url="https://a.test", secret_env="S", link="https://ui.test/w/{run_id}?r={requirement_id}")
    notice = OPENED.model_copy(update={"approvers": ["bob"], "expires_at": AT + timedelta(hours=1)})
    assert json.loads(body(hook, "a/ü b", BATCH, notice)) == {
        "type": "requirement.opened",
        "timestamp": "2026-01-02T03:04:05.000000Z",
        "data": {
            "run_id": "a/ü b",
            "agent": "ops",
            "requested_by": "alice",
            "parents": [],
            "caller": None,
            "requirement_id": "ab" * 32,
            "short_id": "abababab",
            "kind": "confirmation",
            "effects": None,
            "tool": "pay",
            "status": "pending",
            "execution": None,
            "approvers": ["bob"],
            "expires_at": "2026-01-02T04:04:05.000000Z",
            "by": None,
            "link": f"https://ui.test/w/a%2F%C3%BC%20b?r={'ab' * 32}",
        },
    }


def test_a_notice_says_what_each_decision_does_where_its_name_does_not() -> None:
    notice = OPENED.model_copy(update={"kind": "outcome"})
    said = json.loads(body(Webhook(url="https://a.test", secret_env="S"), "a", BATCH, notice))
    assert said["data"]["effects"] == {
        "submit_result": "it happened, with this result",
        "approve": "run it again",
        "reject": "give up; the outcome is unknown",
    }


def test_names_are_rendered_and_the_body_is_ascii() -> None:
    notice = OPENED.model_copy(update={"by": "bob\u202eeve\n", "approvers": ["\u200bann"], "tool": "p\x1b[2Jay"})
    text = body(HOOK, "run", BATCH, notice)
    assert text.isascii()
    data = json.loads(text)["data"]
    assert (data["by"], data["approvers"], data["tool"]) == ("bob\\u{202e}eve\\n", ["\\u{200b}ann"], "p\\x1b[2Jay")


def test_arguments_are_there_only_where_they_were_asked_for() -> None:
    shown = Arguments('{"to": "bob"}')
    assert "arguments" not in json.loads(body(HOOK, "run", BATCH, OPENED, shown))["data"]
    asking = HOOK.model_copy(update={"arguments": True})
    data = json.loads(body(asking, "run", BATCH, OPENED, shown))["data"]
    assert (data["arguments"], data["arguments_left_out"]) == ('{"to": "bob"}', None)


def test_a_notice_keeps_its_id_over_attempts_and_resets_and_shares_it_with_no_other() -> None:
    later = OPENED.model_copy(update={"at": AT + timedelta(hours=1)})
    assert message_id(OPENED) == message_id(later)
    decided = OPENED.model_copy(update={"type": "requirement.decided", "status": "approved", "by": "bob"})
    reminder = OPENED.model_copy(update={"type": "requirement.reminder"})
    different = [
        OPENED,
        decided,
        decided.model_copy(update={"status": "rejected"}),
        decided.model_copy(update={"by": "eve"}),
        decided.model_copy(update={"type": "requirement.executed", "execution": "executed"}),
        decided.model_copy(update={"type": "requirement.executed", "execution": "unknown"}),
        reminder,
        reminder.model_copy(update={"at": later.at}),
        OPENED.model_copy(update={"requirement_id": "cd" * 32}),
    ]
    names = {message_id(each) for each in different}
    assert len(names) == len(different)
    assert all(name.startswith("msg_") and "." not in name for name in names)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, "delivered"), (202, "delivered"), (204, "delivered"), (301, "refused"), (307, "refused"), (400, "refused"),
     (401, "refused"), (404, "refused"), (408, "again"), (410, "gone"), (429, "again"), (500, "again"),
     (503, "again")],
)  # fmt: skip
def test_what_an_answer_means(status: int, kind: str) -> None:
    assert outcome_of(status, {}).kind == kind


def test_retry_after_is_read_and_bounded() -> None:
    assert outcome_of(503, {"retry-after": "7"}).wait == timedelta(seconds=7)
    assert outcome_of(429, {"retry-after": "1e9"}).wait == timedelta(minutes=10)
    assert outcome_of(500, {"retry-after": "soon"}).wait is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "ASSENT_WEBHOOKS is not JSON"),
        ('{"url": "x"}', "ASSENT_WEBHOOKS: Input should be a valid list"),
        ('[{"url": "ftp://u:hunter2@a.test", "secret_env": "S"}]', "ASSENT_WEBHOOKS[0].url: must begin with http:// "),
        ('[{"url": "https://a.test"}]', "ASSENT_WEBHOOKS[0].secret_env: Field required"),
        ('[{"url": "https://a.test", "secret_env": "S", "secret": "hunter2"}]', "ASSENT_WEBHOOKS[0].secret: Extra "),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    monkeypatch.setenv("ASSENT_WEBHOOKS", value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.read()
    assert str(caught.value).startswith(said)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_webhooks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "ASSENT_WEBHOOKS",
        '[{"url": "https://a.test/x", "secret_env": "S", "events": ["requirement.opened"], "arguments": true}]',
    )
    [hook] = Settings.read().webhooks
    assert (hook.url, hook.secret_env, hook.events, hook.arguments) == (
        "https://a.test/x", "S", ("requirement.opened",), True,
    )  # fmt: skip


# -- the programs of docs/guides/notices.md ----------------------------------------------------------------------------

DOCS = Path(__file__).parents[3] / "docs" / "guides" / "notices.md"


@asynccontextmanager
async def program(folder: Path, name: str, **env: str) -> AsyncGenerator[Endpoint]:
    """A program of the documentation as a process of its own, and the endpoint that reaches it."""
    for title, text in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL):
        (folder / title).write_text(text)
    port = free_port()
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, name, cwd=folder, stdout=DEVNULL, stderr=DEVNULL,
        env={**kept, "NOTICES_SECRET": SECRET, "PORT": str(port), **env},
    )  # fmt: skip
    endpoint = Endpoint.of(Webhook(url=f"http://127.0.0.1:{port}/", secret_env="S"), {"S": SECRET})
    try:
        async with asyncio.timeout(60):
            while (await endpoint.post("msg_0", b"{}")).said == "ConnectError":  # noqa: ASYNC110 - until it listens
                await asyncio.sleep(0.1)
        yield endpoint
    finally:
        process.kill()
        await process.wait()
        if endpoint.client is not None:
            await endpoint.client.aclose()


async def test_the_documented_slack_program_posts_each_notice_once_and_escapes_it(tmp_path: Path) -> None:
    came: list[str] = []

    async def slack(request: web.Request) -> web.Response:
        came.append((await request.json())["text"])
        return web.Response(text="ok", status=500 if len(came) == 1 else 200)

    app = web.Application()
    app.router.add_post("/services/T0/B0/X", slack)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/T0/B0/X"
    hook = Webhook(url="https://a.test", secret_env="S", link="https://ui.test/{run_id}")
    text = body(hook, "run-1", BATCH.model_copy(update={"agent": "<!channel>"}), OPENED)
    async with program(tmp_path, "slack.py", SLACK_URL=url) as endpoint:
        answers = [await endpoint.post("msg_1", text) for _ in range(3)]
        assert [each.kind for each in answers] == ["again", "delivered", "delivered"]
        forged = Endpoint(endpoint.webhook, (b"x" * 32,), "")
        assert (await forged.post("msg_2", text)).said == "status 401"
        assert forged.client is not None
        await forged.client.aclose()
    await runner.cleanup()
    assert [each.splitlines() for each in came[-1:]] == [
        [
            "*pay* of &lt;!channel&gt;: opened, pending",
            "requested by alice; call abababab",
            "<https://ui.test/run-1|Open the run>",
        ]
    ]
    assert len(came) == 2


async def test_the_documented_mail_program_sends_a_mail(tmp_path: Path) -> None:
    mails: list[str] = []

    async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := (await reader.readline()).upper():
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
        writer.close()

    server = await asyncio.start_server(smtp, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    env = {"MAIL_HOST": "127.0.0.1", "MAIL_PORT": port, "MAIL_FROM": "assent@a.test", "MAIL_TO": "ops@a.test"}
    async with program(tmp_path, "mail.py", **env) as endpoint:
        assert (await endpoint.post("msg_1", body(HOOK, "run-1", BATCH, OPENED))).kind == "delivered"
    server.close()
    [mail] = mails
    assert "Subject: ops: pay (abababab) is pending" in mail
    assert "assent show run-1" in mail
