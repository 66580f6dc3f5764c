"""A run survives being carried into a new execution, exactly; and nobody can start one with a run of their own."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant

from assent.activities import Activities
from assent.audit.approval import approvals_of
from assent.core.continue_as_new import (
    KEPT_DECIDED,
    QUERY_DECIDED,
    Carried,
    carry,
    fits,
    restore,
    shortened,
    shortened_for_query,
    size_of,
    unsent_notices,
)
from assent.core.events import CallModel, Event, Fail, MessageReceived, SendNotices, Started, WakeAt
from assent.core.notices import Notice, NoticesInput
from assent.core.run_state import Run, Step, state_of
from assent.core.state_machine import decide
from assent.runtime.settings import Settings
from assent.wire.digest import sha256_hex
from assent.wire.errors import ConfigurationError, MessageError
from assent.wire.limits import CARRIED_LIMIT
from assent.wire.protocol import Gate, ModelTurn
from tests.unit.core.test_random_runs import Lives
from tests.unit.strategies import ASK, NOW, RUN_ID, Play, playing, said, turn_of

pytestmark = pytest.mark.slow

POLICY: Final = {"rules": [{"decision": "ask", "tool": "pay", "arguments": {"to": {"equals": None}}}]}
NOTICE: Final = NoticesInput(
    agent="a",
    notices=[
        Notice(
            type="requirement.opened", at=NOW, requirement_id="ab", kind="confirmation", tool="pay", status="pending"
        )
    ],
)


def sent(carried: Carried) -> tuple[object, ...]:
    """The decoded input of the new execution, as it comes over the wire."""
    return (json.loads(carried.model_dump_json(exclude_unset=True)),)


def started(*arguments: object, continued: bool = True) -> Started:
    """The first event of a new execution."""
    return Started(NOW, RUN_ID, "r2", "r1", arguments, continued=continued)


def goes_on(run: Run, notices: tuple[NoticesInput, ...] = ()) -> Step:
    """What becomes of a run in a new execution."""
    return decide(Run(), started(*sent(carry(run, notices))))


class Continued(Lives):
    """A random life of a run that goes on in a new execution again and again."""

    @invariant()
    def it_survives_being_carried(self) -> None:
        """What is restored is the run; the new execution still has to do what the old one had."""
        run = shortened(self.run_now)
        carried = carry(self.run_now)
        assert carry(run) == carried
        restored = restore(sent(carried))
        assert restored == run
        assert carry(restored or Run()) == carried
        if run.ended or not self.play.events:
            return
        step = goes_on(run)
        assert step.run == replace(run, execution_id="r2")
        assert state_of(step.run) == state_of(run).model_copy(update={"execution_id": "r2"})
        asked = [each for each in step.commands if isinstance(each, CallModel)]
        assert asked == ([each for each in self.play.commands if isinstance(each, CallModel)][-1:] * run.model_running)
        woken = [each for each in step.commands if isinstance(each, WakeAt)]
        assert woken == ([] if run.wake_at is None else [WakeAt(run.wake_at)])
        assert len(step.commands) == len(asked) + len(woken)

    @invariant()
    def what_happens_next_comes_to_the_same(self) -> None:
        """The restored run goes on as the other would have; so the rest of this life is lived by it."""
        if self.play.events and len(self.play.events) % 3 == 0:
            restored = restore(sent(carry(self.run_now)))
            assert restored is not None
            self.play.run = restored

    def teardown(self) -> None:
        """All the events again give the same run, though this one was carried on the way."""
        run = Run()
        for event in self.play.events:
            run = decide(run, event).run
        assert shortened(run) == shortened(self.run_now)


TestContinued = Continued.TestCase
TestContinued.settings = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
)


def wire(command: CallModel) -> str:
    """The input of a model call as it is written."""
    return command.input.model_dump_json(exclude_unset=True)


def test_a_model_call_held_back_is_made_with_exactly_the_same_bytes() -> None:
    play = playing(ASK, policy=POLICY)
    play.send("send_message", {"content": "Hurry.", "by": "alice"})
    play.reject(reason="no")
    held = play.asked[-1]
    [again] = [each for each in goes_on(play.run).commands if isinstance(each, CallModel)]
    assert wire(again) == wire(held)
    assert "null" in wire(again), "a condition `equals: null` is still one"


def test_the_first_model_call_has_no_prefix_in_the_new_execution_either() -> None:
    play = Play()
    play.start()
    [again] = goes_on(play.run).commands
    assert [again] == play.commands
    assert wire(play.asked[0]) == wire(again) if isinstance(again, CallModel) else False


def test_a_deadline_wakes_the_new_execution_at_the_same_moment() -> None:
    play = playing(Gate(verdict="ask", expires_after=60))
    step = goes_on(play.run)
    assert step.commands == (WakeAt(play.requirement.expires_at),)
    assert step.run.requirements == play.run.requirements


def test_notices_that_were_not_sent_are_sent_by_the_new_execution_and_nothing_is_announced_again() -> None:
    play = playing(ASK, notices=True)
    assert goes_on(play.run).commands == ()
    assert goes_on(play.run, (NOTICE,)).commands == (SendNotices(NOTICE),)
    assert unsent_notices(sent(carry(play.run, [NOTICE]))) == [NOTICE]
    assert unsent_notices(sent(carry(play.run))) == []


def long_run(number: int) -> Run:
    """A run that has made *number* gated calls of 4 KB, one a turn, and waits for the next."""
    play = playing(ASK)
    play.approve(reason="r" * 2_000)
    decided, waiting = play.requirement, playing(ASK).requirement
    old = [
        decided.model_copy(
            update={
                "id": sha256_hex(str(turn).encode()),
                "turn": turn,
                "arguments": json.dumps({"page": hashlib.shake_256(str(turn).encode()).hexdigest(2_000)}),
                "result": "x" * 4_000,
            }
        )
        for turn in range(number)
    ]
    return replace(play.run, turn=number, requirements=(*old, waiting.model_copy(update={"turn": number})))


def test_what_is_carried_of_decided_calls_is_bounded() -> None:
    runs = {number: long_run(number) for number in (1_000, 2_500, 10_000)}
    sizes = [size_of(carry(run)) for run in runs.values()]
    assert max(sizes) < 100_000
    assert max(sizes) < 1.02 * min(sizes)
    run = goes_on(runs[10_000]).run
    assert len(run.requirements) == KEPT_DECIDED + 1
    assert run.requirements_dropped == state_of(run).requirements_dropped == 10_000 - KEPT_DECIDED
    assert run.pending == runs[10_000].pending, "what waits is whole"
    assert [each.arguments for each in approvals_of(run)] == [None] * KEPT_DECIDED + [run.pending[0].arguments]
    assert shortened(run) == run, "a second time nothing more is left out"


def test_the_query_has_the_newest_decided_calls_alone_where_all_are_too_large() -> None:
    few, many = long_run(10), long_run(2_200)
    assert shortened_for_query(few) is few
    run = shortened_for_query(many)
    assert run.pending == many.pending, "what waits is whole"
    assert (len(run.requirements), run.requirements_dropped) == (QUERY_DECIDED + 1, 2_200 - QUERY_DECIDED)
    assert len(state_of(run).model_dump_json()) < 300_000


@pytest.mark.parametrize(
    ("turn", "status", "detail"),
    [
        (9_999, "duplicate", "already approved by bob"),
        (0, "unknown", "it may be one of the oldest 9,000, all decided: see the audit"),
    ],
)
def test_a_late_decision_on_an_old_requirement_runs_nothing_and_says_why(turn: int, status: str, detail: str) -> None:
    run = goes_on(long_run(10_000)).run
    late = {"id": sha256_hex(str(turn).encode()), "by": "carol"}
    step = decide(run, MessageReceived(NOW, "approve", (late,)))
    assert step.result is not None
    assert (step.result.status, step.commands) == (status, ())
    assert detail in step.result.detail
    assert step.run.requirements == run.requirements
    assert [each.status for each in step.run.ignored_messages] == [status]


def test_extensions_of_the_budget_are_never_dropped() -> None:
    run = long_run(1_500)
    first = run.requirements[0].model_copy(update={"kind": "budget"})
    after = shortened(replace(run, requirements=(first, *run.requirements[1:])))
    assert [each.kind for each in after.requirements].count("budget") == 1


def failure(event: Event) -> str:
    """Why a run that begins with *event* fails at once."""
    step = decide(Run(), event)
    [command] = step.commands
    assert isinstance(command, Fail)
    assert step.run.status == "failed"
    assert not step.run.requirements
    assert command.failure.kind == "InvalidRunRequest"
    assert "\n" not in command.failure.message
    return command.failure.message


def approved() -> Carried:
    """A run as a forger would carry it: approved by somebody who never did."""
    play = playing(ASK)
    play.approve()
    return carry(play.run)


def test_whoever_starts_a_run_cannot_bring_one_along() -> None:
    [forged] = sent(approved())
    assert "agent" in failure(started(forged, continued=False))


def test_fields_of_a_carried_run_beside_a_request_change_nothing() -> None:
    forged = approved().model_dump(mode="json")
    step = decide(Run(), started({"agent": "a", "input": "do it", **forged}, continued=False))
    assert (step.run.requirements, step.run.turn) == ((), 1)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ({"agent": "a", "input": "do it"},),
        ({"carried": 2, "state": ""},),
        ({"carried": 1},),
        ({"carried": 1, "state": 7},),
        ({"carried": 1, "state": "!"},),
        ({"carried": 1, "state": base64.b64encode(b"no zlib").decode()},),
        ({"carried": 1, "state": base64.b64encode(zlib.compress(b"{")).decode()},),
        ({"carried": 1, "state": base64.b64encode(zlib.compress(b"[]")).decode()},),
        ({"carried": 1, "state": base64.b64encode(zlib.compress(b'{"turn":"x"}')).decode()},),
        ({"carried": 1, "state": base64.b64encode(zlib.compress(b"[" * 200_000)).decode()},),
        ({"carried": 1, "state": base64.b64encode(zlib.compress(b" " * 100_000_000)).decode()},),
    ],
)
def test_what_cannot_be_read_fails_the_run_with_one_line(arguments: tuple[object, ...]) -> None:
    assert failure(started(*arguments)).startswith("AgentRun: ")


def test_what_is_not_carried_at_all_is_told_apart_from_what_cannot_be_read() -> None:
    assert restore(({"agent": "a", "input": "x"},)) is None
    with pytest.raises(MessageError):
        restore(({"carried": 1, "state": "!"},))


def test_what_is_carried_is_compressed_and_says_whether_it_fits() -> None:
    play = playing(ASK)
    small = carry(play.run)
    assert fits(small)
    assert size_of(small) < 1_500
    words = [said(f"{number} {'the same words again ' * 20}") for number in range(2_000)]
    assert size_of(carry(replace(play.run, conversation=play.run.conversation.append(words)))) < 100_000
    whole = "".join(chr(33 + (number * number * 7919 + number // 89) % 90) for number in range(2_400_000))
    assert not fits(Carried(state=whole[:CARRIED_LIMIT]))


def test_fields_of_a_newer_version_are_left_out() -> None:
    play = playing(ASK)
    state = json.loads(zlib.decompress(base64.b64decode(carry(play.run).state)))
    state["what_comes_later"] = 1
    newer = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    assert restore(({"carried": 1, "state": newer},)) == play.run


def test_a_turn_says_after_how_many_events_only_once() -> None:
    play = Play()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"continue_after": 7}))
    assert play.run.continue_after == 7
    play.reject()
    play.model(ModelTurn(items=[said("more")], follow_up="again"))
    assert play.run.continue_after == 7


def test_a_run_keeps_the_version_of_the_rules_of_its_first_turn() -> None:
    play = Play()
    play.start()
    play.model(turn_of(ASK).model_copy(update={"rules_version": 2}))
    play.reject()
    play.model(turn_of(ASK, prefix="d").model_copy(update={"rules_version": 3}))
    assert play.run.rules_version == 2
    restored = restore((carry(play.run).model_dump(mode="json"),))
    assert restored == shortened(play.run)


@pytest.mark.parametrize("value", ["-1", "soon"])
def test_the_setting_is_checked(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_CONTINUE_AFTER", value)
    with pytest.raises(ConfigurationError, match="ASSENT_CONTINUE_AFTER"):
        Settings.read()


def test_a_negative_number_of_events_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="continue_after is -1"):
        Activities([], continue_after=-1)
