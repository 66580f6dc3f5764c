"""The JSON API: the same as the pages, with an OpenAPI document that is made of the models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Final, Literal, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from assent._version import __version__
from assent.audit.approval import Approval
from assent.audit.checks import Verification
from assent.audit.decision_statistics import Statistics
from assent.client.signals import locate_grant
from assent.views.run_events import RunEvent
from assent.web.guard import read_body
from assent.web.inbox import inbox_of
from assent.web.pages import Site, query_of
from assent.web.run_pages import RunPages
from assent.web.sign_in import Person
from assent.wire.messages import Remember
from assent.wire.proofs import DecisionStatement, Proof
from assent.wire.protocol import REVOKE, DecisionOutcome
from assent.wire.requirements import Requirement, RunState

_JSON: Final = "application/json"


class Requests(BaseModel):
    """What waits. *mine* and *all* count what was read, *next_token* asks for older runs, *unreadable* may wait too."""

    requests: list[Approval]
    mine: int
    all: int
    pages: int
    next_token: str | None
    unreadable: list[str]


class RequestDocument(BaseModel):
    """One request, and its run without the other requests."""

    request: Requirement
    run: RunState


class DecisionDocument(BaseModel):
    """A decision: the *signal*, and what it takes, as in the message of that name. Your name and the id are added."""

    model_config = ConfigDict(extra="forbid")

    signal: Literal["approve", "reject", "submit_result", "submit_input"]
    reason: str | None = None
    arguments: dict[str, JsonValue] | None = None
    remember: Remember | None = None
    output: JsonValue = None
    error: str | None = None
    evidence: JsonValue = None
    values: dict[str, JsonValue] | None = None
    proof: Proof | None = None


class RevocationDocument(BaseModel):
    """The end of a remembered decision: further calls wait for people again. Your name and the id are added."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = None
    proof: Proof | None = None


class SigningRequest(BaseModel):
    """What proves a decision: the *statement*, and the options of `navigator.credentials.get` in JSON."""

    statement: DecisionStatement
    options: dict[str, JsonValue]


class ErrorDocument(BaseModel):
    """Why nothing was answered or done, in words."""

    problem: str


class Events(BaseModel):
    """What has happened in a run, oldest first."""

    events: list[RunEvent]


class Decisions(BaseModel):
    """What you have decided, newest first."""

    decisions: list[Approval]


_RUN: Final = {"run": "The run's id.", "id": "The request's id, or a unique prefix of at least 6 digits."}
_INBOX: Final = {
    "show": "`mine` (default) or `all`.", "sort": "`age` (default) or `deadline`.", "agent": "Only this agent.",
    "tool": "Only this tool.", "token": "`next_token` of the page before.", "page": "The page, from 1.",
}  # fmt: skip
_GRANT: Final = {
    "id": "The run's id.",
    "grant": "The id of what is remembered, or a unique prefix of 6 digits or more.",
}
_OPTIONAL: Final = frozenset(_INBOX)


class Api:
    """The handlers of the API, over the same site."""

    def __init__(self, site: Site, runs: RunPages) -> None:
        self._site = site
        self._runs = runs

    def routes(self) -> list[Route]:
        """Return the routes of the API."""
        page = self._site.signed_in
        return [
            Route("/api/requests", page(self.requests)),
            Route("/api/request", page(self.request)),
            Route("/api/request", page(self.decide), methods=["POST"]),
            Route("/api/statement", page(self.statement), methods=["POST"]),
            Route("/api/revoke", page(self.revoke), methods=["POST"]),
            Route("/api/revoke/statement", page(self.revocation_statement), methods=["POST"]),
            Route("/api/run", page(self.run)),
            Route("/api/events", page(self.events)),
            Route("/api/audit", page(self.audit)),
            Route("/api/decisions", page(self.decisions)),
            Route("/api/statistics", page(self.statistics)),
            Route("/api/openapi.json", page(self.openapi)),
        ]

    async def requests(self, request: Request, person: Person) -> Response:
        """List what waits."""
        query = query_of(request)
        inbox = inbox_of(person, await self._site.inbox.read(query, fresh=True), query)
        return _answer(
            Requests(
                requests=list(inbox.shown), mine=inbox.mine, all=inbox.all, pages=inbox.pages,
                next_token=inbox.next_token, unreadable=list(inbox.unreadable),
            )
        )  # fmt: skip

    async def request(self, request: Request, person: Person) -> Response:
        """Return one request."""
        view = await self._site.view_of(request, person)
        run = view.state.model_copy(update={"requirements": []})
        return _answer(RequestDocument(request=view.requirement, run=run))

    async def decide(self, request: Request, person: Person) -> Response:
        """Send a decision under the name of the person who is signed in."""
        view = await self._site.view_of(request, person)
        body = await _fields_of(request, DecisionDocument) | {"id": view.requirement.id, "by": person.name}
        signal = str(body.pop("signal"))
        outcome = await self._site.send_decision(view, person, signal, body)
        return _answer(outcome, 200 if outcome.counted else 409)

    async def statement(self, request: Request, person: Person) -> Response:
        """Return what a passkey signs to prove a decision; the proof then goes with the decision."""
        view = await self._site.view_of(request, person)
        body = await _fields_of(request, DecisionDocument) | {"id": view.requirement.id, "by": person.name}
        return await self._to_sign(view.state, person, str(body.pop("signal")), body)

    async def revoke(self, request: Request, person: Person) -> Response:
        """End a decision that was remembered."""
        state, fields = await self._runs.state_of(request, person), await _fields_of(request, RevocationDocument)
        outcome = await self._runs.end_grant(state, request.query_params.get("grant", ""), person, fields)
        return _answer(outcome, 200 if outcome.counted else 409)

    async def revocation_statement(self, request: Request, person: Person) -> Response:
        """Return what a passkey signs to end a decision that was remembered."""
        state, fields = await self._runs.state_of(request, person), await _fields_of(request, RevocationDocument)
        grant = locate_grant(state, request.query_params.get("grant", ""))
        return await self._to_sign(state, person, REVOKE, fields | {"id": grant.id, "by": person.name})

    async def _to_sign(self, run: RunState, person: Person, signal: str, body: Mapping[str, JsonValue]) -> Response:
        statement = await self._site.client.get_run(run.id).statement(signal, body)
        to_sign = self._site.prover.request(statement, person.name)
        return _answer(SigningRequest(statement=statement, options=cast("dict[str, JsonValue]", to_sign["options"])))

    async def run(self, request: Request, person: Person) -> Response:
        """Return the state of a run."""
        return _answer(await self._runs.state_of(request, person))

    async def events(self, request: Request, person: Person) -> Response:
        """Return what has happened in a run."""
        run = await self._runs.state_of(request, person)
        return _answer(Events(events=await self._site.client.get_run(run.id).events()))

    async def audit(self, request: Request, person: Person) -> Response:
        """Check the history of a run."""
        return _answer(await self._runs.verification_of(await self._runs.state_of(request, person)))

    async def decisions(self, request: Request, person: Person) -> Response:
        """List what the person who is signed in has decided."""
        del request
        return _answer(Decisions(decisions=await self._runs.decisions_of(person)))

    async def statistics(self, request: Request, person: Person) -> Response:
        """Return how people decide."""
        del request, person
        return _answer(await self._runs.statistics())

    async def openapi(self, request: Request, person: Person) -> Response:
        """Return the OpenAPI document."""
        del request, person
        return JSONResponse(openapi())


