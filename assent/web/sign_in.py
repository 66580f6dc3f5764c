"""Who is signed in: sessions in a signed cookie, a header that a proxy sets, OpenID Connect.

There is no store. A session is a signed cookie; those that were ended by signing out are remembered until they would
have expired anyway.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from authlib.integrations.starlette_client import OAuth
from cachetools import TTLCache
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from assent.core.approvals import fold_name
from assent.web.settings import SignInKind, WebSettings
from assent.wire.digest import json_size
from assent.wire.limits import NAME_LIMIT
from assent.wire.text import hidden

LONGEST_SESSION: Final = 8 * 60 * 60
"""Seconds from a sign-in after which a person signs in again, whatever they do meanwhile."""
_RENEW: Final = 60
"""Seconds after which a cookie is renewed."""
_ENDED: Final = 100_000
"""Ended sessions that are remembered."""
_FORM_AGE: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in. *name* is what decisions are sent with, *login* what they signed in by.

    *issuer* and *subject* are those of OpenID Connect; for a proxy its header and the name. *since* is the time of the
    sign-in in seconds, *session* is empty where the person has none, because a proxy signs them in. *listed*: the
    approvers file names them, or there is none.
    """

    name: str
    method: SignInKind
    issuer: str = ""
    subject: str = ""
    since: int = 0
    session: str = ""
    login: str = ""
    listed: bool = True


def is_usable(name: object) -> bool:
    """Return whether a name can be shown and be told from others: it is no text that hides something."""
    if not isinstance(name, str) or name != name.strip() or any(map(hidden, name)):
        return False
    return bool(fold_name(name)) and json_size(name) <= NAME_LIMIT


