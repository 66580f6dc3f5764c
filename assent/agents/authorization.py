"""Whether a call may run, asked again at the moment it runs.

An approval authorises one exact operation. So the requirement's id is computed again from the arguments that are about
to run, and must equal the approved id. If today's policy or tool requires more than was given, the call goes back to a
person.

Not in workflow code: the functions of tools and groups are called again if a call goes back to a person.
"""

import hmac
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from assent.agents.gates import Gatekeeper
from assent.agents.tool import GateContext, Tool
from assent.core.approvals import fold_name, fold_names, may_approve
from assent.wire.digest import requirement_id
from assent.wire.proofs import ProofLevel, satisfies, stricter_level
from assent.wire.protocol import Authorization, CheckInput, Gate, ToolCallInput

RESET: Final = "the run was reset after this call began to wait: what was approved before that authorises nothing"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not run, in words for the model; with a *gate*, it goes back to a person under that."""

    reason: str
    gate: Gate | None = None


def refuse_unapproved(gate: Gate, call: ToolCallInput) -> Refusal | None:
    """Why *call*, which has no approval, may not run; None when it may. *gate* is today's, functions included."""
    if gate.verdict in {"deny", "invalid"}:
        return Refusal(gate.reason or "the policy does not permit it")
    stricter = _stricter(gate, call, None)
    return None if stricter is None else Refusal(stricter, gate)


def refusal(tool: Tool, call: ToolCallInput, keeper: Gatekeeper, *, run_id: str, now: datetime) -> Refusal | None:
    """Why the approved *call* may not run; None when it may. *keeper* has today's policies and groups."""
    context = context_of(call, tool, run_id)
    # Functions were asked once, when the model made the call, and what they said is recorded.
    gate = replace(keeper, functions=False).gate(tool, context, call.arguments)
    if gate.verdict in {"deny", "invalid"}:
        return Refusal(gate.reason or "the policy does not permit it")
    authorization = call.authorization
    if authorization is not None and (problem := mismatch(tool.name, call, authorization, run_id=run_id, now=now)):
        return Refusal(problem)
    # Who answers a server's question answers for a call that ran as approved until then.
    stricter = None if call.question is not None else _stricter(gate, call, authorization)
    return None if stricter is None else Refusal(stricter, keeper.gate(tool, context, call.arguments))


def ask_again(tool: Tool, call: ToolCallInput, keeper: Gatekeeper, *, run_id: str, reason: str = RESET) -> Refusal:
    """The refusal that sends an approved call to a person again for *reason*, under today's gate, whatever that is."""
    context = context_of(call, tool, run_id)
    gate = keeper.gate(tool, context, call.arguments)
    if gate.verdict == "allow":
        gate = replace(keeper, asks=True).gate(tool, context, call.arguments)
    return Refusal(reason, gate)


def context_of(call: ToolCallInput | CheckInput, tool: Tool, run_id: str) -> GateContext:
    """What the gate of a call is told about it, beside its arguments."""
    return GateContext(
        run_id=run_id,
        call_id=call.call_id,
        tool=tool.name,
        agent=call.agent,
        requested_by=call.requested_by,
        context=call.context or {},
    )


def mismatch(tool: str, call: ToolCallInput, authorization: Authorization, *, run_id: str, now: datetime) -> str | None:
    """Return why *authorization* does not authorise this call of *tool* now; None if it does."""
    expected = requirement_id(
        run_id=run_id,
        nonce=authorization.nonce,
        call_id=call.call_id,
        tool=tool,
        arguments=call.arguments,
        policy_version=authorization.policy_version,
        needed=authorization.needed,
        expires_at=authorization.expires_at,
        binding=authorization.binding,
        proof=authorization.proof,
    )
    if not hmac.compare_digest(expected, authorization.requirement_id):
        return "the call is not the one that was approved: its digest differs"
    people = len(fold_names(authorization.approved_by))
    if people < authorization.needed:
        return f"the call has {people} of {authorization.needed} approvals"
    if authorization.expires_at is not None and now >= authorization.expires_at:
        return "the approval has expired"
    return None


def _stricter(gate: Gate, call: ToolCallInput, authorization: Authorization | None) -> str | None:
    """What today's gate asks for that the call does not have; None when it has everything."""
    if gate.verdict == "external":
        return "the tool is now carried out elsewhere"
    if gate.verdict == "input" and call.values is None:
        return "the tool now takes values from a person"
    if gate.verdict == "allow":
        return None
    if authorization is None:
        return "the tool now needs an approval"
    # An escalation may have let further people decide, so they may today.
    further = [name for step in gate.escalations for name in step.approvers]
    approvers = None if gate.approvers is None else [*gate.approvers, *further]
    valid = [
        name
        for name in authorization.approved_by
        if may_approve(
            name,
            kind="confirmation",
            approvers=approvers,
            self_approval=gate.self_approval,
            requested_by=call.requested_by,
        )
        and satisfies(_level(name, authorization), gate.proof)
    ]
    people = len(fold_names(valid))
    if people >= gate.needed:
        return None
    return f"the tool now needs {gate.needed} approval{'s' * (gate.needed > 1)}, and {people} of those it has count"


def _level(name: str, authorization: Authorization) -> ProofLevel | None:
    """The level of the proof that the approval of *name* came with; the tool's activity checks it."""
    own = [each for each in authorization.proofs if fold_name(each.statement.by) == fold_name(name)]
    levels: list[ProofLevel] = [each.verified.level for each in own]
    return stricter_level(*levels)
