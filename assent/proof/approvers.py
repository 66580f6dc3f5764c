"""The approvers file: which people there are, which keys are theirs and when, and which services may vouch for them.

TOML, read by workers, by the approvals page and by an audit. Its SHA-256 is recorded with each proof that was checked.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from assent.core.approvals import fold_name, fold_names
from assent.proof.ssh import KINDS, string
from assent.wire.errors import ConfigurationError
from assent.wire.text import one_line


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _aware(value: object) -> object:
    # TOML has dates and times without a zone: they are in UTC.
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return value if isinstance(value, str) or not hasattr(value, "isoformat") else f"{value}T00:00:00Z"


Time = Annotated[AwareDatetime, BeforeValidator(_aware)]


class _Dated(_Entry):
    valid_from: Time | None = None
    valid_until: Time | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether it was in force then: from *valid_from* to before *valid_until*."""
        return (self.valid_from is None or at >= self.valid_from) and (
            self.valid_until is None or at < self.valid_until
        )


def _ssh_key(text: str) -> str:
    parts = text.split()
    if len(parts) < 2:
        raise ValueError("give a public key as in a .pub file: ssh-ed25519 AAAA…")
    if parts[0] not in KINDS:
        raise ValueError(
            f"keys of the type {parts[0]} cannot be checked here; use one of {', '.join(KINDS)}, or a passkey"
        )
    return " ".join(parts[:2])


def _ed25519(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]{43}", text) is None:
        raise ValueError("give an Ed25519 public key: 43 characters of base64url")
    return text


class SshKey(_Dated):
    """A person's SSH key: a line of a `.pub` file."""

    ssh: Annotated[str, AfterValidator(_ssh_key)]


class Passkey(_Dated):
    """A person's passkey: the id of the credential, and its public key (COSE), both in base64url."""

    passkey: str = Field(min_length=1, max_length=1_400)
    public_key: str = Field(min_length=1, max_length=2_000)


