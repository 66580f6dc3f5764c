"""Each check finds by itself what a forger changed who knows the format and renumbers events."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from assent.audit.checks import Verification
from assent.core.continue_as_new import carry, restore
from assent.core.run_state import Run
from assent.wire.messages import Approve
from assent.wire.requirements import Vote
from tests.unit.audit.forged_histories import Event, Forged, attributes, audited, parsed, read

Attack = Callable[[Forged], object]
ATTACKS: Final[dict[str, tuple[str, str, Attack]]] = {}


def attack(history: str, check: str) -> Callable[[Attack], Attack]:
    """Register an attack on *history* that *check* must find by itself."""

    def named(found: Attack) -> Attack:
        ATTACKS[found.__name__] = (history, check, found)
        return found

    return named


def set_to(**fields: object) -> Callable[[dict[str, object]], object]:
    return lambda value: value.update(fields)


@attack("approved", "activities")
def other_arguments_ran_than_were_approved(it: Forged) -> None:
    it.change(it.scheduled("pay"), set_to(arguments='{"to": "mallory", "amount": 5000}'))


@attack("approved", "workers")
def another_program_sent_the_models_answer(it: Forged) -> None:
    attributes(it.completed("call_model"))["identity"] = "temporal-cli:mallory@laptop"


@attack("approved", "workers")
def a_result_was_sent_before_a_worker_took_the_activity(it: Forged) -> None:
    for event in it.about(it.scheduled("pay")):
        attributes(event).pop("requestId", None)
        attributes(event)["identity"] = "temporal-cli:mallory@laptop"


@attack("approved", "workers")
def an_approved_tool_was_started_twice(it: Forged) -> None:
    for event in it.about(it.scheduled("pay")):
        if event["eventType"] == "EVENT_TYPE_ACTIVITY_TASK_STARTED":
            attributes(event)["attempt"] = 2


@attack("approved", "decisions")
def other_arguments_ran_under_the_same_approval(it: Forged) -> None:
    other_arguments_ran_than_were_approved(it)


@attack("approved", "decisions")
def the_tool_got_other_values_than_were_approved(it: Forged) -> None:
    values = {"read_as": {"amount": 5000}}
    it.change(it.completed("call_model"), lambda turn: [each.update(values) for each in asked(turn)])
    it.change(it.scheduled("pay"), lambda value: value["authorization"].update(values))
    it.shown(set_to(**values))


def asked(turn: dict[str, Any]) -> list[dict[str, Any]]:
    return [gate for gate in turn["gates"].values() if gate["verdict"] == "ask"]


@attack("approved", "activities")
def what_is_deleted_says_that_another_tool_ran(it: Forged) -> None:
    attributes(it.scheduled("pay"))["activityType"]["name"] = "restart"


@attack("approved", "activities")
def an_approval_is_taken_out(it: Forged) -> None:
    it.take_out(*it.answer_to(it.sent(verdict="approve")[0]))


@attack("approved", "activities")
def an_approval_is_blamed_on_another_requirement(it: Forged) -> None:
    it.change(it.sent(verdict="approve")[0], set_to(id="f" * 64))


@attack("rejected", "activities")
def a_rejection_is_told_as_an_approval(it: Forged) -> None:
    for sent in it.sent(verdict="reject"):
        attributes(sent)["signalName"] = "approve"


@attack("approved", "activities")
def who_asked_for_the_run_approved_it(it: Forged) -> None:
    it.change(it.sent(verdict="approve")[0], set_to(by="alice"))
    it.change(it.scheduled("pay"), lambda value: value["authorization"].update(approved_by=["alice"]))


@attack("approved", "activities")
def somebody_else_asked_for_the_run(it: Forged) -> None:
    it.change(it.events[0], set_to(requested_by="carol"))


@attack("approved", "activities")
def a_tool_ran_once_more(it: Forged) -> None:
    about = it.about(it.scheduled("pay"))
    it.put_in(about[-1], *about)


@attack("approved", "activities")
def a_tool_ran_that_is_carried_out_elsewhere(it: Forged) -> None:
    about = copy.deepcopy(it.about(it.scheduled("pay")))
    attributes(about[0])["activityType"]["name"] = "ship"
    attributes(about[0])["activityId"] = "1.2"
    it.put_in(it.about(it.scheduled("pay"))[-1], *about)


@attack("waiting", "activities")
def a_tool_ran_that_still_waits(it: Forged) -> None:
    about = copy.deepcopy(it.about(it.scheduled("look_up")))
    attributes(about[0])["activityType"]["name"] = "pay"
    attributes(about[0])["activityId"] = "1.1"
    it.put_in(it.about(it.scheduled("look_up"))[-1], *about)


@attack("approved", "activities")
def a_tool_is_said_never_to_have_run(it: Forged) -> None:
    it.take_out(*it.about(it.scheduled("pay")))


@attack("approved", "activities")
def a_result_is_another(it: Forged) -> None:
    it.change(it.completed("pay"), set_to(output="paid 1 to bob"))


@attack("approved", "activities")
def the_model_was_told_something_else(it: Forged) -> None:
    it.change(it.scheduled("call_model", 1), lambda value: value["delta"][0].update(output="nothing was paid"))


@attack("approved", "decisions")
def a_tool_may_be_started_as_often_as_it_likes(it: Forged) -> None:
    del attributes(it.scheduled("pay"))["retryPolicy"]["maximumAttempts"]


@attack("asked-again", "activities")
def an_approval_of_before_a_reset_is_used(it: Forged) -> None:
    it.change(it.scheduled("give_discount", 1), lambda value: value["authorization"].update(execution_id="another"))


@attack("approved", "decisions")
def it_ran_by_a_requirement_that_never_was(it: Forged) -> None:
    it.change(it.scheduled("pay"), lambda value: value["authorization"].update(requirement_id="0" * 64))


@attack("approved", "inbox")
def people_were_shown_other_arguments(it: Forged) -> None:
    it.shown(set_to(arguments='{"to": "bob", "amount": 1}'))


@attack("approved", "inbox")
def people_were_shown_another_tool(it: Forged) -> None:
    it.shown(set_to(tool="look_up"))


@attack("approved", "inbox")
def people_were_shown_another_id(it: Forged) -> None:
    it.shown(set_to(id="0" * 64))


@attack("approved", "inbox")
def the_nonce_of_a_requirement_is_another(it: Forged) -> None:
    it.shown(set_to(nonce="0" * 32))


@attack("approved", "inbox")
def people_were_told_that_more_of_them_decide(it: Forged) -> None:
    it.shown(set_to(needed=2))


@attack("approved", "inbox")
def people_were_asked_something_else(it: Forged) -> None:
    it.shown(set_to(kind="input"))


def foreign(it: Forged, kind: str, name: str, **said: object) -> None:
    """Add a command of the workflow that is not an activity."""
    last = it.events[-3]
    event = {"eventId": "", "eventTime": last["eventTime"], "eventType": f"EVENT_TYPE_{kind}", name: said}
    it.put_in(last, event)


@attack("approved", "activities")
def a_child_workflow_was_started(it: Forged) -> None:
    name = "startChildWorkflowExecutionInitiatedEventAttributes"
    foreign(it, "START_CHILD_WORKFLOW_EXECUTION_INITIATED", name, workflowId="other")


@attack("approved", "activities")
def a_local_activity_ran(it: Forged) -> None:
    foreign(it, "MARKER_RECORDED", "markerRecordedEventAttributes", markerName="core_local_activity")


def test_the_mark_of_a_version_of_the_code_is_in_order() -> None:
    it = Forged(read("approved"))
    foreign(it, "MARKER_RECORDED", "markerRecordedEventAttributes", markerName="core_patch")
    assert it.verified().ok


@attack("approved", "activities")
def another_workflow_was_signalled(it: Forged) -> None:
    name = "signalExternalWorkflowExecutionInitiatedEventAttributes"
    foreign(it, "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED", name, signalName="approve")


def gate(it: Forged, tool: str, **fields: object) -> None:
    """Give a call of *tool* in the model's first turn another gate."""

    def change(turn: dict[str, Any]) -> None:
        [number] = [item["call_id"] for item in turn["items"] if item.get("name") == tool]
        turn["gates"][number].update(fields)

    it.change(it.completed("call_model"), change)


