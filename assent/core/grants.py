"""Remembered decisions: further calls of one tool of the same run are approved or rejected unasked, within limits.

A grant has a number of uses, an end, or both. It holds under one version of the policy
and for the tool as it is, and ends with its run.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from assent.core.approvals import SHORTEST_PREFIX
from assent.core.deadlines import add_seconds
from assent.wire.digest import parse_arguments, sha256_hex, split_binding
from assent.wire.errors import ArgumentsError
from assent.wire.messages import Remember, Revoke
from assent.wire.policy import conditions_hold
from assent.wire.protocol import DecisionResult
from assent.wire.requirements import Grant, Requirement

GRANTS_LIMIT: Final = 100
"""The grants of one run, at most."""


def make_grant(decided: Requirement, remember: Remember, at: datetime) -> Grant:
    """Return the grant that an approval or a rejection gives."""
    proof = decided.votes[-1].proof if decided.votes else None
    grant = Grant(
        id=sha256_hex(f"assent.grant.v1:{decided.id}".encode()),
        tool=decided.tool,
        by=decided.resolved_by or "",
        at=at,
        requirement_id=decided.id,
        policy_version=decided.policy_version,
        tool_digest=split_binding(decided.binding)[0],
        uses=remember.uses,
        expires_at=None if remember.expires_after is None else add_seconds(at, remember.expires_after.total_seconds()),
        arguments=remember.arguments,
        reason=decided.reason,
        verdict="reject" if decided.status == "rejected" else "approve",
    )
    return grant if proof is None else grant.model_copy(update={"proof": proof})


def find_grant(
    grants: Sequence[Grant],
    *,
    tool: str,
    arguments: str,
    read_as: Mapping[str, JsonValue] | None,
    policy_version: str,
    binding: str,
    at: datetime,
    may_decide: Callable[[Grant], bool],
) -> Grant | None:
    """Return the grant that decides a call, a rejection before an approval; None if a person must decide.

    *read_as* has the values that the tool gets where the *arguments* say something else; *binding* is the gate's.
    *may_decide* returns whether the giver of a grant may decide this very call so: the grant of a person who may not
    decides nothing. A tool whose parameters, defaults or flags changed is not the one that was decided about.
    """
    bound = (policy_version, split_binding(binding)[0])
    for grant in sorted(grants, key=lambda each: each.verdict == "approve"):
        fits = grant.tool == tool and (grant.policy_version, grant.tool_digest) == bound and grant.is_active(at)
        if fits and may_decide(grant) and _covers(grant, arguments, read_as):
            return grant
    return None


def _covers(grant: Grant, arguments: str, read_as: Mapping[str, JsonValue] | None) -> bool:
    if grant.arguments is None:
        return True
    try:
        return conditions_hold(grant.arguments, {**parse_arguments(arguments), **(read_as or {})})
    except (TypeError, ArgumentsError):  # If this is unclear, a person decides.
        return False


def spend(grants: Sequence[Grant], grant: Grant) -> tuple[Grant, ...]:
    """Return the grants after one use of *grant*."""
    spent = grant.model_copy(update={"used": grant.used + 1})
    return tuple(spent if each.id == grant.id else each for each in grants)


def revoke(grants: Sequence[Grant], message: Revoke, at: datetime) -> tuple[tuple[Grant, ...], DecisionResult]:
    """Return the grants without a revoked one, and the answer to the sender. Anyone may: people are asked again."""
    prefix = message.id.strip().lower()
    matches = [grant for grant in grants if grant.id.startswith(prefix)] if len(prefix) >= SHORTEST_PREFIX else []
    if len(matches) != 1:
        detail = f"matches {len(matches)} grants; give more digits" if matches else "names no grant of this run"
        return tuple(grants), DecisionResult(status="unknown", detail=f"the id {message.id!r} {detail}")
    [grant] = matches
    if grant.revoked_at is not None:
        detail = f"already revoked by {grant.revoked_by}"
        return tuple(grants), DecisionResult(status="duplicate", tool=grant.tool, detail=detail)
    ended = grant.model_copy(update={"revoked_by": message.by, "revoked_at": at})
    kept = tuple(ended if each.id == grant.id else each for each in grants)
    left = "" if grant.uses is None else f"; {grant.used} of {grant.uses} uses were made"
    return kept, DecisionResult(status="recorded", tool=grant.tool, detail=f"revoked by {message.by}{left}")
