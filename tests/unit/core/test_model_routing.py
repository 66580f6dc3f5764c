"""Model calls on a task queue of their own: how a run finds it out, keeps it and gives it up."""

from __future__ import annotations

import pytest

from assent import Agent
from assent.agents.models import OpenAIChat
from assent.core.compaction import LEAST, Summary
from assent.core.continue_as_new import carry, restore
from assent.core.events import CallModel, Command, Event, Failure, ModelAnswered, Started, Summarise, Summarised
from assent.core.run_state import Run
from assent.core.state_machine import decide
from assent.core.tool_calls import read_turn
from assent.views.run_events import describe
from assent.wire.errors import ConfigurationError
from assent.wire.protocol import ModelTurn, Usage
from assent.worker import other_model_queues
from tests.unit.audit.forged_histories import attributes, audited, parsed, read
from tests.unit.strategies import ALLOW, TO_B, Play, said, turn_of

QUEUE = "openai"


def elsewhere(queue: str = QUEUE) -> ModelTurn:
    """What a worker answers that asked no model."""
    return ModelTurn(items=[], task_queue=queue)


def started() -> Play:
    """A run whose first model call is under way."""
    play = Play()
    play.start()
    return play


def routed() -> Play:
    """A run whose first model call was sent on."""
    play = started()
    play.model(elsewhere())
    return play


def asked(command: Command) -> Summarise:
    """The summary that a command asks for."""
    assert isinstance(command, Summarise)
    return command


def with_a_long_turn(play: Play) -> Play:
    """A run that makes a summary after its next turn, which it begins with one call."""
    turn = turn_of(ALLOW)
    play.model(turn.model_copy(update={"max_context_tokens": LEAST, "usage": Usage(input_tokens=10)}))
    return play


def test_the_first_model_call_goes_where_the_run_is() -> None:
    play = started()
    [call] = play.asked
    assert (call.task_queue, call.input.routed) == (None, False)
    assert "routed" not in call.input.model_fields_set, "and says no more than before"


def test_the_very_same_call_is_made_again_on_the_task_queue_that_the_worker_names() -> None:
    play = routed()
    first, again = play.asked
    assert (again.task_queue, again.input) == (QUEUE, first.input.model_copy(update={"routed": True}))
    run = play.run
    assert (run.turn, run.model_running, run.status, run.usage) == (1, True, "running", Usage())


def test_the_run_has_the_facts_of_the_turn_in_which_the_model_was_asked() -> None:
    play = routed()
    play.model(turn_of(ALLOW).model_copy(update={"max_turns": 3, "continue_after": 9, "attributes": True}))
    assert (play.run.max_turns, play.run.continue_after, play.run.attributes) == (3, 9, True)


def test_all_that_follows_is_asked_there_at_once() -> None:
    play = routed()
    play.model(turn_of(ALLOW))
    play.tool(0, "ok")
    assert (play.asked[-1].task_queue, play.asked[-1].input.routed) == (QUEUE, True)
    assert len(play.asked) == 3


def test_what_was_sent_meanwhile_waits_for_the_turn_that_follows() -> None:
    play = started()
    play.send("send_message", {"content": "more", "by": "alice"})
    play.model(elsewhere())
    assert play.asked[0].input.delta == play.asked[1].input.delta
    play.model(turn_of(ALLOW))
    play.tool(0, "ok")
    assert play.asked[-1].input.delta[-1]["content"] == "more"


def test_a_routed_call_is_never_sent_on() -> None:
    play = routed()
    play.model(elsewhere("another"))
    assert [command.task_queue for command in play.asked] == [None, QUEUE]
    assert play.run.status == "completed", "a turn without items is an answer there"


def test_a_turn_moves_the_calls_that_follow_it() -> None:
    play = routed()
    play.model(turn_of(ALLOW).model_copy(update={"task_queue": "azure"}))
    play.tool(0, "ok")
    assert (play.asked[-1].task_queue, play.asked[-1].input.routed) == ("azure", True)


def test_a_turn_takes_them_back_to_where_the_run_is_and_they_can_be_sent_on_again() -> None:
    play = routed()
    play.model(turn_of(ALLOW).model_copy(update={"task_queue": ""}))
    play.tool(0, "ok")
    assert (play.asked[-1].task_queue, play.asked[-1].input.routed) == (None, False)
    play.model(elsewhere("azure"))
    assert play.asked[-1].task_queue == "azure"


def test_a_worker_that_names_no_task_queue_has_asked_the_model() -> None:
    play = started()
    play.model(ModelTurn(items=[], task_queue=""))
    assert (len(play.asked), play.run.status) == (1, "completed")


def test_a_run_that_has_ended_is_not_asked_again() -> None:
    play = started()
    play.cancel()
    play.model(elsewhere())
    assert len(play.asked) == 1


def test_another_agent_that_takes_over_is_asked_where_the_run_is_until_its_worker_says_otherwise() -> None:
    play = routed()
    play.model(turn_of(TO_B))
    play.tool(0, "over to you", handoff={"agent": "b"})
    assert (play.asked[-1].input.agent, play.asked[-1].task_queue, play.asked[-1].input.routed) == ("b", None, False)
    play.model(elsewhere("azure"))
    assert (play.asked[-1].input.agent, play.asked[-1].task_queue, play.asked[-1].input.turn) == ("b", "azure", 2)


