"""The pages about what has happened: a run, its audit, a person's decisions, and statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from cachetools import LRUCache
from pydantic import JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from temporalio.client import WorkflowExecutionDescription

from assent.audit.approval import Approval
from assent.audit.checks import Verification
from assent.audit.decision_statistics import Statistics
from assent.client import read
from assent.client.live_text import live_text
from assent.client.signals import locate_grant
from assent.core.run_state import Run, state_of
from assent.views.facts import children_of, grant_words
from assent.views.run_events import event_text
from assent.web.access import may_see
from assent.web.pages import Site
from assent.web.rendering import link
from assent.web.sign_in import Person
from assent.web.values import title_of
from assent.wire.live_text import LiveText
from assent.wire.proofs import ProofLevel
from assent.wire.protocol import REVOKE, DecisionOutcome
from assent.wire.requirements import RunState

EVENTS: Final = 200
"""Events of a run on its page; the newest. A link shows all of them."""
DECISIONS: Final = 100
RUNS: Final = 500
"""Runs whose histories are read for decisions and statistics."""
DAYS: Final = 30
_KEPT: Final = 30.0
"""Seconds for which statistics are shown again."""

_T = TypeVar("_T")


class AnswerCache(Generic[_T]):
    """Keeps answers that cost many reads for some seconds, and makes each only once for all who wait for it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._answers: LRUCache[str, tuple[float, asyncio.Task[_T]]] = LRUCache(100)

    async def get(self, key: str, make: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of this key."""
        at, task = self._answers.get(key, (0.0, None))
        if task is None or time.monotonic() - at > self._seconds or (task.done() and task.exception() is not None):
            task = asyncio.ensure_future(make())
            self._answers[key] = time.monotonic(), task
        return await asyncio.shield(task)


class RunPages:
    """The handlers of these pages."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._statistics = AnswerCache[Statistics](_KEPT)
        self._verifications = AnswerCache[Verification](_KEPT)

    async def show_run(self, request: Request, person: Person) -> Response:
        """Show a run: what it was asked, what waits in it, and what has happened."""
        run, description = await self._run(request, person)
        events = await self._site.client.get_run(run.id).events()
        shown = events if "all" in request.query_params else events[-EVENTS:]
        values = {
            "run": run,
            "state": state_of(run),
            "children": children_of(run),
            "events": [(event, event_text(event)) for event in reversed(shown)],
            "earlier": len(events) - len(shown),
            "grants": run.grants,
            "revocable": [] if run.ended else [each.id for each in run.grants if each.is_active(datetime.now(UTC))],
            "signs": self._site.must_sign(person),
            "grant_words": grant_words,
            "title_of": title_of,
            "writing": await _writing(description),
        }
        return self._site.live(request, "run.html", "_run.html", self._site.base(request, person) | values)

    async def revoke(self, request: Request, person: Person) -> Response:
        """End a decision that was remembered: further calls wait for people again."""
        form = await self._site.form_of(request, person)
        state = await self.state_of(request, person)
        proof = self._site.with_passkey(form, {})
        outcome = await self.end_grant(state, form.get("grant", ""), person, proof)
        page = link("/run", id=state.id)
        note = self._site.sign_ins.note(
            person, page, "good" if outcome.counted else "bad", "Revoked." if outcome.counted else "Not revoked.",
            outcome.detail,
        )  # fmt: skip
        return RedirectResponse(link("/run", id=state.id, note=note), 303)

    async def challenge(self, request: Request, person: Person) -> Response:
        """Return what a passkey signs to end a remembered decision."""
        form = await self._site.form_of(request, person)
        state = await self.state_of(request, person)
        body: dict[str, JsonValue] = {"id": locate_grant(state, form.get("grant", "")).id, "by": person.name}
        statement = await self._site.client.get_run(state.id).statement(REVOKE, body)
        return JSONResponse(self._site.prover.request(statement, person.name))

    async def show_audit(self, request: Request, person: Person) -> Response:
        """Check a run's history, and show who decided what."""
        state = await self.state_of(request, person)
        approvals = await self._site.client.get_run(state.id).audit()
        values = {"state": state, "verification": await self.verification_of(state), "approvals": approvals}
        return self._site.renderer.page("audit.html", self._site.base(request, person) | values)

    async def show_mine(self, request: Request, person: Person) -> Response:
        """Show what a person has decided."""
        values = {"decided": await self.decisions_of(person), "runs": RUNS, "title_of": title_of}
        return self._site.renderer.page("mine.html", self._site.base(request, person) | values)

    async def show_statistics(self, request: Request, person: Person) -> Response:
        """Show how people decide."""
        values = {"figures": await self.statistics(), "days": DAYS}
        return self._site.renderer.page("statistics.html", self._site.base(request, person) | values)

    # -- what the API answers, too -------------------------------------------------------------------------------------

    async def state_of(self, request: Request, person: Person) -> RunState:
        """Return the run that a link names, if the person may see it."""
        run, _ = await self._run(request, person)
        return state_of(run)

    async def end_grant(
        self, state: RunState, grant_id: str, person: Person, fields: Mapping[str, JsonValue]
    ) -> DecisionOutcome:
        """End a decision that was remembered; *fields* may have the reason and the proof.

        Raises:
            RequirementNotFoundError: the run remembers no such decision.
            MessageError: it takes the person's own key; nothing was sent.
        """
        grant = locate_grant(state, grant_id)
        level: ProofLevel | None = "service" if grant.proof else None
        return await self._site.send(state.id, level, person, REVOKE, {**fields, "id": grant.id, "by": person.name})

    async def verification_of(self, state: RunState) -> Verification:
        """Check the history of a run; the result is kept for some seconds, since it takes time that grows with it."""
        verify = self._site.client.get_run(state.id).verify
        return await self._verifications.get(f"{state.id} {state.execution_id} {state.status}", verify)

    async def decisions_of(self, person: Person) -> list[Approval]:
        """Return what a person has decided."""
        decided = await self._site.client.get_decisions(person.name, limit=RUNS)
        return [each for each in decided if may_see(person, each)][:DECISIONS]

    async def statistics(self) -> Statistics:
        """Return how people decide."""
        since, client = datetime.now(UTC) - timedelta(days=DAYS), self._site.client
        return await self._statistics.get("all", lambda: client.statistics(since=since, limit=RUNS))

    async def _run(self, request: Request, person: Person) -> tuple[Run, WorkflowExecutionDescription]:
        run_id = request.query_params.get("id", "")
        if not run_id:
            raise HTTPException(404, "This link is not whole.")
        client = self._site.client.temporal
        description = await read.describe(client, run_id)
        run, _ = await read.read(client, run_id, description)
        if not may_see(person, state_of(run)):
            raise HTTPException(404, "There is no such run.")
        return run, description


async def _writing(description: WorkflowExecutionDescription) -> LiveText | None:
    """Return what the model writes just now; None if it writes nothing."""
    for info in description.raw_description.pending_activities:
        if (live := await live_text(info, description.data_converter)) is not None:
            return live
    return None
