"""Sign-in by OpenID Connect with a provider over real HTTP, and what does not sign in."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import httpx
import pytest
import pytest_asyncio
from joserfc.jwk import RSAKey
from starlette.types import ASGIApp

from assent.client.client import AgentClient
from assent.web.app import application
from assent.web.settings import WebSettings
from assent.wire.errors import ConfigurationError
from tests.support.openid_provider import CLIENT, SECRET, OpenIdProvider, openid_provider
from tests.support.signing import PasskeySigner
from tests.web.visitor import ORIGIN, Visitor, words

BOB: dict[str, object] = {"sub": "u-1", "email": "bob@example.com", "email_verified": True}
PAGE = "/nothing-here"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provider() -> AsyncGenerator[OpenIdProvider]:
    async with openid_provider() as provider:
        provider.user = BOB
        yield provider


def site(provider: OpenIdProvider) -> ASGIApp:
    settings = WebSettings.read(
        url=ORIGIN, oidc_issuer=provider.issuer, oidc_client_id=CLIENT, oidc_client_secret=SECRET
    )
    # No page of these tests reads from Temporal.
    return application(cast("AgentClient", None), settings)


async def way_back(visitor: Visitor, path: str = "/sign-in?go=1") -> str:
    """Go to the provider, and return the address to which it sends the browser back."""
    leads = await visitor.get(path)
    assert leads.status_code == 302, words(leads)
    async with httpx.AsyncClient() as http:
        answer = await http.get(leads.headers["location"])
    assert answer.headers["location"].startswith(f"{ORIGIN}/signed-in?")
    return answer.headers["location"].removeprefix(ORIGIN)


async def test_a_person_signs_in_with_a_provider_and_out_again(provider: OpenIdProvider) -> None:
    app = site(provider)
    bob = Visitor.at(app)
    first = await bob.get("/request?run=a%2Fb&id=c")
    assert first.headers["location"] == "/sign-in?next=%2Frequest%3Frun%3Da%252Fb%26id%3Dc"
    page = await bob.get(first.headers["location"])
    assert "Sign in" in words(page)
    back = await way_back(bob, f"{first.headers['location']}&go=1")
    assert provider.asked["code_challenge_method"] == "S256"
    assert {"state", "nonce"} <= provider.asked.keys()
    signed_in = await bob.get(back)
    assert signed_in.headers["location"] == "/request?run=a%2Fb&id=c"
    assert "bob@example.com" in words(await bob.get(PAGE))

    stolen = Visitor.at(app)
    stolen.http.cookies.update(bob.http.cookies)
    assert "bob@example.com" in words(await stolen.get(PAGE))
    crossed = await bob.post("/sign-out", origin="https://evil.example", token="x")
    assert crossed.status_code == 403
    out = await bob.http.post("/sign-out", data={"token": await token_of(bob)}, headers={"origin": ORIGIN})
    assert out.headers["location"] == "/sign-in"
    for each in (bob, stolen):
        assert "bob@example.com" not in words(await each.get(PAGE))
    assert (await stolen.get("/")).headers["location"].startswith("/sign-in")


async def token_of(visitor: Visitor) -> str:
    return (await visitor.get(PAGE)).text.partition('name="token" value="')[2].partition('"')[0]


async def test_what_a_provider_did_not_say_to_this_browser_signs_no_one_in(provider: OpenIdProvider) -> None:
    app = site(provider)
    victim = Visitor.at(app)
    # The address of another browser's sign-in, which would sign the victim in as somebody else.
    other = Visitor.at(app)
    back = await way_back(other)
    assert (await victim.get(back)).status_code == 403
    assert (await other.get(back)).status_code == 303
    assert (await other.get(back)).status_code == 403, "a second time"
    assert (await victim.get("/signed-in?error=access_denied")).status_code == 403
    assert (await victim.get("/signed-in")).status_code == 403
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    changes: list[dict[str, object]] = [
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"exp": 1_000_000_000},
        {"nonce": "another"},
        {"email_verified": False},
        {"email": "bob\u202e@example.com"},
    ]
    for changed, key in [*((each, None) for each in changes), ({}, stranger)]:
        provider.changed, provider.signs_with = changed, key
        visitor = Visitor.at(app)
        answer = await visitor.get(await way_back(visitor))
        assert answer.status_code == 403, changed
        assert "bob@example.com" not in words(await visitor.get(PAGE))
    provider.changed, provider.signs_with = {}, None


async def test_the_page_leads_to_no_other_site(provider: OpenIdProvider) -> None:
    app = site(provider)
    for target in ("https://evil.example", "//evil.example", "/\\evil.example", "/%0d%0aX: y", "javascript:alert(1)"):
        bob = Visitor.at(app)
        back = await way_back(bob, str(httpx.URL("/sign-in", params={"next": target, "go": "1"})))
        location = (await bob.get(back)).headers["location"]
        assert location == "/" or location.startswith("/%"), target


async def test_sign_ins_are_limited(provider: OpenIdProvider) -> None:
    visitor = Visitor.at(site(provider))
    answers = [(await visitor.get("/signed-in?code=x&state=y")).status_code for _ in range(21)]
    assert answers == [*[403] * 20, 429]


SITE = "approvals.example.com"


async def challenge_of(visitor: Visitor) -> str:
    page = (await visitor.get("/sign-in?next=%2Fnothing-here")).text
    found = re.search(r'data-sign-in="([^"]+)"', page)
    assert found
    options = json.loads(html.unescape(found[1]))
    assert (options["rpId"], options["userVerification"], "allowCredentials" in options) == (SITE, "required", False)
    return str(options["challenge"])


async def answered(visitor: Visitor, passkey: PasskeySigner, challenge: str, **given: object) -> int:
    """Send what the script of the page makes of a passkey's answer; return the status."""
    fields = {"origin": ORIGIN, "site": SITE, **given}
    response = passkey.answer(challenge, **fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    identity = passkey.credential_id
    credential = {"id": identity, "rawId": identity, "type": "public-key", "response": response}
    form = {"credential": json.dumps(credential), "next": "/nothing-here"}
    return (await visitor.http.post("/sign-in", data=form, headers={"origin": ORIGIN})).status_code


async def test_a_passkey_alone_signs_its_owner_in_until_it_is_revoked(tmp_path: Path) -> None:
    mine, other, file = PasskeySigner(), PasskeySigner(b"passkey-of-a-stranger-01"), tmp_path / "approvers.toml"
    text = f"""
[site]
rp_id = "{SITE}"
origins = ["{ORIGIN}"]
[[people]]
name = "carol"
[[people.keys]]
passkey = "{mine.credential_id}"
public_key = "{mine.public}"
"""
    file.write_text(text)
    settings = WebSettings.read(url=ORIGIN, passkeys=True, approvers=str(file))
    app = application(cast("AgentClient", None), settings)
    carol, mallory = Visitor.at(app), Visitor.at(app)
    challenge = await challenge_of(carol)
    # The challenge is this browser's, counts once, and takes a person who was verified, on this site.
    assert await answered(mallory, mine, challenge) == 403
    replaying = Visitor.at(app)
    replaying.http.cookies.update(carol.http.cookies)
    assert await answered(carol, mine, challenge) == 303
    assert await answered(replaying, mine, challenge) == 403
    assert "carol" in words(await carol.get(PAGE))
    assert await answered(carol, mine, challenge) == 403
    for passkey, given in (
        (other, {}), (mine, {"verified": False}), (mine, {"origin": "https://evil.example"}),
        (mine, {"site": "evil.example"}),
    ):  # fmt: skip
        assert await answered(mallory, passkey, await challenge_of(mallory), **given) == 400
    assert (await mallory.http.post("/sign-in", data={"credential": "[" * 9_000})).status_code == 403
    assert "carol" not in words(await mallory.get(PAGE))

    file.write_text(text + "valid_until = 2026-01-01\n")
    assert (await carol.get("/")).headers["location"].startswith("/sign-in")
    assert await answered(carol, mine, await challenge_of(carol)) == 400
    elsewhere = WebSettings.read(url="https://other.example.com", passkeys=True, approvers=str(file))
    with pytest.raises(ConfigurationError, match=r"no \[site\] with the origin https://other\.example\.com"):
        application(cast("AgentClient", None), elsewhere)
