"""The pages: what waits, and one request with its decision."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, cast, get_args

from cachetools import TTLCache
from markupsafe import Markup
from pydantic import JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from temporalio.service import RPCError

from assent.client.client import AgentClient
from assent.client.filters import Sort
from assent.core.approvals import edited_text
from assent.web.access import may_see
from assent.web.enrolment import entry_of, read_invitation, registration_options
from assent.web.forms import Decision, arguments_of, decision_of
from assent.web.guard import RateLimit, check_origin, read_form
from assent.web.inbox import InboxReader, Query, Show, inbox_of
from assent.web.proofs import Prover, base64url, passkey_proof
from assent.web.rendering import Renderer, link
from assent.web.requests import RequestView, read_request
from assent.web.settings import WebSettings
from assent.web.sign_in import Person, SignIn, openid_provider, person_from
from assent.web.values import brief, differences, editable, rows_of, title_of
from assent.wire.errors import AssentError, MessageError, RequirementNotFoundError, RunNotFoundError
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import DecisionOutcome
from assent.wire.text import bounded, hidden, one_line

Page = Callable[[Request, Person], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]

SIGN_IN_MINUTES: Final = 10
"""How long a sign-in may take."""
_CHALLENGES: Final = 100_000
_SIGN_IN_RATE: Final = (20, 60.0)
_POST_RATE: Final = (60, 60.0)
_LONGEST: Final = 2_000
_log = logging.getLogger(__name__)

_COUNTED: Final = {
    "approved": "Approved.", "rejected": "Rejected.", "executed": "The result is handed in.",
    "failed": "The failure is recorded.", "recorded": "Your approval is recorded.", "sent": "Your decision is sent.",
}  # fmt: skip
_NOT_COUNTED: Final = {
    "late": "Too late: your decision changed nothing.", "duplicate": "You have decided this before.",
    "refused": "Your decision did not count.", "unknown": "There is no such request.",
    "superseded": "The request was replaced, so your decision changed nothing.",
}  # fmt: skip


class Site:
    """The handlers of the pages, over one client."""

    def __init__(self, client: AgentClient, settings: WebSettings) -> None:
        self.client = client
        self.settings = settings
        self.sign_ins = SignIn(settings)
        self.renderer = Renderer()
        self.inbox = InboxReader(client)
        self.prover = Prover(settings)
        self._provider = openid_provider(settings) if settings.sign_in == "oidc" else None
        self._sign_in_rate = RateLimit(*_SIGN_IN_RATE)
        self._enrol_rate = RateLimit(*_SIGN_IN_RATE)  # Anybody may try: no one else's sign-in waits for that.
        self._post_rate = RateLimit(*_POST_RATE)
        self._answered = TTLCache[str, bool](_CHALLENGES, SIGN_IN_MINUTES * 60, timer=time.monotonic)

    # -- who ----------------------------------------------------------------------------------------------------------

    def person_of(self, request: Request) -> Person | None:
        """Return who is signed in, by their name in the approvers file; None where no one is."""
        person, approvers = self.sign_ins.person_of(request), self.prover.approvers
        if person is None or approvers is None:
            return person and replace(person, login=person.name)
        if person.method == "passkey" and person.subject not in self.prover.passkeys(person.name):
            return None  # It was revoked, and with it what it began.
        named = person.method in {"demo", "passkey"}
        entry = approvers.person(person.name) if named else approvers.signed_in(person.issuer, person.name)
        listed = entry is not None and entry.is_valid(datetime.now(UTC))
        return replace(person, login=person.name, name=person.name if entry is None else entry.name, listed=listed)

    def signed_in(self, page: Page) -> Endpoint:
        """Let only those who are signed in see a page, and only pages of this site post to it."""

        async def endpoint(request: Request) -> Response:
            person = self.person_of(request)
            if person is None:
                return self._to_sign_in(request)
            if not person.listed and request.url.path != "/sign-out":
                raise HTTPException(403, "The approvers file does not name you, so you cannot see requests.")
            if request.method == "POST":
                # Programs that use the API send no origin; browsers do, also for JSON.
                check_origin(request, self.settings.origins, required=not _is_api(request))
                self._post_rate.check(person.name)
            response = await page(request, person)
            if request.url.path != "/sign-out":
                self.sign_ins.renew(request, response, person)
            return response

        return endpoint

    async def form_of(self, request: Request, person: Person) -> dict[str, str]:
        """Return the fields of a form that was made for this person.

        Raises:
            HTTPException: it was not, or cannot be read.
        """
        form = await read_form(request)
        if not self.sign_ins.is_own(form.get("token", ""), person):
            raise HTTPException(403, "This form is too old, or was made for another session. Nothing was done.")
        return form

    def _to_sign_in(self, request: Request) -> Response:
        if self.settings.sign_in == "header":
            raise HTTPException(401, "You are not signed in. The proxy in front of this page signs people in.")
        if request.method != "GET" or _is_api(request):
            raise HTTPException(401, "Your session has ended, so nothing was done. Sign in again.")
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(link("/sign-in", next=f"{request.url.path}{query}"), 303)

    async def sign_in(self, request: Request) -> Response:
        """Show the button that leads to the provider, or lead there; or the one that asks for a passkey."""
        target = _own_path(request.query_params.get("next"))
        if self.settings.passkeys and self.person_of(request) is None:
            request.session["challenge"] = challenge = base64url(secrets.token_bytes(32))
            options = json.dumps(self.prover.sign_in_options(challenge))
            return self.renderer.page("sign_in.html", self.base(request, None) | {"next": target, "options": options})
        if self.person_of(request) is not None or self._provider is None:
            return RedirectResponse(target, 303)
        if "go" not in request.query_params:
            return self.renderer.page("sign_in.html", self.base(request, None) | {"next": target, "options": ""})
        self._sign_in_rate.check(self._address(request))
        request.session["next"] = target
        return await self._provider.authorize_redirect(request, f"{self.settings.base}/signed-in")

    async def sign_in_by_passkey(self, request: Request) -> Response:
        """Begin the session of the person whose passkey has answered the challenge of this browser."""
        check_origin(request, self.settings.origins)
        self._sign_in_rate.check(self._address(request))
        form, challenge = await read_form(request), cast("str | None", request.session.pop("challenge", None))
        if not self.settings.passkeys or challenge is None or challenge in self._answered:
            raise HTTPException(403, "The sign-in took too long. Try again.")
        self._answered[challenge] = True
        person = self.prover.signed_in(form.get("credential", ""), challenge)
        response = RedirectResponse(_own_path(form.get("next")), 303)
        self.sign_ins.begin(response, person)
        return response

    async def signed_in_by_provider(self, request: Request) -> Response:
        """Begin the session of the person whom the provider sends back."""
        if self._provider is None:
            raise HTTPException(404)
        self._sign_in_rate.check(self._address(request))
        try:
            answer = await self._provider.authorize_access_token(request)
        except Exception as error:  # Authlib, its JOSE library and httpx raise their own; each means: not signed in
            _log.warning("a sign-in failed: %s", bounded(one_line(f"{type(error).__name__}: {error}"), _LONGEST))
            raise HTTPException(403, "The sign-in did not succeed. Try again.") from None
        person = person_from(answer, self.settings)
        if isinstance(person, str):
            raise HTTPException(403, f"You cannot be signed in: {person}.")
        response = RedirectResponse(_own_path(cast("str | None", request.session.pop("next", None))), 303)
        self.sign_ins.begin(response, person)
        return response

    async def sign_out(self, request: Request, person: Person) -> Response:
        """End the session."""
        await self.form_of(request, person)
        response = RedirectResponse("/sign-in", 303)
        self.sign_ins.end(response, person)
        return response

    def _address(self, request: Request) -> str:
        peer, name = request.client.host if request.client else "", self.settings.address_header
        return self.settings.address_of(peer, request.headers.getlist(name) if name else [])

    # -- pages --------------------------------------------------------------------------------------------------------

    async def show_inbox(self, request: Request, person: Person) -> Response:
        """Show what waits."""
        query = query_of(request)
        # The script on the page waits for news; a person who opens the page does not.
        read = await self.inbox.read(query, fresh="if-none-match" in request.headers)
        inbox = inbox_of(person, read, query)
        values = self.base(request, person) | {"inbox": inbox, "query": query, "brief": brief, "title_of": title_of}
        return self.live(request, "inbox.html", "_inbox.html", values)

    async def show_request(self, request: Request, person: Person) -> Response:
        """Show one request."""
        view = await self.view_of(request, person)
        if request.headers.get("if-none-match") == view.etag:
            return Response(status_code=304, headers={"etag": view.etag})
        response = self.renderer.page("request.html", self._of(request, person, view))
        response.headers["etag"] = view.etag
        return response

    async def show_arguments(self, request: Request, person: Person) -> Response:
        """Show the exact arguments, all of them, as text."""
        view = await self.view_of(request, person)
        return PlainTextResponse(view.requirement.arguments.encode("utf-8", "surrogatepass"))

    async def decide(self, request: Request, person: Person) -> Response:
        """Send the decision of a form."""
        form = await self.form_of(request, person)
        view = await self.view_of(request, person)
        try:
            if form.get("action") == "edit":
                return self._preview(request, person, view, form)
            signal, body = _decision(form, view, person)
            outcome = await self.send_decision(view, person, signal, self.with_passkey(form, body))
        except MessageError as error:
            values = self._of(request, person, view) | {"given": defaultdict(str, form), "problem": str(error)}
            return self.renderer.page("request.html", values, 400)
        return self._after(outcome, view, person)

    async def challenge(self, request: Request, person: Person) -> Response:
        """Return what a passkey signs for the decision of a form."""
        form = await self.form_of(request, person)
        view = await self.view_of(request, person)
        try:
            signal, body = _decision(form, view, person)
            statement = await self.client.get_run(view.state.id).statement(signal, body)
            return JSONResponse(self.prover.request(statement, person.name))
        except MessageError as error:
            return JSONResponse({"problem": str(error)}, 400)

    def with_passkey(self, form: Mapping[str, str], body: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Return a message with what the script of the page made of a passkey's answer. Raises as `passkey_proof`."""
        signed = form.get("proof")
        return {**body, "proof": passkey_proof(signed).model_dump(mode="json")} if signed else body

    def must_sign(self, person: Person, level: ProofLevel = "service") -> bool:
        """Return whether a person's passkey signs where a decision takes a proof of this level, and there is one."""
        vouched = level == "service" and self.prover.may_vouch(person)
        return bool(self.prover.passkeys(person.name)) and not vouched

    async def send(
        self, run_id: str, level: ProofLevel | None, person: Person, signal: str, body: Mapping[str, JsonValue]
    ) -> DecisionOutcome:
        """Send a message that takes a proof of this *level*; without the person's own, this service vouches if it can.

        Raises:
            MessageError: it does not fit, or takes the person's own key; nothing was sent.
        """
        run, sent = self.client.get_run(run_id), dict(body)
        if "proof" not in sent:
            if level == "person" or (level is not None and not self.prover.may_vouch(person)):
                raise MessageError("This request needs a decision that your passkey signs. Nothing was sent.")
            if self.prover.may_vouch(person):
                proof = self.prover.vouch(await run.statement(signal, sent), person)
                sent["proof"] = proof.model_dump(mode="json")
        return await run.decide(signal, sent, check=False)

    async def send_decision(
        self, view: RequestView, person: Person, signal: str, body: Mapping[str, JsonValue]
    ) -> DecisionOutcome:
        """Send a decision. Raises as `send`."""
        outcome = await self.send(view.state.id, view.requirement.proof, person, signal, body)
        if outcome.status in {"approved", "rejected", "executed", "failed"}:
            self.inbox.forget(view.requirement.id)
        return outcome

    def _preview(self, request: Request, person: Person, view: RequestView, form: Mapping[str, str]) -> Response:
        arguments = arguments_of(form)
        now, changed = edited_text(arguments), differences(view.arguments, arguments)
        values = self._of(request, person, view) | {"changed": changed, "now": now, "text": editable(arguments)}
        return self.renderer.page("edit.html", values | {"rows": rows_of(arguments)})

    def _after(self, outcome: DecisionOutcome, view: RequestView, person: Person) -> Response:
        leads = _COUNTED if outcome.counted else _NOT_COUNTED
        lead = leads.get(outcome.status, outcome.status)
        detail = "" if outcome.status in {"approved", "rejected", "executed"} else bounded(outcome.detail, _LONGEST)
        target = {"run": view.state.id, "id": outcome.requirement_id or view.requirement.id}
        about = link("/request", **target)
        note = self.sign_ins.note(person, about, "good" if outcome.counted else "bad", lead, detail)
        return RedirectResponse(link("/request", **target, note=note), 303)

    # -- passkeys -----------------------------------------------------------------------------------------------------

    async def show_enrolment(self, request: Request) -> Response:
        """Let an invited person make a passkey, who need not be signed in."""
        token = request.query_params.get("invitation", "")
        invitation = read_invitation(token, self.prover.approvers)
        values = {"invitation": invitation, "token": token, "options": registration_options(invitation), "entry": ""}
        return self.renderer.page("enrol.html", self.base(request, None) | values)

    async def enrol(self, request: Request) -> Response:
        """Show the text for the approvers file of a passkey that was made."""
        check_origin(request, self.settings.origins)
        self._enrol_rate.check(self._address(request))
        form, approvers = await read_form(request), self.prover.approvers
        invitation = read_invitation(form.get("invitation", ""), approvers)
        assert approvers is not None  # noqa: S101 - `read_invitation` refuses all invitations without one
        values = {"invitation": invitation, "entry": entry_of(invitation, form.get("credential", ""), approvers)}
        return self.renderer.page("enrol.html", self.base(request, None) | values)

    # -- parts --------------------------------------------------------------------------------------------------------

    async def view_of(self, request: Request, person: Person) -> RequestView:
        """Return the request that a link names, if the person may see it.

        Raises:
            HTTPException: the link is not whole, or the person may not see it.
        """
        run_id, requirement_id = (request.query_params.get(name, "") for name in ("run", "id"))
        if not run_id or not requirement_id:
            raise HTTPException(404, "This link is not whole.")
        view = await read_request(self.client, run_id, requirement_id)
        if not may_see(person, view.state):
            raise HTTPException(404, "There is no such request.")
        return view

    def _of(self, request: Request, person: Person, view: RequestView) -> dict[str, object]:
        proof = view.requirement.proof
        return self.base(request, person) | {
            "view": view,
            "one": view.requirement,
            "state": view.state,
            "objection": view.objection(person.name),
            "may_reject": view.may_reject(person.name),
            "signs": proof is not None and self.must_sign(person, proof),
            "needs_passkey": proof == "person" and not self.must_sign(person, proof),
            "given": defaultdict[str, str](str),
            "problem": "",
            "here": link("/request", run=view.state.id, id=view.requirement.id),
        }

    def base(self, request: Request, person: Person | None) -> dict[str, object]:
        """Return what every template needs."""
        query = dict(request.query_params)
        note = query.pop("note", "")
        return {
            "person": person,
            "token": self.sign_ins.token(person) if person else "",
            "note": self.sign_ins.noted(person, link(request.url.path, **query), note) if person else [],
            "path": request.url.path,
            "settings": self.settings,
        }

    def live(self, request: Request, page: str, part: str, values: Mapping[str, object]) -> Response:
        """Answer with a page, or that nothing in its live part has changed."""
        live = self.renderer.text(part, values)
        etag = f'"{hashlib.sha256(live.encode()).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        response = self.renderer.page(page, {**values, "live": Markup(live)})  # noqa: S704 - a template made it
        response.headers["etag"] = etag
        return response

    # -- errors -------------------------------------------------------------------------------------------------------

    async def show_error(self, request: Request, error: Exception) -> Response:
        """Say in words what went wrong."""
        headers: Mapping[str, str] | None = None
        match error:
            case HTTPException(status_code=404, detail="Not Found"):  # Starlette's own
                status, words = 404, "There is nothing at this address."
            case HTTPException():
                status, words, headers = error.status_code, error.detail, error.headers
            case RunNotFoundError() | RequirementNotFoundError():
                status, words = 404, str(error)
            case MessageError():
                status, words = 400, str(error)
            case AssentError() | RPCError():
                status, words = 503, str(error)
            case _:
                status, words = 500, "An error in Assent itself. The log of the service has the rest."
        if _is_api(request):
            return JSONResponse({"problem": bounded(words, _LONGEST)}, status, headers)
        try:
            person = self.person_of(request)
        except Exception:  # The page of an error must not fail
            person = None
        if status == 404 and not isinstance(error, HTTPException):  # In words for people who know no runs.
            problem = words.partition("; see: ")[0]  # What follows is for the command line.
            words = f"This link leads to no request: it is not whole, or was deleted with its history. ({problem})"
        values = self.base(request, person) | {"status": status, "words": bounded(words, _LONGEST)}
        response = self.renderer.page("message.html", values, status)
        response.headers.update(headers or {})
        return response


def _decision(form: Mapping[str, str], view: RequestView, person: Person) -> Decision:
    signal, body = decision_of(form, view.requirement)
    return signal, {"id": view.requirement.id, "by": person.name, **body}


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _own_path(path: str | None) -> str:
    """Return a path of this site to lead to; another site's address leads to the inbox."""
    is_own = path is not None and path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own and path is not None else "/"


def query_of(request: Request) -> Query:
    """Return what a link to the inbox asks for; what does not fit counts as left out."""
    parameters = request.query_params
    show: Show = "all" if parameters.get("show") == "all" else "mine"
    sort = cast("Sort", parameters["sort"]) if parameters.get("sort") in get_args(Sort) else "age"
    page = parameters.get("page", "1")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 4 else 1
    agent, tool, token = (_visible(parameters.get(name, "")) for name in ("agent", "tool", "token"))
    return Query(show, sort, agent, tool, token, max(1, number))


def _visible(text: str) -> str | None:
    return None if not text or any(map(hidden, text)) else text