class SignIn:
    """Finds out who is signed in, and begins and ends sessions."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        secret = settings.secret.get_secret_value() or secrets.token_urlsafe(32)
        self._key = secret
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._forms = URLSafeTimedSerializer(secret, salt="form")
        self._notes = URLSafeTimedSerializer(secret, salt="note")
        self._ended = TTLCache[str, bool](_ENDED, LONGEST_SESSION, timer=time.monotonic)
        # A cookie with this prefix is taken by browsers over TLS alone, and from no other host.
        self.cookie = "__Host-assent" if settings.secure else "assent"

    @property
    def key(self) -> str:
        """The secret that signs cookies."""
        return self._key

    def person_of(self, request: HTTPConnection) -> Person | None:
        """Return who is signed in; None where no one is."""
        if self._settings.sign_in == "header":
            return self._by_header(request)
        cookie = request.cookies.get(self.cookie)
        person = self._read(cookie) if cookie is not None else None
        if person is None and self._settings.sign_in == "demo":
            return Person(self._settings.demo_sign_in, "demo")
        return person

    def _by_header(self, request: HTTPConnection) -> Person | None:
        # From another address, anyone could set the header.
        if request.client is None or not self._settings.is_trusted_proxy(request.client.host):
            return None
        # Two headers of the same name: the proxy has added its own to one of the sender's.
        names = request.headers.getlist(self._settings.trusted_header)
        if len(names) != 1:
            return None
        try:
            name = names[0].encode("latin-1").decode()  # Headers are read as Latin-1, and names are UTF-8.
        except UnicodeDecodeError:
            return None
        issuer = f"header:{self._settings.trusted_header}"
        return Person(name, "header", issuer, name) if is_usable(name) else None

    def _read(self, cookie: str) -> Person | None:
        try:
            person = Person(*self._sessions.loads(cookie, max_age=self._settings.session_minutes * 60))
        except (BadSignature, TypeError):
            return None
        is_over = person.session in self._ended or time.time() - person.since > LONGEST_SESSION
        return None if is_over or person.method != self._settings.sign_in else person

    # -- sessions -----------------------------------------------------------------------------------------------------

    def begin(self, response: Response, person: Person) -> None:
        """Begin a session."""
        self._set(response, replace(person, since=int(time.time()), session=secrets.token_urlsafe(16)))

    def renew(self, request: HTTPConnection, response: Response, person: Person) -> None:
        """Let a session live on, since the person uses it."""
        cookie = request.cookies.get(self.cookie)
        if not person.session or cookie is None:
            return
        _, at = self._sessions.loads(cookie, return_timestamp=True)
        if time.time() - at.timestamp() > _RENEW:
            self._set(response, person)

    def end(self, response: Response, person: Person) -> None:
        """End a session, and all cookies of it."""
        if person.session:
            self._ended[person.session] = True
        response.delete_cookie(self.cookie, secure=self._settings.secure, httponly=True, samesite="lax")

    def _set(self, response: Response, person: Person) -> None:
        fields = [
            person.login or person.name,
            person.method,
            person.issuer,
            person.subject,
            person.since,
            person.session,
        ]
        response.set_cookie(
            self.cookie,
            self._sessions.dumps(fields),
            max_age=self._settings.session_minutes * 60,
            secure=self._settings.secure,
            httponly=True,
            samesite="lax",
        )

    # -- forms --------------------------------------------------------------------------------------------------------

    def token(self, person: Person) -> str:
        """Return what a form of this person carries, so that no other site can make one."""
        return self._forms.dumps([person.name, person.session])

    def is_own(self, token: str, person: Person) -> bool:
        """Return whether a form was made for this person, in this session."""
        try:
            return bool(self._forms.loads(token, max_age=_FORM_AGE) == [person.name, person.session])
        except BadSignature:
            return False

    def note(self, person: Person, page: str, *words: str) -> str:
        """Return words that this next page shows to this person, signed: no link of others can put words there."""
        return self._notes.dumps([person.name, person.session, page, *words])

    def noted(self, person: Person, page: str, text: str) -> list[str]:
        """Return the words of a note; none if it is not one of ours, old, or for another person or page."""
        try:
            name, session, about, *words = cast("list[str]", self._notes.loads(text, max_age=60))
        except BadSignature:
            return []
        return words if (name, session, about) == (person.name, person.session, page) else []


# -- OpenID Connect ---------------------------------------------------------------------------------------------------


class OpenIdProvider(Protocol):
    """What is used of Authlib's client, which has no type annotations."""

    async def authorize_redirect(self, request: Request, redirect_uri: str) -> Response:
        """Send the browser to the provider."""
        ...

    async def authorize_access_token(self, request: Request) -> Mapping[str, object]:
        """Read the provider's answer: checks state, nonce, signature, issuer, audience and expiry."""
        ...


def openid_provider(settings: WebSettings) -> OpenIdProvider:
    """Return the client of the provider in the settings; it asks for the provider's metadata when it is first used."""
    register = cast("Callable[..., OpenIdProvider]", OAuth().register)
    return register(
        "provider",
        server_metadata_url=f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret.get_secret_value(),
        client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256", "timeout": 10},
    )


def person_from(answer: Mapping[str, object], settings: WebSettings) -> Person | str:
    """Return the person whom a provider has signed in, or in words why there is none."""
    claims = answer.get("userinfo")
    if not isinstance(claims, Mapping):
        return "the provider sent no identity token"
    userinfo = cast("Mapping[str, object]", claims)
    issuer, subject, name = userinfo.get("iss"), userinfo.get("sub"), userinfo.get(settings.oidc_claim)
    if issuer != settings.oidc_issuer and str(issuer).rstrip("/") != settings.oidc_issuer.rstrip("/"):
        return "the identity token is from another issuer"
    if not isinstance(subject, str) or not isinstance(name, str) or not is_usable(name):
        return f"the identity token has no usable claim {settings.oidc_claim!r}, which is to be the name"
    if settings.oidc_claim == "email" and userinfo.get("email_verified") is not True:
        return "the provider does not say that it has verified this e-mail address"
    return Person(name, "oidc", str(issuer), subject)
