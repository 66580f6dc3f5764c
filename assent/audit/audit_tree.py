"""The audits of a run and of all runs below it: agents that it asked, those that these asked, and so on.

I/O; not in workflow code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from assent.audit.checks import PARENT_CHECK_TEXT, Check, Problem, Verification
from assent.audit.lineage import differences
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.wire.errors import RunNotFoundError

AuditReader = Callable[[str, AuditObserver | None], Awaitable[Audit]]
"""What gives the audit of the run of an id, before a observer, if there is one.

It raises RunNotFoundError where there is no history of that run.
"""


@dataclass(frozen=True, slots=True)
class AuditedRun:
    """One run of a tree. *path* names the agents from the outermost down to this one.

    *audit* is None where its history cannot be had: it was deleted, is past its retention, or in no file.
    """

    run_id: str
    path: tuple[str, ...]
    audit: Audit | None
    verification: Verification | None


async def audits(read: AuditReader, run_id: str, *, verify: bool) -> AsyncIterator[AuditedRun]:
    """The audit of *run_id*, then those of the runs below it: each before those below it, in the order of asking.

    With *verify*, each is checked, and compared with what the run above tells of it.

    Raises:
        RunNotFoundError: there is no history of the run itself.
        HistoryError: a history cannot be read.
    """
    verifier = Verifier(run_id) if verify else None
    audit = await read(run_id, verifier)
    path = (*(each.agent for each in audit.run.parents), audit.run.agent)
    checked = None if verifier is None else verifier.verification(audit)
    yield AuditedRun(run_id, path, audit, checked)
    async for below in _below(read, audit, path, verifier, {run_id}):
        yield below


async def _below(
    read: AuditReader, audit: Audit, path: tuple[str, ...], above: Verifier | None, known: set[str]
) -> AsyncIterator[AuditedRun]:
    for child in audit.children:
        # Histories that somebody forged may name each other as the one below.
        if child.run_id is None or child.run_id in known:
            continue
        known.add(child.run_id)
        verifier = None if above is None else Verifier(child.run_id)
        own = (*path, child.agent)
        try:
            found = await read(child.run_id, verifier)
        except RunNotFoundError:
            yield AuditedRun(child.run_id, own, None, None)
            continue
        verified = None
        if verifier is not None and above is not None:
            verified = _beside(verifier.verification(found), above, verifier)
        yield AuditedRun(child.run_id, own, found, verified)
        async for each in _below(read, found, own, verifier, known):
            yield each


def _beside(own: Verification, above: Verifier, below: Verifier) -> Verification:
    """The verification of a run, with what the run above tells of it besides."""
    cited = above.lineage.cites.get(own.run_id, [])
    problems = [Problem(text=text, events=cited) for text in differences(above.lineage, below.lineage, own.run_id)]
    check = Check(
        name="above",
        text=PARENT_CHECK_TEXT,
        verdict="failed" if problems else "ok",
        looked_at=len(cited),
        problems=problems,
    )
    return own.model_copy(update={"ok": own.ok and not problems, "checks": [*own.checks, check]})
