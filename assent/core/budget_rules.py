"""Checks usage before each model call, and asks a person for more when the budget is spent.

The request for more is a requirement like any other, so its decision is in the history. The workflow draws its nonce,
so that no approval of it outlives a workflow reset.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final, cast

from assent.core import deadlines
from assent.core.events import AskBudget, BudgetReached, Failure
from assent.core.run_state import Run, Step
from assent.core.tool_calls import open_requirement
from assent.wire.budget import Budget, extended
from assent.wire.conversation import ToolCall
from assent.wire.digest import canonical
from assent.wire.protocol import Gate, Item
from assent.wire.requirements import Requirement

_LEAST: Final = {"max_tokens": 1, "max_model_calls": 1, "max_cost": 1e-9, "max_time": 1.0}
EXTEND: Final = "extend_budget"
"""The tool name in a requirement of kind `budget`."""
UNCOUNTED_CALLS: Final = 10
"""The model calls that an approval adds where the provider counts no tokens, so that no limit would be reached."""


def usage(run: Run, at: datetime) -> dict[str, float]:
    """Return what a run has used, by the name of the limit."""
    total = run.usage
    return {
        "max_tokens": total.input_tokens + total.output_tokens,
        "max_model_calls": total.requests,
        "max_cost": total.cost,
        "max_time": (at - run.started_at).total_seconds() if run.started_at is not None else 0.0,
    }


def exhausted(run: Run, at: datetime) -> list[str]:
    """Return the names of the limits of its budget that a run has reached, or can never reach, with no other limit."""
    if run.budget is None:
        return []
    if _is_uncounted(run):
        return list(run.budget.bounds)
    used, end = usage(run, at), _time_limit(run)
    # The timer has whole microseconds: the time is over when it fires, whatever the sum of seconds is.
    return [
        name
        for name, limit in run.budget.bounds.items()
        if (end is not None and at >= end if name == "max_time" else used[name] >= limit)
    ]


def _is_uncounted(run: Run) -> bool:
    """Return whether all limits of the budget are about tokens, and the provider has counted none of its answers'."""
    limits, total = run.budget.bounds if run.budget else {}, run.usage
    countable = limits.keys() <= {"max_tokens", "max_cost"}
    return countable and total.requests > 0 and total.input_tokens + total.output_tokens == 0


def _time_limit(run: Run) -> datetime | None:
    if run.budget is None or run.budget.max_time is None or run.started_at is None:
        return None
    return deadlines.add_seconds(run.started_at, run.budget.max_time.total_seconds())


def pending_extension(run: Run) -> Requirement | None:
    """Return the pending requirement for more budget."""
    return next((each for each in run.pending if each.kind == "budget"), None)


def remaining(run: Run, at: datetime) -> Budget | None:
    """Return the share of what is left of a run's budget that its next child run gets; None if it has no budget.

    What the child runs of the turn may use already is not left, and the calls of agents without a child run yet
    share the rest. All have the same time: they run side by side. A limit that is used up becomes the smallest one
    that is valid: the child asks for more, or ends, after its first model call.
    """
    if run.budget is None:
        return None
    used = usage(run, at)
    for child_budget in (call.budget for call in run.calls if call.running and call.budget is not None):
        used |= {name: used[name] + bound for name, bound in child_budget.bounds.items() if name != "max_time"}
    asking = sum(call.gate.agent is not None and call.answer is None and call.delegated is None for call in run.calls)
    left = {
        name: (limit - used[name]) / (1 if name == "max_time" else max(asking, 1))
        for name, limit in run.budget.bounds.items()
    }
    return extended(run.budget, {name: max(each, _LEAST[name]) for name, each in left.items()})


def due_at(run: Run) -> datetime | None:
    """Return when the time of a run is over; None if it has no limit, or waits for an extension already."""
    return None if run.status == "idle" or pending_extension(run) is not None else _time_limit(run)


def failure(run: Run, at: datetime) -> Failure:
    """Return the failure of a run that has used its budget."""
    return Failure("BudgetExhausted", f"the run has used its budget: {_usage_text(run, at)}")


def request_extension(run: Run, delta: list[Item] | None = None) -> Step:
    """Hold back the model call that would carry *delta*, if there is one, and ask for more unless that is pending."""
    held = run if delta is None else replace(run, held=tuple(delta), calls=(), model_running=False)
    return Step(held, () if pending_extension(run) is not None else (AskBudget(_call_id(run)),))


def with_one_request(step: Step) -> Step:
    """Keep one request for more: the event that ends the time may also reach another limit."""
    first = next(command for command in step.commands if isinstance(command, AskBudget))
    rest = tuple(command for command in step.commands if not isinstance(command, AskBudget))
    return replace(step, commands=(*rest, first))


def open_extension(run: Run, event: BudgetReached) -> Step:
    """Open the requirement that asks for more."""
    if run.budget is None or pending_extension(run) is not None:
        return Step(run)
    used, allowance = usage(run, event.at), run.allowance or run.budget
    arguments = {
        name: {"limit": run.budget.bounds[name], "used": round(used[name], 6), "extend_by": allowance.bounds[name]}
        for name in exhausted(run, event.at)
    }
    approvers = None if run.budget.approvers is None else list(run.budget.approvers)
    requirement = open_requirement(
        run.call_context,
        ToolCall(_call_id(run), EXTEND, canonical(arguments).decode()),
        Gate(verdict="ask", approvers=approvers, reason=_usage_text(run, event.at), proof=run.proof),
        nonce=event.nonces[_call_id(run)],
        policy_version="",
        at=event.at,
    ).model_copy(update={"kind": "budget"})
    return Step(replace(run, requirements=(*run.requirements, requirement)))


def extend(run: Run, requirement: Requirement, at: datetime) -> Run:
    """Return the run with as much more as its first budget, for the limits that the requirement shows."""
    if run.budget is None:
        return run
    shown = cast("dict[str, dict[str, float]]", requirement.tool_args)
    used = usage(run, at)
    limits = {name: used[name] + each["extend_by"] for name, each in shown.items()}
    if not _is_uncounted(run):
        return replace(run, budget=extended(run.budget, limits))
    calls = {"max_model_calls": used["max_model_calls"] + UNCOUNTED_CALLS}
    allowance = extended(run.allowance or run.budget, {"max_model_calls": UNCOUNTED_CALLS})
    return replace(run, budget=extended(run.budget, limits | calls), allowance=allowance)


def _call_id(run: Run) -> str:
    return f"budget-{sum(each.kind == 'budget' for each in run.requirements) + 1}"


def _usage_text(run: Run, at: datetime) -> str:
    if run.budget is None:
        return "nothing"
    used = usage(run, at)
    uncounted = f"; its provider counts no tokens: each extension is {UNCOUNTED_CALLS} model calls"
    why = uncounted if _is_uncounted(run) else ""
    reached = ", ".join(
        f"{name.removeprefix('max_').replace('_', ' ')} {_number(used[name])} of {_number(run.budget.bounds[name])}"
        for name in exhausted(run, at)
    )
    return reached + why


def _number(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")
