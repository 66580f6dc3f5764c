"""What the checks of an audit came to: each check, its verdict, its problems; and what no check can show.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from assent.audit.records import ApprovalRecord, Audit, Citation, SentMessage
from assent.wire.digest import requirement_id
from assent.wire.protocol import Stored
from assent.wire.requirements import PendingRequirement

SHOWN: Final = 20
"""Problems of one check that are listed; more are counted."""
Name = Literal["history", "continued", "activities", "decisions", "agents", "inbox", "end", "names", "above"]
CHECK_TEXTS: Final[dict[Name, str]] = {
    "history": "every event is there, in its order",
    "continued": "each execution began with exactly what the one before left",
    "activities": "what was run is what the rules asked for, byte for byte",
    "decisions": "nothing ran without the decision that its gate needed, and each is about the bytes that ran",
    "agents": "what bounds an agent bounds every other that it asks or hands over to, and the runs above are true",
    "inbox": "what people were shown as waiting is what waited",
    "end": "the run ended as the rules say",
    "names": "names that people gave are those that the server saw",
}
PARENT_CHECK_TEXT: Final = "the run above tells the same of how it began, what it was asked and how it ended"
"""What a check is about that takes two histories: that of a run, and that of the run above it."""
NOT_PROVEN: Final = (
    "that the server's database was not changed before this history was read: keep a signed bundle from when it was",
    "who sent what, where the server does not authenticate senders: a name is a claim then ('unverified')",
    "that a tool did what it says: its result is what its worker reported",
    "what was sent and refused at the door: malformed updates, and whatever never reached the server",
    "what happened in executions that a workflow reset replaced: they are histories of their own",
    "what happened in executions that are gone: what they left to the next is believed",
    "that a history was not cut at its end: a run that still goes on looks the same",
    "that a policy was what its worker says: gates are as its worker reported them",
    "that a tool stands for the agent that its worker says",
    "what happened in the runs below: they have histories of their own",
)


class Problem(Stored):
    """Something that a check found, and the events that show it."""

    text: str
    events: list[Citation] = Field(default_factory=list[Citation])


class Check(Stored):
    """One check. *looked_at* counts what there was to look at; *more* the problems that are not listed.

    *verdict* `differs` is of names alone: the server saw somebody else. `unverified`: it saw nobody.
    """

    name: Name
    text: str
    verdict: Literal["ok", "failed", "incomplete", "differs", "unverified"]
    looked_at: int
    problems: list[Problem] = Field(default_factory=list[Problem])
    more: int = 0


class Verification(Stored):
    """What the checks of an audit came to. *ok* says that none failed and no name differs.

    *head* is the head of the hash chain over the *events* of the history (`assent.audit.hash_chain`); the same history
    gives the same head, wherever it is read. *not_proven* is what a history cannot show.
    """

    run_id: str
    ok: bool
    complete: bool
    head: str
    events: int
    checks: list[Check]
    not_proven: list[str] = Field(default_factory=lambda: list(NOT_PROVEN))


def misshown(entry: PendingRequirement, record: ApprovalRecord, run_id: str) -> str | None:
    """What of a requirement the inbox showed otherwise than it is."""
    if entry.arguments is not None and entry.arguments != record.arguments:
        return "text of arguments"
    if entry.tool != record.tool_name or entry.call_id != record.context.call_id:
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
    )
    return None if derived == entry.id else "id than the digest of what waits"


def names(audit: Audit) -> Check:
    """The names that people gave against those that the server saw."""
    sent: dict[tuple[str, int], SentMessage] = {}
    for each in _all_sent(audit):
        sent[each.events[0].execution_id, each.events[0].event_id] = each
    named = [each for each in sent.values() if each.by is not None]
    differing = [each for each in named if each.attribution == "differs"]
    unverified = sum(each.attribution == "unverified" for each in named)
    problems = [
        Problem(text=f"{each.name} claims {each.by!r}; the server saw {each.principal}", events=each.events[:1])
        for each in differing
    ]
    if audit.run.attribution == "differs":
        text = f"the run says {audit.run.requested_by!r} asked for it; the server saw {audit.run.started_principal}"
        problems.insert(0, Problem(text=text, events=audit.run.events[:1]))
    words = f"{CHECK_TEXTS['names']}: {len(named) - len(differing) - unverified} verified, {unverified} unverified"
    return Check(
        name="names",
        text=words,
        verdict="differs" if problems else "unverified" if unverified else "ok",
        looked_at=len(named),
        problems=problems[:SHOWN],
        more=max(0, len(problems) - SHOWN),
    )


def _all_sent(audit: Audit) -> Iterator[SentMessage]:
    for approval in audit.approvals:
        yield from approval.decisions
    for grant in audit.grants:
        yield from grant.decisions
    yield from audit.messages
