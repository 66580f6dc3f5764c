"""Decisions on the page prove who made them: signed by a passkey, or vouched for by the page's own key."""

from __future__ import annotations

import base64
import hmac
import html
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from httpx import Response
from typing_extensions import override

from assent import Agent, AgentClient, approval, ask_user, tool
from assent.testing import Environment, call, calls, says
from assent.web.app import application
from assent.web.enrolment import NAMESPACE, Invitation
from assent.web.rendering import link
from assent.web.settings import WebSettings
from assent.web.slack import Slack, buttons
from assent.wire.proofs import DecisionStatement
from tests.support.signing import PasskeySigner, SshSigner, base64url
from tests.web.visitor import ORIGIN, PROXY, Visitor, words

SITE = "approvals.example.com"
SLACK = "the-signing-secret-of-an-app"


@approval(proof="person")
@tool
def pay(to: str, cents: int) -> str:
    """Pay."""
    return f"paid {cents} to {to}"


@approval(proof="service")
@tool
def refund(cents: int) -> str:
    """Refund."""
    return f"refunded {cents}"


def office(folder: Path, passkey: PasskeySigner) -> tuple[Path, SshSigner, WebSettings]:
    """An approvers file, an administrator's key, and the settings of a page that vouches for whom its proxy names."""
    key, alice = Ed25519PrivateKey.generate(), SshSigner.make(folder, "alice")
    (folder / "service.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file = folder / "approvers.toml"
    file.write_text(f"""
[site]
rp_id = "{SITE}"
origins = ["{ORIGIN}"]
[[issuers]]
url = "header:X-Forwarded-User"
[[issuers]]
url = "slack:T1"
[[issuers]]
url = "slack:T2"
[[services]]
name = "{SITE}"
public_key = "{base64url(key.public_key().public_bytes_raw())}"
[[people]]
name = "alice"
groups = ["administrators"]
[[people.keys]]
ssh = "{alice.public}"
[[people]]
name = "bob"
logins = {{ "header:X-Forwarded-User" = "bob@example.com", "slack:T1" = "U1" }}
[[people]]
name = "carol"
logins = {{ "header:X-Forwarded-User" = "carol", "slack:T2" = "U1" }}
[[people.keys]]
passkey = "{passkey.credential_id}"
public_key = "{passkey.public}"
""")
    settings = WebSettings.read(
        url=ORIGIN, trusted_header="X-Forwarded-User", trusted_proxies=[PROXY], approvers=str(file),
        signing_key=str(folder / "service.pem"), service=SITE, slack_signing_secret=SLACK,
    )  # fmt: skip
    return file, alice, settings


async def sign(visitor: Visitor, path: str, passkey: PasskeySigner, **fields: str) -> str:
    """What the script of the page does: ask for the challenge of a form, and let the passkey answer it."""
    page = (await visitor.get(path)).text
    found = re.search(r'data-sign="([^"]+)"', page)
    token = re.search(r'name="token" value="([^"]+)"', page)
    assert found
    assert token
    asked = await visitor.http.post(
        html.unescape(found[1]), data={**fields, "token": token[1]}, headers={"origin": ORIGIN}
    )
    given = asked.json()
    assert given["options"]["userVerification"] == "required"
    assert given["options"]["allowCredentials"] == [{"type": "public-key", "id": passkey.credential_id}]
    statement = _Challenge(
        given=given["options"]["challenge"], issued_at=given["issued_at"], expires_at=given["expires_at"],
        namespace="", run="", execution="", tool="", requirement="0" * 64, verdict="approve", by="",
    )  # fmt: skip
    proof = passkey.prove(statement, origin=ORIGIN, site=SITE)
    return json.dumps(proof.model_dump(mode="json", exclude={"kind"}))


def token_of(answer: Response) -> str:
    found = re.search(r'name="token" value="([^"]+)"', answer.text)
    assert found
    return found[1]


class _Challenge(DecisionStatement):
    """A statement of which an authenticator knows the challenge alone."""

    given: str

    @property
    @override
    def challenge(self) -> bytes:
        return base64.urlsafe_b64decode(self.given + "==")


async def revoke_on_the_page(bob: Visitor, carol: Visitor, run_id: str, grant_id: str) -> None:
    page = link("/run", id=run_id)
    assert "3 more of 3 calls" in words(await bob.get(page))
    fields = {"grant": grant_id, "token": token_of(await bob.get(page))}
    ended = await bob.post(page.replace("/run", "/revoke"), **fields)
    assert "Revoked." in words(await bob.get(ended.headers["location"]))
    assert "Revoked." not in words(await carol.get(ended.headers["location"])), "the note is bob's"
    assert "revoked by bob" in words(await carol.get(page))
    again = await bob.post(page.replace("/run", "/revoke"), **fields)
    assert "Not revoked." in words(await bob.get(again.headers["location"]))


async def test_a_passkey_signs_one_decision_and_the_page_vouches_where_that_is_enough(
    assent_environment: Environment, tmp_path: Path
) -> None:
    passkey = PasskeySigner()
    file, _, settings = office(tmp_path, passkey)
    money = assent_environment.responses(calls(call("pay", to="ann", cents=5)), lambda it: says(str(it.last_output)))
    small = assent_environment.responses(calls(call("refund", cents=5)), calls(call("pay", to="ann", cents=5)))
    agents = [Agent(name="money", model=money, tools=[pay]), Agent(name="small", model=small, tools=[refund, pay])]
    async with assent_environment.serve(*agents, approvers=file) as client:
        app = application(client, settings)
        bob, carol, mallory = (Visitor.at(app, each) for each in ("bob@example.com", "carol", "mallory"))
        run = await client.start("money", "Pay.", requested_by="dave")
        state = await run.until_paused()
        path = link("/request", run=run.id, id=state.active_requirements[0].id)
        assert "the approvers file has no passkey of yours" in words(await bob.get(path))
        token = re.search(r'name="token" value="([^"]+)"', (await bob.get(path)).text)
        unsigned = await carol.post(path, action="approve")
        assert (unsigned.status_code, "your passkey signs. Nothing was sent" in words(unsigned)) == (400, True)
        assert token is None

        other = await sign(carol, path, passkey, action="approve", reason="small")
        assert "did not count" in await carol.decide(path, action="approve", reason="large", proof=other)
        assert "did not count" in await carol.decide(path, action="reject", reason="small", proof=other)
        assert (await carol.post(path, action="approve", proof="{}")).status_code == 400
        proof = await sign(carol, path, passkey, action="approve", reason="ok")
        assert "signed by carol (passkey" in await carol.decide(path, action="approve", reason="ok", proof=proof)
        assert (await run.result()).content == "paid 5 to ann"
        assert (await run.verify()).ok

        run = await client.start("small", "Refund.", requested_by="dave")
        state = await run.until_paused()
        path = link("/request", run=run.id, id=state.active_requirements[0].id)
        assert (await mallory.post(path, action="approve", token="x")).status_code == 403
        for each in (path, "/", "/statistics", "/api/statistics", "/api/requests?show=all", "/run?id=no-run"):
            answer = await mallory.get(each)
            assert (answer.status_code, "approvers file does not name you" in answer.text) == (403, True), each
        deep = await carol.post(path, action="approve", proof="[" * 100_000)
        assert (deep.status_code, "cannot be read; nothing was sent" in words(deep)) == (400, True)
        decided = await bob.decide(path, action="approve", remember_uses="3")
        assert f"vouched for by {SITE} (OIDC)" in decided
        [grant] = (await run.until_paused()).grants
        await revoke_on_the_page(bob, carol, run.id, grant.id)
        [given] = (await run.state()).grants
        assert given.revoked_by == "bob"
        await run.cancel()
        record, _ = await client.audit(run.id)
        assert record.resolved_by == "bob"
        proved = record.votes[0].proof
        assert proved is not None
        assert f"vouched for by {SITE} (OIDC)" in words(await carol.get(link("/audit", id=run.id)))
        assert (proved.proof.kind, getattr(proved.proof, "login", "")) == ("oidc", "bob@example.com")


async def test_only_an_administrators_invitation_lets_a_person_make_a_passkey(tmp_path: Path) -> None:
    _, alice, settings = office(tmp_path, PasskeySigner())
    mallory = Visitor.at(application(cast("AgentClient", None), settings), "mallory")
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    good = Invitation("bob", "alice", SITE, until)
    for invitation, namespace, words_ in (
        (good, NAMESPACE, "invites bob to make a passkey"),
        (good, "assent-decision", "No administrator has signed"),
        (Invitation("bob", "carol", SITE, until), NAMESPACE, "No administrator has signed"),
        (Invitation("bob", "alice", "evil.example", until), NAMESPACE, "for another page"),
        (Invitation("bob", "alice", SITE, "2026-01-01T00:00:00Z"), NAMESPACE, "has expired"),
        (Invitation("zoe", "alice", SITE, until), NAMESPACE, "no person named zoe"),
    ):
        token_ = invitation.token(alice.sign(invitation.signed_bytes(), namespace))
        assert words_ in words(await mallory.get(f"/enrol?invitation={token_}")), words_
    for token_ in ("", "x", good.token("no signature"), "e30", base64url(b"[" * 2_900)):
        answer = await mallory.get(f"/enrol?invitation={token_}")
        assert answer.status_code == 400


def pressed(action: dict[str, object], user: str = "U1", **changed: str) -> tuple[bytes, dict[str, str]]:
    """What Slack posts when a button is pressed, signed as Slack signs."""
    payload = {"type": "block_actions", "user": {"id": user}, "team": {"id": "T1"}, "actions": [action]}
    payload["response_url"] = "https://hooks.slack.com/actions/T1/1/x"
    body = urlencode({"payload": json.dumps(payload)}).encode()
    at = changed.get("at", str(int(time.time())))
    signature = hmac.new(changed.get("secret", SLACK).encode(), b"v0:" + at.encode() + b":" + body, "sha256")
    headers = {"x-slack-request-timestamp": at, "x-slack-signature": f"v0={signature.hexdigest()}"}
    return body, headers | {"content-type": "application/x-www-form-urlencoded"}


async def test_buttons_in_slack_decide_where_vouching_is_enough(
    assent_environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _, settings = office(tmp_path, PasskeySigner())
    said: list[tuple[str, str]] = []

    async def post(url: str, text: str) -> None:
        said.append((url, text))

    monkeypatch.setattr(Slack.__init__, "__kwdefaults__", {"post": post})
    both = calls(call("pay", to="ann", cents=5), call("refund", cents=5), call("ask_user", question="Which?"))
    agent = Agent(name="slack", model=assent_environment.responses(both, says("done")), tools=[pay, refund, ask_user])
    async with assent_environment.serve(agent, approvers=file) as client:
        slack = Visitor.at(application(client, settings), address="54.1.1.1").http
        run = await client.start("slack", "Both.", requested_by="dave")
        large, small, question = (await run.until_paused()).active_requirements
        [block] = buttons(run.id, small.id, ORIGIN)
        approve, reject, look = cast("list[dict[str, object]]", block["elements"])
        assert look["url"] == f"{ORIGIN}{link('/request', run=run.id, id=small.id)}"

        old = str(int(time.time()) - 301)
        for body, headers in (pressed(approve, secret="another"), pressed(approve, at=old), pressed(approve, at="now")):
            assert (await slack.post("/slack/actions", content=body, headers=headers)).status_code == 403
        unsigned, no_call = (
            cast("list[dict[str, object]]", buttons(run.id, each.id, ORIGIN)[0]["elements"])[0]
            for each in (large, question)
        )
        foreign: dict[str, object] = {"action_id": "other"}
        broken: dict[str, object] = {"action_id": "assent_approve", "value": "x"}
        for action, user, words_ in (
            (approve, "U2", "The approvers file does not know U2"),
            (unsigned, "U1", "This takes your own signature"),
            (no_call, "U1", "This is no request to approve or reject a call"),
            (broken, "U1", "none of Assent's"),
            (foreign, "U1", "none of Assent's"),
        ):
            body, headers = pressed(action, user)
            assert (await slack.post("/slack/actions", content=body, headers=headers)).status_code == 200
            assert words_ in said[-1][1]
        assert {each.status for each in (await run.state()).requirements} == {"pending"}

        body, headers = pressed(reject)
        assert (await slack.post("/slack/actions", content=body, headers=headers)).status_code == 200
        assert said[-1][1].startswith("refund: rejected")
        assert (await slack.post("/slack/actions", content=body, headers=headers)).status_code == 403, "a second time"
        decided = (await run.state()).requirements[1]
        assert (decided.status, decided.resolved_by, decided.reason) == ("rejected", "bob", "rejected in Slack")
        assert decided.votes[0].proof is not None
        await run.cancel()
