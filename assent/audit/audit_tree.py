"""Audits a run and its run tree: the agents that it called, those that they called, and so on."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from assent.audit.checks import PARENT_CHECK_TEXT, Check, Problem, Verification
from assent.audit.lineage import differences
from assent.audit.observer import AuditObserver
from assent.audit.records import Audit
from assent.audit.verifier import Verifier
from assent.wire.errors import RunNotFoundError

AuditReader = Callable[[str, AuditObserver | None], Awaitable[Audit]]
"""Returns the audit of the run of an id, with an observer or without; raises RunNotFoundError without a history."""


@dataclass(frozen=True, slots=True)
class AuditedRun:
    """One run of a run tree. *path* names the agents from the root of the tree to this run.

    *audit* is None if the run's history is gone: deleted, past its retention, or in none of the files.
    """

    run_id: str
    path: tuple[str, ...]
    audit: Audit | None
    verification: Verification | None


async def walk(
    read: Callable[[str], Awaitable[Audit]], run_id: str
) -> AsyncIterator[tuple[str, str | None, tuple[str, ...], Audit | None]]:
    """Yield the id, parent's id, path and audit of each run of a run tree.

    Each run comes before its child runs, which are in call order.

    Raises:
        RunNotFoundError: there is no history of the run itself.
    """
    known = set[str]()
    stack: list[tuple[str, str | None, tuple[str, ...]]] = [(run_id, None, ())]
    while stack:
        own, parent, path = stack.pop()
        if own in known:
            continue  # Forged histories may name each other as child runs.
        known.add(own)
        try:
            audit = await read(own)
        except RunNotFoundError:
            if parent is None:
                raise
            yield own, parent, path, None
            continue
        path = path or (*(each.agent for each in audit.run.parents), audit.run.agent)
        yield own, parent, path, audit
        children = [(each.run_id, own, (*path, each.agent)) for each in audit.children if each.run_id is not None]
        stack += reversed(children)


async def audits(read: AuditReader, run_id: str, *, verify: bool) -> AsyncIterator[AuditedRun]:
    """Yield the audits of a run tree; with *verify*, each is checked, and compared with its parent run.

    Raises:
        RunNotFoundError: there is no history of the run itself.
        HistoryError: a history cannot be read.
    """
    verifiers: dict[str, Verifier] = {}

    async def read_one(run_id: str) -> Audit:
        if verify:
            verifiers[run_id] = Verifier(run_id)
        return await read(run_id, verifiers.get(run_id))

    async for own, parent, path, audit in walk(read_one, run_id):
        verification = verifiers[own].verification(audit) if verify and audit is not None else None
        if verification is not None and parent is not None:
            verification = _compared(verification, verifiers[parent], verifiers[own])
        yield AuditedRun(own, path, audit, verification)


def _compared(own: Verification, parent: Verifier, child: Verifier) -> Verification:
    """Return the verification of a child run with the check `above` added."""
    cited = parent.lineage.cites.get(own.run_id, [])
    texts = differences(parent.lineage, child.lineage, own.run_id)
    problems = [Problem(text=text, events=cited) for text in texts]
    check = Check(
        name="above",
        text=PARENT_CHECK_TEXT,
        verdict="failed" if problems else "ok",
        looked_at=len(cited),
        problems=problems,
    )
    return own.model_copy(update={"ok": own.ok and not problems, "checks": [*own.checks, check]})
