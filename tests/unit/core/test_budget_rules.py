"""A run keeps within its budget: it asks for more, or ends; never silently."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent import Agent, OpenAIResponses
from assent.core.continue_as_new import carry, restore
from assent.core.events import AskBudget, CallModel, Fail, TimeReached
from assent.core.run_state import state_of
from assent.wire.budget import BOUNDS, Budget, Price, extended, tightened
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import ModelTurn, Usage
from tests.unit.strategies import ALLOW, ASK, Play, said, turn_of

BOUND = st.floats(min_value=0.5, max_value=1e6)
BUDGETS = st.builds(
    Budget,
    max_tokens=st.none() | st.integers(1, 10**9),
    max_model_calls=st.none() | st.integers(1, 10**6),
    max_cost=st.none() | BOUND,
    max_time=st.none() | BOUND,
    on_reached=st.sampled_from(["ask", "end"]),
)
SPENT = Usage(requests=1, input_tokens=60, output_tokens=40, cost=0.5)


def works(play: Play, budget: Budget | None = None) -> None:
    """The model asks for a tool, which runs; each turn is 100 tokens, one call and half a unit of money."""
    turn = turn_of(ALLOW, prefix=f"t{play.run.turn}-")
    first = {"budget": budget} if play.run.turn == 1 else {}
    play.model(turn.model_copy(update={"usage": SPENT, **first}))
    play.tool(0, "ok")


def spending(turns: int = 1, asked: dict[str, object] | None = None, **bounds: object) -> Play:
    """A run with a budget, after so many turns."""
    play = Play()
    play.start(**({"budget": asked} if asked is not None else {}))
    for _ in range(turns):
        works(play, Budget.model_validate(bounds) if bounds else None)
    return play


def calls(play: Play) -> int:
    """How often the model was asked."""
    return sum(isinstance(command, CallModel) for command in play.commands)


REACHED = [{"max_tokens": 100}, {"max_model_calls": 1}, {"max_cost": 0.5}]


@pytest.mark.parametrize("bounds", REACHED)
def test_a_run_that_has_used_its_budget_asks_for_more_before_the_next_call(bounds: dict[str, object]) -> None:
    play = spending(1, None, **bounds)
    assert (play.run.status, calls(play), play.requirement.kind) == ("waiting", 1, "budget")
    [name] = bounds
    assert play.requirement.tool == "extend_budget"
    shown = play.requirement.tool_args[name]
    assert shown == {"limit": bounds[name], "used": bounds[name], "extend_by": bounds[name]}
    assert play.requirement.needs_budget
    assert "of" in (play.requirement.note or "")


def test_an_approval_extends_it_by_as_much_again_and_the_held_call_is_made() -> None:
    play = spending(max_tokens=100)
    assert play.approve().status == "approved"
    assert (play.run.status, calls(play)) == ("running", 2)
    assert play.asked[-1].input.delta == [{"type": "function_call_output", "call_id": "t1-0", "output": "ok"}]
    assert state_of(play.run).budget == Budget(max_tokens=200)
    works(play)
    assert [each.status for each in play.run.requirements] == ["approved", "pending"], "and asks again at the next"
    assert play.run.requirements[0].id != play.run.requirements[1].id
    assert play.run.requirements[0].execution is None, "nothing ran by it"


def test_a_rejection_ends_the_run_and_says_why() -> None:
    play = spending(max_model_calls=1)
    play.reject(reason="too dear")
    [fail] = [command for command in play.commands if isinstance(command, Fail)]
    assert fail.failure.kind == "BudgetExhausted"
    assert fail.failure.message == "the run has used its budget: model calls 1 of 1; bob gave no more: too dear"
    assert play.run.status == "failed"


@pytest.mark.parametrize("bounds", REACHED)
def test_a_run_whose_budget_ends_it_fails_and_says_why(bounds: dict[str, object]) -> None:
    play = spending(1, None, **bounds, on_reached="end")
    assert (play.run.status, calls(play), play.run.requirements) == ("failed", 1, ())
    assert state_of(play.run).error is not None
    assert "BudgetExhausted: the run has used its budget" in (state_of(play.run).error or "")


def test_within_its_budget_a_run_asks_nobody() -> None:
    play = spending(3, max_tokens=301, max_model_calls=4, max_cost=1.6)
    assert (calls(play), play.run.requirements) == (4, ())
    play.model(ModelTurn(items=[said("done")], usage=SPENT))
    assert play.run.status == "completed", "and one that is over with its answer has no need of more"


def test_time_that_is_over_asks_also_while_a_call_waits_for_a_person() -> None:
    play = Play()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"budget": Budget(max_time=timedelta(seconds=60))}))
    started = play.run.started_at
    assert started is not None
    assert play.run.wake_at == started + timedelta(seconds=60)
    play.wait(seconds=60)
    assert [each.kind for each in play.run.pending] == ["confirmation", "budget"]
    assert play.run.wake_at is None
    play.approve(position=0)
    play.tool(0, "paid")
    assert (calls(play), play.run.status) == (1, "waiting"), "what was approved runs; the model waits for the budget"
    play.approve(position=1)
    assert calls(play) == 2
    assert play.run.wake_at == play.at - timedelta(seconds=1) + timedelta(seconds=60), "a minute from the approval on"


def test_time_that_is_over_ends_a_run_that_waits() -> None:
    play = Play()
    play.start()
    budget = Budget(max_time=timedelta(seconds=60), on_reached="end")
    play.model(turn_of(ASK).model_copy(update={"budget": budget}))
    play.wait(seconds=60)
    assert (play.run.status, play.requirement.status) == ("failed", "cancelled")


def test_time_extended_while_nothing_is_held_makes_no_call() -> None:
    play = Play()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"budget": Budget(max_time=timedelta(seconds=60))}))
    play.wait(seconds=60)
    play.approve(position=1)
    assert (calls(play), play.run.status) == (1, "waiting")


def test_time_that_is_over_with_the_call_that_follows_is_asked_about_once_and_needs_no_timer() -> None:
    play = Play()
    play.start()
    gate = ASK.model_copy(update={"expires_after": 60.0})
    play.model(turn_of(gate).model_copy(update={"budget": Budget(max_time=timedelta(seconds=60))}))
    given = len(play.commands)
    play.wait(seconds=60)
    assert (play.run.status, play.run.requirements[0].status, play.run.wake_at) == ("waiting", "expired", None)
    assert [type(command) for command in play.commands[given:]] == [AskBudget]


def test_the_time_of_a_run_is_watched_also_where_its_first_turn_ran_nothing() -> None:
    play = Play()
    play.start()
    play.model(turn_of(None).model_copy(update={"budget": Budget(max_time=timedelta(seconds=60))}))
    assert (calls(play), play.run.wake_at is not None) == (2, True)
    play.wait(seconds=60)
    assert play.requirement.kind == "budget"


@pytest.mark.parametrize("seconds", [60.0000004, 1 / 3, 60.1])
def test_time_is_over_when_its_timer_fires_to_the_microsecond(seconds: float) -> None:
    play = Play()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"budget": Budget(max_time=timedelta(seconds=seconds))}))
    for _ in range(5):
        assert play.run.wake_at is not None
        play.at = max(play.at, play.run.wake_at)
        play.tell(TimeReached(play.at))
        assert "max_time" in play.run.pending[-1].tool_args
        play.approve(position=-1)


def test_a_cost_that_nobody_counts_fails_the_run() -> None:
    play = Play()
    play.start(budget={"max_cost": 1})
    play.model(turn_of(ALLOW))
    assert play.run.failure is not None
    assert (play.run.status, play.run.failure.kind) == ("failed", "NoPrice")


def test_a_request_names_who_may_extend_it_where_the_agent_does_not() -> None:
    play = spending(asked={"max_tokens": 100, "approvers": ["carol"]}, max_tokens=1_000)
    assert play.approve(by="bob").status == "refused"
    play = spending(asked={"max_tokens": 100, "approvers": ["carol"]}, max_tokens=1_000, approvers=["bob"])
    assert play.approve(by="carol").status == "refused"
    assert play.approve(by="bob").status == "approved"


def test_who_asked_for_the_run_cannot_extend_its_budget() -> None:
    play = spending(max_tokens=100)
    assert play.approve(by="alice").status == "refused"
    assert play.run.pending


def test_only_the_named_extend_it() -> None:
    play = spending(max_tokens=100, approvers=["carol"])
    assert play.approve(by="bob").status == "refused"
    assert play.approve(by="Carol").status == "approved"


@pytest.mark.parametrize("fields", [{"arguments": {"max_tokens": 9}}, {"remember": {"uses": 3}}])
def test_a_budget_is_extended_as_it_is_asked_for(fields: dict[str, object]) -> None:
    play = spending(max_tokens=100)
    assert play.approve("bob", 0, **fields).status == "refused"
    assert play.submit(output="more").status == "refused"


def test_messages_wait_with_the_held_call() -> None:
    play = spending(max_tokens=100)
    play.send("send_message", {"content": "Hurry.", "by": "alice"})
    play.approve()
    assert play.asked[-1].input.delta[-1] == {"role": "user", "content": "Hurry."}


def test_a_cancellation_cancels_what_asks_for_more() -> None:
    play = spending(max_tokens=100)
    play.cancel()
    assert (play.run.status, play.requirement.status) == ("cancelled", "cancelled")


def test_a_request_can_tighten_a_budget_and_never_loosen_it() -> None:
    play = spending(asked={"max_tokens": 100}, max_tokens=1_000)
    assert play.requirement.kind == "budget"
    play = spending(asked={"max_tokens": 1_000, "on_reached": "ask"}, max_tokens=100, on_reached="end")
    assert play.run.status == "failed"


def test_a_request_may_have_a_budget_where_the_agent_has_none() -> None:
    assert spending(asked={"max_model_calls": 1}).requirement.kind == "budget"


def test_a_run_that_waits_for_its_budget_is_carried_as_it_is() -> None:
    play = spending(max_tokens=100)
    found = restore((carry(play.run).model_dump(mode="json", exclude_unset=True),))
    assert found == play.run


def test_a_conversation_that_asks_for_more_goes_on_once_it_has_it() -> None:
    play = Play()
    play.start(conversation=True)
    budget = Budget(max_model_calls=1)
    play.model(ModelTurn.model_validate({"items": [said("Hi.")], "usage": SPENT, "budget": budget}))
    assert play.run.status == "idle"
    play.send("send_message", {"content": "More.", "by": "alice"})
    assert (play.run.status, play.requirement.kind) == ("waiting", "budget")
    play.approve()
    assert play.asked[-1].input.delta == [{"role": "user", "content": "More."}]


def talking(**bounds: object) -> Play:
    """A conversation with a budget, idle after its first answer."""
    play = Play()
    play.start(conversation=True)
    says(play, Budget.model_validate(bounds))
    return play


def says(play: Play, budget: Budget | None = None) -> None:
    """The model answers."""
    fields = {"items": [said(f"Answer {play.run.turn}.")], "usage": SPENT, "budget": budget}
    play.model(ModelTurn.model_validate(fields))


def test_a_conversation_has_one_budget_for_all_its_answers() -> None:
    play = talking(max_model_calls=2)
    play.send("send_message", {"content": "More.", "by": "alice"})
    says(play)
    assert (play.run.status, play.run.requirements) == ("idle", ()), "as much as it may use, and nobody wants more"
    play.send("send_message", {"content": "And more.", "by": "alice"})
    assert (play.run.status, calls(play)) == ("waiting", 2)
    assert play.requirement.tool_args == {"max_model_calls": {"limit": 2, "used": 2, "extend_by": 2}}
    play.approve()
    says(play)
    assert (play.run.status, play.run.content) == ("idle", "Answer 3.")


def test_a_conversation_counts_the_time_between_answers_and_asks_nobody_in_it() -> None:
    play = talking(max_time=timedelta(seconds=60))
    assert play.run.wake_at is None
    play.wait(days=1)
    assert (play.run.status, play.run.requirements) == ("idle", ())
    play.send("send_message", {"content": "More.", "by": "alice"})
    assert (play.run.status, calls(play)) == ("waiting", 1)
    shown = play.requirement.tool_args["max_time"]
    assert shown == {"limit": 60, "used": 86_403, "extend_by": 60}
    play.approve()
    assert calls(play) == 2


def test_a_conversation_whose_budget_ends_it_ends_with_the_message_that_it_cannot_answer() -> None:
    play = talking(max_model_calls=1, on_reached="end")
    assert play.run.status == "idle"
    play.send("send_message", {"content": "More.", "by": "alice"})
    assert (play.run.status, calls(play)) == ("failed", 1)


def test_an_answer_that_comes_while_a_conversation_asks_for_time_is_given() -> None:
    play = talking(max_time=timedelta(seconds=60))
    play.send("send_message", {"content": "More.", "by": "alice"})
    play.wait(seconds=60)
    says(play)
    assert (play.run.status, play.run.content, play.requirement.status) == ("idle", "Answer 2.", "pending")
    play.send("send_message", {"content": "And more.", "by": "alice"})
    assert (play.run.status, calls(play), len(play.run.requirements)) == ("waiting", 2, 1), "nothing is asked twice"
    play.approve()
    assert play.asked[-1].input.delta == [{"role": "user", "content": "And more."}]


@given(BUDGETS, BUDGETS)
def test_the_tighter_of_two_budgets_allows_no_more_than_either(own: Budget, asked: Budget) -> None:
    both = tightened(own, asked)
    assert both is not None
    for name in BOUNDS:
        given_bounds = [each.bounds[name] for each in (own, asked) if name in each.bounds]
        assert both.bounds.get(name) == (min(given_bounds) if given_bounds else None)
    assert (both.on_reached == "end") == ("end" in {own.on_reached, asked.on_reached})


@given(BUDGETS)
def test_what_is_extended_is_what_was_reached_and_nothing_else(budget: Budget) -> None:
    names = list(budget.bounds)[:1]
    more = extended(budget, {name: budget.bounds[name] + 7 for name in names})
    for name, bound in budget.bounds.items():
        assert more.bounds[name] == (bound + 7 if name in names else bound)


def test_one_approval_is_enough_for_a_model_call_however_far_the_last_one_went() -> None:
    play = spending(1, None, max_tokens=10)
    assert play.requirement.tool_args == {"max_tokens": {"limit": 10, "used": 100, "extend_by": 10}}
    play.approve()
    assert (calls(play), play.run.status) == (2, "running")
    assert state_of(play.run).budget == Budget(max_tokens=110)


def test_a_price_is_for_a_million_tokens() -> None:
    assert Price(input=0.25, output=2).cost(1_000_000, 500_000) == 1.25


def test_a_budget_without_a_limit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="its budget has no limit: give it one of max_tokens, "):
        Agent(name="a", model=OpenAIResponses(id="m"), budget=Budget())
