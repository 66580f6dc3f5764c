"""Random lives of runs that all have a budget, and use it up: the promises of any run hold, and those of a budget."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from assent.wire.protocol import Gate, Usage
from tests.unit.core import test_random_runs
from tests.unit.core.budget_invariants import BUDGETS, USAGES
from tests.unit.strategies import ALLOW, ASK, spellings

pytestmark = pytest.mark.slow

FIRST = st.lists(st.sampled_from([ALLOW, ALLOW, ASK, None]), min_size=1, max_size=2)


class ThriftyLives(test_random_runs.Lives):
    """One run with a budget, whose model asks again and again for what may run."""

    @initialize(
        gates=FIRST,
        requested_by=st.none() | spellings,
        own=BUDGETS,
        asked=st.none() | BUDGETS,
        usage=USAGES,
        max_turns=st.none() | st.integers(2, 8),
    )
    def starts(
        self,
        gates: list[Gate | None],
        requested_by: str | None,
        own: dict[str, object],
        asked: dict[str, object] | None,
        usage: Usage,
        max_turns: int | None,
    ) -> None:
        """The run begins."""
        wanted = [(gate, "{}") for gate in gates]
        limits = {"max_turns": max_turns}
        self.begins(wanted, limits, requested_by=requested_by, own=own, asked=asked, usage=usage)

    @precondition(lambda self: self.run_now.model_running)
    @rule(usage=USAGES)
    def works(self, usage: Usage) -> None:
        """The model asks for something that may run, and it has run."""
        self.answers([(ALLOW, "{}")], usage=usage)
        if any(call.running for call in self.run_now.calls):
            self.returned(0, output="ok")


TestThriftyLives = ThriftyLives.TestCase
TestThriftyLives.settings = test_random_runs.TestLives.settings
