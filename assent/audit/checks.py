"""The checks of an audit: their results, what no check can show, and the checks that need only the records."""

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from assent.audit.records import ApprovalRecord, Audit, Citation, SentMessage
from assent.wire.digest import requirement_id
from assent.wire.protocol import Stored
from assent.wire.requirements import PendingRequirement

SHOWN: Final = 20
"""Problems of one check that are listed; more are only counted."""
CheckName = Literal[
    "history", "continued", "activities", "workers", "decisions", "agents", "inbox", "end", "names", "proofs", "above"
]
CHECK_TEXTS: Final[dict[CheckName, str]] = {
    "history": "every event is there, in order",
    "continued": "each execution began with exactly the state that the previous one ended with",
    "activities": "what ran is what the rules asked for, byte for byte",
    "workers": "each result came from the worker that was given the activity",
    "decisions": "each call had the decisions that its gate needed, about the bytes that ran",
    "agents": "other agents have all the limits of the agent that called them, and the parent runs are true",
    "inbox": "the inbox showed what was pending",
    "end": "the run ended as the rules say",
    "names": "the server saw the senders whose names the messages have",
    "proofs": "each proof of who decided holds, and none is missing that a decision needs",
}
PARENT_CHECK_TEXT: Final = "the parent run records the same start, request and end"
"""What the check `above` is about, which compares the histories of a child run and its parent run."""
NOT_PROVEN: Final = (
    "that the server's database was not changed before this history was read: keep a signed bundle from before",
    "who sent what, if the server does not authenticate senders: then a name without a proof is a claim",
    "whose a public key is: a proof shows the key that its worker recorded, unless you give --approvers FILE",
    "that a tool did what it says: its result is what its worker reported",
    "that no operator reset an activity: the history has only its last start",
    "which messages the server or the run's validators refused (malformed updates), or never received",
    "what happened in executions that a workflow reset replaced: they have histories of their own",
    "what happened in executions that are gone: the state that they carried over is believed",
    "that a history was not cut at its end: an unfinished run looks the same",
    "that a policy was what its worker says: gates are as its worker reported them",
    "that a tool stands for the agent that its worker says",
    "what happened in child runs: they have histories of their own",
)


class Problem(Stored):
    """A fault that a check found, and the events that show it."""

    text: str
    events: list[Citation] = Field(default_factory=list[Citation])


class Check(Stored):
    """One check. *looked_at* counts the items that it examined; *more* the problems that are not listed.

    Only the check of names has the verdicts `differs` (the server saw another sender) and `unverified` (it saw none).
    """

    name: CheckName
    text: str
    verdict: Literal["ok", "failed", "incomplete", "differs", "unverified"]
    looked_at: int
    problems: list[Problem] = Field(default_factory=list[Problem])
    more: int = 0


class Verification(Stored):
    """The outcome of the checks of an audit. *ok*: no check failed and no name differs.

    *head* is the head of the hash chain over the *events* of the history (`assent.audit.hash_chain`); the same history
    gives the same head, wherever it is read. *complete*: no part of the history is missing. *not_proven* lists what a
    history cannot show.
    """

    run_id: str
    ok: bool
    complete: bool
    head: str
    events: int
    checks: list[Check]
    not_proven: list[str] = Field(default_factory=lambda: list(NOT_PROVEN))


def inbox_difference(entry: PendingRequirement, record: ApprovalRecord, run_id: str) -> str | None:
    """Return what the inbox showed of a requirement that differs from its record; None if nothing does."""
    if entry.arguments is not None and (entry.arguments, entry.read_as) != (record.arguments, record.read_as):
        return "arguments text"
    if entry.tool != record.tool or entry.call_id != record.context.call_id:
        return "call"
    if entry.kind != record.kind or entry.needed != record.needed:
        return "kind of decision"
    derived = requirement_id(
        run_id=run_id,
        nonce=entry.nonce,
        call_id=entry.call_id,
        tool=entry.tool,
        arguments=record.arguments or "",
        policy_version=record.context.policy_version,
        needed=record.needed,
        expires_at=record.expires_at,
        binding=record.binding,
        proof=record.proof,
    )
    return None if derived == entry.id else "id than the digest of its contents"


def check_names(audit: Audit) -> Check:
    """Compare the names in messages with the senders that the server authenticated."""
    sent = {(each.events[0].execution_id, each.events[0].event_id): each for each in _messages(audit)}
    named = [each for each in sent.values() if each.by is not None]
    unverified = sum(each.attribution == "unverified" for each in named)
    problems = [
        Problem(text=f"{each.name} claims {each.by!r}; the server saw {each.principal}", events=each.events[:1])
        for each in named
        if each.attribution == "differs"
    ]
    text = f"{CHECK_TEXTS['names']}: {len(named) - len(problems) - unverified} verified, {unverified} unverified"
    if audit.run.attribution == "differs":
        claim = f"the run names {audit.run.requested_by!r} as requester; the server saw {audit.run.started_principal}"
        problems.insert(0, Problem(text=claim, events=audit.run.events[:1]))
    return Check(
        name="names",
        text=text,
        verdict="differs" if problems else "unverified" if unverified else "ok",
        looked_at=len(named),
        problems=problems[:SHOWN],
        more=max(0, len(problems) - SHOWN),
    )


def _messages(audit: Audit) -> Iterator[SentMessage]:
    for approval in audit.approvals:
        yield from approval.decisions
    for grant in audit.grants:
        yield from grant.decisions
    yield from audit.messages
