"""Whether a call may run, asked again at the moment it runs.

What an approval authorises is one exact operation. So the parts of the requirement's id are put together anew, with
the arguments that are about to run, and must give the id that was approved.

Pure; safe in workflow code.
"""

from __future__ import annotations

import hmac
from datetime import datetime

from assent.approvals import fold_name
from assent.digest import requirement_id
from assent.policy import PermissionPolicy, gate_for
from assent.protocol import Authorization, ToolCallInput
from assent.tools import Tool


def refusal(
    tool: Tool, call: ToolCallInput, policy: PermissionPolicy | None, *, workflow_id: str, now: datetime
) -> str | None:
    """Why *call* may not run, in words for the model; None when it may.

    Pure; safe in workflow code.
    """
    gate = gate_for(tool, tool.name, call.arguments, policy)
    if gate.verdict in {"deny", "invalid"}:
        return gate.reason or "the policy does not permit it"
    if gate.verdict in {"external", "input"}:
        return f"the tool {tool.name!r} is no longer run here"
    if call.authorization is None:
        return None if gate.verdict == "allow" else f"the tool {tool.name!r} now needs an approval; ask for it again"
    return _mismatch(tool, call, call.authorization, workflow_id=workflow_id, now=now)


def _mismatch(
    tool: Tool, call: ToolCallInput, authorization: Authorization, *, workflow_id: str, now: datetime
) -> str | None:
    expected = requirement_id(
        workflow_id=workflow_id,
        nonce=authorization.nonce,
        call_id=call.call_id,
        tool=tool.name,
        arguments=call.arguments,
        policy_version=authorization.policy_version,
        needed=authorization.needed,
        expires_at=authorization.expires_at,
    )
    if not hmac.compare_digest(expected, authorization.requirement_id):
        return "the call is not the one that was approved: its digest differs"
    people = len({fold_name(name) for name in authorization.approved_by})
    if people < authorization.needed:
        return f"the call has {people} of {authorization.needed} approvals"
    if authorization.expires_at is not None and now >= authorization.expires_at:
        return "the approval has expired"
    return None
