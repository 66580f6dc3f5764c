"""Keeping a run within its budget: before each model call it is looked at what was used, and asked for more.

The requirement that asks is a requirement as any other: who decided it, when and why is in the history. Its nonce is
drawn by the workflow, so that no approval of an extension outlives a workflow reset.

Pure; safe in workflow code.
"""

from __future__ import annotations

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
"""What stands for a tool's name in the requirement of kind `budget`."""


def usage(run: Run, at: datetime) -> dict[str, float]:
    """What a run has used, by the name of the bound."""
    usage = run.usage
    seconds = (at - run.started_at).total_seconds() if run.started_at is not None else 0.0
    return {
        "max_tokens": usage.input_tokens + usage.output_tokens,
        "max_model_calls": usage.requests,
        "max_cost": usage.cost,
        "max_time": seconds,
    }


def exhausted(run: Run, at: datetime) -> list[str]:
    """The bounds of its budget that a run has reached, by name."""
    if run.budget is None:
        return []
    spent, over = usage(run, at), _time_limit(run)
    # The timer is set in whole microseconds: when it fires is when the time is over, whatever the seconds add up to.
    return [
        name
        for name, bound in run.budget.bounds.items()
        if (over is not None and at >= over if name == "max_time" else spent[name] >= bound)
    ]


def _time_limit(run: Run) -> datetime | None:
    if run.budget is None or run.budget.max_time is None or run.started_at is None:
        return None
    return deadlines.add_seconds(run.started_at, run.budget.max_time.total_seconds())


def pending_extension(run: Run) -> Requirement | None:
    """The requirement that asks for more, while it waits."""
    return next((each for each in run.pending if each.kind == "budget"), None)


def remaining(run: Run, at: datetime) -> Budget | None:
    """What is left of a run's budget, for another run that works for it; None where it has none.

    At least the least that a budget can be: what is used up by then is asked for, or ends the run, after its first
    model call.
    """
    if run.budget is None:
        return None
    spent = usage(run, at)
    bounds = {name: max(bound - spent[name], _LEAST[name]) for name, bound in run.budget.bounds.items()}
    return extended(run.budget, bounds)


def due_at(run: Run) -> datetime | None:
    """When the time of a run will be over; None where it has no bound, or somebody is being asked already."""
    return None if run.status == "idle" or pending_extension(run) is not None else _time_limit(run)


def just_ended(before: Run, run: Run) -> bool:
    """Whether a run has just failed because its time was over; whoever cancels it in that moment cancels it."""
    return run.ended and not before.ended


def failure(run: Run, at: datetime) -> Failure:
    """How a run ends that may use no more."""
    return Failure("BudgetExhausted", f"the run has used its budget: {_usage_text(run, at)}")


def request_extension(run: Run, delta: list[Item] | None = None) -> Step:
    """Hold back the model call that would carry *delta*, if any, and ask for more, unless that is under way."""
    held = run if delta is None else replace(run, held=tuple(delta), calls=(), model_running=False)
    if pending_extension(run) is not None:
        return Step(held)
    return Step(held, (AskBudget(f"budget-{_extensions(run) + 1}"),))


def with_one_request(step: Step) -> Step:
    """The step, with one question for more: the time may be over with the very event that reaches another bound."""
    first = next(command for command in step.commands if isinstance(command, AskBudget))
    rest = tuple(command for command in step.commands if not isinstance(command, AskBudget))
    return replace(step, commands=(*rest, first))


def open_extension(run: Run, event: BudgetReached) -> Step:
    """The requirement to extend the budget begins to wait."""
    if run.budget is None or pending_extension(run) is not None:
        return Step(run)
    names = exhausted(run, event.at)
    spent, allowance = usage(run, event.at), run.allowance or run.budget
    shown = {
        name: {
            "limit": run.budget.bounds[name],
            "used": round(spent[name], 6),
            "extend_by": allowance.bounds[name],
        }
        for name in names
    }
    arguments = canonical(shown).decode()
    gate = Gate.model_validate(
        {"verdict": "ask", "approvers": run.budget.approvers, "reason": _usage_text(run, event.at)}
    )
    call_id = f"budget-{_extensions(run) + 1}"
    requirement = open_requirement(
        run.call_context,
        ToolCall(call_id, EXTEND, arguments),
        gate,
        nonce=event.nonces[call_id],
        policy_version="",
        at=event.at,
    )
    requirement = requirement.model_copy(update={"kind": "budget"})
    return Step(replace(run, requirements=(*run.requirements, requirement)))


def extend(run: Run, requirement: Requirement, at: datetime) -> Run:
    """The run with what was asked for and shown: from now on, as much again as there was at first."""
    if run.budget is None:
        return run
    shown = cast("dict[str, dict[str, float]]", requirement.tool_args)
    spent = usage(run, at)
    return replace(
        run, budget=extended(run.budget, {name: spent[name] + by["extend_by"] for name, by in shown.items()})
    )


def _extensions(run: Run) -> int:
    return sum(each.kind == "budget" for each in run.requirements)


def _usage_text(run: Run, at: datetime) -> str:
    if run.budget is None:
        return "nothing"
    spent = usage(run, at)
    return ", ".join(
        f"{name.removeprefix('max_').replace('_', ' ')} {_number(spent[name])} of {_number(run.budget.bounds[name])}"
        for name in exhausted(run, at)
    )


def _number(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")
