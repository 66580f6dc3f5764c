"""What time does to what waits: it expires, more people may decide it, people are reminded of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.deadlines import LONGEST, REMINDERS, add_seconds, advance, next_due
from assent.core.events import Event, MessageReceived, TimeReached, WakeAt
from assent.core.state_machine import decide
from assent.wire.protocol import Escalation, Gate
from assent.wire.requirements import EscalationStep, Requirement
from tests.unit.strategies import ALLOW, ASK, NOW, Play, playing

HOUR = timedelta(hours=1)
EXPIRES = Gate(verdict="ask", expires_after=3600.0)
REMINDS = Gate(verdict="ask", remind_every=3600.0)
ESCALATES = Gate(
    verdict="ask",
    approvers=["bob"],
    escalations=[Escalation(after=3600.0, approvers=["carol"]), Escalation(after=7200.0, approvers=["dave", "bob"])],
)


def waiting(**fields: object) -> Requirement:
    """A requirement that waits since `NOW`."""
    known = {"id": "0" * 64, "kind": "confirmation", "call_id": "c", "tool": "t", "arguments": "{}", "nonce": "n"}
    return Requirement.model_validate({**known, "turn": 1, "created_at": NOW, **fields})


def timers(play: Play) -> list[datetime | None]:
    """The timers that were set, in order."""
    return [command.at for command in play.commands if isinstance(command, WakeAt)]


def at(play: Play, moment: datetime) -> Play:
    """The play at this moment."""
    play.at = moment
    return play


# -- deadlines --------------------------------------------------------------------------------------------------------


def test_without_deadlines_there_is_no_timer() -> None:
    play = playing(ASK, ALLOW)
    assert timers(play) == []
    assert play.run.wake_at is None


def test_silence_is_a_rejection_and_the_model_is_told() -> None:
    play = playing(EXPIRES)
    deadline = play.requirement.created_at + HOUR
    assert play.requirement.expires_at == deadline
    assert timers(play) == [deadline]
    at(play, deadline).wait()
    assert (play.requirement.status, play.requirement.resolved_at) == ("expired", deadline)
    (told,) = play.told
    assert told.startswith("Expired: no one decided about this call by 2026-03-01 13:00:01Z, so it was not run. ")
    assert told.endswith("Silence counts as a rejection.")
    assert not play.ran


def test_a_deadline_is_kept_by_whatever_arrives_first() -> None:
    play = playing(EXPIRES)
    assert at(play, play.requirement.created_at + HOUR).approve().status == "late"
    assert play.requirement.status == "expired"
    assert not play.ran


def test_a_decision_just_before_the_deadline_counts() -> None:
    play = playing(EXPIRES)
    assert at(play, play.requirement.created_at + HOUR - timedelta(microseconds=1)).approve().status == "approved"
    assert timers(play)[-1] is None, "the timer is given up"
    assert len(play.ran) == 1


@given(st.integers(-2, 2))
def test_a_decision_and_the_timer_come_to_the_same_in_either_order(offset: int) -> None:
    play = playing(EXPIRES)
    moment = play.requirement.created_at + HOUR + timedelta(microseconds=offset)
    events: list[Event] = [
        MessageReceived(moment, "approve", ({"id": play.requirement.id, "by": "bob"},)),
        TimeReached(moment),
    ]
    one = decide(decide(play.run, events[0]).run, events[1]).run
    other = decide(decide(play.run, events[1]).run, events[0]).run
    assert one == other


def test_one_of_two_expires_and_the_other_still_waits() -> None:
    play = playing(EXPIRES, ASK)
    play.wait(hours=2)
    assert [each.status for each in play.run.requirements] == ["expired", "pending"]
    assert len(play.asked) == 1
    play.reject(position=1)
    assert len(play.asked) == 2


def test_a_vote_of_two_does_not_stop_the_clock() -> None:
    play = playing(EXPIRES.model_copy(update={"needed": 2}))
    play.approve()
    play.wait(hours=2)
    assert play.requirement.status == "expired"
    assert [vote.by for vote in play.requirement.votes] == ["bob"]


def test_an_end_of_the_run_ends_its_clock() -> None:
    play = playing(EXPIRES)
    play.cancel()
    before = play.run
    step = play.wait(hours=2)
    assert not step.commands
    assert play.run.requirements == before.requirements


def test_a_timer_that_fires_early_is_set_again_and_changes_nothing() -> None:
    play = playing(EXPIRES)
    deadline = play.run.wake_at
    step = play.wait(minutes=1)
    assert step.commands == (WakeAt(deadline),)
    assert play.requirement.status == "pending"


# -- escalation -------------------------------------------------------------------------------------------------------


def test_escalation_widens_who_may_decide_and_narrows_nothing() -> None:
    play = playing(ESCALATES)
    assert play.approve(by="carol").status == "refused"
    play.wait(hours=1)
    assert (play.requirement.approvers, play.requirement.escalated) == (["bob", "carol"], 1)
    play.wait(hours=1)
    assert (play.requirement.approvers, play.requirement.escalated) == (["bob", "carol", "dave"], 2)
    assert play.run.wake_at is None
    assert play.approve(by="dave").status == "approved"


def test_an_escalated_person_may_decide_at_the_very_moment() -> None:
    play = playing(ESCALATES)
    assert at(play, play.requirement.created_at + HOUR).approve(by="carol").status == "approved"


def test_steps_that_were_missed_while_no_worker_ran_are_made_up_for_at_once() -> None:
    play = playing(ESCALATES)
    play.wait(days=3)
    assert play.requirement.escalated == 2


def test_a_call_that_anybody_may_decide_stays_so() -> None:
    play = playing(ESCALATES.model_copy(update={"approvers": None}))
    play.wait(hours=5)
    assert (play.requirement.approvers, play.requirement.escalated) == (None, 2)


def test_a_call_that_nobody_may_decide_can_only_be_rejected_until_it_escalates() -> None:
    play = playing(ESCALATES.model_copy(update={"approvers": []}))
    assert play.approve(by="bob").detail == "'bob' may not decide this; no one may, but anyone can reject it"
    play.wait(hours=1)
    assert play.approve(by="bob").status == "refused"
    assert play.approve(by="carol").status == "approved"
    other = playing(Gate(verdict="ask", approvers=[]))
    assert other.reject(by="anybody").status == "rejected"


# -- reminders --------------------------------------------------------------------------------------------------------


def test_reminders_come_until_somebody_decides() -> None:
    play = playing(REMINDS)
    for _ in range(3):
        assert play.run.wake_at is not None
        at(play, play.run.wake_at).wait()
    assert play.requirement.reminders == 3
    assert play.requirement.remind_at == play.requirement.created_at + 4 * HOUR
    play.approve()
    assert play.run.wake_at is None


def test_reminders_that_were_missed_collapse_into_one() -> None:
    play = playing(REMINDS)
    play.wait(hours=10, minutes=30)
    assert play.requirement.reminders == 1
    assert play.requirement.remind_at == play.requirement.created_at + 11 * HOUR


def test_reminders_are_bounded_and_the_run_still_waits() -> None:
    play = playing(REMINDS)
    for _ in range(REMINDERS):
        assert play.run.wake_at is not None
        at(play, play.run.wake_at).wait()
    assert play.requirement.reminders == REMINDERS
    assert play.run.wake_at is None
    assert play.run.status == "waiting"
    assert play.wait(days=900).commands == ()


@given(st.floats(1e-6, 3e8), st.floats(0, 1e9), st.integers(0, REMINDERS))
def test_the_next_reminder_is_always_in_the_future(every: float, passed: float, reminders: int) -> None:
    moment = NOW + timedelta(seconds=passed)
    found = advance(waiting(remind_every=every, remind_at=NOW, reminders=reminders), moment)
    assert found.reminders == min(reminders + 1, REMINDERS)
    if reminders < REMINDERS:
        assert found.remind_at is not None
        assert found.remind_at > moment
        assert advance(found, moment) is found


# -- what is due ------------------------------------------------------------------------------------------------------

offsets = st.none() | st.integers(0, 10).map(lambda hours: NOW + hours * HOUR)


@given(offsets, offsets, st.lists(st.integers(0, 10), max_size=3), st.sampled_from(["pending", "approved", "expired"]))
def test_the_next_thing_due_is_the_earliest_of_what_waits(
    expires: datetime | None, remind: datetime | None, steps: list[int], status: str
) -> None:
    escalations = [EscalationStep(at=NOW + hours * HOUR, approvers=[]) for hours in sorted(steps)]
    one = waiting(expires_at=expires, remind_every=60.0, remind_at=remind, escalations=escalations, status=status)
    times = [moment for moment in (expires, remind, *(step.at for step in escalations)) if moment is not None]
    assert next_due([one]) == (min(times, default=None) if status == "pending" else None)
    assert next_due([one, waiting(expires_at=NOW - HOUR)]) == NOW - HOUR


def test_nothing_is_due_of_nothing() -> None:
    assert next_due([]) is None


@pytest.mark.parametrize("seconds", [0.0, 1.5, 1e-7, 86_400.0, 1e12, float("inf"), 1e308])
def test_a_time_in_the_far_future_is_a_date_all_the_same(seconds: float) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert moment <= add_seconds(moment, seconds) <= moment + LONGEST


def test_a_requirement_that_is_decided_is_left_alone_by_time() -> None:
    done = waiting(
        status="approved", remind_every=1.0, remind_at=NOW, escalations=[EscalationStep(at=NOW, approvers=[])]
    )
    assert advance(done, NOW + HOUR) is done


def test_a_cancellation_at_a_deadline_asks_the_model_nothing_and_counts_no_turn() -> None:
    play = playing(EXPIRES)
    before = play.run
    play.at = before.requirements[0].created_at + HOUR
    play.cancel()
    assert (play.run.status, play.requirement.status) == ("cancelled", "expired")
    assert (play.run.turn, len(play.asked)) == (before.turn, 1)
    assert play.run.conversation == before.conversation