@attack("approved", "activities")
def a_gate_let_the_call_through(it: Forged) -> None:
    gate(it, "pay", verdict="allow")


@attack("approved", "inbox")
def nobody_had_to_be_asked(it: Forged) -> None:
    gate(it, "pay", verdict="allow")


@attack("escalated-and-edited", "inbox")
def one_person_was_enough(it: Forged) -> None:
    gate(it, "wire_money", needed=1)


@attack("escalated-and-edited", "activities")
def anybody_could_decide(it: Forged) -> None:
    gate(it, "wire_money", approvers=None)


@attack("expired", "inbox")
def the_deadline_was_later(it: Forged) -> None:
    gate(it, "delete_backup", expires_after=86_400)


@attack("granted-and-revoked", "activities")
def a_grant_was_used_more_often_than_it_was_given_for(it: Forged) -> None:
    def more(value: dict[str, Any]) -> None:
        value["remember"]["uses"] = 9

    [sent] = [each for each in it.sent(verdict="approve") if "remember" in json.dumps(_body(it, each))]
    it.change(sent, more)


@attack("granted-and-revoked", "activities")
def what_was_remembered_was_a_rejection(it: Forged) -> None:
    [sent] = [each for each in it.sent(verdict="approve") if "remember" in json.dumps(_body(it, each))]
    it.change(sent, set_to(verdict="reject", reason="no"))


@attack("granted-and-revoked", "activities")
def a_tool_ran_by_a_grant_that_was_used_up(it: Forged) -> None:
    about = copy.deepcopy(it.about(it.scheduled("give_discount", 1)))
    attributes(about[0])["activityId"] = "3.0"
    it.put_in(it.events[-3], *about)


