"""Buttons in Slack that decide, where the word of this service is enough; elsewhere they lead to the page.

Slack's own signature is checked on each request, and a request that comes twice is refused.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl

import httpx
from cachetools import TTLCache
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from assent.web.access import may_see
from assent.web.guard import read_body
from assent.web.pages import Site
from assent.web.rendering import link
from assent.web.requests import read_request
from assent.web.sign_in import Person
from assent.wire.errors import AssentError
from assent.wire.protocol import APPROVE, REJECT
from assent.wire.text import bounded, one_line

OLDEST: Final = 300
"""Seconds after which a request of Slack is too old, and for which it is remembered."""
ANSWERS: Final = "https://hooks.slack.com/"
"""Where Slack takes answers; nothing is sent anywhere else."""
_SIGNALS: Final = {"assent_approve": APPROVE, "assent_reject": REJECT}
_SHOWN: Final = 500
_log = logging.getLogger(__name__)

Post = Callable[[str, str], Awaitable[None]]


class _User(BaseModel):
    id: str = Field(min_length=1, max_length=64)


class _Team(BaseModel):
    id: str = Field(min_length=1, max_length=64)


class _Action(BaseModel):
    action_id: str
    value: str = ""


class _ButtonPress(BaseModel):
    """A button that was pressed: an interactive payload of the type `block_actions`."""

    user: _User
    team: _Team
    actions: list[_Action] = Field(min_length=1)
    response_url: str = ""


class _Named(BaseModel):
    run: str
    id: str


async def _post(url: str, text: str) -> None:
    """Answer the person who pressed a button."""
    async with httpx.AsyncClient(timeout=10) as http:
        await http.post(url, json={"response_type": "ephemeral", "replace_original": False, "text": text})


class Slack:
    """The handler of `/slack/actions`. The approvers file has people's Slack ids as logins of `slack:TEAM`."""

    def __init__(self, site: Site, *, post: Post = _post) -> None:
        """*post* sends an answer to Slack."""
        self._site = site
        self._post = post
        self._secret = site.settings.slack_signing_secret.get_secret_value().encode()
        self._seen = TTLCache[str, bool](100_000, 2 * OLDEST, timer=time.monotonic)

    async def act(self, request: Request) -> Response:
        """Take a button that was pressed; Slack waits three seconds for the receipt, so the rest follows it."""
        body = await read_body(request)
        self._check(request, body)
        try:
            fields = dict(parse_qsl(body.decode(), strict_parsing=True))
            press = TypeAdapter(_ButtonPress).validate_json(fields.get("payload", ""))
        except (ValueError, ValidationError):
            raise HTTPException(400, "This is not a button of Slack.") from None
        return Response(background=BackgroundTask(self._decide, press))

    def _check(self, request: Request, body: bytes) -> None:
        """Check Slack's signature (version 0: HMAC-SHA256 over time and body).

        Raises:
            HTTPException: it does not hold, is old, or has been here before.
        """
        at, signature = (request.headers.get(f"x-slack-{name}", "") for name in ("request-timestamp", "signature"))
        if not at.isascii() or not at.isdigit() or len(at) > 12 or abs(time.time() - int(at)) > OLDEST:
            raise HTTPException(403, "The request is too old.")
        expected = "v0=" + hmac.new(self._secret, b"v0:" + at.encode() + b":" + body, sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise HTTPException(403, "The signature is not Slack's.")
        if expected in self._seen:
            raise HTTPException(403, "This request was sent before.")
        self._seen[expected] = True

    async def _decide(self, press: _ButtonPress) -> None:
        try:
            text = await self._outcome(press)
        except AssentError as error:
            text = str(error)
        except Exception:
            _log.exception("a decision from Slack failed")
            text = "An error in Assent itself; nothing may have been done. Decide on the page."
        if press.response_url.startswith(ANSWERS):
            try:
                await self._post(press.response_url, _escaped(text))
            except httpx.HTTPError as error:
                _log.warning("Slack did not take an answer: %s", type(error).__name__)

    async def _outcome(self, press: _ButtonPress) -> str:
        action = press.actions[0]
        signal = _SIGNALS.get(action.action_id)
        try:
            request = TypeAdapter(_Named).validate_json(action.value)
        except ValidationError:
            request = None
        if signal is None or request is None:
            return "This button is none of Assent's."
        person = self._person(press)
        page = f"{self._site.settings.base}{link('/request', run=request.run, id=request.id)}"
        view = await read_request(self._site.client, request.run, request.id)
        if not may_see(person, view.state) or not self._site.prover.may_vouch(person):
            return f"The approvers file does not know {person.login}. Decide on the page: {page}"
        if view.requirement.proof == "person":
            return f"This takes your own signature. Decide on the page: {page}"
        if view.requirement.kind != "confirmation":  # "Approve" would run a lost call again, "Reject" end a run.
            return f"This is no request to approve or reject a call. Decide on the page: {page}"
        body = {"id": view.requirement.id, "by": person.name}
        if signal == REJECT:
            body["reason"] = "rejected in Slack"
        outcome = await self._site.send_decision(view, person, signal, body)
        what = f"{one_line(view.requirement.tool)}: {outcome.status}"
        return f"{what}: {bounded(one_line(outcome.detail), _SHOWN)} {page}"

    def _person(self, press: _ButtonPress) -> Person:
        issuer, login, approvers = f"slack:{press.team.id}", press.user.id, self._site.prover.approvers
        entry = approvers.signed_in(issuer, login) if approvers else None
        return Person(
            entry.name if entry else login, "oidc", issuer, login, int(time.time()),
            login=login, listed=entry is not None,
        )  # fmt: skip


def buttons(run_id: str, requirement_id: str, page: str) -> list[dict[str, object]]:
    """Return the blocks with the buttons for a message in Slack. *page* is the address of the approvals page."""
    value = json.dumps({"run": run_id, "id": requirement_id})
    kinds = (("assent_approve", "Approve", "primary"), ("assent_reject", "Reject", "danger"))
    elements: list[dict[str, object]] = [
        {
            "type": "button",
            "action_id": action,
            "style": style,
            "value": value,
            "text": {"type": "plain_text", "text": text},
        }
        for action, text, style in kinds
    ]
    url = f"{page.rstrip('/')}{link('/request', run=run_id, id=requirement_id)}"
    elements.append({"type": "button", "url": url, "text": {"type": "plain_text", "text": "Look"}})
    return [{"type": "actions", "elements": elements}]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
