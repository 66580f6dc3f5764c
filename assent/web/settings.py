"""Settings of the approvals page, from the environment (`ASSENT_WEB_…`) and the options of `assent web`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from assent.runtime.settings import warn_of_unknown_variables
from assent.wire.errors import ConfigurationError

SHORTEST_SECRET: Final = 32
"""Characters of the secret that signs session cookies."""
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_NO_SIGN_IN: Final = (
    "no one could sign in: give --passkeys, or --trusted-header with --trusted-proxy, or set ASSENT_WEB_OIDC_ISSUER, "
    "ASSENT_WEB_OIDC_CLIENT_ID and ASSENT_WEB_OIDC_CLIENT_SECRET; to try the page on this machine: --demo-sign-in NAME"
)

SignInKind = Literal["passkey", "header", "oidc", "demo"]


class WebSettings(BaseSettings):
    """*listen* is HOST:PORT, *url* the address that browsers use, without a path.

    People sign in in exactly one way. *passkeys*: with those that the approvers file has of them. *trusted_header*
    names the header in which a proxy at one of the *trusted_proxies* (addresses or networks) says who asks.
    *oidc_issuer*, *oidc_client_id* and *oidc_client_secret* are those of an OpenID Connect provider; *oidc_claim* is
    the claim that is a person's name. *demo_sign_in* is the name of everyone who opens the page; only on a loopback
    address. For all ways, *address_header* names the header in which the proxies say from which address.

    *secret* signs sessions; without one they end when the process does. *session_minutes* is how long a session lives
    without a request.

    *codec_origins* are the origins of Temporal Web UIs, which may ask this page to decode payloads.

    *slack_signing_secret* is that of the Slack app whose buttons decide.

    *approvers* is the approvers file (`ASSENT_APPROVERS`, as workers have it). *signing_key* is the file of the Ed25519
    key with which this service, *service* by its name in that file, vouches for people.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSENT_WEB_",
        extra="ignore",
        hide_input_in_errors=True,
        validate_assignment=True,
        populate_by_name=True,
    )

    listen: str = "127.0.0.1:8234"
    url: str = ""
    passkeys: bool = False
    trusted_header: str = ""
    trusted_proxies: Annotated[list[str], NoDecode] = []
    address_header: str = ""
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_claim: str = "email"
    demo_sign_in: str = ""
    secret: SecretStr = SecretStr("")
    session_minutes: int = 30
    codec_origins: Annotated[list[str], NoDecode] = []
    slack_signing_secret: SecretStr = SecretStr("")
    signing_key: str = ""
    service: str = ""
    approvers: str = Field(default="", validation_alias="ASSENT_APPROVERS")

    @classmethod
    def read(cls, **options: object) -> WebSettings:
        """The settings of the environment, but for *options* that are not empty, checked. I/O.

        Raises:
            ConfigurationError: a variable cannot be read, or no one could sign in. One line.
        """
        warn_of_unknown_variables()
        try:
            settings = cls()
            for name, value in options.items():
                if value:
                    setattr(settings, name, value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            name = str(first["loc"][0]).upper()
            raise ConfigurationError(f"ASSENT_WEB_{name}: {first['msg'].removeprefix('Value error, ')}") from None
        settings.check()
        return settings

    @field_validator("trusted_proxies", "codec_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: list[str]) -> list[str]:
        for each in value:
            ipaddress.ip_network(each, strict=False)
        return value

    # -- what follows from them ---------------------------------------------------------------------------------------

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port to listen on.

        Raises:
            ConfigurationError: it is not HOST:PORT.
        """
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
            raise ConfigurationError(f"--listen is {self.listen!r}; it is HOST:PORT, as 127.0.0.1:8234")
        return host.strip("[]"), int(port)

    @property
    def sign_in(self) -> SignInKind:
        """How people sign in."""
        if self.passkeys:
            return "passkey"
        return "header" if self.trusted_header else "oidc" if self.oidc_issuer else "demo"

    @property
    def origins(self) -> frozenset[str]:
        """The origins of the page: where posts may come from."""
        if self.url:
            return frozenset({self.url.rstrip("/").lower()})
        return frozenset(f"http://{name}:{self.address[1]}" for name in _LOOPBACK_NAMES)

    @property
    def base(self) -> str:
        """The address of the page, without a slash at its end."""
        return self.url.rstrip("/") or f"http://localhost:{self.address[1]}"

    @property
    def secure(self) -> bool:
        """Whether browsers reach the page over TLS."""
        return self.base.startswith("https://")

    def is_trusted_proxy(self, address: str) -> bool:
        """Return whether a connection from *address* may say who asks."""
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return False
        networks = (ipaddress.ip_network(each, strict=False) for each in self.trusted_proxies)
        return any(peer.version == each.version and peer in each for each in networks)

    def address_of(self, peer: str, forwarded: Sequence[str]) -> str:
        """Return from where a request comes: the last address in *forwarded* headers that is not a proxy's own."""
        addresses = [part.strip() for part in ",".join(forwarded).split(",")] if self.address_header else []
        while addresses and self.is_trusted_proxy(peer) and _is_address(addresses[-1]):
            peer = addresses.pop()
        return peer

    # -- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check that the settings fit together.

        Raises:
            ConfigurationError: they do not. One line: what to change.
        """
        for problem in self._problems():
            raise ConfigurationError(problem)

    def _problems(self) -> Iterable[str]:
        host, _ = self.address
        oidc = (self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret.get_secret_value())
        ways = [self.passkeys, bool(self.trusted_header), any(oidc), bool(self.demo_sign_in)]
        if sum(ways) > 1:
            yield "choose one way to sign in: --passkeys, --trusted-header, ASSENT_WEB_OIDC_… or --demo-sign-in"
        if self.passkeys and not self.approvers:
            yield "--passkeys needs ASSENT_APPROVERS: the approvers file has people's passkeys"
        if bool(self.trusted_header or self.address_header) != bool(self.trusted_proxies):
            yield "--trusted-header and --trusted-proxy go together: a header is believed from these addresses alone"
        if any(oidc) and not all(oidc):
            yield "set all of ASSENT_WEB_OIDC_ISSUER, ASSENT_WEB_OIDC_CLIENT_ID and ASSENT_WEB_OIDC_CLIENT_SECRET"
        if not any(ways):
            yield _NO_SIGN_IN
        if self.demo_sign_in and not _is_loopback(host):
            yield f"--demo-sign-in lets everyone in, and {host} is not a loopback address; listen on 127.0.0.1"
        if not self.demo_sign_in and not self.url:
            yield "--url is missing: the address that browsers use, as https://approvals.example.com"
        yield from self._wrong_url()
        secret = self.secret.get_secret_value()
        if secret and len(secret) < SHORTEST_SECRET:
            yield f"ASSENT_WEB_SECRET is too short; give at least {SHORTEST_SECRET} random characters"
        yield from self._wrong_service()
        if self.session_minutes < 1:
            yield "ASSENT_WEB_SESSION_MINUTES is less than 1"

    def _wrong_service(self) -> Iterable[str]:
        if bool(self.signing_key) != bool(self.service) or (self.signing_key and not self.approvers):
            yield "to vouch for people, set ASSENT_WEB_SIGNING_KEY, ASSENT_WEB_SERVICE and ASSENT_APPROVERS"
        if self.slack_signing_secret.get_secret_value() and not self.signing_key:
            yield "ASSENT_WEB_SLACK_SIGNING_SECRET needs ASSENT_WEB_SIGNING_KEY: the page vouches for people in Slack"

    def _wrong_url(self) -> Iterable[str]:
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/")):
            yield f"--url is {self.url!r}; it is an address without a path, as https://approvals.example.com"
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            yield "--url begins with http://, so anyone on the way could read a session: use https://"
        if (
            self.oidc_issuer
            and urlsplit(self.oidc_issuer).scheme == "http"
            and not _is_loopback(urlsplit(self.oidc_issuer).hostname or "")
        ):
            yield "ASSENT_WEB_OIDC_ISSUER begins with http://: use https://"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