@attack("escalated-and-edited", "activities")
def an_edit_was_to_other_arguments(it: Forged) -> None:
    [sent] = [each for each in it.sent(by="bob") if "arguments" in _body(it, each)]
    it.change(sent, lambda value: value["arguments"].update(amount=3_000))


@attack("outcome-answered", "activities")
def a_lost_call_ran_again_without_being_asked(it: Forged) -> None:
    it.take_out(*it.answer_to(it.sent(reason="once more")[0]))


@attack("approved", "end")
def the_run_said_something_else(it: Forged) -> None:
    it.change(it.events[-1], set_to(content="I paid no one."))


@attack("approved", "end")
def the_run_has_not_ended(it: Forged) -> None:
    it.take_out(it.events[-1])


@attack("cancelled", "end")
def the_run_was_not_cancelled(it: Forged) -> None:
    it.take_out(*it.of("WORKFLOW_EXECUTION_CANCEL_REQUESTED"))


def _body(it: Forged, event: Event) -> dict[str, Any]:
    kept: list[dict[str, Any]] = []
    it.change(event, lambda value: kept.append(dict(value)))
    return kept[0]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_checks_notice_by_themselves_that(name: str) -> None:
    history, check, change = ATTACKS[name]
    it = Forged(read(history))
    change(it)
    numbers = [event["eventId"] for event in it.events]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)], "no gap shows it"
    found = it.verified()
    assert not found.ok
    assert check in [each.name for each in found.checks if each.verdict == "failed"], failed(found)


def failed(found: Verification) -> list[str]:
    return [problem.text for check in found.checks for problem in check.problems]


@pytest.mark.parametrize("by", [" bob\t", "bob\x1f", "\x1cbob", "bob\u0085", "\ufeffbob", "b\nob"])
def test_a_vote_is_borne_out_however_its_name_is_written(by: str) -> None:
    """Python and pydantic strip different white space around a name; both must find the same person."""
    it = Forged(read("approved"))
    it.change(it.sent(verdict="approve")[0], set_to(by=by))
    read_as = Approve(id="0" * 8, by=by).by
    it.change(it.scheduled("pay"), lambda value: value["authorization"].update(approved_by=[read_as]))
    assert it.verified().ok, failed(it.verified())


# -- continue-as-new --------------------------------------------------------------------------------------------------

CONTINUED: Final = ("continuing", "continued")


def carried(it: Forged, change: Callable[[Run], Run]) -> None:
    """Change the state that an execution begins with."""
    [kept] = [_body(it, it.events[0])]
    run = restore((kept,))
    assert run is not None
    it.change(it.events[0], set_to(**carry(change(run)).model_dump(mode="json", exclude_unset=True)))


def voted(run: Run) -> Run:
    [waiting] = run.requirements
    vote = Vote(verdict="approve", by="bob", at=waiting.created_at)
    return run.update_requirement(waiting.id, votes=[vote])


def more_turns(run: Run) -> Run:
    return replace(run, max_turns=run.max_turns + 1)


@pytest.mark.parametrize("change", [voted, more_turns])
def test_what_is_carried_over_is_what_was_left(change: Callable[[Run], Run]) -> None:
    before, after = (Forged(read(name)) for name in CONTINUED)
    assert audited(parsed(before.events), parsed(after.events))[1].ok
    carried(after, change)
    _, found = audited(parsed(before.events), parsed(after.events))
    assert [check.name for check in found.checks if check.verdict == "failed"][:1] == ["continued"]


def test_what_an_execution_that_is_gone_left_is_believed_and_that_is_said() -> None:
    it = Forged(read("continued"))
    carried(it, more_turns)
    found = it.verified()
    assert (found.ok, found.complete) == (True, False)
    assert any(each.startswith("what happened in executions that are gone") for each in found.not_proven)


def test_executions_in_another_order_are_noticed() -> None:
    before, after = (parsed(read(name)) for name in CONTINUED)
    assert not audited(after, before)[1].ok
    assert not audited(before, before)[1].ok


@pytest.mark.parametrize("name", CONTINUED)
def test_an_execution_that_is_not_there_is_said(name: str) -> None:
    whole = audited(*(parsed(read(each)) for each in CONTINUED))[1]
    _, found = audited(parsed(read(name)))
    assert (whole.complete, found.complete) == (True, False)
    assert [check.verdict for check in found.checks if check.name == "history"] == ["incomplete"]
    assert found.head != whole.head


# -- what no check of one history can notice --------------------------------------------------------------------------


def test_who_changes_a_name_wherever_it_stands_is_not_noticed_and_that_is_said() -> None:
    """Without a server that authenticates senders, a name is a claim; only the head shows a change."""
    it = Forged(read("approved"))
    head = it.verified().head
    for sent in it.sent():
        it.change(sent, set_to(by="carol"))
    for tool in ("pay", "restart"):
        it.change(it.scheduled(tool), lambda value: value["authorization"].update(approved_by=["carol"]))
    found = it.verified()
    assert found.ok
    assert found.head != head
    assert [check.verdict for check in found.checks if check.name == "names"] == ["unverified"]
    assert any(each.startswith("who sent what") for each in found.not_proven)
