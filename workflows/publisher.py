"""Publishes a run's state to search attributes, memo and current details.

An upsert is an event, so only what changed is published, and an ungated run publishes nothing until it ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

from assent.core.run_state import Run
from assent.views.facts import children_of
from assent.views.web_ui import details, pending_memo
from assent.wire import protocol, visibility
from assent.wire.limits import KEYWORD_LIMIT
from assent.wire.requirements import Requirement

_AGENT: Final = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_AGENT)
_STATUS: Final = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_STATUS)
_PENDING: Final = SearchAttributeKey.for_int(protocol.ATTRIBUTE_PENDING)
_WAITING_ON: Final = SearchAttributeKey.for_keyword_list(protocol.ATTRIBUTE_WAITING_ON)
_REQUESTED_BY: Final = SearchAttributeKey.for_keyword(protocol.ATTRIBUTE_REQUESTED_BY)


@dataclass(slots=True)
class Publisher:
    """Remembers what was published, to publish only what changed."""

    _run: Run = field(default_factory=Run)
    note: str | None = None
    """A further note for operators, as Markdown."""

    def differs(self, run: Run) -> bool:
        """Whether *run* has something that operators should see and do not yet."""
        last = self._run
        return (
            run.status != last.status
            or run.requirements is not last.requirements
            or run.ignored_messages is not last.ignored_messages
            or run.grants is not last.grants
            or run.agent != last.agent
            or children_of(run) != children_of(last)
            or _has_new_messages(run, last)
        )

    def show(self, run: Run) -> None:
        """Set the current details; nothing of them is in the history."""
        shown = details(run, workflow.now())
        workflow.set_current_details(f"{shown}\n\n{self.note}" if self.note else shown)

    def resume(self, run: Run) -> None:
        """Continue from what the previous execution has published: memo and search attributes are carried over."""
        self._run = run
        self.show(run)

    def publish(self, run: Run) -> bool:
        """Publish what changed since the last time; whether that is in the history."""
        last, self._run = self._run, run
        self.show(run)
        if run.status != last.status or run.agent != last.agent or _inbox_keys(run) != _inbox_keys(last):
            return self._upsert(run, last)
        if is_told_more := _has_new_messages(run, last):
            # An event of its own, in which a waiting run sees whether it should continue as new.
            workflow.upsert_memo({protocol.MEMO_STATUS: run.status})
        return is_told_more

    def _upsert(self, run: Run, last: Run) -> bool:
        # Only the memo has the nonce of a budget requirement, also where the run ended in the same moment.
        unseen = [each for each in run.requirements[len(last.requirements) :] if each.kind == "budget"]
        if is_shown := bool(run.pending or last.pending or unseen):
            workflow.upsert_memo(_memo(run, last, [each for each in unseen if each.status != "pending"]))
        if run.attributes:
            workflow.upsert_search_attributes(_attributes(run, last))
        return is_shown or run.attributes


def _has_new_messages(run: Run, last: Run) -> bool:
    """Whether messages for the model have come that the next turn will read."""
    return len(run.queued) > len(last.queued)


_InboxKey = tuple[str, int, list[str] | None]


def _inbox_keys(run: Run) -> list[_InboxKey]:
    """What of the pending requirements an inbox shows and can change: a reminder alone is no reason for an event."""
    return [_inbox_key(each) for each in run.pending]


def _inbox_key(requirement: Requirement) -> _InboxKey:
    return requirement.id, len(requirement.votes), requirement.approvers


def _newest_turn(run: Run) -> list[Requirement]:
    """The requirements of the newest turn that has some, among which all pending ones are."""
    newest = takewhile(lambda each: each.turn == run.requirements[-1].turn, reversed(run.requirements))
    return [*newest][::-1]


def attributes_at_start(request: protocol.RunRequest) -> TypedSearchAttributes:
    """The search attributes of a run that is about to begin."""
    pairs = [SearchAttributePair(_AGENT, request.agent), SearchAttributePair(_STATUS, "running")]
    if request.requested_by:
        pairs.append(SearchAttributePair(_REQUESTED_BY, visibility.keyword(request.requested_by)))
    return TypedSearchAttributes(pairs)


def _memo(run: Run, last: Run, closed: Sequence[Requirement]) -> dict[str, object]:
    """Only what changed: a memo whose value is None is removed, and the others stay."""
    turn = _newest_turn(run)
    shown = {slot: _inbox_key(each) for slot, each in enumerate(_newest_turn(last)) if each.status == "pending"}
    tell = {slot: _inbox_key(each) for slot, each in enumerate(turn) if each.status == "pending" or each in closed}
    memo: dict[str, object] = {protocol.MEMO_STATUS: run.status}
    memo |= {visibility.pending_key(slot): None for slot in shown if slot not in tell}
    for slot, entry in enumerate(pending_memo(turn)):
        if slot in tell and tell[slot] != shown.get(slot):
            memo[visibility.pending_key(slot)] = entry.model_dump(mode="json", exclude_defaults=True)
    # The client that starts a run can put anything there; the inbox shows the run's own request.
    if workflow.memo().get(protocol.MEMO_REQUEST) != (
        asked := visibility.request_memo(run.request, run.agent, run.caller)
    ):
        memo[protocol.MEMO_REQUEST] = asked
    return memo


def _attributes(run: Run, last: Run) -> list[SearchAttributeUpdate[Any]]:
    updates: list[SearchAttributeUpdate[Any]] = [_STATUS.value_set(run.status)]
    if _inbox_keys(run) != _inbox_keys(last):
        updates += _waiting(run.pending)
    return updates + (_request(run.request, run.call_context.agent) if run.request else [])


def _request(request: protocol.RunRequest, agent: str) -> list[SearchAttributeUpdate[Any]]:
    """Requester and agent, if they are missing or the client that started the run set others."""
    known = workflow.info().typed_search_attributes
    asker = visibility.keyword(request.requested_by) if request.requested_by else None
    updates: list[SearchAttributeUpdate[Any]] = []
    if known.get(_AGENT) != agent:
        updates.append(_AGENT.value_set(agent))
    if known.get(_REQUESTED_BY) != asker:
        updates.append(_REQUESTED_BY.value_set(asker) if asker else _REQUESTED_BY.value_unset())
    return updates


def _waiting(pending: Sequence[Requirement]) -> list[SearchAttributeUpdate[Any]]:
    tools = sorted({requirement.tool for requirement in pending})
    if sum(len(name) + 3 for name in tools) > KEYWORD_LIMIT:
        tools = [visibility.ANY_TOOL]
    return [_PENDING.value_set(len(pending)), _WAITING_ON.value_set(tools)]
