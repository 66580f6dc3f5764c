"""Runs without a model: workflow code asks people about one call."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from assent.core.approvals import fold_name
from assent.core.continue_as_new import carry
from assent.core.events import CancelRequested, Complete, Fail, SendNotices, Started
from assent.core.run_state import Run, state_of
from assent.core.state_machine import decide
from assent.core.workflow_calls import CALL_ID
from assent.wire.digest import requirement_id
from assent.wire.limits import CALL_ARGUMENTS_LIMIT
from assent.wire.protocol import Decision, Execution, Gate, InputField, RunResult, Verdict
from tests.unit.strategies import (
    ASK,
    EXTERNAL,
    INPUT,
    NOW,
    RUN_ID,
    Play,
    gates_of,
    spellings,
)

RAW = '{"to": "shop", "cents": 500}'
TYPED = Gate(verdict="external", fields=[InputField(name="output", type={"type": "integer"})])


def asking(gate: Gate = ASK, arguments: str = RAW, *, activity: bool = False, **call: object) -> Play:
    """A run in which workflow code asks people about one call."""
    play = Play()
    play.ask(gate, arguments, activity=activity, **call)
    return play


def result_of(play: Play) -> RunResult:
    """The result with which a run ended."""
    last = play.commands[-1]
    assert isinstance(last, Complete), play.commands
    assert play.run.status == "completed"
    assert play.asked == []
    return last.result


def decision_of(play: Play) -> Decision:
    """The decision with which a run ended."""
    return Decision.model_validate(result_of(play).output)


# -- asking -----------------------------------------------------------------------------------------------------------


def test_people_are_asked_at_once_and_no_model_is() -> None:
    play = asking(Gate(verdict="ask", needed=2, approvers=["bob", "carol"], reason="invoice 4711"))
    assert play.commands == []
    assert play.run.status == "waiting"
    assert play.requirement.id == requirement_id(
        run_id=RUN_ID,
        nonce="nonce-0",
        call_id=CALL_ID,
        tool="pay",
        arguments=RAW,
        policy_version="",
        needed=2,
        expires_at=None,
    )
    assert (play.requirement.kind, play.requirement.arguments, play.requirement.note) == (
        "confirmation",
        RAW,
        "invoice 4711",
    )
    state = state_of(play.run)
    assert (state.agent, state.turns, state.tool_calls, state.requested_by) == ("Payout", 0, 1, "alice")


def test_the_facts_of_the_callers_worker_are_those_of_the_request() -> None:
    run = asking(attributes=True, notices=True, continue_after=100).run
    assert (run.attributes, run.notices, run.continue_after) == (True, True, 100)
    assert asking().run.continue_after == 0
    [sent] = [each for each in asking(notices=True).commands if isinstance(each, SendNotices)]
    assert (sent.input.agent, sent.input.caller) == ("Payout", "")


def test_a_run_that_was_cancelled_before_its_code_ran_asks_nothing() -> None:
    begun = decide(Run(), Started(NOW, RUN_ID, "r1", "r1", (asking().run.request.model_dump(mode="json"),)))  # type: ignore[union-attr]  # it has begun
    assert begun.run.requirements == ()
    assert decide(begun.run, CancelRequested(NOW)).run.status == "cancelled"


def test_temporals_parent_is_the_parent_and_an_authorization_carries_it() -> None:
    above = Execution(run_id="payout-4711", execution_id="p1")
    request = asking(activity=True).run.request
    assert request is not None
    play = Play()
    arguments = (request.model_dump(mode="json"),)
    play.tell(Started(NOW, RUN_ID, "r1", "r1", arguments, parent=above, nonces={CALL_ID: "n"}))
    play.approve()
    (ran,) = play.ran
    assert ran.input.authorization is not None
    assert ran.input.authorization.parent == above


# -- decisions --------------------------------------------------------------------------------------------------------


def test_an_approval_is_the_result_and_nothing_runs() -> None:
    play = asking()
    assert play.approve(reason="it is due").status == "approved"
    assert play.ran == []
    assert play.requirement.execution is None
    decision = decision_of(play)
    assert decision == Decision(
        status="approved",
        requirement_id=play.requirement.id,
        run_id=RUN_ID,
        decided_by=["bob"],
        reason="it is due",
        arguments={"to": "shop", "cents": 500},
    )
    assert decision.approved
    assert result_of(play).content == "approved by bob: it is due"
    assert result_of(play).turns == 0


def test_it_takes_as_many_people_as_the_gate_says() -> None:
    play = asking(Gate(verdict="ask", needed=2))
    assert play.approve().status == "recorded"
    assert play.approve(by="BOB").status == "duplicate"
    assert play.approve(by="alice").status == "refused"
    assert play.approve(by="carol").status == "approved"
    assert decision_of(play).decided_by == ["bob", "carol"]
    assert result_of(play).content == "approved by bob, carol"


def test_a_rejection_is_a_result_and_not_a_failure() -> None:
    play = asking(Gate(verdict="ask", needed=2))
    play.approve()
    play.reject(by="carol", reason="not that shop\nat all")
    decision = decision_of(play)
    assert (decision.status, decision.decided_by, decision.reason) == ("rejected", ["carol"], "not that shop\nat all")
    assert not decision.approved
    assert result_of(play).content == "rejected by carol: not that shop\\nat all"


def test_silence_at_the_deadline_is_a_result() -> None:
    play = asking(Gate(verdict="ask", needed=2, expires_after=60))
    play.approve()
    play.wait(minutes=2)
    decision = decision_of(play)
    assert (decision.status, decision.decided_by, decision.approved) == ("expired", [], False)
    assert result_of(play).content == "expired"
    assert play.approve(by="carol").status == "late"


@pytest.mark.parametrize("name", ["approve", "reject"])
def test_a_decision_about_one_call_is_not_remembered(name: str) -> None:
    play = asking()
    body = {"id": play.requirement.id, "by": "bob", "reason": "why", "remember": {"uses": 2}}
    answer = play.send(name, body)
    assert answer.status == "refused"
    assert answer.detail == "the run asks about one call, so there is nothing to remember: decide it alone"
    assert play.run.status == "waiting"


def test_messages_for_a_model_are_ignored_and_kept() -> None:
    play = asking()
    answer = play.send("send_message", {"by": "bob", "content": "hello"})
    assert answer.status == "refused"
    assert answer.detail == "the run has no model that could read it: it only asks people about one call"
    assert play.send("close", {"by": "bob"}).status == "refused"
    assert [each.name for each in play.run.ignored_messages] == ["send_message", "close"]
    assert play.run.status == "waiting"


def test_a_message_that_came_before_the_start_is_ignored_too() -> None:
    play = Play()
    play.send("send_message", {"by": "bob", "content": "hello"})
    play.send("close", {"by": "bob"})
    play.ask()
    (ignored,) = play.run.ignored_messages
    assert (ignored.name, ignored.status, ignored.text) == ("send_message", "refused", "'hello'")
    play.approve()
    assert decision_of(play).approved


# -- values and results -----------------------------------------------------------------------------------------------


def test_a_worker_checks_values_against_the_fields_of_the_request() -> None:
    play = asking(INPUT)
    body = {"id": play.requirement.id, "by": "bob"}
    play.offer("submit_input", {**body, "values": {"amount": "5"}})
    [check] = play.checks
    assert (check.input.fields, check.input.values) == (INPUT.fields, {"amount": "5"})
    assert play.check("amount: it is a text").detail == "amount: it is a text"
    play.offer("submit_input", {**body, "values": {"amount": 5}})
    assert play.check().status == "approved"
    decision = decision_of(play)
    assert (decision.status, decision.values, decision.decided_by) == ("approved", {"amount": 5}, ["bob"])


@pytest.mark.parametrize("output", [None, 5, "5", "", {"id": [1, None]}, "Error: no"])
def test_a_result_from_outside_is_the_output_as_it_was_sent(output: JsonValue) -> None:
    play = asking(EXTERNAL)
    assert play.submit(output=output, evidence={"ticket": 7}).status == "executed"
    decision = decision_of(play)
    assert (decision.status, decision.output, decision.error, decision.evidence) == (
        "executed",
        output,
        None,
        {"ticket": 7},
    )
    assert decision.approved


def test_a_failure_from_outside_is_the_error() -> None:
    play = asking(EXTERNAL)
    assert play.submit(error="Error: the bank is closed").status == "failed"
    decision = decision_of(play)
    assert (decision.status, decision.error, decision.approved) == ("failed", "Error: the bank is closed", False)
    assert result_of(play).content == "failed; decided by bob: Error: the bank is closed"


def test_a_worker_checks_a_typed_result_against_its_field() -> None:
    play = asking(TYPED)
    body = {"id": play.requirement.id, "by": "bob"}
    play.offer("submit_result", {**body, "output": "5"})
    [check] = play.checks
    assert (check.input.fields, check.input.output) == (TYPED.fields, "5")
    play.check("output: it is a text")
    assert play.run.status == "waiting"
    play.offer("submit_result", {**body, "output": 5})
    assert play.check().status == "executed"
    assert decision_of(play).output == 5


# -- edits ------------------------------------------------------------------------------------------------------------


def test_an_edit_of_a_call_that_runs_nowhere_may_be_any_object() -> None:
    play = asking(Gate(verdict="ask", expires_after=60))
    answer = play.approve(arguments={"other": [1]})
    assert answer.status == "approved"
    old, new = play.run.requirements
    assert (old.status, new.follows, new.edited_by, new.expires_at) == ("superseded", old.id, "bob", old.expires_at)
    decision = decision_of(play)
    assert (decision.arguments, decision.requirement_id) == ({"other": [1]}, new.id)
    assert play.checks == []


def test_an_edit_needs_the_others_too() -> None:
    play = asking(Gate(verdict="ask", needed=2))
    assert play.approve(arguments={"cents": 1}).status == "recorded"
    assert play.run.status == "waiting"
    assert play.approve(by="carol", position=1).status == "approved"
    assert decision_of(play).decided_by == ["bob", "carol"]


def test_an_edit_that_is_too_long_is_refused() -> None:
    play = asking()
    assert "too long" in play.approve(arguments={"to": "x" * CALL_ARGUMENTS_LIMIT}).detail
    assert play.run.status == "waiting"


def test_an_edit_of_an_activitys_arguments_keeps_their_names_and_order() -> None:
    play = asking(activity=True)
    for wrong in ({"to": "shop"}, {"to": "shop", "cents": 1, "more": 2}):
        answer = play.approve(arguments=wrong)
        assert answer.detail == "the activity takes these arguments, all of them and no others: to, cents"
    assert play.approve(arguments={"cents": 1, "to": "x"}).status == "approved"
    (ran,) = play.ran
    assert ran.input.arguments == '{"to":"x","cents":1}'
    assert play.run.requirements[1].arguments == ran.input.arguments


# -- activities -------------------------------------------------------------------------------------------------------


def running() -> Play:
    """A run whose approved activity runs."""
    play = asking(activity=True)
    assert play.approve().status == "approved"
    return play


def test_an_approved_activity_runs_at_most_once_with_its_authorization() -> None:
    play = running()
    (ran,) = play.ran
    assert (ran.tool, ran.attempts, ran.turn, ran.position) == ("pay", 1, 0, 0)
    assert ran.input.authorization is not None
    assert ran.input.authorization.requirement_id == play.requirement.id
    assert ran.input.authorization.approved_by == ["bob"]
    assert (ran.input.agent, ran.input.arguments, ran.input.requested_by) == ("Payout", RAW, "alice")


@pytest.mark.parametrize(
    ("output", "value"),
    [('{"id": 7}', {"id": 7}), ("null", None), ('"5"', "5"), ("by hand", "by hand"), ("NaN", "NaN")],
)
def test_the_result_of_the_activity_is_the_output(output: str, value: JsonValue) -> None:
    play = running()
    play.tool(0, output)
    decision = decision_of(play)
    assert (decision.status, decision.output, decision.decided_by) == ("executed", value, ["bob"])
    assert (decision.error is None) == (output not in {"by hand", "NaN"})
    assert play.requirement.execution == "executed"


def test_an_activity_that_fails_or_is_refused_has_an_error() -> None:
    play = running()
    play.comes(0, {"error": "ValueError: no such account"})
    decision = decision_of(play)
    assert (decision.status, decision.error, decision.approved) == ("failed", "ValueError: no such account", False)
    play = running()
    play.comes(0, {"refused": "the approval has expired"})
    decision = decision_of(play)
    assert (decision.status, decision.error, decision.approved) == ("refused", "the approval has expired", False)


def test_an_activity_that_is_refused_may_go_back_to_people() -> None:
    play = running()
    play.comes(0, {"refused": "it was reset", "gate": ASK.model_dump(exclude_unset=True)})
    assert play.run.status == "waiting"
    play.approve(position=1)
    play.tool(0, "1")
    assert decision_of(play).requirement_id == play.run.requirements[1].id


def test_an_activity_whose_worker_was_lost_waits_for_its_outcome() -> None:
    play = running()
    play.lose()
    assert play.run.requirements[1].kind == "outcome"
    play.submit(position=1, by="carol", output={"id": 7})
    decision = decision_of(play)
    assert (decision.status, decision.output, decision.decided_by) == ("executed", {"id": 7}, ["carol"])


def test_an_activity_whose_outcome_nobody_knows_has_failed() -> None:
    play = running()
    play.lose()
    play.reject(position=1, by="carol", reason="the bank does not say")
    decision = decision_of(play)
    assert (decision.status, decision.decided_by, decision.approved) == ("failed", ["carol"], False)
    assert decision.error is not None
    assert "may or may not have taken effect" in decision.error


def test_an_activity_of_unknown_outcome_runs_again_if_a_person_says_so() -> None:
    play = running()
    play.lose()
    play.approve(position=1, by="carol")
    assert len(play.ran) == 2
    play.tool(0, "3")
    assert (decision_of(play).status, decision_of(play).output) == ("executed", 3)


@pytest.mark.parametrize(
    "outcome", [{"delegation": {"agent": "b", "input": "go"}}, {"output": "1", "handoff": {"agent": "b"}}]
)
def test_a_result_by_hand_starts_no_agent(outcome: dict[str, object]) -> None:
    play = running()
    play.comes(0, outcome)
    assert decision_of(play).status == "refused"


# -- the run ----------------------------------------------------------------------------------------------------------


def test_cancelling_starts_nothing() -> None:
    play = asking(activity=True)
    play.cancel()
    assert (play.run.status, play.requirement.status, play.ran) == ("cancelled", "cancelled", [])


@pytest.mark.parametrize("gate", [Gate(verdict="ask", needed=2, expires_after=600), TYPED, INPUT])
def test_a_run_that_waits_continues_as_new(gate: Gate) -> None:
    play = asking(gate, activity=gate.verdict == "ask")
    carried = carry(play.run).model_dump(mode="json")
    begun = Started(NOW + timedelta(seconds=9), RUN_ID, "r2", "r1", (carried,), continued=True)
    continued = decide(Run(), begun).run
    assert continued == decide(play.run, begun).run
    assert (continued.request, continued.calls, continued.requirements) == (
        play.run.request,
        play.run.calls,
        play.run.requirements,
    )


@st.composite
def asked_gates(draw: st.DrawFn) -> Gate:
    """Gates that a workflow may ask under."""
    verdict: Verdict = draw(st.sampled_from(["ask", "ask", "input", "external"]))
    drawn = draw(gates_of(verdict))
    fields = INPUT.fields if verdict == "input" else []
    needed = drawn.needed if verdict == "ask" else 1
    deadline = draw(st.none() | st.just(60.0))
    return drawn.model_copy(
        update={"at_most_once": False, "fields": fields, "needed": needed, "expires_after": deadline}
    )


def act(play: Play, name: str, by: str) -> None:
    """Somebody sends something about what waits, the activity ends, or time passes."""
    body: dict[str, JsonValue] = {"id": play.run.requirements[-1].id, "by": by}
    match name:
        case "tool":
            play.tool(0, "7")
        case "lose":
            play.lose()
        case "wait":
            play.wait(seconds=40)
        case "cancel":
            play.cancel()
        case "edit":
            changed: dict[str, JsonValue] = {"to": by, "cents": 1}
            play.send("approve", {**body, "arguments": changed})
        case "reject":
            play.send(name, {**body, "reason": "no"})
        case "submit_input":
            play.offer(name, {**body, "values": {"amount": 5}})
        case "submit_result":
            play.offer(name, {**body, "output": 7})
        case _:
            play.send("approve", body)
    for check in play.run.checks:
        play.check(number=check.number)


ACTS = ["approve", "approve", "edit", "reject", "submit_input", "submit_result", "tool", "lose", "wait", "cancel"]


@given(asked_gates(), st.booleans(), st.lists(st.tuples(st.sampled_from(ACTS), spellings), max_size=12))
def test_whatever_happens_one_call_is_decided_by_people(gate: Gate, runs: bool, acts: list[tuple[str, str]]) -> None:
    play = asking(gate, activity=runs and gate.verdict == "ask")
    for name, by in acts:
        act(play, name, by)
    run = play.run
    assert (play.asked, run.turn, len(run.calls)) == ([], 0, 1)
    again = [each for each in run.requirements if each.kind == "outcome" and each.status == "approved"]
    assert len(play.ran) <= 1 + len(again)
    if not run.ended:
        assert len(run.pending) == (0 if run.calls[0].running else 1)
    elif run.status == "completed":
        decision = decision_of(play)
        about = run.requirement(decision.requirement_id)
        assert about is not None
        if decision.approved:
            assert about.status == "approved"
            one = about.votes[-1].verdict == "submit"  # What happened is said by one person.
            assert len({fold_name(name) for name in decision.decided_by}) >= (1 if one else about.needed)
            own = gate.verdict != "external" and not gate.self_approval
            assert not (own and "alice" in {fold_name(name) for name in decision.decided_by})
        assert bool(play.ran) or decision.status != "refused"
        assert "\n" not in result_of(play).content


# -- bad input --------------------------------------------------------------------------------------------------------


CALL: dict[str, JsonValue] = {"tool": "pay", "arguments": "{}", "gate": {"verdict": "ask"}}


def gate(**fields: JsonValue) -> dict[str, JsonValue]:
    """The fields of a request with a call that has this gate."""
    return {"call": {**CALL, "gate": {"verdict": "ask", **fields}}}


@pytest.mark.parametrize(
    ("request_fields", "problem"),
    [
        ({"conversation": True, "max_turns": 3}, "call: leave out conversation, max_turns: no model is called"),
        ({"budget": {"max_tokens": 5}}, "call: leave out budget: no model is called"),
        ({"policy": {}}, "call: leave out policy: no model is called"),
        (
            {"call": {**CALL, "tool": "päy"}},
            "call.tool: String should match pattern '^[A-Za-z0-9][A-Za",
        ),
        (
            {"call": {**CALL, "tool": "call_model", "activity": True}},
            "call.tool: 'call_model' is an activity of Assent",
        ),
        ({"call": {**CALL, "arguments": "[]"}}, "call.arguments: the arguments must be a JSON object, not list"),
        ({"call": {**CALL, "arguments": '{"a": 1, "a": 2}'}}, "call.arguments: the arguments name 'a' twice"),
        ({"call": {**CALL, "arguments": f'{{"a": "{"x" * 500_000}"}}'}}, "call.arguments: they are 500009 bytes long"),
        ({"call": {"tool": "pay"}}, "call.arguments: Field required; call.gate: Field required"),
        (gate(verdict="allow"), "call.gate.verdict: it is 'allow'; people can be sent"),
        (gate(agent="b", stop=True), "call.gate: leave out agent, stop: the call has no agent's tool"),
        (gate(needed=0), "call.gate.needed: Input should be greater than or equal to 1"),
        (gate(fields=[{"name": "a"}]), "call.gate.fields: they go with the verdict 'input' or 'external'"),
        (gate(verdict="input"), "call.gate.fields: they are missing; say what a person fills in"),
        (gate(verdict="input", fields=[{"name": "a"}, {"name": "a"}]), "call.gate.fields: two of them have the same"),
        (gate(verdict="external", fields=[{"name": "a"}]), "call.gate.fields: a result from outside has one field"),
        ({"call": {**CALL, "gate": {"verdict": "external"}, "activity": True}}, "call.activity: an activity runs once"),
        ({"requested_by": " "}, "requested_by: the name is empty"),
    ],
)
def test_a_bad_request_fails_with_one_line(request_fields: dict[str, object], problem: str) -> None:
    play = Play()
    play.begin({"agent": "Payout", "input": "", "call": CALL, **request_fields})
    last = play.commands[-1]
    assert isinstance(last, Fail)
    assert last.failure.kind == "InvalidRunRequest"
    assert last.failure.message.startswith(f"AgentRun: {problem}")
    assert "\n" not in last.failure.message
    assert play.run.requirements == ()
