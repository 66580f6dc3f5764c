"""Random lives of runs whose models are asked on other task queues: the promises of any run hold, and those of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from assent.core.events import CallModel, ModelAnswered, ModelFailed
from assent.core.run_state import MAX_TURNS, Step
from assent.views.run_events import describe
from assent.wire.protocol import ModelTurn, Usage
from tests.unit.core import test_random_runs
from tests.unit.core.run_invariants import Witness
from tests.unit.core.test_random_runs import Wanted

pytestmark = pytest.mark.slow

QUEUES = st.sampled_from(["openai", "azure"])


class Moving(Witness):
    """A play whose next turn may name another task queue. *queue* is what is known by now; None: the run's own."""

    queue: str | None = None
    moves_to: str | None = None

    def model(self, turn: ModelTurn) -> Step:
        """The model answers."""
        named, self.moves_to = self.moves_to, None
        if named is None:
            return super().model(turn)
        if self.run.model_running:
            self.queue = named or None
        return super().model(turn.model_copy(update={"task_queue": named}))


class RoutedLives(test_random_runs.Lives):
    """One run whose worker sends model calls on, now and then."""

    def __init__(self) -> None:
        """Begin where the run is."""
        super().__init__()
        self.play: Moving = Moving()
        self.sent_on = 0

    def answers(
        self,
        wanted: Wanted,
        *,
        usage: Usage,
        follow_up: bool = False,
        policy: str = "p1",
        notices: bool = True,
        budget: Mapping[str, object] | None = None,
    ) -> None:
        """The model answers, for the first time on a task queue of its own."""
        if self.run_now.turn == 1 and self.can_be_sent_on():
            self.is_sent_on("openai")
        more = {"follow_up": follow_up, "notices": notices}
        super().answers(wanted, usage=usage, policy=policy, budget=budget, **more)

    def can_be_sent_on(self) -> bool:
        """Whether a model call is under way where the run is, and nothing is due."""
        run = self.run_now
        return run.model_running and self.play.queue is None and (run.wake_at is None or run.wake_at > self.play.at)

    @precondition(lambda self: self.can_be_sent_on())
    @rule(queue=QUEUES)
    def is_sent_on(self, queue: str) -> None:
        """A worker names another task queue: the very same call is made again there, and nothing else happens."""
        before, asked = self.run_now, self.play.asked[-1]
        event = ModelAnswered(self.play.at, ModelTurn(items=[], task_queue=queue))
        step = self.play.tell(event)
        again = CallModel(asked.input.model_copy(update={"routed": True}), queue)
        assert (step.run, step.commands) == (replace(before, model_task_queue=queue), (again,))
        assert not list(describe(event, before, step)), "who watches was told of the call"
        self.play.queue = queue
        self.sent_on += 1

    @precondition(lambda self: self.play.queue is not None)
    @rule(queue=st.just("") | QUEUES)
    def moves(self, queue: str) -> None:
        """The next turn names another task queue, or none any more."""
        self.play.moves_to = queue

    def model_is_called(self, command: CallModel) -> None:
        """A model call goes to the task queue that is known; it says so, and is not sent on from there."""
        super().model_is_called(command)
        known = self.play.queue
        assert (command.task_queue, command.input.routed) == (known, known is not None)

    @invariant()
    def at_most_one_model_call_is_under_way(self) -> None:
        """A call that was sent on is the same one: no turn was used by it."""
        run = self.run_now
        answered = sum(isinstance(event, ModelAnswered | ModelFailed) for event in self.play.events)
        if not run.ended:
            assert len(self.play.asked) - answered == int(run.model_running)
        assert run.turn == len(self.play.asked) - self.sent_on <= run.max_turns <= MAX_TURNS


TestRoutedLives = RoutedLives.TestCase
TestRoutedLives.settings = test_random_runs.TestLives.settings
