"""Checks that each call that ran had the decisions that it needed, from people who may decide.

It repeats what `assent.core.approvals` decided. On purpose it does not use `may_approve`, the one rule of who may
approve: it checks the others, so an error there must show here.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from assent.core.approvals import edited_text, fold_name
from assent.core.events import MessageReceived, ModelAnswered, RunTool, ToolAnswered
from assent.core.run_state import Run
from assent.wire import messages
from assent.wire.conversation import ToolCall, tool_calls
from assent.wire.digest import parse_arguments, requirement_id, sorted_lists, split_binding, values_digest
from assent.wire.errors import ArgumentsError, MessageError
from assent.wire.messages import Approve, Reject, Revoke, SubmitInput, SubmitResult
from assent.wire.protocol import Gate, ToolCallInput
from assent.wire.requirements import Requirement, Vote

_GATED = frozenset({"ask", "input"})


@dataclass(slots=True)
class Authority:
    """Collects the calls and messages of a run, and finds the problems of a call that is scheduled.

    *_calls* holds each call with its gate, by call id; *_named* the ids that messages named, by the sender's name.
    """

    _calls: dict[str, tuple[ToolCall, Gate]] = field(default_factory=dict[str, tuple[ToolCall, Gate]])
    _named: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _edits: set[str] = field(default_factory=set[str])

    def add_message(self, event: MessageReceived) -> None:
        """Add a message that arrived."""
        try:
            message = messages.read(event.name, event.arguments)
        except MessageError:
            return
        # As the message is read, not as it was typed: one place defines the white space around a name.
        if isinstance(message, Approve | Reject | Revoke | SubmitInput | SubmitResult):
            self._named[message.by].add(message.id.strip().lower())
        if isinstance(message, Approve) and message.arguments is not None:
            self._edits.add(edited_text(message.arguments))

    def add_carried_state(self, run: Run) -> None:
        """Add the votes and gates of an execution that is gone: its state is believed.

        Otherwise a run whose beginning is past its retention would look forged. The verification is `incomplete`.
        """
        for each in run.requirements:
            for vote in each.votes:
                self._named[vote.by].add(each.id)
        for grant in run.grants:
            self._named[grant.by].add(grant.requirement_id)
        self._calls |= {each.call.call_id: (each.call, each.gate) for each in run.calls}

    def add_calls(self, event: ModelAnswered) -> None:
        """Add the calls of a model turn, each with its gate."""
        for call in tool_calls(event.turn.items):
            gate = event.turn.gates.get(call.call_id, Gate(verdict="deny"))
            self._calls[call.call_id] = (call, gate)

    def add_new_gate(self, event: ToolAnswered, run: Run) -> None:
        """Replace the gate of a call that needs more by the policy of today than it had."""
        if event.outcome.gate is None or event.position >= len(run.calls):
            return
        call = run.calls[event.position].call
        if call.call_id in self._calls:
            self._calls[call.call_id] = (self._calls[call.call_id][0], event.outcome.gate)

    def problems(self, command: RunTool, ran: ToolCallInput, run: Run, at: datetime) -> Iterator[str]:
        """Yield the problems of a call that was scheduled at *at* with the input *ran*."""
        call, gate = self._calls.get(ran.call_id, (None, None))
        if call is not None and call.tool != command.tool:
            yield f"{command.tool} ran for a call of {call.tool}"
        edited = call is not None and call.arguments != ran.arguments
        if edited and not {ran.arguments, _canonical(ran.arguments)} & self._edits:
            yield f"{command.tool} ran with arguments that neither the model nor a person gave"
        if gate is not None and gate.verdict not in {"allow", *_GATED}:
            yield f"{command.tool} ran on a worker, and its gate was {gate.verdict!r}"
        shown = ran.authorization
        if shown is None:
            yield from self._unauthorized(command, gate, edited=edited)
            return
        requirement = run.requirement(shown.requirement_id)
        if requirement is None:
            yield f"{command.tool} ran by requirement {shown.requirement_id[:8]}, which never existed"
            return
        if not _is_digest_of(command, ran, run.id):
            yield f"{command.tool} ran with other bytes than requirement {shown.requirement_id[:8]} is about"
        if requirement.arguments != ran.arguments:
            yield f"{command.tool} ran with other arguments than requirement {requirement.short_id} shows"
        hidden = shown.read_as is None and (gate is None or gate.failed)  # Too long to be shown, which people were told
        if not hidden and not _matches_binding(shown.binding, shown.read_as or {}):
            yield f"{command.tool} ran with other values than requirement {requirement.short_id} binds"
        yield from self._decisions(requirement, None if edited else gate, run, at)

    def _unauthorized(self, command: RunTool, gate: Gate | None, *, edited: bool) -> Iterator[str]:
        if gate is None:
            yield f"{command.tool} ran, and the history has no gate for it"
        elif gate.verdict in _GATED or edited:
            yield f"{command.tool} ran without an approval, and its gate was {gate.verdict!r}"

    def _decisions(self, requirement: Requirement, gate: Gate | None, run: Run, at: datetime) -> Iterator[str]:
        name = f"requirement {requirement.short_id} ({requirement.tool})"
        if requirement.status != "approved" or requirement.resolved_at is None:
            yield f"{name} was {requirement.status} when its call ran"
            return
        if requirement.resolved_at > at:
            yield f"{name} was approved after its call had run"
        if requirement.expires_at is not None and requirement.resolved_at >= requirement.expires_at:
            yield f"{name} was approved after its deadline"
        if gate is not None and gate.verdict in _GATED and requirement.needed < gate.needed:
            yield f"{name} needed {requirement.needed} people, and its gate {gate.needed}"
        approving = [vote for vote in requirement.votes if vote.verdict != "reject"]
        if len({fold_name(vote.by) for vote in approving}) < requirement.needed:
            yield f"{name} needs {requirement.needed} people, and has {len(approving)}"
        for vote in approving:
            yield from self._vote(requirement, vote, run, name)

    def _vote(self, requirement: Requirement, vote: Vote, run: Run, name: str) -> Iterator[str]:
        person = fold_name(vote.by)
        if requirement.approvers is not None and person not in map(fold_name, requirement.approvers):
            yield f"{name} was approved by {vote.by!r}, who may not decide it"
        own = run.requested_by is not None and fold_name(run.requested_by) == person
        if own and not requirement.self_approval:
            yield f"{name} was approved by {vote.by!r}, the requester"
        if not self._was_sent(requirement, vote, run):
            yield f"{name} counts a vote of {vote.by!r} that no message sent"

    def _was_sent(self, requirement: Requirement, vote: Vote, run: Run) -> bool:
        """Return whether a message of the history sent this vote; for a grant, the message that gave the grant."""
        about = {requirement.id, requirement.follows}
        if requirement.grant is not None:
            grant = next((each for each in run.grants if each.id == requirement.grant), None)
            if grant is None or (grant.tool, grant.by, grant.verdict) != (requirement.tool, vote.by, vote.verdict):
                return False
            about = {grant.requirement_id}
        named = self._named.get(vote.by, set())
        return any(identity is not None and identity.startswith(each) for identity in about for each in named)


def _canonical(arguments: str) -> str:
    """Return arguments as an edit is kept here: those of an activity are in another order."""
    try:
        return edited_text(parse_arguments(arguments))
    except ArgumentsError:
        return arguments


def _matches_binding(binding: str, read_as: dict[str, JsonValue]) -> bool:
    """Return whether these are the values that the *binding* of a requirement is about. A set has no order."""
    bound = split_binding(binding)[1]
    return bound in {values_digest(read_as), values_digest(sorted_lists(read_as))} or not (bound or read_as)


def _is_digest_of(command: RunTool, ran: ToolCallInput, run_id: str) -> bool:
    """Return whether the requirement's id is the digest of exactly what ran."""
    shown = ran.authorization
    return shown is not None and shown.requirement_id == requirement_id(
        run_id=run_id,
        nonce=shown.nonce,
        call_id=ran.call_id,
        tool=command.tool,
        arguments=ran.arguments,
        policy_version=shown.policy_version,
        needed=shown.needed,
        expires_at=shown.expires_at,
        binding=shown.binding,
        proof=shown.proof,
    )
