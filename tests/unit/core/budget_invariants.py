"""What a run with a budget promises, by accounts that are kept beside it: checked after every step of a random life."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import invariant

from assent.core.budget_rules import UNCOUNTED_CALLS
from assent.core.continue_as_new import carry, restore, shortened
from assent.core.events import AskBudget, BudgetReached, CallModel, Command
from assent.core.run_state import Run
from assent.wire.budget import BOUNDS, Budget
from assent.wire.protocol import Usage
from assent.wire.requirements import Requirement
from tests.unit.core.run_invariants import Promises

USAGES: Final = st.builds(
    Usage,
    requests=st.just(1),
    input_tokens=st.sampled_from([0, 60]),
    output_tokens=st.sampled_from([0, 40, 1_000]),
    cost=st.sampled_from([0.0, 0.1, 0.7]),
)


def _budget(bounds: Mapping[str, float], ends: bool, approvers: list[str] | None) -> dict[str, object]:
    return {**bounds, "on_reached": "end" if ends else "ask", "approvers": approvers}


_BOUNDS: Final = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.sampled_from([1, 100, 2_000]),
        "max_model_calls": st.integers(1, 3),
        "max_cost": st.sampled_from([0.1, 0.3, 2.0]),
        "max_time": st.sampled_from([0.001, 1.0, 60.1, 0.333_333, 3_600.0, 86_400.0]),
    },
).filter(bool)
BUDGETS: Final = st.builds(
    _budget, _BOUNDS, st.sampled_from([False, False, True]), st.none() | st.none() | st.just(["bob", "carol"])
)
_A_MOMENT: Final = timedelta(microseconds=1)
"""What a time may be off by, once its seconds were added up in binary."""


class BudgetPromises(Promises):
    """A run whose use is counted by somebody else as well."""

    def __init__(self) -> None:
        """Begin with nothing used, and no bounds."""
        super().__init__()
        self.used = Usage()
        self.bounds: dict[str, float] = {}
        self.first: dict[str, float] = {}
        self.ends = False
        self.decided: set[str] = set()

    def bounded(self, own: dict[str, object] | None, asked: dict[str, object] | None) -> None:
        """The first turn has brought the budget: the tighter of the agent's and the request's."""
        given = [each for each in (own, asked) if each is not None]
        for name in BOUNDS:
            found = [float(str(each[name])) for each in given if name in each]
            if found:
                least = min(found)  # A duration has whole microseconds.
                least = timedelta(seconds=least).total_seconds() if name == "max_time" else least
                self.bounds[name] = self.first[name] = least
        self.ends = any(each["on_reached"] == "end" for each in given)

    def spent(self, name: str) -> float:
        """What the run has used of it by the newest event."""
        usage, began = self.used, self.run_now.started_at
        match name:
            case "max_tokens":
                return usage.input_tokens + usage.output_tokens
            case "max_model_calls":
                return usage.requests
            case "max_cost":
                return usage.cost
            case _:
                return (self.last_at - began).total_seconds() if began is not None else 0.0

    @property
    def is_uncounted(self) -> bool:
        """Whether tokens alone are bounded, and the provider has counted none."""
        tokens = self.used.input_tokens + self.used.output_tokens
        only_tokens = self.bounds.keys() <= {"max_tokens", "max_cost"}
        return bool(self.bounds) and only_tokens and self.used.requests > 0 and tokens == 0

    def is_reached(self, name: str) -> bool:
        """Whether so much of it is used, or it can never be told."""
        if self.is_uncounted:
            return True
        if name == "max_time":
            return self.spent(name) >= self.bounds[name] - _A_MOMENT.total_seconds()
        return self.spent(name) >= self.bounds[name]

    # -- before and after one event -----------------------------------------------------------------------------------

    def happened(self, before: Run, commands: list[Command]) -> None:
        """Compare the run before and after with what was counted."""
        super().happened(before, commands)
        for each in self.run_now.requirements:
            if each.kind == "budget" and each.status != "pending" and each.id not in self.decided:
                self.decided.add(each.id)
                self.is_decided(before, each)
        self.is_asked_once(before, commands)
        if self.run_now.failure is not None and self.run_now.failure.kind == "BudgetExhausted" and not before.ended:
            self.ends_for_a_reason()

    def is_asked_once(self, before: Run, commands: list[Command]) -> None:
        """A requirement is opened for each time that the run asks, for what is reached, and before no model call."""
        known = {each.id for each in before.requirements}
        opened = [each for each in self.run_now.requirements if each.kind == "budget" and each.id not in known]
        assert len(opened) <= 1
        assert len(opened) == sum(isinstance(each, AskBudget) for each in commands), "and asks no more often than that"
        for each in opened:
            assert not self.ends, "a run that is to end asks nobody"
            assert not any(isinstance(command, CallModel) for command in commands)
            self.shows_what_is_reached(each)

    def shows_what_is_reached(self, opened: Requirement) -> None:
        """Whoever decides sees each bound that is reached, and no other, and as much again as there was at first."""
        shown = json.loads(opened.arguments)
        assert shown, "there is something to extend"
        assert set(shown) == {name for name in self.bounds if self.is_reached(name)}
        for name, each in shown.items():
            assert each["extend_by"] == self.first[name]

    def is_decided(self, before: Run, settled: Requirement) -> None:
        """An approval lets the run go on, with as much again; a rejection ends it."""
        run = self.run_now
        if settled.status == "rejected":
            assert run.failure is not None
            assert (run.status, run.failure.kind) == ("failed", "BudgetExhausted")
        elif settled.status == "approved":
            if self.is_uncounted:
                self.bounds["max_model_calls"] = self.used.requests + UNCOUNTED_CALLS
                self.first["max_model_calls"] = UNCOUNTED_CALLS
            for name, each in json.loads(settled.arguments).items():
                self.bounds[name] = self.spent(name) + each["extend_by"]
            again = any(each.kind == "budget" and each.id != settled.id for each in run.pending)
            assert before.held is None or run.model_running or again, "what was held back is asked"
            assert run.ended == before.ended
        else:
            assert (settled.status, run.ended) == ("cancelled", True)

    def ends_for_a_reason(self) -> None:
        """A run that ends for its budget has reached it, and either should end or was refused more."""
        reached = any(self.is_reached(name) for name in self.bounds)
        refused = any(each.kind == "budget" and each.status == "rejected" for each in self.run_now.requirements)
        assert refused or (reached and self.ends)
        told = self.run_now.failure.message if self.run_now.failure else ""
        assert refused or " of " in told, "and says which"

    def model_is_called(self, command: CallModel) -> None:
        """A model call is made while nothing is reached and nobody is being asked."""
        super().model_is_called(command)
        assert not any(each.kind == "budget" for each in self.run_now.pending)
        # What somebody gave more of with this very event is in the run's own budget by now.
        budget = self.run_now.budget or Budget()
        assert all(self.spent(name) < bound for name, bound in budget.bounds.items())

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def the_budget_is_what_was_given(self) -> None:
        """The bounds are those of the agent and the request, and what people added; nothing else moves them."""
        budget = self.run_now.budget
        found = {} if budget is None else budget.bounds
        assert found.keys() == self.bounds.keys()
        assert all(abs(found[name] - bound) < 1e-6 for name, bound in self.bounds.items())

    @invariant()
    def a_model_call_is_held_back_for_a_reason(self) -> None:
        """What the next model call would carry is held back while somebody is asked for more, and only then."""
        run = self.run_now
        asking = [each for each in run.pending if each.kind == "budget"]
        assert len(asking) <= 1
        if run.held is not None and not run.ended:
            assert asking
            assert not run.model_running
            assert not run.calls
        opened = sum(each.kind == "budget" for each in run.requirements)
        assert opened <= sum(isinstance(event, BudgetReached) for event in self.play.events)

    @invariant()
    def a_new_execution_goes_on_with_the_same_budget(self) -> None:
        """What is carried into a new execution is the run, with what it has used, was given, and holds back."""
        run = self.run_now
        if run.budget is not None and not run.ended:
            assert restore((carry(run).model_dump(mode="json", exclude_unset=True),)) == shortened(run)
