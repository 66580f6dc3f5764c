"""What people are told of a call that waits, in each situation: in the Web UI, and in the events of a run."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import JsonValue

from assent.audit.approval import approvals_of, pending_approval
from assent.core.events import CheckAnswered, MessageReceived, TimeReached
from assent.core.run_state import Run, Step
from assent.views.facts import changes
from assent.views.run_events import RunEvent, describe
from assent.views.web_ui import details, pending_memo
from assent.wire.limits import MEMO_APPROVERS
from assent.wire.protocol import Checked, Escalation, Gate, InputField
from assent.wire.requirements import EscalationStep
from assent.wire.text import plain, visible
from assent.wire.visibility import RequestMemo
from tests.unit.strategies import ALLOW, ASK, EXTERNAL, HOSTILE, NOW, Play, turn_of

AMOUNT = InputField(name="amount", type={"type": "integer"}, description="how much")
MEMO = InputField(name="memo", type={"type": "string"}, required=False)
COLOUR = InputField(name="colour", type={"enum": ["red", "blue"]})


def waiting(*gates: Gate, arguments: str = "{}", **request: object) -> Play:
    """A run for alice that waits for each of *gates*."""
    play = Play()
    play.start(**request)
    play.model(turn_of(*gates, arguments=arguments))
    return play


def edit(play: Play, by: str, arguments: dict[str, JsonValue], gate: Gate = ASK) -> Step:
    """Somebody edits the newest call, and the worker has nothing against it."""
    body = {"id": play.run.requirements[-1].id, "by": by, "arguments": arguments}
    asked = play.tell(MessageReceived(play.at, "approve", (body,)))
    assert asked.check is not None
    return play.tell(CheckAnswered(play.at, asked.check, Checked(problem=None, gate=gate, policy_version="p1")))


def lost(**gate: object) -> Play:
    """A run in which the worker of an approved call was lost."""
    play = waiting(Gate.model_validate({"verdict": "ask", "at_most_once": True, **gate}), arguments='{"to": "A"}')
    play.approve(by="bob")
    play.lose()
    return play


def events(play: Play) -> list[RunEvent]:
    """What the events of a run meant, from its beginning."""
    again = Play()
    told: list[RunEvent] = []
    for event in play.events:
        before = again.run
        step = again.tell(event)
        told += describe(event, before, step)
    return told


def kinds(play: Play) -> list[str]:
    return [event.kind for event in events(play)]


# -- who may decide ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ({}, "May decide: anyone"),
        ({"approvers": ["bob", "carol"]}, "May decide: `bob, carol`"),
        ({"approvers": []}, "May decide: no one; anyone can reject it"),
        ({"approvers": ["Alice"]}, "`Alice`. None of them may approve, and it takes 1: it can only be rejected"),
        ({"approvers": ["bob"], "needed": 2}, "`bob`. 1 of them may approve, and it takes 2: it can only be rejected"),
        ({"approvers": ["Alice"], "self_approval": True}, "May decide: `Alice`\n"),
        ({"needed": 2}, "2 people must approve; so far: no one"),
    ],
)
def test_the_details_say_who_may_decide_and_when_nobody_can(gate: dict[str, object], told: str) -> None:
    assert told in details(waiting(Gate.model_validate({"verdict": "ask", **gate})).run)


def test_the_details_say_by_when_what_silence_means_and_what_is_to_come() -> None:
    steps = [Escalation(after=60, approvers=["dave"]), Escalation(after=3600, approvers=["erin"])]
    gate = Gate(verdict="ask", approvers=["bob"], expires_after=7200, remind_every=1800, escalations=steps)
    play = waiting(gate)
    opened = play.requirement.created_at
    shown = details(play.run)
    until = opened + timedelta(hours=2)
    assert f"Until {until:%Y-%m-%d %H:%M:%S} UTC; after that, it counts as rejected" in shown
    assert f"From {opened + timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC, if there is no decision" in shown
    assert "these may decide too: `dave`" in shown
    assert "Reminders every 30 min" in shown
    play.at = opened + timedelta(minutes=31)
    play.tell(TimeReached(play.at))
    later = details(play.run)
    assert "May decide: `bob, dave`" in later
    assert "these may decide too: `dave`" not in later
    assert "these may decide too: `erin`" in later
    assert "Reminders every 30 min, 1 so far" in later


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_fields_are_shown_with_type_description_choices_and_json_to_paste() -> None:
    play = waiting(Gate(verdict="input", fields=[AMOUNT, MEMO, COLOUR]))
    shown = details(play.run)
    for expected in (
        "### Fill in, or reject: `pay`",
        "To fill in: `amount`, `a whole number`: `how much`",
        "To fill in: `memo`, optional, `text`",
        'To fill in: `colour`, one of `"red", "blue"`',
        "`alice` asked for this run and may not fill it in",
    ):
        assert expected in shown
    data = json.loads(shown.split("| `submit_input` | `", 1)[1].split("` |", 1)[0])
    assert data["values"] == {"amount": "INTEGER", "colour": "ONE OF THE CHOICES"}
    assert "--name submit_input" in shown


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "boolean"}, "true or false"),
        ({"type": "array", "items": {"type": "number"}}, "a list, each a number"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"$ref": "#/$defs/X"}, "JSON"),
    ],
)
def test_a_type_is_told_in_words(schema: dict[str, JsonValue], words: str) -> None:
    play = waiting(Gate(verdict="input", fields=[InputField(name="x", type=schema)]))
    assert f"To fill in: `x`, `{words}`" in details(play.run)


def test_an_unknown_outcome_is_shown_with_its_three_choices() -> None:
    play = lost(approvers=["bob", "carol"])
    shown = details(play.run)
    first = play.run.requirements[0]
    for expected in (
        "### Say what came of: `pay`",
        f"Unknown outcome: `{first.short_id} approved by bob`",
        "`submit_result`: it happened, with this result",
        "`approve`: run it again",
        "`reject`: give up; the outcome is unknown",
        "| `submit_result` |",
        "| `approve` |",
        "| `reject` |",
        "may not have taken effect",
    ):
        assert expected in shown
    assert "may also have" not in shown
    for name in ("submit_result", "approve", "reject"):
        assert f"temporal workflow signal --name {name}" in shown


def test_an_edit_is_shown_before_and_after_with_who_made_it() -> None:
    gate = Gate(verdict="ask", needed=2)
    play = waiting(gate, arguments='{"to": "A", "amount": 5}')
    edit(play, "bob", {"to": "A", "amount": 3}, gate)
    shown = details(play.run)
    changed = 'Edited by `bob`; `amount`: `5` → `3`; before: `{"to": "A", "amount": 5}`'
    assert changed in shown
    remembered = '`"remember": {"uses": 2}`, or `{"expires_after": 3600}`'
    assert f"`reject` may also have {remembered}, which rejects further calls of the tool" in shown
    assert "2 people must approve; so far: `bob`" in shown
    assert "**superseded** by `bob`" in shown
    play.approve(by="carol", position=1)
    assert changed.removeprefix("Edited by ") in details(play.run)


def test_a_call_that_takes_several_people_is_not_offered_a_grant() -> None:
    offered = "which lets further calls of the tool through"
    assert offered in details(waiting(ASK).run)
    assert offered not in details(waiting(Gate(verdict="ask", needed=2)).run)


# -- grants -----------------------------------------------------------------------------------------------------------


def granting(**remember: object) -> Play:
    """A run in which an approval was remembered, and a further call was let through."""
    play = waiting(ASK)
    play.approve(by="bob", remember=remember)
    play.tool(0, "ok")
    play.model(turn_of(ASK, prefix="d"))
    return play


def test_active_grants_are_shown_with_what_they_let_through_and_how_to_end_them() -> None:
    play = granting(uses=3, expires_after=3600)
    (grant,) = play.run.grants
    assert grant.expires_at is not None
    shown = details(play.run)
    assert "### What is decided without asking" in shown
    assert f"`pay`: 2 more of 3 calls, until {grant.expires_at:%Y-%m-%d %H:%M:%S} UTC, whatever the arguments" in shown
    assert "; by `bob`" in shown
    assert f'the signal `revoke` with `{{"id":"{grant.short_id}", "by":"NAME"}}`' in shown
    assert f"`assent revoke run-1 {grant.short_id} --by YOUR_NAME`" in shown
    assert f"**approved** by `bob` before, by the grant `{grant.short_id}`" in shown
    assert "What goes ahead" not in details(play.run, grant.expires_at)
    play.send("revoke", {"id": grant.id, "by": "sec"})
    assert "What goes ahead" not in details(play.run)


def test_the_conditions_of_a_grant_are_shown() -> None:
    play = waiting(ASK, arguments='{"to": "A", "amount": 1}')
    play.approve(by="bob", remember={"uses": 2, "arguments": {"amount": {"below": 10}, "to": "A"}})
    assert 'if `{"amount":{"below":10.0}, "to":{"equals":"A"}}`' in details(play.run)


# -- hostile text -----------------------------------------------------------------------------------------------------


def hostile_play(text: str) -> Play:
    """A run with *text* wherever somebody may put it: an edit, a note, later approvers, fields, values, a grant."""
    play = waiting(Gate(verdict="ask", needed=2, reason=text), Gate(verdict="input"), arguments='{"to": "A"}')
    first, second = play.run.requirements
    fields = [InputField(name=text, type={"enum": [text]}, description=text)]
    before = first.model_copy(update={"id": "f" * 64, "status": "superseded", "arguments": text, "resolved_by": text})
    changes = {
        "edited_by": text,
        "follows": before.id,
        "values": {text: text},
        "escalations": [EscalationStep(at=NOW, approvers=[text])],
    }
    grants = granting(uses=2, arguments={text: text}).run.grants
    requirements = (before, first.model_copy(update=changes), second.model_copy(update={"fields": fields}))
    play.run = Run(id="run-1", request=play.run.request, requirements=requirements, turn=1, grants=grants)
    return play


def shape(markdown: str) -> list[str]:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [kind for token in tokens for kind in (token.type, *(each.type for each in token.children or ()))]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_the_new_details_is_hidden(text: str) -> None:
    shown = details(hostile_play(text).run)
    assert visible(shown) == shown


@given(st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_the_new_markdown_cannot_be_broken_out_of(text: str) -> None:
    assert shape(details(hostile_play(text).run)) == shape(details(hostile_play("plain").run))


# -- the memo and the records -----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.text("abé", min_size=1, max_size=200), max_size=12), max_size=12))
def test_the_approvers_in_the_memo_are_bounded_and_those_left_out_counted(names: list[list[str]]) -> None:
    known = waiting(ASK).requirement
    entries = pending_memo([known.model_copy(update={"approvers": each}) for each in names])
    kept = [each.approvers for each in entries if each.approvers is not None]
    assert sum(len(json.dumps(each, ensure_ascii=False).encode()) for each in kept) <= MEMO_APPROVERS + 4 * len(names)
    for entry, approvers in zip(entries, names, strict=True):
        assert entry.approvers in (approvers, None)
        assert entry.approvers_left_out == (0 if entry.approvers is not None else len(approvers))


def test_a_record_has_who_may_decide_by_when_and_where_it_comes_from() -> None:
    gate = Gate(verdict="ask", approvers=["bob", "dana"], expires_after=60, reason="the rule's reason")
    play = waiting(gate, arguments='{"to": "A"}')
    edit(play, "bob", {"to": "B"}, gate)
    first, second = approvals_of(play.run)
    assert (second.approvers, second.note, second.edited_by) == (["bob", "dana"], "the rule's reason", "bob")
    assert (second.follows, second.expires_at) == (first.id, first.expires_at)
    granted = approvals_of(granting(uses=1).run)[1]
    assert granted.grant is not None


def test_a_pending_record_from_the_inbox_has_what_the_memo_has() -> None:
    gate = Gate(verdict="ask", approvers=["bob"], expires_after=60)
    [entry] = pending_memo(waiting(gate).run.pending)
    record = pending_approval("r", RequestMemo(agent="a"), entry)
    assert (record.approvers, record.expires_at is not None, record.approvers_left_out) == (["bob"], True, 0)


# -- events -----------------------------------------------------------------------------------------------------------


def test_a_call_that_a_grant_lets_through_is_never_said_to_wait() -> None:
    told = events(granting(uses=3))
    assert [event.kind for event in told].count("waiting") == 1
    (granted,) = [event for event in told if event.kind == "granted"]
    (remembered,) = [event for event in told if event.kind == "remembered"]
    assert "did not wait" in granted.text
    assert (granted.by, granted.grant) == ("bob", remembered.grant)
    assert "3 more of 3 calls" in remembered.text


def test_the_event_of_a_call_that_waits_says_who_may_decide_and_what_to_fill_in() -> None:
    (event,) = [each for each in events(waiting(Gate(verdict="input", fields=[AMOUNT]))) if each.kind == "waiting"]
    assert event.fields == [AMOUNT]
    assert "May decide: anyone" in event.terms
    assert "To fill in: amount, a whole number: how much" in event.terms


def test_time_is_told_as_it_passes() -> None:
    steps = [Escalation(after=60, approvers=["dave"])]
    gate = Gate(verdict="ask", approvers=["bob"], expires_after=120, remind_every=50, escalations=steps)
    play = waiting(gate)
    for seconds in (51, 61, 121):
        play.at = play.requirement.created_at + timedelta(seconds=seconds)
        play.tell(TimeReached(play.at))
    told = [event for event in events(play) if event.kind in {"reminded", "escalated", "expired"}]
    assert [event.kind for event in told] == ["reminded", "escalated", "reminded", "expired"] or [
        event.kind for event in told
    ] == ["reminded", "escalated", "expired"]
    assert "dave may decide it too" in {event.text for event in told}


def test_an_edit_is_told_once_it_was_checked() -> None:
    play = waiting(ASK, arguments='{"to": "A"}')
    edit(play, "bob", {"to": "B"})
    told = events(play)
    first, second = play.run.requirements
    (superseded,) = [event for event in told if event.kind == "superseded"]
    (decided,) = [event for event in told if event.kind == "decided"]
    assert (superseded.requirement_id, superseded.arguments, superseded.by) == (first.id, '{"to":"B"}', "bob")
    assert (decided.requirement_id, decided.status, decided.by) == (second.id, "approved", "bob")
    assert "approve: a worker checks it first" in [event.text for event in told]
    assert [event.kind for event in told].count("waiting") == 1


def test_an_edit_that_is_refused_did_not_count() -> None:
    play = waiting(ASK)
    asked = play.tell(
        MessageReceived(play.at, "approve", ({"id": play.requirement.id, "by": "bob", "arguments": {"to": 1}},))
    )
    play.tell(CheckAnswered(play.at, asked.check or 0, Checked(problem="to: no text")))
    assert "approve: refused: to: no text" in [event.text for event in events(play) if event.kind == "not_counted"]


def test_an_unknown_outcome_and_a_revoked_grant_are_told() -> None:
    assert kinds(lost())[-2:] == ["lost", "waiting"]
    play = granting(uses=3)
    play.send("revoke", {"id": play.run.grants[0].id, "by": "sec"})
    revoked = events(play)[-1]
    assert (revoked.kind, revoked.by, revoked.grant) == ("revoked", "sec", play.run.grants[0].id)


def test_the_events_of_a_plain_run_are_as_ever() -> None:
    play = waiting(ASK, ALLOW, EXTERNAL)
    play.approve(by="bob")
    play.tool(0, "ok")
    assert kinds(play) == [
        "started", "model_called", "model_answered", "waiting", "waiting", "tool_started", "decided", "tool_started",
        "tool_finished",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ('{"to": "A", "amount": 5}', '{"amount":3,"to":"A"}', ["amount: 5 → 3; "]),
        (
            '{"a": {"b": 1}, "c": 1}',
            '{"a":{"b":2},"d":"x"}',
            ['a: {"b": 1} → {"b": 2}; ', "c: 1 → nothing; ", 'd: nothing → "x"; '],
        ),
        ('{"a": 1}', '{ "a" : 1 }', []),
        ("{", "{}", []),
        ("[1]", "{}", []),
    ],
)
def test_the_changes_of_an_edit_are_told_by_field(before: str, after: str, shown: list[str]) -> None:
    assert [plain(each) for each in changes(before, after)] == shown