class Person(_Dated):
    """A person: the *name* that decisions carry, other names of theirs, their groups and keys.

    *logins* has, by issuer, the name under which it signs them in. It counts for that issuer alone.
    """

    name: str = Field(min_length=1, max_length=200)
    also_known_as: tuple[str, ...] = ()
    logins: dict[str, str] = {}
    groups: tuple[str, ...] = ()
    keys: tuple[SshKey | Passkey, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which the file knows the person."""
        return (self.name, *self.also_known_as)

    def is_named(self, name: str) -> bool:
        """Whether any name of the person, logins included, is this one."""
        return fold_name(name) in fold_names((*self.names, *self.logins.values()))


class Service(_Dated):
    """A service that may vouch for people: its Ed25519 public key, in base64url."""

    name: str = Field(min_length=1, max_length=200)
    public_key: Annotated[str, AfterValidator(_ed25519)]

    @property
    def as_ssh(self) -> str:
        """The same key as a person's entry would have it."""
        blob = string(b"ssh-ed25519") + string(base64.urlsafe_b64decode(self.public_key + "="))
        return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


class Issuer(_Entry):
    """Who signs people in for a service: *url* is the issuer, *claim* what names the person in its tokens.

    For a proxy that authenticates, *url* is `header:` and the name of its header.
    """

    url: str = Field(min_length=1, max_length=1_000)
    claim: str = Field(default="email", min_length=1, max_length=100)


class Site(_Entry):
    """The site that passkeys are made for: its relying party id, and the origins that may use them."""

    rp_id: str = Field(min_length=1, max_length=253)
    origins: tuple[str, ...] = Field(min_length=1)


class Approvers(_Entry):
    """The content of an approvers file. *digest* is the SHA-256 of what it was read from, in hex."""

    version: Literal[1] = 1
    site: Site | None = None
    people: tuple[Person, ...] = ()
    services: tuple[Service, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    allowed_signers: str | None = None
    digest: str = Field(default="", exclude=True)

    @classmethod
    def from_file(cls, path: str | Path) -> Approvers:
        """Read an approvers file, and the `allowed_signers` file that it names, relative to it. I/O.

        Raises:
            ConfigurationError: it cannot be read, is not TOML, or does not fit. One line: what, where, what to do.
        """
        try:
            data = Path(path).read_bytes()
            fields = tomllib.loads(data.decode())
            signers_path = fields.get("allowed_signers")
            signers = (Path(path).parent / signers_path).read_bytes() if isinstance(signers_path, str) else None
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path}: the approvers file cannot be read: {one_line(str(error))}") from None
        return cls.of(fields, where=str(path), data=data, signers=signers)

    @classmethod
    def from_toml(cls, text: str, *, where: str = "approvers") -> Approvers:
        """As `from_file`, of a text that names no other file."""
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{where}: not TOML: {one_line(str(error))}") from None
        return cls.of(fields, where=where, data=text.encode())

    @classmethod
    def of(cls, fields: Mapping[str, object], *, where: str, data: bytes, signers: bytes | None = None) -> Approvers:
        """The approvers file of these values. *data* are its bytes, *signers* those of an `allowed_signers` file.

        Raises:
            ConfigurationError: it does not fit: one line that starts with *where*.
        """
        if "digest" in fields:
            raise ConfigurationError(f"{where}: digest: Assent computes it; leave it out")
        digest = hashlib.sha256(data + (b"" if signers is None else b"\0" + signers)).hexdigest()
        try:
            approvers = cls.model_validate({**fields, "digest": digest})
            if signers is not None:
                approvers = approvers.model_copy(
                    update={"people": tuple(_with_signers(approvers.people, signers.decode()))}
                )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"] if part not in {"SshKey", "Passkey"}) or "file"
            message = f"{where}: {place}: {one_line(first['msg'].removeprefix('Value error, '))}"
            raise ConfigurationError(message) from None
        except ValueError as error:
            raise ConfigurationError(f"{where}: allowed_signers: {one_line(str(error))}") from None
        if (problem := approvers.problem) is not None:
            raise ConfigurationError(f"{where}: {problem}")
        return approvers

    @property
    def problem(self) -> str | None:
        """What in it contradicts itself; None if nothing does."""
        owners: dict[str, str] = {}
        # A service vouches for people: it must not sign as one of them.
        keys = {each.as_ssh: f"the service {each.name}" for each in self.services}
        for person in self.people:
            for name in person.names:
                if not fold_name(name):
                    return f"people: {name!r} is no name"
                if owners.setdefault(fold_name(name), person.name) != person.name:
                    return f"people: {name!r} names both {owners[fold_name(name)]!r} and {person.name!r}"
            for key in person.keys:
                if isinstance(key, Passkey) and self.site is None:
                    return f"people: {person.name!r} has a passkey; say which site it is for: [site] rp_id, origins"
                for text in [key.ssh] if isinstance(key, SshKey) else [key.passkey, key.public_key]:
                    if keys.setdefault(text, person.name) != person.name:
                        return f"people: {keys[text]!r} and {person.name!r} have the same key"
        names = [person.name for person in self.people]
        twice = next((name for name in names if names.count(name) > 1), None)
        return self._login_problem if twice is None else f"people: {twice!r} is there twice"

    @property
    def _login_problem(self) -> str | None:
        owners: dict[tuple[str, str], str] = {}
        issuers = {each.url for each in self.issuers}
        for person in self.people:
            for login in person.logins.items():
                if login[0] not in issuers:
                    return f"people: {person.name!r} has a login of {login[0]!r}, which is no [[issuers]] url"
                if owners.setdefault(login, person.name) != person.name:
                    return f"people: {owners[login]!r} and {person.name!r} have the same login {login[1]!r}"
        return None

    @cached_property
    def _by_name(self) -> dict[str, Person]:
        return {fold_name(name): person for person in self.people for name in person.names}

    def person(self, name: str) -> Person | None:
        """The person of any of their names; None if there is none."""
        return self._by_name.get(fold_name(name))

    def signed_in(self, issuer: str, login: str) -> Person | None:
        """The person whom an issuer signs in under this login, letter by letter; None if there is none."""
        return next((each for each in self.people if each.logins.get(issuer) == login), None)

    def ssh_key(self, key: str) -> Iterator[tuple[Person, SshKey]]:
        """Whose SSH key this is (`ssh-ed25519 AAAA…`); one may be listed with several times of validity."""
        yield from (
            (person, each)
            for person in self.people
            for each in person.keys
            if isinstance(each, SshKey) and each.ssh == key
        )

    def passkey(self, credential_id: str) -> Iterator[tuple[Person, Passkey]]:
        """Whose passkey this is, by the id of its credential."""
        yield from (
            (person, each)
            for person in self.people
            for each in person.keys
            if isinstance(each, Passkey) and each.passkey == credential_id
        )

    @property
    def groups(self) -> dict[str, list[str]]:
        """The names of the people in each group."""
        members: dict[str, list[str]] = {}
        for person in self.people:
            for group in person.groups:
                members.setdefault(group, []).append(person.name)
        return members


def _with_signers(people: tuple[Person, ...], text: str) -> Iterator[Person]:
    """Add the keys of an `allowed_signers` file (ssh-keygen(1)) to the people whom its principals name.

    Raises:
        ValueError: a line that cannot be read, has a pattern or an authority, or names no person of the file.
    """
    from io import StringIO  # noqa: PLC0415 - the extra `proof` may not be installed

    from sshsig.allowed_signers import load_allowed_signers_file  # noqa: PLC0415 - as above

    from assent.wire.proofs import NAMESPACE  # noqa: PLC0415 - as above

    more: dict[str, list[SshKey]] = {}
    owners = {fold_name(name): person.name for person in people for name in person.names}
    for line in load_allowed_signers_file(StringIO(text)):
        options = line.options or {}
        if "cert-authority" in options or any(mark in line.principals for mark in "*?!"):
            raise ValueError(f"{line.principals}: authorities and patterns are not supported; name each person's key")
        if "namespaces" in options and NAMESPACE not in options["namespaces"].split(","):
            continue
        for principal in line.principals.split(","):
            if fold_name(principal) not in owners:
                raise ValueError(f"{principal}: [[people]] has no person of this name")
            key = SshKey(
                ssh=f"{line.key_type} {line.base64_key}",
                valid_from=_ssh_time(options.get("valid-after")),
                valid_until=_ssh_time(options.get("valid-before")),
            )
            more.setdefault(owners[fold_name(principal)], []).append(key)
    for person in people:
        keys = (*person.keys, *more.get(person.name, ()))
        yield person.model_copy(update={"keys": keys})


def _ssh_time(text: str | None) -> datetime | None:
    """A time of ssh-keygen: `20261129`, `202611291200` or with seconds; in UTC with `Z` at the end, as here always."""
    if text is None:
        return None
    digits = text.removesuffix("Z")
    shape = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}.get(len(digits), "")
    return datetime.strptime(digits, shape).replace(tzinfo=UTC)


class ApproversFile:
    """An approvers file that is read again when it changes, so that revoking a key needs no restart. I/O.

    Raises:
        ConfigurationError: as `Approvers.from_file`.
    """

    def __init__(self, path: str | Path) -> None:
        """Read it for the first time."""
        self._path = Path(path)
        self._read: Approvers | ConfigurationError = Approvers.from_file(self._path)
        self._seen = self._stamp()

    def current(self) -> Approvers:
        """The content of the file by now.

        Raises:
            ConfigurationError: as `Approvers.from_file`; what the file said before does not hold any more.
        """
        if (stamp := self._stamp()) != self._seen:
            try:
                self._read = Approvers.from_file(self._path)
            except ConfigurationError as error:
                self._read = error
            self._seen = stamp
        if isinstance(self._read, ConfigurationError):
            raise self._read
        return self._read

    def _stamp(self) -> list[tuple[int, int, int]]:
        """What changes with the file, and with the `allowed_signers` file that it names."""
        signers = getattr(self._read, "allowed_signers", None)
        names = [self._path] if signers is None else [self._path, self._path.parent / signers]
        stamps: list[tuple[int, int, int]] = []
        for name in names:
            try:
                stat = name.stat()
            except OSError:
                continue
            stamps.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
        return stamps