async def _fields_of(request: Request, document: type[BaseModel]) -> dict[str, JsonValue]:
    """Return what a post says in JSON, without what it leaves out.

    Raises:
        HTTPException: it is no JSON, or does not fit.
    """
    # Pages of other sites can send forms, and JSON only where the browser asked first, which is refused.
    if request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
        raise HTTPException(415, f"Send {_JSON}. Nothing was done.")
    try:
        fields = document.model_validate_json(await read_body(request))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise HTTPException(422, f"{where}: {first['msg']}. Nothing was done.") from None
    return fields.model_dump(mode="json", exclude_unset=True)


def _answer(document: BaseModel, status: int = 200) -> Response:
    return Response(document.model_dump_json(), status, media_type=_JSON)


# -- the OpenAPI document ---------------------------------------------------------------------------------------------

_OPERATIONS: Final[list[tuple[str, str, str, Mapping[str, str], type[BaseModel] | None, type[BaseModel]]]] = [
    ("/api/requests", "get", "List what waits", _INBOX, None, Requests),
    ("/api/request", "get", "Read one request", _RUN, None, RequestDocument),
    ("/api/request", "post", "Decide a request; 409 if it did not count", _RUN, DecisionDocument, DecisionOutcome),
    ("/api/statement", "post", "Read what a passkey signs to prove a decision", _RUN, DecisionDocument, SigningRequest),
    ("/api/revoke", "post", "End a remembered decision; 409 if it did not count", _GRANT, RevocationDocument,
     DecisionOutcome),
    ("/api/revoke/statement", "post", "Read what a passkey signs to end a remembered decision", _GRANT,
     RevocationDocument, SigningRequest),
    ("/api/run", "get", "Read a run", {"id": "The run's id."}, None, RunState),
    ("/api/events", "get", "Read what has happened in a run", {"id": "The run's id."}, None, Events),
    ("/api/audit", "get", "Check the history of a run", {"id": "The run's id."}, None, Verification),
    ("/api/decisions", "get", "List your decisions", {}, None, Decisions),
    ("/api/statistics", "get", "Read how people decide", {}, None, Statistics),
]  # fmt: skip


@cache
def openapi() -> dict[str, JsonValue]:
    """Return the OpenAPI document of the API (version 3.1)."""
    models = {model for *_, body, answer in _OPERATIONS for model in (body, answer) if model is not None}
    both = [(each, "serialization") for each in sorted(models | {ErrorDocument}, key=lambda each: each.__name__)]
    _, schemas = models_json_schema(cast("list[tuple[type[BaseModel], Literal['serialization']]]", both),
                                    ref_template="#/components/schemas/{model}")  # fmt: skip
    paths: dict[str, dict[str, JsonValue]] = {}
    for path, method, summary, parameters, body, answer in _OPERATIONS:
        operation: dict[str, JsonValue] = {
            "summary": summary,
            "parameters": [
                {
                    "name": name,
                    "in": "query",
                    "required": name not in _OPTIONAL,
                    "description": text,
                    "schema": {"type": "string"},
                }
                for name, text in parameters.items()
            ],
            "responses": {"200": _content("Done", answer), "default": _content("Nothing was done", ErrorDocument)},
        }
        if body is not None:
            operation["requestBody"] = {"required": True, **_content("", body)}
            if answer is DecisionOutcome:
                cast("dict[str, JsonValue]", operation["responses"])["409"] = _content("It did not count", answer)
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Approvals", "version": __version__},
        "paths": cast("JsonValue", paths),
        "components": {"schemas": cast("JsonValue", json.loads(json.dumps(schemas["$defs"])))},
    }


def _content(description: str, model: type[BaseModel]) -> dict[str, JsonValue]:
    schema: JsonValue = {"$ref": f"#/components/schemas/{model.__name__}"}
    content: dict[str, JsonValue] = {"content": {_JSON: {"schema": schema}}}
    return {"description": description, **content} if description else content
