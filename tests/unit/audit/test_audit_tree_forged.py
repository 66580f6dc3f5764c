"""Each check finds by itself what a forger of parent and child runs changed, also with events renumbered."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from assent.audit.audit_tree import AuditedRun, audits
from assent.audit.auditor import Auditor
from assent.audit.checks import Verification
from assent.audit.observer import AuditObserver
from assent.wire.errors import RunNotFoundError
from tests.unit.audit.forged_histories import Event, Forged, attributes, found_as, parsed, read

Attack = Callable[[Forged], object]
ATTACKS: Final[dict[str, tuple[str, str, Attack]]] = {}
CHILD_INITIATED: Final = "START_CHILD_WORKFLOW_EXECUTION_INITIATED"
ASKED, BELOW, HANDED = "asked-an-agent", "asked-an-agent-below", "handed-over"


def attack(history: str, check: str) -> Callable[[Attack], Attack]:
    """Register an attack on *history* that *check* must find by itself."""

    def named(found: Attack) -> Attack:
        ATTACKS[found.__name__] = (history, check, found)
        return found

    return named


def initiated(it: Forged) -> Event:
    [event] = it.of(CHILD_INITIATED)
    return event


def asked(it: Forged, **fields: object) -> None:
    """Change the request of the child run."""
    it.change(initiated(it), lambda value: value.update(fields))


# -- how a child run is started ---------------------------------------------------------------------------------------


@attack(ASKED, "activities")
def another_task_was_given_than_the_rules_gave(it: Forged) -> None:
    asked(it, input="Drop the database.")


@attack(ASKED, "activities")
def another_agent_was_asked(it: Forged) -> None:
    asked(it, agent="mallory")


@attack(ASKED, "activities")
def the_policy_above_did_not_reach_the_run_below(it: Forged) -> None:
    it.change(initiated(it), lambda value: value.pop("policy"))


@attack(ASKED, "activities")
def a_rule_was_left_out_of_the_policy_on_its_way(it: Forged) -> None:
    it.change(initiated(it), lambda value: value["policy"]["also"].pop())


@attack(ASKED, "activities")
def somebody_else_asked_for_the_run_below(it: Forged) -> None:
    asked(it, requested_by="mallory")


@attack(ASKED, "activities")
def the_run_below_had_a_budget_that_nobody_gave(it: Forged) -> None:
    asked(it, budget={"max_tokens": 10**9})


@attack(ASKED, "activities")
def the_runs_above_were_hidden_from_the_run_below(it: Forged) -> None:
    it.change(initiated(it), lambda value: value["parents"][0].update(run_id="another"))


@attack(ASKED, "activities")
def the_child_is_of_another_type(it: Forged) -> None:
    attributes(initiated(it))["workflowType"]["name"] = "Wipe"


@attack(ASKED, "activities")
def the_child_has_an_id_that_is_not_made_of_this_run(it: Forged) -> None:
    for event in it.events:
        if "CHILD_WORKFLOW" in event["eventType"]:
            rename(event, "another-run")


def rename(event: Event, name: str) -> None:
    said = attributes(event)
    if "workflowExecution" in said:
        said["workflowExecution"]["workflowId"] = name
    else:
        said["workflowId"] = name


@attack(ASKED, "activities")
def the_child_goes_on_when_the_run_has_ended(it: Forged) -> None:
    attributes(initiated(it))["parentClosePolicy"] = "PARENT_CLOSE_POLICY_ABANDON"


@attack(ASKED, "activities")
def the_child_is_tried_again(it: Forged) -> None:
    attributes(initiated(it))["retryPolicy"] = {"maximumAttempts": 3}


@attack(ASKED, "activities")
def the_child_is_begun_every_day(it: Forged) -> None:
    attributes(initiated(it))["cronSchedule"] = "@daily"


@attack(ASKED, "activities")
def other_workers_got_the_child(it: Forged) -> None:
    attributes(initiated(it))["taskQueue"]["name"] = "elsewhere"


@attack(ASKED, "activities")
def the_inbox_was_told_of_another_agent(it: Forged) -> None:
    field = attributes(initiated(it))["memo"]["fields"]["assent_request"]
    field["data"] = base64.b64encode(b'{"agent":"harmless"}').decode()


@attack(ASKED, "activities")
def the_agent_was_asked_twice(it: Forged) -> None:
    about = [event for event in it.events if "CHILD_WORKFLOW" in event["eventType"]]
    again = copy.deepcopy(about)
    for event in again:
        rename(event, attributes(initiated(it))["workflowId"][:-12] + "0" * 12)
    it.put_in(about[-1], *again)


@attack(ASKED, "activities")
def one_child_was_begun_twice(it: Forged) -> None:
    about = [event for event in it.events if "CHILD_WORKFLOW" in event["eventType"]]
    it.put_in(about[-1], *about)


@attack(ASKED, "activities")
def the_agent_is_said_never_to_have_been_asked(it: Forged) -> None:
    it.take_out(*(event for event in it.events if "CHILD_WORKFLOW" in event["eventType"]))


@attack("asking-an-agent", "activities")
def the_agent_that_works_is_said_never_to_have_been_asked(it: Forged) -> None:
    it.take_out(*(event for event in it.events if "CHILD_WORKFLOW" in event["eventType"]))


@attack("asking-whether-to-ask-an-agent", "activities")
def an_agent_was_asked_that_nobody_had_approved(it: Forged) -> None:
    there = Forged(read(ASKED))
    about = copy.deepcopy([event for event in there.events if "CHILD_WORKFLOW" in event["eventType"]])
    it.put_in(it.about(it.scheduled("look_up"))[-1], *about)


@attack(ASKED, "activities")
def its_tool_did_not_say_that_it_is_for_another_agent(it: Forged) -> None:
    def plain(value: dict[str, Any]) -> None:
        del value["delegation"]
        value["output"] = "The web was restarted."

    it.change(it.completed("ask_writer"), plain)


@attack(ASKED, "activities")
def it_answered_something_else(it: Forged) -> None:
    [event] = it.of("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    it.change(event, lambda value: value.update(content="Nothing was restarted."))


@attack(ASKED, "end")
def it_used_less(it: Forged) -> None:
    [event] = it.of("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    it.change(event, lambda value: value["usage"].update(input_tokens=1))


@attack(ASKED, "activities")
def another_workflow_was_told_to_end(it: Forged) -> None:
    name = "requestCancelExternalWorkflowExecutionInitiatedEventAttributes"
    kind = "EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED"
    last = it.events[-3]
    it.put_in(last, {"eventId": "", "eventTime": last["eventTime"], "eventType": kind, name: {}})


# -- the ceiling, and what is above -----------------------------------------------------------------------------------


def dropped(policy: Any) -> Any:
    """Return a policy that allows everything, instead of the one that limited the run."""
    del policy
    return {"rules": [], "default": "allow"}


@attack(ASKED, "agents")
def a_worker_dropped_what_bounds_the_run_that_asks(it: Forged) -> None:
    it.change(it.completed("ask_writer"), lambda value: value["delegation"].pop("policy"))
    it.change(initiated(it), lambda value: value.pop("policy"))


@attack(ASKED, "agents")
def a_worker_replaced_what_bounds_the_run_that_asks(it: Forged) -> None:
    it.change(it.completed("ask_writer"), lambda value: value["delegation"].update(policy=dropped(value)))
    asked(it, policy=dropped(None))


@attack(ASKED, "agents")
def a_worker_gave_another_task_than_the_call_has(it: Forged) -> None:
    it.change(it.completed("ask_writer"), lambda value: value["delegation"].update(input="Drop the database."))
    asked(it, input="Drop the database.")


@attack(HANDED, "agents")
def a_handoff_dropped_what_bounds_the_run(it: Forged) -> None:
    it.change(it.completed("transfer_to_sales"), lambda value: value["handoff"].pop("policy"))
    for event in it.of("ACTIVITY_TASK_SCHEDULED"):
        it.change(event, lambda value: value.pop("policy", None) if value.get("agent") == "sales" else None)


@attack(HANDED, "activities")
def the_conversation_was_handed_to_another_agent(it: Forged) -> None:
    it.change(it.completed("transfer_to_sales"), lambda value: value["handoff"].update(agent="mallory"))


@attack(HANDED, "activities")
def the_conversation_was_never_handed_over(it: Forged) -> None:
    it.change(it.completed("transfer_to_sales"), lambda value: value.pop("handoff"))


@attack(HANDED, "activities")
def a_grant_from_before_the_handoff_let_a_call_through(it: Forged) -> None:
    about = copy.deepcopy(it.about(it.scheduled("give_discount")))
    attributes(about[0])["activityId"] = "3.0"
    it.put_in(it.events[-12], *about)


@attack(BELOW, "agents")
def a_run_names_another_run_above_it(it: Forged) -> None:
    it.change(it.events[0], lambda value: value["parents"][0].update(run_id="another"))


@attack(BELOW, "agents")
def the_server_says_that_another_run_began_it(it: Forged) -> None:
    attributes(it.events[0])["parentWorkflowExecution"]["workflowId"] = "another"


@attack(BELOW, "agents")
def the_server_says_that_no_run_began_it(it: Forged) -> None:
    del attributes(it.events[0])["parentWorkflowExecution"]


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


# -- two histories, one beside the other ------------------------------------------------------------------------------


async def tree(*forged: Forged) -> list[AuditedRun]:
    """Return the audits of the run tree of the first history; the others hold the child runs."""
    found = {attributes(it.events[0])["workflowId"]: it for it in forged}

    async def reads(run_id: str, observer: AuditObserver | None) -> Any:
        if run_id not in found:
            raise RunNotFoundError(run_id)
        auditor = Auditor(run_id, observer)
        for page in found_as(parsed(found[run_id].events)):
            auditor.add(page)
        return auditor.audit()

    return [each async for each in audits(reads, next(iter(found)), verify=True)]


def verdicts(each: AuditedRun) -> Iterator[str]:
    assert each.verification is not None
    for check in each.verification.checks:
        if check.verdict == "failed":
            yield check.name


@pytest.mark.parametrize("names", [(ASKED, BELOW), ("asking-an-agent", "asking-an-agent-below")])
async def test_a_run_and_those_below_it_tell_the_same(names: tuple[str, str]) -> None:
    above, below = await tree(*(Forged(read(name)) for name in names))
    assert (above.path, below.path) == (("boss",), ("boss", "writer"))
    for each in (above, below):
        assert each.verification is not None
        assert each.verification.ok, failed(each.verification)


def bounded_by_less(above: Forged, below: Forged) -> None:
    """Forge both histories, so that each is in order, and their requests differ."""
    del above
    for event in (below.events[0], *below.of("ACTIVITY_TASK_SCHEDULED")):
        below.change(event, lambda value: value.pop("policy"))


def answered_otherwise(above: Forged, below: Forged) -> None:
    del above
    below.change(below.completed("call_model", 1), lambda value: said_by(value, "Nothing was done."))
    below.change(below.events[-1], lambda value: value.update(content="Nothing was done."))


def said_by(turn: dict[str, Any], text: str) -> None:
    turn["items"] = json.loads(json.dumps(turn["items"]).replace("The web was restarted.", text))


def ended_otherwise(above: Forged, below: Forged) -> None:
    del below
    [event] = above.of("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    event["eventType"] = "EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED"
    said = event.pop("childWorkflowExecutionCompletedEventAttributes")
    del said["result"]
    event["childWorkflowExecutionTerminatedEventAttributes"] = said


def begun_by_another_event(above: Forged, below: Forged) -> None:
    del above
    attributes(below.events[0])["parentInitiatedEventId"] = "3"


@pytest.mark.parametrize("change", [bounded_by_less, answered_otherwise, ended_otherwise, begun_by_another_event])
async def test_a_run_that_tells_of_itself_otherwise_than_the_run_above_is_noticed(
    change: Callable[[Forged, Forged], None],
) -> None:
    above, below = Forged(read(ASKED)), Forged(read(BELOW))
    change(above, below)
    assert "above" in verdicts((await tree(above, below))[1])
    if change in {bounded_by_less, answered_otherwise, begun_by_another_event}:
        found = below.verified()
        assert found.ok, ("by itself it is in order, and only both show it", failed(found))


async def test_a_run_below_whose_history_is_gone_is_said_to_be_missing() -> None:
    above, below = await tree(Forged(read(ASKED)))
    assert above.verification is not None
    assert above.verification.ok
    assert (below.audit, below.verification, below.path) == (None, None, ("boss", "writer"))


async def test_histories_that_name_each_other_as_below_end() -> None:
    above, below = Forged(read(ASKED)), Forged(read(BELOW))
    own = attributes(below.events[0])["workflowId"]
    about = copy.deepcopy([event for event in above.events if "CHILD_WORKFLOW" in event["eventType"]])
    for event in about:
        rename(event, attributes(above.events[0])["workflowId"])
    below.put_in(below.events[-4], *about)
    assert [each.run_id for each in await tree(above, below)][1:] == [own]
