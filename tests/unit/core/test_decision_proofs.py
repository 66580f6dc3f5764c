"""Decisions that must be proven: what counts, once a worker has said whose a proof is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.core.continue_as_new import carry, restore
from assent.core.events import CheckAnswered, MessageReceived
from assent.core.message_handling import CHECKS_AT_ONCE, CHECKS_LIMIT, CHECKS_OF_ALL
from assent.wire.budget import Budget
from assent.wire.proofs import Method, ProofLevel, VerifiedProof, digest_of, instant
from assent.wire.protocol import Checked, CheckInput, DecisionResult, Gate, Usage
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, INPUT, NOW, Play, playing, turn_of

PERSON = ASK.model_copy(update={"proof": "person"})
SIGNED: dict[str, object] = {
    "kind": "sshsig", "signature": "x", "issued_at": instant(NOW), "expires_at": "2099-01-01T00:00:00Z",
}  # fmt: skip


def found(person: str, method: Method = "sshsig") -> VerifiedProof:
    """What a worker finds of the proof of *person*; with which key is not for the core."""
    return VerifiedProof(
        namespace="production", method=method, person=person, key="k", key_id="SHA256:abcdefgh", approvers="00"
    )


def prove(
    play: Play, signal: str = "approve", by: str = "bob", proof: VerifiedProof | None = None, **fields: object
) -> DecisionResult:
    """Somebody sends a signed decision, which a worker checks."""
    identity = fields.pop("id", play.run.requirements[-1].id)
    step = play.offer(signal, {"id": identity, "by": by, "proof": SIGNED, **fields})
    if step.check is None:
        assert step.result is not None
        return step.result
    checked = Checked(problem=None, gate=PERSON if "arguments" in fields else None, proof=proof or found(by))
    return play.checked(step.check, checked)


@pytest.mark.parametrize("signal", ["approve", "reject"])
def test_a_decision_without_a_proof_changes_nothing_and_is_kept(signal: str) -> None:
    play = playing(PERSON)
    before = play.requirement
    reason = {"reason": "no"} if signal == "reject" else {}
    result = play.send(signal, {"id": before.id, "by": "bob", **reason})
    assert (result.status, play.requirement, play.checks) == ("refused", before, [])
    assert "signed by a person's own key" in play.run.ignored_messages[-1].detail


def test_a_proven_decision_costs_one_check_and_is_kept_with_its_vote() -> None:
    play = playing(PERSON)
    assert prove(play).status == "approved"
    [check] = play.checks
    assert (check.input.what, check.input.proof is not None) == ("proof", True)
    [vote] = play.requirement.votes
    assert vote.proof is not None
    assert (vote.proof.statement.namespace, vote.proof.statement.requirement) == ("production", play.requirement.id)
    assert vote.proof.verified == found("bob")
    [command] = play.ran
    assert command.input.authorization is not None
    assert (command.input.authorization.proof, command.input.authorization.proofs) == ("person", [vote.proof])


def test_an_edit_and_its_proof_are_checked_at_once() -> None:
    play = playing(PERSON, arguments='{"amount": 5}')
    assert prove(play, arguments={"amount": 3}).status == "approved"
    [check] = play.checks
    assert check.input.what == "arguments"
    assert check.input.proof is not None
    assert check.input.proof.statement.content == digest_of({"amount": 3})
    first, edited = play.run.requirements
    assert (first.status, edited.status, edited.proof) == ("superseded", "approved", "person")
    assert edited.votes[0].proof is not None


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        (found("eve"), "the proof is that of 'eve', not of 'bob'"),
        (found("bob", "oidc"), "signed by a person's own key, and this one is only vouched for by SHA256:abcdefgh"),
    ],
)
def test_what_a_worker_found_must_be_enough(proof: VerifiedProof, why: str) -> None:
    play = playing(PERSON)
    result = prove(play, proof=proof)
    assert (result.status, play.requirement.votes) == ("refused", [])
    assert why in result.detail


def test_an_answer_that_says_nothing_of_the_proof_proves_nothing() -> None:
    play = playing(PERSON)
    step = play.offer("approve", {"id": play.requirement.id, "by": "bob", "proof": SIGNED})
    assert step.check is not None
    assert play.checked(step.check, Checked(problem=None)).detail == "its proof was not verified"
    assert play.requirement.status == "pending"


def test_a_service_is_enough_where_the_gate_says_so() -> None:
    play = playing(ASK.model_copy(update={"proof": "service"}))
    assert prove(play, proof=found("bob", "oidc")).status == "approved"


def test_a_wrong_proof_does_not_count_where_none_was_asked_for() -> None:
    play = playing(ASK)
    step = play.offer("approve", {"id": play.requirement.id, "by": "bob", "proof": SIGNED})
    assert step.check is not None
    assert play.checked(step.check, Checked(problem="it does not hold")).status == "refused"
    assert play.approve().status == "approved"


def test_two_keys_of_one_person_are_one_vote() -> None:
    play = playing(PERSON.model_copy(update={"needed": 2}))
    assert prove(play).status == "recorded"
    assert prove(play, proof=found("Bob", "webauthn")).status == "duplicate"
    assert prove(play, by="carol").status == "approved"


def test_a_grant_decides_only_what_its_proof_is_enough_for() -> None:
    play = playing(ASK.model_copy(update={"proof": "service", "self_approval": True}))
    assert prove(play, proof=found("bob", "oidc"), remember={"uses": 5}).status == "approved"
    play.tool(0, "paid")
    [grant] = play.run.grants
    assert grant.proof is not None
    stricter = playing(PERSON)
    stricter.run = replace(stricter.run, grants=(grant,))
    assert stricter.requirement.status == "pending"
    assert play.send("revoke", {"id": grant.id, "by": "eve"}).status == "refused"
    assert prove(play, "revoke", id=grant.id).status == "recorded"


def test_filled_in_values_and_their_proof_are_one_check() -> None:
    play = playing(INPUT.model_copy(update={"proof": "person"}))
    assert prove(play, "submit_input", by="alice", values={"amount": 3}).status == "approved"
    [check] = play.checks
    assert (check.input.what, check.input.proof is not None) == ("values", True)


def test_a_result_and_an_extension_of_a_budget_take_the_proof_too() -> None:
    play = playing(EXTERNAL.model_copy(update={"proof": "person"}))
    result = {"id": play.requirement.id, "by": "bob", "output": "ordered"}
    assert play.send("submit_result", result).status == "refused"
    assert prove(play, "submit_result", proof=found("bob", "oidc"), output="ordered").status == "refused"
    assert play.requirement.status == "pending"
    assert prove(play, "submit_result", output="ordered").status == "executed"

    play = Play()
    play.start()
    spent = {"usage": Usage(requests=1), "budget": Budget(max_model_calls=1), "proof": "person"}
    play.model(turn_of(ALLOW).model_copy(update=spent))
    play.tool(0, "ok")
    assert (play.requirement.kind, play.requirement.proof) == ("budget", "person")
    assert [play.approve().status, play.reject().status] == ["refused", "refused"]
    assert play.requirement.status == "pending"
    assert prove(play).status == "approved"
    assert play.run.status == "running"


def test_workflow_code_is_given_what_was_proven() -> None:
    play = Play()
    play.ask(PERSON, '{"amount": 1}')
    assert play.approve().status == "refused"
    assert prove(play, arguments={"amount": 2}).status == "approved"
    [check] = play.checks
    assert check.input.what == "proof"
    assert [each.status for each in play.run.requirements] == ["superseded", "approved"]


def test_a_number_that_cannot_be_signed_is_said_to_be_one() -> None:
    play = playing(PERSON)
    body = {"id": play.requirement.id, "by": "bob", "proof": SIGNED, "arguments": {"amount": 2**60}}
    assert "its proof cannot be checked" in play.send("approve", body).detail


def test_proofs_in_flight_under_one_name_leave_a_place_for_others() -> None:
    play = playing(PERSON)
    body = {"id": play.requirement.id, "proof": SIGNED}
    offered = [play.offer("approve", {**body, "by": "mallory"}) for _ in range(CHECKS_AT_ONCE + 1)]
    assert [each.check is None for each in offered] == [*[False] * CHECKS_AT_ONCE, True]
    assert prove(play).status == "approved"
    crowd = playing(PERSON)
    body["id"] = crowd.requirement.id
    offered = [crowd.offer("approve", {**body, "by": f"mallory-{each}"}) for each in range(CHECKS_OF_ALL + 1)]
    assert offered[-2].check is not None
    assert offered[-1].check is None


def test_a_flood_of_wrong_proofs_does_not_keep_people_from_deciding_for_ever() -> None:
    play = playing(PERSON)
    for _ in range(CHECKS_LIMIT):
        step = play.offer("approve", {"id": play.requirement.id, "by": "mallory", "proof": SIGNED})
        assert step.check is not None
        play.checked(step.check, Checked(problem="no"))
    assert prove(play).status == "refused"
    restored = restore((carry(play.run).model_dump(mode="json"),))
    assert restored is not None
    play.run = restored
    assert prove(play).status == "approved"


PEOPLE = st.sampled_from(["bob", "carol", "Bob "])
LEVELS = st.sampled_from(["person", "service", None])


@given(
    level=LEVELS,
    needed=st.integers(1, 2),
    sent=st.lists(st.tuples(PEOPLE, st.sampled_from(["sshsig", "webauthn", "oidc", None])), max_size=6),
)
def test_exactly_the_people_with_a_good_enough_proof_count(
    level: ProofLevel | None, needed: int, sent: list[tuple[str, Method | None]]
) -> None:
    gate = Gate(verdict="ask", needed=needed, proof=level)
    play, counted = playing(gate), set[str]()
    for by, method in sent:
        if method is None:
            play.approve(by=by)
        else:
            prove(play, by=by, proof=found(by.strip(), method), id=play.requirement.id)
        good = level is None or (method is not None and (level == "service" or method != "oidc"))
        if good and len(counted) < needed:
            counted.add(by.strip().casefold())
    assert (play.requirement.status == "approved") == (len(counted) == needed)
    votes = [vote.by.casefold() for vote in play.requirement.votes]
    assert sorted(votes) == sorted(counted)


def test_the_check_of_a_proof_fits_what_a_worker_reads() -> None:
    play = playing(PERSON)
    prove(play, "reject", reason="no")
    [check] = play.checks
    assert CheckInput.model_validate(check.input.model_dump(mode="json", exclude_unset=True)) == check.input
    kinds = [type(event) for event in play.events[-2:]]
    assert kinds == [MessageReceived, CheckAnswered]
