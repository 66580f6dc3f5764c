"""Who may sign in is said before the page is served, in one line."""

from __future__ import annotations

import socket

import pytest

from assent.web.app import listen
from assent.web.settings import WebSettings
from assent.wire.errors import ConfigurationError

URL = "https://approvals.example.com"
OIDC = {"oidc_issuer": "https://id.example.com", "oidc_client_id": "assent", "oidc_client_secret": "s"}
HEADER = {"trusted_header": "X-Forwarded-User", "trusted_proxies": ["10.0.0.0/8"]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no one could sign in"),
        ({"trusted_header": "X-User", "url": URL}, "--trusted-header and --trusted-proxy go together"),
        ({"trusted_proxies": ["10.0.0.1"], "url": URL}, "--trusted-header and --trusted-proxy go together"),
        ({"trusted_header": "X-User", "trusted_proxies": ["all"], "url": URL}, "ASSENT_WEB_TRUSTED_PROXIES: "),
        (OIDC | {"address_header": "X-Forwarded-For", "url": URL}, "and --trusted-proxy go together"),
        (OIDC | {"trusted_proxies": ["10.0.0.1"], "url": URL}, "and --trusted-proxy go together"),
        ({"passkeys": True, "url": URL}, "--passkeys needs ASSENT_APPROVERS"),
        (HEADER | {"passkeys": True, "approvers": "x", "url": URL}, "choose one way to sign in"),
        (HEADER, "--url is missing"),
        (HEADER | {"url": "http://approvals.example.com"}, "use https://"),
        (HEADER | {"url": f"{URL}/approvals"}, "an address without a path"),
        (HEADER | OIDC | {"url": URL}, "choose one way to sign in"),
        (HEADER | {"demo_sign_in": "bob"}, "choose one way to sign in"),
        ({"oidc_issuer": "https://id.example.com", "url": URL}, "set all of ASSENT_WEB_OIDC_ISSUER"),
        (OIDC | {"oidc_issuer": "http://id.example.com", "url": URL}, "ASSENT_WEB_OIDC_ISSUER begins with http://"),
        ({"demo_sign_in": "bob", "listen": "0.0.0.0:8234"}, "0.0.0.0 is not a loopback address"),
        ({"demo_sign_in": "bob", "listen": "8234"}, "it is HOST:PORT"),
        ({"demo_sign_in": "bob", "secret": "short"}, "ASSENT_WEB_SECRET is too short"),
        ({"demo_sign_in": "bob", "signing_key": "key.pem"}, "to vouch for people, set"),
        ({"demo_sign_in": "bob", "slack_signing_secret": "s"}, "ASSENT_WEB_SLACK_SIGNING_SECRET needs"),
    ],
)
def test_settings_with_which_no_one_or_anyone_could_sign_in_are_refused_in_one_line(
    given: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        WebSettings.read(**given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_variable_is_read_and_an_option_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_WEB_TRUSTED_HEADER", "X-User")
    monkeypatch.setenv("ASSENT_WEB_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8")
    monkeypatch.setenv("ASSENT_WEB_URL", f"{URL}/")
    settings = WebSettings.read(listen="[::]:80", trusted_proxies=None)
    assert (settings.address, settings.base, settings.origins) == (("::", 80), URL, frozenset({URL}))
    assert settings.sign_in == "header"
    trusted = [settings.is_trusted_proxy(each) for each in ("10.255.0.1", "fd00::1", "11.0.0.1", "::1", "unix", "")]
    assert trusted == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("peer", "headers", "address"),
    [
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.2.3.4, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("198.51.100.1", ["1.2.3.4"], "198.51.100.1"),
    ],
)
def test_an_address_is_the_one_that_the_nearest_proxy_saw(peer: str, headers: list[str], address: str) -> None:
    behind = {"trusted_proxies": ["10.0.0.0/8"], "url": URL}
    settings = WebSettings.read(**OIDC, **behind, address_header="X-Forwarded-For")
    assert settings.address_of(peer, headers) == address
    assert WebSettings.read(**HEADER, url=URL).address_of(peer, headers) == peer


def test_the_demo_has_the_names_of_this_machine_as_origins() -> None:
    settings = WebSettings.read(demo_sign_in="bob", listen="127.0.0.1:9000")
    assert settings.origins == {"http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000"}
    assert not settings.secure


def test_an_address_that_is_taken_is_refused_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = WebSettings.read(demo_sign_in="bob", listen=address)
        with pytest.raises(
            ConfigurationError, match=f"cannot listen on {address}: Address already in use; see --listen$"
        ):
            listen(settings)
