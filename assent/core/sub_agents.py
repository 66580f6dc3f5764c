"""Agents that work for agents: a run that answers a call of another, and a conversation that is handed over.

The run below is one as any other: it decides nothing for the one above, nor that for it. What bounds the calling agent
bounds whatever it sets going: its policy, and what is left of its budget.

Pure; safe in workflow code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue, ValidationError

from assent.core.events import Failure
from assent.core.run_state import Run
from assent.core.tool_calls import Call
from assent.wire.budget import Budget
from assent.wire.conversation import fitted
from assent.wire.digest import sha256_hex
from assent.wire.errors import MessageError
from assent.wire.messages import shown
from assent.wire.protocol import Delegation, Execution, ParentRun, RunRequest, RunResult, Usage
from assent.wire.requirements import Grant
from assent.wire.text import bounded

MAX_DEPTH: Final = 8
"""Runs one below the other, at the most: agents that call each other in a circle come to an end."""
ANSWER_LIMIT: Final = 256 * 1024
"""Bytes of another agent's answer that reach the model; the whole stands in the history."""
CANCELLED: Final = Failure("Cancelled", "its run was cancelled")
TERMINATED: Final = Failure("Terminated", "its run was terminated")
TIMED_OUT: Final = Failure("Timeout", "its run was timed out by the server")
NOT_STARTED: Final = Failure("NotStarted", "its run could not be begun")
QUEUE_NAME: Final = re.compile(r"(?!/_sys/)[!-~]{1,200}")
"""What names a task queue."""
AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What names an agent."""
_ERROR_LIMIT: Final = 2_000
"""Characters of why such a run failed that reach the model."""
_SHOWN: Final = 200
_ID_LIMIT: Final = 600
"""Bytes of a run's id that the ids of the runs below begin with; the server takes 1,000 in all."""


def check_parents(request: RunRequest, parent: Execution | None) -> None:
    """Refuse a request that claims to come from a run which did not begin it: *parent*, as Temporal says.

    Raises:
        MessageError: it does; one line.

    Pure; safe in workflow code.
    """
    if request.parents and (parent is None or request.parents[-1].run_id != parent.run_id):
        message = f"AgentRun: parents: run {request.parents[-1].run_id!r} did not begin this one; leave parents out"
        raise MessageError(message)


def agent_mismatch(call: Call, agent: str) -> str | None:
    """Why a call may not go to *agent*: it was gated, and perhaps approved, as one for another; None where it was not.

    Pure; safe in workflow code.
    """
    gated = call.gate.agent
    if gated == agent:
        return None
    was = "no agent" if gated is None else f"agent {gated!r}"
    return f"the call was for {was}, and leads to agent {bounded(repr(agent), _SHOWN)} by now"


def delegation_objection(run: Run, given: Delegation) -> str | None:
    """Why another agent is not asked; None where it is.

    Pure; safe in workflow code.
    """
    above = len(run.request.parents) if run.request else 0
    if above + 1 >= MAX_DEPTH:
        return f"agents may work for each other {MAX_DEPTH} deep, and this one is the last; answer with what you have"
    if not given.input.strip():
        return "the input is empty; say what the agent is to do"
    # Somebody may have put this in by hand, and the server takes no run with such an id, nor on such a task queue.
    if not AGENT_NAME.fullmatch(given.agent):
        return f"no agent can be named {bounded(repr(given.agent), _SHOWN)}"
    if given.task_queue is not None and not QUEUE_NAME.fullmatch(given.task_queue):
        return f"no task queue can be named {bounded(repr(given.task_queue), _SHOWN)}"
    return None


def child_request(run: Run, call: Call, given: Delegation, budget: Budget | None) -> RunRequest:
    """What another agent is asked, for a call of this run. Whoever asked for this run asks for that one.

    Pure; safe in workflow code.
    """
    above = run.request.parents if run.request else []
    mine = ParentRun(run_id=run.id, agent=run.call_context.agent, tool=call.call.tool, call_id=call.call.call_id)
    fields: dict[str, object] = {"agent": given.agent, "input": given.input, "parents": [*above, mine]}
    if run.requested_by is not None:
        fields["requested_by"] = run.requested_by
    if given.policy is not None:
        fields["policy"] = given.policy
    if budget is not None:
        fields["budget"] = budget
    return RunRequest.model_validate(fields)


def child_run_id(run: Run, agent: str, nonce: str) -> str:
    """The id of a run that another agent answers a call in; the nonce makes it another after a workflow reset.

    Pure; safe in workflow code.
    """
    above = run.id if len(run.id.encode()) <= _ID_LIMIT else sha256_hex(run.id.encode())
    return f"{above}.{agent}-{nonce[:12]}"


def read_result(value: object) -> tuple[RunResult | Failure, Usage]:
    """What the result of such a run is, and what it used; somebody may have put in anything at all.

    Pure; safe in workflow code.
    """
    try:
        result = RunResult.model_validate(value)
    except ValidationError:
        return Failure("InvalidResult", f"its result is not a run's: {shown([value])}"), Usage()
    return result, result.usage


def read_failure(kind: str | None, message: str, details: Sequence[object]) -> tuple[Failure, Usage]:
    """How such a run failed, and what it used by then, as its failure tells.

    Pure; safe in workflow code.
    """
    told = details[0] if details else None
    try:
        usage = Usage.model_validate(cast("dict[str, object]", told)["usage"]) if isinstance(told, dict) else Usage()
    except (KeyError, ValidationError):
        usage = Usage()
    return Failure(kind or "Error", bounded(message, _ERROR_LIMIT)), usage


def failure_details(run: Run) -> list[dict[str, JsonValue]]:
    """What the failure of a run tells the one above, besides why: what it used.

    Pure; safe in workflow code.
    """
    above = run.request is not None and run.request.parents
    return [{"usage": run.usage.model_dump(mode="json")}] if above else []


def child_answer(call: Call, came_to: RunResult | Failure) -> tuple[str, str]:
    """What the model is told of a run that answered its call, and what the call came to.

    Pure; safe in workflow code.
    """
    if isinstance(came_to, RunResult):
        return fitted([came_to.content], ANSWER_LIMIT)[0], "executed"
    return f"Error: agent {call.delegated!r} gave no answer: {came_to.kind}: {came_to.message}", "failed"


def apply_handoff(run: Run, at: datetime) -> Run:
    """The run with another agent to go on with its conversation, where one of the turn's calls said so.

    What was approved once and for all was approved of the agent before: it ends. Its model may be asked elsewhere.

    Pure; safe in workflow code.
    """
    to = run.handoff
    if to is None:
        return run
    grants = tuple(_ended(each, to.agent, at) for each in run.grants)
    return replace(run, agent=to.agent, policy=to.policy, handoff=None, model_task_queue=None, grants=grants)


def _ended(grant: Grant, agent: str, at: datetime) -> Grant:
    if not grant.is_active(at):
        return grant
    reason = f"the conversation was handed over to {agent}"
    return grant.model_copy(update={"revoked_at": at, "reason": reason})
