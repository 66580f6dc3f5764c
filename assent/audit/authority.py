"""Whether somebody who could had decided about each call that ran: looked at anew, beside the rules that let it run.

Pure; safe in workflow code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from assent.core.approvals import edited_text, fold_name
from assent.core.events import MessageReceived, ModelAnswered, RunTool, ToolAnswered
from assent.core.state_machine import Run
from assent.wire import messages
from assent.wire.conversation import ToolCall, tool_calls
from assent.wire.digest import requirement_id
from assent.wire.errors import MessageError
from assent.wire.inbound import Approve, Reject, Revoke, SubmitInput, SubmitResult
from assent.wire.protocol import Gate, ToolCallInput
from assent.wire.requirements import Requirement, Vote

_ASKED = frozenset({"ask", "input"})


@dataclass(slots=True)
class Authority:
    """What was asked and said so far in a run, and what is wrong with a call that is to run by it.

    *_said* holds, by the name that a message gave, the ids that it named.

    Pure; safe in workflow code.
    """

    _asked: dict[str, tuple[ToolCall, Gate]] = field(default_factory=dict[str, tuple[ToolCall, Gate]])
    _said: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _edits: set[str] = field(default_factory=set[str])

    def heard(self, event: MessageReceived) -> None:
        """A message arrived."""
        try:
            message = messages.read(event.name, event.arguments)
        except MessageError:
            return
        # As the message is read, not as it was typed: what counts as white space around a name is for one to say.
        if isinstance(message, Approve | Reject | Revoke | SubmitInput | SubmitResult):
            self._said[message.by].add(message.id.strip().lower())
        if isinstance(message, Approve) and message.arguments is not None:
            self._edits.add(edited_text(message.arguments))

    def left(self, run: Run) -> None:
        """An execution that is gone left this behind: who sent its votes, and what its gates were, only it could say.

        Believed, so that a run whose beginning is past its retention is not taken for one that was forged; that its
        history is incomplete is said.
        """
        for each in run.requirements:
            for vote in each.votes:
                self._said[vote.by].add(each.id)
        for grant in run.grants:
            self._said[grant.by].add(grant.requirement_id)
        self._asked |= {each.call.call_id: (each.call, each.gate) for each in run.calls}

    def asked(self, event: ModelAnswered) -> None:
        """The model asked for calls; each has its gate from the same moment."""
        for call in tool_calls(event.turn.items):
            gate = event.turn.gates.get(call.call_id, Gate(verdict="deny"))
            self._asked[call.call_id] = (call, gate)

    def sent_back(self, event: ToolAnswered, run: Run) -> None:
        """A worker found that a call takes more today than it had: it has another gate since."""
        if event.outcome.gate is None or event.position >= len(run.calls):
            return
        call = run.calls[event.position].call
        if call.call_id in self._asked:
            self._asked[call.call_id] = (self._asked[call.call_id][0], event.outcome.gate)

    def problems(self, command: RunTool, ran: ToolCallInput, run: Run, at: datetime) -> Iterator[str]:
        """What speaks against a call that was scheduled at *at* with the input *ran*; nothing where it is in order."""
        found = self._asked.get(ran.call_id)
        if found is not None and found[0].tool != command.tool:
            yield f"{command.tool} ran for a call of {found[0].tool}"
        edited = found is not None and found[0].arguments != ran.arguments
        if edited and ran.arguments not in self._edits:
            yield f"{command.tool} ran with arguments that neither the model nor any person gave"
        if found is not None and found[1].verdict not in {"allow", *_ASKED}:
            yield f"{command.tool} ran here, and its gate was {found[1].verdict!r}"
        shown = ran.authorization
        if shown is None:
            yield from self._without(command, found[1] if found else None, edited=edited)
            return
        requirement = run.requirement(shown.requirement_id)
        if requirement is None:
            yield f"{command.tool} ran by requirement {shown.requirement_id[:8]}, which never existed"
            return
        if not _names_what_ran(command, ran, run.id):
            yield f"{command.tool} ran with other bytes than requirement {shown.requirement_id[:8]} is about"
        if requirement.arguments != ran.arguments:
            yield f"{command.tool} ran with other arguments than requirement {requirement.short_id} shows"
        yield from self._undecided(requirement, found[1] if found and not edited else None, run, at)

    def _without(self, command: RunTool, gate: Gate | None, *, edited: bool) -> Iterator[str]:
        if gate is None:
            yield f"{command.tool} ran, and the history does not say whether anybody had to be asked"
        elif gate.verdict in _ASKED or edited:
            yield f"{command.tool} ran without an approval, and its gate was {gate.verdict!r}"

    def _undecided(self, requirement: Requirement, gate: Gate | None, run: Run, at: datetime) -> Iterator[str]:
        name = f"requirement {requirement.short_id} ({requirement.tool})"
        if requirement.status != "approved" or requirement.resolved_at is None:
            yield f"{name} was {requirement.status} when its call ran"
            return
        if requirement.resolved_at > at:
            yield f"{name} was approved after its call had run"
        if requirement.expires_at is not None and requirement.resolved_at >= requirement.expires_at:
            yield f"{name} was approved after its deadline"
        if gate is not None and gate.verdict in _ASKED and requirement.needed < gate.needed:
            yield f"{name} asked {requirement.needed} people, and its gate {gate.needed}"
        approving = [vote for vote in requirement.votes if vote.verdict != "reject"]
        if len({fold_name(vote.by) for vote in approving}) < requirement.needed:
            yield f"{name} takes {requirement.needed} people, and has {len(approving)}"
        for vote in approving:
            yield from self._vote(requirement, vote, run, name)

    def _vote(self, requirement: Requirement, vote: Vote, run: Run, name: str) -> Iterator[str]:
        person = fold_name(vote.by)
        if requirement.approvers is not None and person not in map(fold_name, requirement.approvers):
            yield f"{name} was approved by {vote.by!r}, who may not decide it"
        own = run.requested_by is not None and fold_name(run.requested_by) == person
        # Filling in values of one's own run is allowed where the tool says so, as approving it is.
        if own and not requirement.self_approval:
            yield f"{name} was approved by {vote.by!r}, who asked for the run"
        if not self._was_sent(requirement, vote, run):
            yield f"{name} counts a vote of {vote.by!r} that nobody sent"

    def _was_sent(self, requirement: Requirement, vote: Vote, run: Run) -> bool:
        """Whether a message of the history bears a vote out; a grant's is the one that gave the grant."""
        about = {requirement.id, requirement.follows}
        if requirement.grant is not None:
            grant = next((each for each in run.grants if each.id == requirement.grant), None)
            if grant is None or grant.tool != requirement.tool or grant.by != vote.by:
                return False
            about = {grant.requirement_id}
        named = self._said.get(vote.by, set())
        return any(identity is not None and identity.startswith(each) for identity in about for each in named)


def _names_what_ran(command: RunTool, ran: ToolCallInput, run_id: str) -> bool:
    """Whether the requirement's id is the digest of exactly what ran."""
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
    )
