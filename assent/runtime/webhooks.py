"""A webhook: where notices go, and how one is worded, identified and signed.

The convention is Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): three headers, an HMAC-SHA256 over
`id.timestamp.body`, and a body of type, timestamp and data. Secrets are named here, never held.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from assent.core.approvals import EFFECTS
from assent.core.notices import Notice, NoticesInput, NoticeType
from assent.wire.declarations import declared
from assent.wire.digest import canonical, sha256_hex
from assent.wire.errors import ConfigurationError
from assent.wire.text import one_line, visible

PREFIX: Final = "whsec_"
SHORTEST_SECRET: Final = 24
"""Bytes of a secret, at the least; the convention's own figure."""
_PLACEHOLDER: Final = re.compile(r"\{(run_id|requirement_id)\}")
_REPEATED: Final = frozenset({"requirement.reminder", "requirement.escalated"})
"""The notices of which one requirement may have several: only their time distinguishes them."""


class Arguments(NamedTuple):
    """The arguments of a call as a notice shows them, or why it does not."""

    text: str | None = None
    left_out: str | None = None
    in_effect: str | None = None


_NONE: Final = Arguments()


@declared
class Webhook(BaseModel):
    """An address that gets notices: one signed POST for each.

    *url* is `http` or `https`; it may hold a user name and password or a token. It is never logged or stored whole.
    *secret_env* names the environment variable of the worker that holds the secret: `whsec_` and base64. It may hold
    several, separated by spaces: each notice is signed with all of them, so that you can replace a secret. *arguments*
    adds the arguments of a call that waits, *context* the context of the run. *link* is an address for people, in which
    `{run_id}` and `{requirement_id}` are replaced. *events* are the types of notices that are sent; None: all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(repr=False)
    secret_env: str = Field(min_length=1)
    arguments: bool = False
    context: bool = False
    link: str | None = None
    events: tuple[NoticeType, ...] | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        _check_address(url)
        return url

    @field_validator("link")
    @classmethod
    def _check_link(cls, link: str | None) -> str | None:
        if link is not None:
            _check_address(link)
            if "@" in urlsplit(link).netloc:
                # It goes out in every notice.
                raise ValueError("must not hold a user name or password")
            if re.search(r"[{}]", _PLACEHOLDER.sub("", link)):
                raise ValueError("may have {run_id} and {requirement_id} in braces, and nothing else")
        return link

    @field_validator("events")
    @classmethod
    def _check_events(cls, events: tuple[NoticeType, ...] | None) -> tuple[NoticeType, ...] | None:
        if events is not None and not events:
            raise ValueError("is empty: leave it out for all, or the webhook")
        return events

    @property
    def origin(self) -> str:
        """The scheme, host and port of the url: what of it may be logged and stored."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def is_subscribed(self, notice: Notice) -> bool:
        """Whether notices of this type are sent here."""
        return self.events is None or notice.type in self.events


def _check_address(text: str) -> None:
    # No message repeats the address, which may hold a token.
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must begin with http:// or https:// and a host")
    if not text.isprintable() or " " in text:
        raise ValueError("must not hold spaces or control characters")


def signing_keys(text: str) -> tuple[bytes, ...]:
    """The keys in the value of a secret's environment variable.

    Raises:
        ConfigurationError: there is none, or one is not `whsec_` and the base64 of at least 24 bytes. The message does
            not repeat it.
    """
    keys = tuple(_key(each) for each in text.split())
    if not keys:
        raise ConfigurationError("is not set")
    return keys


def _key(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise ConfigurationError(f"does not begin with {PREFIX}")
    encoded = text.removeprefix(PREFIX).rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"is not base64 after {PREFIX}") from None
    if len(key) < SHORTEST_SECRET:
        raise ConfigurationError(f"holds {len(key)} bytes; at least {SHORTEST_SECRET} are needed")
    return key


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each key, separated by spaces."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def message_id(notice: Notice) -> str:
    """The header `webhook-id`: the same for every attempt, and after a reset that leaves the same thing to be told."""
    identity: list[JsonValue] = [notice.requirement_id, notice.type, notice.status, notice.execution, notice.by]
    if notice.type in _REPEATED:
        identity.append(_time(notice.at))
    return f"msg_{sha256_hex(canonical(identity))[:32]}"


def body(webhook: Webhook, run_id: str, batch: NoticesInput, notice: Notice, arguments: Arguments = _NONE) -> bytes:
    """The body of one notice, in ASCII. *arguments* are added where the *webhook* asks for them.

    Names are rendered as `assent.wire.text` does; *run_id* and the requirement's id are exact, to be sent back.
    """
    data: dict[str, JsonValue] = {
        "run_id": run_id,
        "agent": one_line(batch.agent),
        "requested_by": _name(batch.requested_by),
        "parents": [{"run_id": each.run_id, "agent": one_line(each.agent)} for each in batch.parents],
        "caller": batch.caller,
        "requirement_id": notice.requirement_id,
        "short_id": notice.requirement_id[:8],
        "kind": notice.kind,
        "effects": {**EFFECTS.get(notice.kind, {})} or None,
        "tool": one_line(notice.tool),
        "status": notice.status,
        "execution": notice.execution,
        "approvers": None if notice.approvers is None else [one_line(each) for each in notice.approvers],
        "expires_at": None if notice.expires_at is None else _time(notice.expires_at),
        "by": _name(notice.by),
        "link": _link(webhook.link, run_id, notice.requirement_id),
    }
    if webhook.arguments:
        data |= {"arguments": arguments.text, "arguments_left_out": arguments.left_out}
        data |= {"in_effect": arguments.in_effect}
    if webhook.context:
        data["context"] = _escape_hidden(batch.context)
    whole: dict[str, JsonValue] = {"type": notice.type, "timestamp": _time(notice.at), "data": data}
    return json.dumps(whole, separators=(",", ":")).encode()


def _escape_hidden(value: JsonValue) -> JsonValue:
    """A JSON value whose texts hide nothing."""
    if isinstance(value, dict):
        return {one_line(name): _escape_hidden(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escape_hidden(each) for each in value]
    return visible(value) if isinstance(value, str) else value


def _name(name: str | None) -> str | None:
    return None if name is None else one_line(name)


def _link(template: str | None, run_id: str, requirement_id: str) -> str | None:
    if template is None:
        return None
    values = {"run_id": run_id, "requirement_id": requirement_id}
    return _PLACEHOLDER.sub(lambda found: quote(values[found[1]], safe=""), template)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
