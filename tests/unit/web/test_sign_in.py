"""Sessions, tokens of forms, and names: pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from starlette.requests import HTTPConnection
from starlette.responses import Response

from assent.web import sign_in
from assent.web.settings import WebSettings
from assent.web.sign_in import Person, SignIn, is_usable, person_from

URL = "https://approvals.example.com"
OIDC: dict[str, object] = {
    "oidc_issuer": "https://id.example.com",
    "oidc_client_id": "assent",
    "oidc_client_secret": "s",
    "url": URL,
}
BOB = Person("bob@example.com", "oidc", "https://id.example.com", "u-1")


def asked(
    cookie: str = "", *, headers: Sequence[tuple[bytes, bytes]] = (), address: str = "10.0.0.1"
) -> HTTPConnection:
    given = [(b"cookie", cookie.encode())] if cookie else []
    return HTTPConnection({"type": "http", "headers": [*given, *headers], "client": (address, 1), "path": "/"})


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def test_a_session_is_a_cookie_that_scripts_and_other_sites_do_not_get() -> None:
    signs = SignIn(WebSettings.read(**OIDC))
    response = Response()
    signs.begin(response, BOB)
    flags = response.headers["set-cookie"].lower()
    assert all(flag in flags for flag in ("__host-assent=", "httponly", "samesite=lax", "secure", "path=/"))
    person = signs.person_of(asked(cookie_of(response)))
    assert person is not None
    assert (person.name, person.issuer, person.subject) == (BOB.name, BOB.issuer, BOB.subject)
    forged = cookie_of(response)[:-2] + "xx"
    assert signs.person_of(asked(forged)) is None
    assert SignIn(WebSettings.read(**OIDC)).person_of(asked(cookie_of(response))) is None


def test_a_stolen_cookie_is_worth_nothing_after_its_owner_has_signed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = SignIn(WebSettings.read(**OIDC))
    first, renewed = Response(), Response()
    signs.begin(first, BOB)
    person = signs.person_of(asked(cookie_of(first)))
    assert person is not None
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    signs.renew(asked(cookie_of(first)), renewed, person)
    stolen = [cookie_of(first), cookie_of(renewed)]
    assert all(signs.person_of(asked(each)) is not None for each in stolen)
    signs.end(Response(), person)
    assert [signs.person_of(asked(each)) for each in stolen] == [None, None]


def test_a_process_that_did_not_sign_a_person_out_takes_a_stolen_cookie_until_its_eight_hours_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signs, other = (SignIn(WebSettings.read(**OIDC, secret="x" * 32)) for _ in range(2))
    stolen, now = Response(), time.time()
    signs.begin(stolen, BOB)
    person = signs.person_of(asked(cookie_of(stolen)))
    assert person is not None
    signs.end(Response(), person)
    for minutes in range(0, 8 * 60, 20):
        monkeypatch.setattr(time, "time", lambda at=minutes: now + at * 60)
        taken = asked(cookie_of(stolen))
        assert (signs.person_of(taken), other.person_of(taken)) == (None, person)
        renewed = Response()
        other.renew(taken, renewed, person)
        stolen = renewed if minutes else stolen
    monkeypatch.setattr(time, "time", lambda: now + 8 * 60 * 60 + 1)
    assert other.person_of(asked(cookie_of(stolen))) is None
    assert SignIn(WebSettings.read(**OIDC, secret="y" * 32)).person_of(asked(cookie_of(stolen))) is None


def test_a_session_ends_without_use_and_by_the_end_of_a_working_day(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = SignIn(WebSettings.read(**OIDC, session_minutes=30))
    response, now = Response(), time.time()
    signs.begin(response, BOB)
    monkeypatch.setattr(time, "time", lambda: now + 31 * 60)
    assert signs.person_of(asked(cookie_of(response))) is None
    for minutes in range(0, 9 * 60, 20):
        monkeypatch.setattr(time, "time", lambda at=minutes: now + at * 60)
        person = signs.person_of(asked(cookie_of(response)))
        assert (person is None) == (minutes * 60 >= sign_in.LONGEST_SESSION), minutes
        if person is None:
            return
        renewed = Response()
        signs.renew(asked(cookie_of(response)), renewed, person)
        response = renewed if "set-cookie" in renewed.headers else response
    pytest.fail("the session lived for ever")


def test_a_header_counts_from_the_proxy_alone_and_once() -> None:
    settings = WebSettings.read(trusted_header="X-User", trusted_proxies=["10.0.0.1"], url=URL)
    signs = SignIn(settings)
    name = (b"x-user", "Zoë".encode())
    person = signs.person_of(asked(headers=[name]))
    assert person is not None
    assert (person.name, person.session) == ("Zoë", "")
    for headers, address in (
        ([name], "10.0.0.2"),
        ([], "10.0.0.1"),
        ([(b"x-user", b"mallory"), name], "10.0.0.1"),
        ([(b"x-user", b"\xff")], "10.0.0.1"),
        ([(b"x-user", "bob\u202e".encode())], "10.0.0.1"),
    ):
        assert signs.person_of(asked(headers=headers, address=address)) is None, headers


@pytest.mark.parametrize("name", ["", " ", " bob", "bob\n", "b\u200bob", "\u202ebob", "x" * 300, None, 7, "\u2800"])
def test_a_name_that_hides_something_is_no_name(name: object) -> None:
    assert not is_usable(name)


def test_a_token_of_a_form_is_its_persons_and_its_sessions() -> None:
    signs = SignIn(WebSettings.read(**OIDC))
    mine = Person("bob", "oidc", session="s1")
    token = signs.token(mine)
    assert signs.is_own(token, mine)
    for other in (Person("bob", "oidc", session="s2"), Person("carol", "oidc", session="s1")):
        assert not signs.is_own(token, other)
    for forged in ("", "x", token + "x", signs.note(mine, "/", "bob", "s1")):
        assert not signs.is_own(forged, mine)
    note = signs.note(mine, "/request?run=a", "good", "Approved.", "")
    assert signs.noted(mine, "/request?run=a", note) == ["good", "Approved.", ""]
    others = [(Person("carol", "oidc"), "/request?run=a", note), (mine, "/request?run=b", note), (mine, "/", "x")]
    assert [signs.noted(*each) for each in [*others, (mine, "/request?run=a", token)]] == [[]] * 4


def test_a_provider_says_who_it_is_in_the_claim_that_is_the_name() -> None:
    settings = WebSettings.read(**OIDC)
    claims: dict[str, object] = {
        "iss": "https://id.example.com", "sub": "u-1", "email": "bob@example.com", "email_verified": True,
    }  # fmt: skip
    assert person_from({"userinfo": claims}, settings) == BOB
    wrong: list[tuple[dict[str, object], str]] = [
        ({"iss": "https://evil.example"}, "another issuer"),
        ({"email": None}, "no usable claim 'email'"),
        ({"email": "bob\u202e@example.com"}, "no usable claim 'email'"),
        ({"sub": None}, "no usable claim"),
        ({"email_verified": False}, "has verified"),
        ({"email_verified": None}, "has verified"),
    ]
    for changed, words in wrong:
        assert words in str(person_from({"userinfo": claims | changed}, settings))
    assert person_from({}, settings) == "the provider sent no identity token"
    named = WebSettings.read(**OIDC, oidc_claim="preferred_username")
    assert isinstance(person_from({"userinfo": claims | {"preferred_username": "bob"}}, named), Person)
