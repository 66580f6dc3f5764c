"""Which notices a change of a run makes: ids, names and times, and nothing that could be a secret."""

from __future__ import annotations

import pytest

from assent.core.events import SendNotices
from assent.core.notices import BATCH, Notice, notices_of
from assent.wire.limits import NOTICE_NAMES_LIMIT
from assent.wire.protocol import Escalation, Gate
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, INPUT, NOW, ONCE, Play, playing, turn_of

PRIVATE = "nobody else"
EVERYTHING = Gate(
    verdict="ask",
    approvers=["bob"],
    expires_after=10_800.0,
    remind_every=3600.0,
    escalations=[Escalation(after=3600.0, approvers=["carol"])],
)


def notices(play: Play) -> list[Notice]:
    """The notices that were sent, in order."""
    return [notice for command in play.commands if isinstance(command, SendNotices) for notice in command.input.notices]


def kinds(play: Play) -> list[str]:
    """What the notices say, shortly."""
    return [notice.type.partition(".")[2] for notice in notices(play)]


def test_without_anybody_to_send_them_there_are_none() -> None:
    play = playing(EVERYTHING)
    play.approve()
    play.tool(0, "paid")
    assert notices(play) == []


def test_opening_deciding_and_executing_are_told() -> None:
    play = playing(ASK, notices=True)
    play.approve()
    play.tool(0, "paid")
    assert kinds(play) == ["opened", "decided", "executed"]
    opened, decided, executed = notices(play)
    assert (opened.status, opened.by, opened.execution) == ("pending", None, None)
    assert (decided.status, decided.by) == ("approved", "bob")
    assert (executed.execution, executed.requirement_id) == ("executed", play.requirement.id)


def test_a_vote_that_decides_nothing_is_not_told() -> None:
    play = playing(Gate(verdict="ask", needed=2), notices=True)
    play.approve()
    assert kinds(play) == ["opened"]


def test_reminders_escalations_and_silence_are_told() -> None:
    play = playing(EVERYTHING, notices=True)
    play.wait(hours=1, seconds=1)
    play.wait(hours=3)
    assert kinds(play) == ["opened", "escalated", "reminder", "decided"]
    opened, escalated, reminder, expired = notices(play)
    assert opened.approvers == ["bob"]
    assert escalated.approvers == reminder.approvers == ["bob", "carol"]
    assert opened.expires_at == escalated.expires_at
    assert (expired.status, expired.by, expired.approvers, expired.expires_at) == ("expired", None, None, None)


def test_a_result_from_outside_is_told_once_as_both() -> None:
    play = playing(EXTERNAL, notices=True)
    play.submit(output=1)
    assert kinds(play) == ["opened", "decided", "executed"]


def test_an_edit_is_told_of_both_requirements() -> None:
    play = playing(Gate(verdict="ask", needed=2), notices=True)
    play.edit(gate=Gate(verdict="ask", needed=2), to="B")
    assert [(each.type.partition(".")[2], each.status) for each in notices(play)] == [
        ("opened", "pending"),
        ("decided", "superseded"),
        ("opened", "pending"),
    ]


def test_an_unknown_outcome_is_told_with_the_question_about_it() -> None:
    play = playing(ONCE, notices=True)
    play.approve()
    play.lose()
    assert kinds(play) == ["opened", "decided", "executed", "opened"]
    assert [each.execution for each in notices(play)] == [None, "running", "unknown", None]
    assert notices(play)[-1].kind == "outcome"


def test_what_a_grant_lets_through_is_told_once_it_ran() -> None:
    play = playing(ASK, notices=True)
    play.approve(remember={"uses": 1})
    play.tool(0, "paid")
    before = len(notices(play))
    play.model(turn_of(ASK, prefix="later-").model_copy(update={"notices": True}))
    assert len(notices(play)) == before
    play.tool(0, "paid")
    assert kinds(play)[before:] == ["executed"]


def test_a_run_that_ends_tells_of_what_it_cancels() -> None:
    play = playing(ASK, EXTERNAL, notices=True)
    play.cancel()
    assert [each.status for each in notices(play)] == ["pending", "pending", "cancelled", "cancelled"]


def test_calls_that_need_nobody_make_no_notices() -> None:
    play = playing(ALLOW, Gate(verdict="deny"), notices=True)
    play.tool(0, "ok")
    assert notices(play) == []


def test_notices_carry_no_arguments_results_values_or_reasons() -> None:
    play = playing(ASK, EXTERNAL, INPUT, ASK, arguments=f'{{"to": "{PRIVATE}"}}', notices=True)
    play.approve(position=0, reason=PRIVATE)
    play.tool(0, PRIVATE)
    play.submit(position=1, output=PRIVATE, evidence=PRIVATE)
    play.offer("submit_input", {"id": play.run.requirements[2].id, "by": "bob", "values": {"amount": PRIVATE}})
    play.check()
    play.reject(position=3, reason=PRIVATE)
    assert len(notices(play)) == 10
    assert all(PRIVATE not in notice.model_dump_json() for notice in notices(play))


def test_notices_say_whose_run_it_is_and_no_more_than_differs_from_the_default() -> None:
    play = playing(ASK, notices=True)
    (command,) = [command for command in play.commands if isinstance(command, SendNotices)]
    assert (command.input.agent, command.input.requested_by) == ("a", "alice")
    (notice,) = command.input.notices
    assert set(notice.model_dump(exclude_unset=True)) == {"type", "at", "requirement_id", "kind", "tool", "status"}


@pytest.mark.parametrize(("names", "shown"), [(["ann"], True), (["x" * (NOTICE_NAMES_LIMIT + 1)], False), ([], False)])
def test_a_long_list_of_approvers_is_left_out(names: list[str], shown: bool) -> None:
    play = playing(Gate(verdict="ask", approvers=names), notices=True)
    assert notices(play)[0].approvers == (names if shown else None)


def test_many_notices_go_in_several_batches() -> None:
    play = playing(*[ASK] * (BATCH + 1), notices=True)
    sizes = [len(command.input.notices) for command in play.commands if isinstance(command, SendNotices)]
    assert sizes == [BATCH, 1]


def test_the_same_requirements_make_no_notices() -> None:
    known = playing(ASK).run.requirements
    assert notices_of(known, known, NOW) == []
    assert notices_of(known, tuple(known), NOW) == []
    assert [notice.type for notice in notices_of((), known, NOW)] == ["requirement.opened"]
