"""Approvals that are remembered: never a boolean, always within bounds, and each use cites its grant."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.grants import GRANTS_LIMIT, find_grant, make_grant, spend
from assent.wire.digest import requirement_id
from assent.wire.errors import MessageError
from assent.wire.limits import USES_LIMIT
from assent.wire.messages import Remember, read
from assent.wire.protocol import DecisionResult, Gate
from assent.wire.requirements import Grant
from tests.unit.strategies import ASK, EXTERNAL, INPUT, NOW, RUN_ID, Play, playing, turn_of

TWICE: dict[str, object] = {"uses": 2}
OWN = Gate(verdict="ask", self_approval=True)
AN_HOUR: dict[str, object] = {"expires_after": 3600}


def remembering(remember: dict[str, object], gate: Gate = ASK, arguments: str = "{}") -> Play:
    """A run in which bob approved a call of `pay` and had that remembered; the model is asked again."""
    play = playing(gate, arguments=arguments)
    assert play.approve(remember=remember).status == "approved"
    play.tool(0, "paid")
    return play


def again(play: Play, gate: Gate = ASK, tool: str = "pay", arguments: str = "{}", policy: str = "p1") -> bool:
    """Whether one more call goes ahead without anybody being asked."""
    turn = turn_of(gate, tool=tool, arguments=arguments, prefix=f"t{len(play.events)}-")
    before = len(play.ran)
    play.model(turn.model_copy(update={"policy_version": policy}))
    gone = len(play.ran) > before
    if gone:
        play.tool(0, "paid")
    return gone


def anybody(_: Grant) -> bool:
    """Anybody may decide."""
    return True


def revoke(play: Play, **fields: object) -> DecisionResult:
    """Somebody revokes the grant."""
    return play.send("revoke", {"id": play.run.grants[0].id, "by": "carol", **fields})


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remember", "found"),
    [
        ({}, "give a limit: uses, or expires_after in seconds"),
        ({"arguments": {"to": "A"}}, "give a limit"),
        ({"uses": 0}, "remember.uses"),
        ({"uses": USES_LIMIT + 1}, "remember.uses"),
        ({"uses": True}, "remember.uses"),
        ({"uses": "2"}, "remember.uses"),
        ({"expires_after": 0}, "remember.expires_after"),
        ({"expires_after": -1}, "remember.expires_after"),
        ({"expires_after": float("inf")}, "remember.expires_after"),
        ({"expires_after": 1e12}, "remember.expires_after"),
        ({"uses": 1, "arguments": {}}, "remember.arguments"),
        ({"uses": 1, "arguments": {"to": {}}}, "remember.arguments"),
        ({"uses": 1, "arguments": {"to": {"above": None}}}, "remember.arguments"),
        ({"uses": 1, "arguments": ["to"]}, "remember.arguments"),
        ({"uses": 1, "for": "ever"}, "remember.for"),
        (True, "remember"),
        ("always", "remember"),
    ],
)
def test_a_grant_has_a_bound_or_is_refused_in_one_line(remember: object, found: str) -> None:
    with pytest.raises(MessageError) as caught:
        read("approve", [{"id": "abcdef", "by": "bob", "remember": remember}])
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grant_lets_through_as_many_calls_as_it_says() -> None:
    play = remembering(TWICE)
    assert [again(play) for _ in range(3)] == [True, True, False]
    assert play.run.grants[0].used == 2
    assert len(play.run.pending) == 1


def test_two_calls_of_one_turn_are_two_uses() -> None:
    play = remembering({"uses": 1})
    play.model(turn_of(ASK, ASK))
    assert [call.running for call in play.run.calls] == [True, False]


def test_a_grant_ends_at_its_time() -> None:
    play = remembering(AN_HOUR)
    end = play.run.grants[0].at + timedelta(hours=1)
    assert play.run.grants[0].expires_at == end
    play.at = end - timedelta(microseconds=1)
    assert again(play)
    play.at = end
    assert not again(play)


def test_a_grant_is_for_one_tool() -> None:
    assert not again(remembering(TWICE), tool="look")


def test_a_grant_holds_under_one_version_of_the_policy() -> None:
    play = remembering(TWICE)
    assert not again(play, policy="p2")


def test_a_grant_with_conditions_holds_for_arguments_that_satisfy_them() -> None:
    play = remembering({"uses": 9, "arguments": {"to": {"one_of": ["A", "B"]}, "amount": {"at_most": 10}}})
    assert again(play, arguments='{"to": "B", "amount": 10}')
    for arguments in ('{"to": "C", "amount": 1}', '{"to": "A", "amount": 11}', '{"to": "A"}', '{"amount": "1"}'):
        assert not again(play, arguments=arguments), arguments
        play.reject(position=len(play.run.requirements) - 1)
    assert play.run.grants[0].used == 1


@pytest.mark.parametrize("gate", [EXTERNAL, INPUT, Gate(verdict="ask", needed=2), Gate(verdict="deny")])
def test_a_grant_is_for_what_one_person_approves(gate: Gate) -> None:
    play = remembering(TWICE)
    assert not again(play, gate)
    assert play.run.grants[0].used == 0


def test_a_quorum_cannot_be_remembered() -> None:
    play = playing(Gate(verdict="ask", needed=2))
    refused = play.approve(remember=TWICE)
    assert refused.status == "refused"
    assert "a grant would let one decide for all of them" in refused.detail
    assert not play.run.grants


def test_an_edit_cannot_be_remembered() -> None:
    play = playing(ASK)
    assert play.approve(remember=TWICE, arguments={"to": "A"}).status == "refused"
    assert play.requirement.status == "pending"


def test_who_asked_for_the_run_cannot_remember_either() -> None:
    play = playing(ASK)
    assert play.approve(by="Ａｌｉｃｅ", remember=TWICE).status == "refused"
    assert not play.run.grants


def test_there_are_only_so_many_grants_and_the_approval_is_not_taken_without() -> None:
    play = playing(*[ASK] * (GRANTS_LIMIT + 1))
    for position in range(GRANTS_LIMIT):
        assert play.approve(position=position, remember=TWICE).status == "approved"
    refused = play.approve(position=GRANTS_LIMIT, remember=TWICE)
    assert (refused.status, refused.detail) == (
        "refused",
        f"the run has {GRANTS_LIMIT} grants already: decide this call alone",
    )
    assert len(play.run.pending) == 1
    assert play.approve(position=GRANTS_LIMIT).status == "approved"


# -- what a use leaves ------------------------------------------------------------------------------------------------


def test_each_use_is_an_approved_requirement_that_cites_the_grant() -> None:
    play = remembering({"uses": 3}, arguments='{"to": "A"}')
    assert again(play, arguments='{"to": "B"}')
    assert again(play, arguments='{"to": "B"}')
    given, *uses = play.run.requirements
    (grant,) = play.run.grants
    assert grant.requirement_id == given.id
    assert [(each.status, each.grant, each.resolved_by) for each in uses] == [("approved", grant.id, "bob")] * 2
    assert [vote.channel for each in uses for vote in each.votes] == ["grant", "grant"]
    assert len({each.id for each in play.run.requirements}) == 3
    assert len({each.nonce for each in uses}) == 2


def test_what_a_grant_lets_through_carries_an_authorization_that_holds() -> None:
    play = remembering(TWICE)
    assert again(play, arguments='{"to": "B"}')
    command = play.ran[-1]
    shown = command.input.authorization
    assert shown is not None
    assert shown.approved_by == ["bob"]
    assert shown.requirement_id == requirement_id(
        run_id=RUN_ID,
        nonce=shown.nonce,
        call_id=command.input.call_id,
        tool="pay",
        arguments='{"to": "B"}',
        policy_version="p1",
        needed=1,
        expires_at=None,
    )


def test_a_changed_tool_is_not_the_one_that_was_decided_about() -> None:
    old, values, new = (bound_to(each) for each in ("old-1", "old-2", "new-1"))
    play = remembering({"uses": 9}, old)
    assert [again(play, gate) for gate in (values, new)] == [True, False]
    play = rejecting({"uses": 9}, old)
    assert [outcome(play, gate) for gate in (values, new)] == ["rejected", "waits"]


def bound_to(binding: str) -> Gate:
    return ASK.model_copy(update={"binding": binding})


# -- rejections that are remembered -----------------------------------------------------------------------------------


def rejecting(remember: dict[str, object], gate: Gate = ASK, by: str = "bob") -> Play:
    """A run in which a call of `pay` was rejected, which was remembered; the model is asked again."""
    play = playing(gate)
    assert play.reject(by=by, reason="not to A", remember=remember).status == "rejected"
    return play


def outcome(play: Play, gate: Gate = ASK, tool: str = "pay", arguments: str = "{}", policy: str = "p1") -> str:
    """Whether one more call is rejected without a question, waits, or runs."""
    asked, ran = len(play.run.pending), len(play.ran)
    turn = turn_of(gate, tool=tool, arguments=arguments, prefix=f"t{len(play.events)}-")
    play.model(turn.model_copy(update={"policy_version": policy}))
    return "waits" if len(play.run.pending) > asked else "runs" if len(play.ran) > ran else "rejected"


def test_a_remembered_rejection_answers_the_model_and_cites_itself() -> None:
    play = rejecting(TWICE)
    assert [outcome(play) for _ in range(3)] == ["rejected", "rejected", "waits"]
    [grant] = play.run.grants
    _, *uses, last = play.run.requirements
    assert (grant.verdict, grant.used, last.grant) == ("reject", 2, None)
    assert [(each.status, each.grant, each.resolved_by, each.reason) for each in uses] == [
        ("rejected", grant.id, "bob", "not to A")
    ] * 2
    assert [(vote.verdict, vote.channel) for each in uses for vote in each.votes] == [("reject", "grant")] * 2
    assert len({each.id for each in play.run.requirements}) == 4
    assert not play.ran


def test_the_model_gets_the_reason_of_a_remembered_rejection() -> None:
    play = rejecting(TWICE)
    play.model(turn_of(ASK, ASK, prefix="t2-"))
    assert play.told[-2:] == ["Rejected again, without asking: not to A"] * 2


def test_a_remembered_rejection_ends_as_a_grant_does() -> None:
    play = rejecting(AN_HOUR)
    assert outcome(play) == "rejected"
    assert outcome(rejecting(AN_HOUR), policy="p2") == "waits"
    assert outcome(rejecting(AN_HOUR), tool="look") == "waits"
    assert revoke(play).status == "recorded"
    assert outcome(play) == "waits"
    play = rejecting(AN_HOUR)
    play.at += timedelta(hours=1)
    assert outcome(play) == "waits"


def test_a_remembered_rejection_holds_for_arguments_that_satisfy_its_conditions() -> None:
    play = rejecting({"uses": 9, "arguments": {"to": {"equals": "A"}}})
    assert outcome(play, arguments='{"to": "A"}') == "rejected"
    assert outcome(play, arguments='{"to": "B"}') == "waits"


def test_a_remembered_rejection_comes_before_a_remembered_approval() -> None:
    play = remembering(TWICE)
    play.model(turn_of(EXTERNAL, prefix="t2-"))
    assert play.reject(position=1, reason="no more", remember=TWICE).status == "rejected"
    assert outcome(play) == "rejected"


@pytest.mark.parametrize("gate", [EXTERNAL, INPUT, Gate(verdict="ask", needed=2)])
def test_a_rejection_of_one_person_covers_what_one_person_may_reject(gate: Gate) -> None:
    assert outcome(rejecting(TWICE, gate), gate) == "rejected"


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        (Gate(verdict="allow"), "runs"),
        (Gate(verdict="ask", approvers=["carol"]), "waits"),
        (Gate(verdict="ask", failed=True), "waits"),
        (Gate(verdict="ask", approvers=[]), "rejected"),
    ],
)
def test_a_remembered_rejection_holds_where_its_giver_may_reject(gate: Gate, expected: str) -> None:
    assert outcome(rejecting(TWICE), gate) == expected


def test_the_requester_may_reject_and_so_may_have_it_remembered() -> None:
    assert outcome(rejecting(TWICE, by="alice")) == "rejected"


# -- revoking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [6, 8, 64])
def test_anybody_may_revoke_a_grant_by_a_prefix_of_its_id(digits: int) -> None:
    play = remembering(TWICE)
    again(play)
    result = revoke(play, id=f" {play.run.grants[0].id[:digits].upper()} ", by="alice")
    assert (result.status, result.detail) == ("recorded", "revoked by alice; 1 of 2 uses were made")
    assert (play.run.grants[0].revoked_by, play.run.grants[0].revoked_at) == ("alice", play.run.grants[0].revoked_at)
    assert not again(play)


def test_a_grant_is_revoked_by_the_update_too() -> None:
    play = remembering(AN_HOUR)
    body = {"id": play.run.grants[0].short_id, "by": "carol", "verdict": "revoke"}
    assert play.send("decide", body, channel="update").detail == "revoked by carol"


def test_revoking_twice_is_a_duplicate_that_is_kept() -> None:
    play = remembering(TWICE)
    revoke(play)
    before = play.run.grants
    assert revoke(play, by="dave").detail == "already revoked by carol"
    assert play.run.grants == before
    assert play.run.ignored_messages[-1].status == "duplicate"


@pytest.mark.parametrize("wanted", ["0" * 64, "abc", ""])
def test_an_id_that_names_no_grant_revokes_nothing(wanted: str) -> None:
    play = remembering(TWICE)
    result = play.send("revoke", {"id": wanted or "-", "by": "carol"})
    assert result.status == "unknown"
    assert play.run.ignored_messages[-1].status == "unknown"
    assert again(play)


def test_the_id_of_a_requirement_is_not_that_of_its_grant() -> None:
    play = remembering(TWICE)
    assert revoke(play, id=play.run.requirements[0].id).status == "unknown"


def test_a_run_that_has_ended_has_nothing_to_revoke() -> None:
    play = remembering(TWICE)
    play.answer()
    before = play.run.grants
    assert revoke(play).status == "late"
    assert play.run.grants == before
    assert play.run.ignored_messages[-1].by == "carol"


# -- whose grant it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate", [Gate(verdict="ask", approvers=["carol"]), Gate(verdict="ask", approvers=[])])
def test_a_grant_of_somebody_who_may_not_decide_the_call_lets_nothing_through(gate: Gate) -> None:
    play = remembering(TWICE)
    assert not again(play, gate)
    assert play.run.grants[0].used == 0


def test_a_grant_of_the_asker_holds_only_where_the_asker_may_decide() -> None:
    play = playing(OWN)
    play.approve(by="alice", remember=TWICE)
    play.tool(0, "paid")
    assert again(play, OWN)
    assert not again(play, ASK)


def test_a_call_whose_gate_could_not_be_worked_out_is_asked_about_all_the_same() -> None:
    assert not again(remembering(TWICE), Gate(verdict="ask", failed=True))


# -- as values --------------------------------------------------------------------------------------------------------


@given(
    st.none() | st.integers(1, 5),
    st.none() | st.floats(0.001, 1e6),
    st.lists(st.floats(0, 2e6), max_size=8),
    st.none() | st.integers(0, 8),
)
def test_a_grant_is_never_used_beyond_its_bounds(
    uses: int | None, seconds: float | None, times: list[float], revoked: int | None
) -> None:
    if uses is None and seconds is None:
        return
    approved = playing(ASK).requirement.model_copy(update={"resolved_by": "bob"})
    grants: tuple[Grant, ...] = (
        make_grant(
            approved, Remember(uses=uses, expires_after=None if seconds is None else timedelta(seconds=seconds)), NOW
        ),
    )
    let_through: list[datetime] = []
    for number, passed in enumerate(sorted(times)):
        at = NOW + timedelta(seconds=passed)
        if number == revoked:
            grants = (grants[0].model_copy(update={"revoked_at": at, "revoked_by": "x"}),)
        found = find_grant(
            grants, tool="pay", arguments="{}", read_as=None, policy_version="p1", binding="", at=at, may_decide=anybody
        )
        if found is not None:
            grants = spend(grants, found)
            let_through.append(at)
    assert len(let_through) == grants[0].used <= (uses or len(times))
    assert revoked is None or len(let_through) <= revoked
    assert all(seconds is None or at < NOW + timedelta(seconds=seconds, microseconds=1) for at in let_through)


def test_the_first_grant_that_fits_is_used() -> None:
    def grant(number: int, tool: str) -> Grant:
        return Grant(id=f"{number}" * 64, tool=tool, by="bob", at=NOW, requirement_id="r", uses=1)

    grants = (grant(1, "look"), grant(2, "pay"), grant(3, "pay"))
    found = find_grant(
        grants, tool="pay", arguments="{}", read_as=None, policy_version="", binding="", at=NOW, may_decide=anybody
    )
    assert found is not None
    assert found == grants[1]
    assert [each.used for each in spend(grants, found)] == [0, 1, 0]
