"""Agents that work for agents: child runs that answer a call of their parent, and handoffs of a conversation.

A decision applies only to the run that it is sent to, never to its parent or child runs. The calling agent's policy and
the rest of its budget limit the child run too.
"""

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
from assent.wire.conversation import shorten_outputs
from assent.wire.digest import sha256_hex
from assent.wire.errors import MessageError
from assent.wire.limits import ANSWER_LIMIT, CHILD_ERROR_SHOWN, PARENT_ID_LIMIT, VALUE_SHOWN
from assent.wire.messages import shown
from assent.wire.protocol import Delegation, Execution, ParentRun, RunRequest, RunResult, Usage
from assent.wire.text import bounded

MAX_DEPTH: Final = 8
"""The runs from the outermost parent to the innermost child, at most: agents that call each other in a circle end."""
CANCELLED: Final = Failure("Cancelled", "its run was cancelled")
TERMINATED: Final = Failure("Terminated", "its run was terminated")
TIMED_OUT: Final = Failure("Timeout", "its run was timed out by the server")
NOT_STARTED: Final = Failure("NotStarted", "its run could not be started")
QUEUE_NAME: Final = re.compile(r"(?!/_sys/)[!-~]{1,200}")
"""Matches the name of a task queue."""
AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""Matches the name of an agent."""


def check_parents(request: RunRequest, parent: Execution | None) -> None:
    """Refuse a request whose last parent is not the *parent* that Temporal names.

    Raises:
        MessageError: it is another one. One line.
    """
    if request.parents and (parent is None or request.parents[-1].run_id != parent.run_id):
        message = f"AgentRun: parents: run {request.parents[-1].run_id!r} did not start this one; leave parents out"
        raise MessageError(message)


def agent_mismatch(call: Call, agent: str) -> str | None:
    """Return why a call may not go to *agent*: its gate, and perhaps its approval, names another; None if it may."""
    gated = call.gate.agent
    if gated == agent:
        return None
    was = "no agent" if gated is None else f"agent {gated!r}"
    return f"the call was for {was}, and now leads to agent {bounded(repr(agent), VALUE_SHOWN)}"


def delegation_objection(run: Run, delegation: Delegation) -> str | None:
    """Return why a child run is not started; None if it is."""
    if run.request is not None and len(run.request.parents) + 1 >= MAX_DEPTH:
        return f"agents may call each other {MAX_DEPTH} deep, and this one is the last; answer with what you have"
    if not delegation.input.strip():
        return "the input is empty; say what the agent is to do"
    # An operator may have set this result. The server takes no run with such an id, nor on such a task queue.
    if not AGENT_NAME.fullmatch(delegation.agent):
        return f"no agent can be named {bounded(repr(delegation.agent), VALUE_SHOWN)}"
    if delegation.task_queue is not None and not QUEUE_NAME.fullmatch(delegation.task_queue):
        return f"no task queue can be named {bounded(repr(delegation.task_queue), VALUE_SHOWN)}"
    return None


def child_request(run: Run, call: Call, delegation: Delegation, budget: Budget | None) -> RunRequest:
    """Return the request for a child run that answers a call. Its requester and context are those of this run."""
    parents = run.request.parents if run.request else []
    parent = ParentRun(run_id=run.id, agent=run.call_context.agent, tool=call.call.tool, call_id=call.call.call_id)
    return RunRequest(
        agent=delegation.agent,
        input=delegation.input,
        parents=[*parents, parent],
        requested_by=run.requested_by,
        policy=delegation.policy,
        budget=budget,
        context=run.context,
    ).without_defaults()


def child_run_id(run: Run, agent: str, nonce: str) -> str:
    """Return the id of a child run; the nonce makes it another one after a workflow reset."""
    parent = run.id if len(run.id.encode()) <= PARENT_ID_LIMIT else sha256_hex(run.id.encode())
    return f"{parent}.{agent}-{nonce[:12]}"


def child_id(parent: str, name: str, execution_id: str, number: int) -> str:
    """Return the id of the run that other workflow code starts, for its request of this *number* for *name*.

    It is the same after a workflow reset, so that the run of before ends where it still waits.
    """
    short = parent if len(parent.encode()) <= PARENT_ID_LIMIT else sha256_hex(parent.encode())
    return f"{short}.{name}-{sha256_hex(execution_id.encode())[:8]}-{number}"


def read_result(value: object) -> tuple[RunResult | Failure, Usage]:
    """Return the result of a child run, and its usage. The workflow may have returned any value."""
    try:
        result = RunResult.model_validate(value)
    except ValidationError:
        return Failure("InvalidResult", f"its result is not a run's: {shown([value])}"), Usage()
    return result, result.usage


def read_failure(kind: str | None, message: str, details: Sequence[object]) -> tuple[Failure, Usage]:
    """Return the failure of a child run, and its usage until then as the failure's *details* have it."""
    first = details[0] if details else None
    try:
        usage = Usage.model_validate(cast("dict[str, object]", first)["usage"]) if isinstance(first, dict) else Usage()
    except (KeyError, ValidationError):
        usage = Usage()
    return Failure(kind or "Error", bounded(message, CHILD_ERROR_SHOWN)), usage


def failure_details(run: Run) -> list[dict[str, JsonValue]]:
    """Return the details of the run's failure for its parent run: the usage."""
    is_child = run.request is not None and run.request.parents
    return [{"usage": run.usage.model_dump(mode="json")}] if is_child else []


def child_answer(call: Call, result: RunResult | Failure) -> tuple[str, str]:
    """Return the model's answer from a child run, and the execution of its call."""
    if isinstance(result, RunResult):
        return shorten_outputs([result.content], ANSWER_LIMIT)[0], "executed"
    return f"Error: agent {call.delegated!r} gave no answer: {result.kind}: {result.message}", "failed"


def apply_handoff(run: Run, at: datetime) -> Run:
    """Return the run with its next agent, if a call of the turn requested a handoff.

    Grants end, because people gave them to the agent before. The next agent's model may have another task queue.
    """
    to = run.handoff
    if to is None:
        return run
    ended = {"revoked_at": at, "reason": f"the conversation was handed over to {to.agent}"}
    grants = tuple(each.model_copy(update=ended) if each.is_active(at) else each for each in run.grants)
    return replace(run, agent=to.agent, policy=to.policy, handoff=None, model_task_queue=None, grants=grants)
