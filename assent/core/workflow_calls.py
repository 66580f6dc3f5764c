"""Runs without a model: workflow code asks people about one call, and the run ends with their `Decision`.

The request has the call with its gate. From there on the rules are those of a model's call.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue

from assent.core.events import ModelAnswered, Started
from assent.core.run_state import Run
from assent.wire.digest import canonical, json_size, parse_arguments
from assent.wire.limits import CALL_ARGUMENTS_LIMIT, RESULT_SHOWN
from assent.wire.messages import Approve, shown
from assent.wire.protocol import SEND_MESSAGE, Checked, Decision, Gate, ModelTurn, WorkflowCall
from assent.wire.requirements import IgnoredMessage
from assent.wire.text import bounded, one_line

CALL_ID: Final = "call"
"""The id of the one call of such a run."""
NO_MODEL: Final = "the run has no model that could read it: it only asks people about one call"
_PREFIXES: Final = {"failed": "Error: ", "refused": "Not run: "}
"""How the answer of a call begins that did not give a result."""


def has_call(arguments: Sequence[object]) -> bool:
    """Return whether the inputs of a run have a call, so that it needs a nonce. They may be of any shape."""
    first = arguments[0] if arguments else None
    return isinstance(first, dict) and cast("dict[str, object]", first).get("call") is not None


def gate_of(call: WorkflowCall) -> Gate:
    """Return the gate of a call: its activity runs at most once, and a result is checked where its type is given."""
    checked = call.gate.verdict == "external" and bool(call.gate.fields)
    if not checked and not call.activity:
        return call.gate
    return call.gate.model_copy(update={"at_most_once": call.activity, "checked": checked})


def as_turn(call: WorkflowCall, event: Started) -> ModelAnswered:
    """Return the event of a model's turn with this call alone, with the nonces of the run's start."""
    item: dict[str, JsonValue] = {
        "type": "function_call", "call_id": CALL_ID, "name": call.tool, "arguments": call.arguments,
    }  # fmt: skip
    return ModelAnswered(event.at, ModelTurn(items=[item], gates={CALL_ID: gate_of(call)}), event.nonces)


def without_messages(run: Run, at: datetime) -> Run:
    """Return the run without the messages that came before it began: they are ignored, as no model reads them."""
    for item in run.queued:
        text = shown([item.get("content")])
        run = run.with_ignored(IgnoredMessage(status="refused", name=SEND_MESSAGE, detail=NO_MODEL, at=at, text=text))
    return replace(run, queued=(), queued_size=0)


# -- checks of what people send ---------------------------------------------------------------------------------------


def order(run: Run) -> Sequence[str]:
    """Return the order of the arguments where it counts: an activity takes their values one after the other."""
    call = run.workflow_call
    return list(parse_arguments(call.arguments)) if call is not None and call.activity else ()


def check_edit(run: Run, call: WorkflowCall, message: Approve) -> Checked:
    """Check edited arguments. No tool knows them, and the rules of an edit are simple: a worker is not asked."""
    return Checked(problem=_edit_problem(order(run), message.arguments or {}), gate=gate_of(call))


def _edit_problem(names: Sequence[str], arguments: dict[str, JsonValue]) -> str | None:
    if names and {*names} != arguments.keys():
        return f"the activity takes these arguments, all of them and no others: {', '.join(names)}"
    if json_size(arguments) > CALL_ARGUMENTS_LIMIT:
        return f"the arguments are too long; the limit is {CALL_ARGUMENTS_LIMIT} bytes"
    return None


# -- the result -------------------------------------------------------------------------------------------------------


def decision_of(run: Run) -> Decision:
    """Return what became of the call of a run, once it has its answer."""
    [call] = run.calls
    requirement = next(each for each in reversed(run.requirements) if each.id == call.requirement_id)
    answer, votes, status = call.answer or "", requirement.votes, str(requirement.status)
    if status == "approved":
        status = requirement.execution or status
    elif status == "rejected" and requirement.kind == "outcome":
        status = "failed"
    counted = votes if requirement.status == "approved" else votes[-1:]  # One rejection outweighs approvals.
    fields: dict[str, object] = {
        "status": status,
        "requirement_id": requirement.id,
        "run_id": run.id,
        "decided_by": [] if requirement.status == "expired" else [vote.by for vote in counted],
        "reason": requirement.reason,
        "arguments": parse_arguments(call.call.arguments),
        "values": requirement.values,
        "evidence": requirement.evidence,
    }
    if status == "executed" and votes[-1].verdict == "submit":
        fields["output"] = call.submitted
    elif status == "executed":
        fields |= _value(answer)
    if status in _PREFIXES:
        fields["error"] = answer.removeprefix(_PREFIXES[status])
    return Decision.model_validate(fields)


def _value(output: str) -> dict[str, JsonValue]:
    """Return the result of an activity, which is JSON; what was cut, or set by an operator, may be none."""
    try:
        value = cast("JsonValue", json.loads(output))
        canonical(value)  # JSON has no NaN.
    except (ValueError, RecursionError):
        return {"output": output, "error": "its result is not whole JSON: it was too large, or set by an operator"}
    return {"output": value}


def summary(decision: Decision) -> str:
    """Return a decision in one line."""
    names = ", ".join(decision.decided_by)
    by = "" if not names else f" by {names}" if decision.status in {"approved", "rejected"} else f"; decided by {names}"
    why = decision.error or decision.reason
    return bounded(one_line(f"{decision.status}{by}{f': {why}' if why else ''}"), RESULT_SHOWN)