def test_the_task_queue_is_known_in_the_next_execution() -> None:
    play = routed()
    restored = restore((carry(play.run).model_dump(mode="json"),))
    assert restored is not None
    assert restored.model_task_queue == QUEUE
    begun = Started(play.at, "w", "r2", "r1", (carry(play.run).model_dump(mode="json"),), continued=True)
    [again] = [command for command in decide(Run(), begun).commands if isinstance(command, CallModel)]
    assert again == play.asked[-1]


# -- summaries --------------------------------------------------------------------------------------------------------


def test_a_summary_is_made_where_the_model_is_asked() -> None:
    play = with_a_long_turn(routed())
    play.tool(0, "x" * 9_000)
    play.model(turn_of(ALLOW, prefix="d"))
    play.tool(0, "y" * 9_000)
    made = asked(play.commands[-1])
    assert (made.task_queue, made.input.routed) == (QUEUE, True)


def test_a_summary_right_after_a_handoff_is_sent_on_and_so_is_what_follows() -> None:
    play = with_a_long_turn(started())
    play.tool(0, "x" * 9_000)
    play.model(turn_of(TO_B, prefix="d"))
    play.tool(0, "y" * 9_000, handoff={"agent": "b"})
    first = asked(play.commands[-1])
    assert (first.task_queue, first.input.routed, first.input.agent) == (None, False, "b")
    play.tell(Summarised(play.at, Summary(summary="", task_queue=QUEUE)))
    again = asked(play.commands[-1])
    assert (again.task_queue, again.input) == (QUEUE, first.input.model_copy(update={"routed": True}))
    assert play.run.compaction is not None
    assert (play.run.compaction.failures, play.run.compaction.made) == (0, 1), "nothing failed"
    play.tell(Summarised(play.at, Summary(summary="all was x", usage=Usage(requests=1))))
    assert (play.asked[-1].task_queue, play.asked[-1].input.routed) == (QUEUE, True)


def test_a_summary_that_nobody_waits_for_changes_nothing() -> None:
    play = routed()
    before = play.run
    play.tell(Summarised(play.at, Summary(summary="", task_queue="azure")))
    assert play.run == before


def test_a_summary_that_fails_is_no_task_queue() -> None:
    play = with_a_long_turn(started())
    play.tool(0, "x" * 9_000)
    play.model(turn_of(ALLOW, prefix="d"))
    play.tool(0, "y" * 9_000)
    play.tell(Summarised(play.at, Failure("Timeout", "slow")))
    assert isinstance(play.commands[-1], CallModel)
    assert play.run.model_task_queue is None


# -- what the audit says ----------------------------------------------------------------------------------------------


def test_a_turn_is_one_record_however_often_it_was_sent_on() -> None:
    audit, found = audited(parsed(read("asked-elsewhere")))
    assert found.ok
    assert [(turn.turn, turn.calls) for turn in audit.turns] == [(1, 2), (2, 0)]
    assert audit.run.usage.requests == 2


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_model_call_on_another_task_queue_than_the_rules_say_is_noticed(position: int) -> None:
    events = read("asked-elsewhere")
    asked = [each for each in map(attributes, events) if each.get("activityType", {}).get("name") == "call_model"]
    asked[position]["taskQueue"]["name"] = "mallorys"
    _, found = audited(parsed(events))
    [check] = [each for each in found.checks if each.problems]
    assert check.problems[0].text.startswith("call_model was given to task queue 'mallorys', and not to 'record-")


# -- what people see, and what is refused -----------------------------------------------------------------------------


def test_who_watches_is_told_of_one_model_call() -> None:
    play, told = Play(), list[str]()
    begun = Started(play.at, "w", "r", "r", ({"agent": "a", "input": "do it"},))
    turns = [ModelAnswered(play.at, turn) for turn in (elsewhere(), ModelTurn(items=[said("done")]))]
    events: list[Event] = [begun, *turns]
    for event in events:
        before = play.run
        told += [each.kind for each in describe(event, before, play.tell(event))]
    assert told == ["started", "model_called", "model_answered", "completed"]


def test_a_name_that_is_too_long_makes_no_turn() -> None:
    assert isinstance(read_turn({"items": [], "task_queue": "q" * 201}), Failure)


@pytest.mark.parametrize("name", ["", " ", "two words", "/_sys/agents", "q" * 201, "a\nb"])
def test_a_model_task_queue_has_a_name_that_the_server_takes(name: str) -> None:
    with pytest.raises(ConfigurationError, match="model_task_queue"):
        Agent(name="a", model=OpenAIChat(id="m"), model_task_queue=name)


def test_a_worker_names_the_other_task_queues_on_which_its_models_are_asked() -> None:
    agents = [Agent(name=name, model=OpenAIChat(id="m"), model_task_queue=QUEUE) for name in ("a", "b")]
    told = list(other_model_queues([*agents, Agent(name="c", model=OpenAIChat(id="m"))], "agents"))
    assert told == ["The model of a, b is asked on task queue 'openai': a worker must serve that too"]
    assert not list(other_model_queues(agents, QUEUE))


def test_where_the_model_is_asked_makes_no_other_agent() -> None:
    here = Agent(name="a", model=OpenAIChat(id="m"))
    there = Agent(name="a", model=OpenAIChat(id="m"), model_task_queue=QUEUE)
    assert here.version == there.version
