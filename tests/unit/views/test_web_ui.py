"""What operators see of a run without opening its history."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from assent.core.run_state import Run
from assent.views.json_layout import BROKEN
from assent.views.web_ui import (
    DETAILS_IGNORED,
    DETAILS_REQUIREMENTS,
    call_summary,
    details,
    pending_memo,
    request_details,
    request_summary,
    signal_command,
)
from assent.wire.digest import requirement_id
from assent.wire.limits import MEMO_ARGUMENTS, MEMO_TOTAL
from assent.wire.protocol import Execution, Gate, ModelTurn
from assent.wire.text import is_blank, one_line, visible
from tests.unit.strategies import (
    ALLOW,
    ASK,
    EXTERNAL,
    HOSTILE,
    Play,
    function_call,
    playing,
    said,
    turn_of,
)

MARKDOWN = MarkdownIt("commonmark").enable("table")
hostile = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def play_of(text: str) -> Play:
    """A run where everything that a model or a person may write is *text*."""
    play = Play(run=Run())
    play.start(agent=text, requested_by="alice" if is_blank(text) else text, context={text: [text]})
    gate = Gate(verdict="ask", needed=2, approvers=["bob", text], reason=text)
    call, other = function_call("c", text, text), function_call("d", text, text)
    play.model(ModelTurn(items=[said(text), call, other], gates={"c": gate, "d": EXTERNAL}))
    play.approve(by="bob", position=0, reason=text)
    play.send("approve", {"id": text, "by": text, text: text})
    play.send(text, text)
    return play


def shape(markdown: str) -> list[str]:
    """The structure of a Markdown text: every token's kind, without what it holds."""

    def kinds(tokens: list[Token]) -> list[str]:
        return [kind for token in tokens for kind in (token.type, *kinds(token.children or []))]

    return kinds(MARKDOWN.parse(markdown))


@given(hostile)
@example("\x1b")  # no name of a requester: nobody would see it
def test_markdown_cannot_be_broken_out_of(text: str) -> None:
    assert shape(details(play_of(text).run)) == shape(details(play_of("plain").run))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_the_details_is_hidden(text: str) -> None:
    shown = details(play_of(text).run)
    assert visible(shown) == shown


@pytest.mark.parametrize("text", HOSTILE)
def test_a_run_id_hides_nothing_in_the_details(text: str) -> None:
    play = playing(ASK)
    play.run = Run(id=text, requirements=play.run.requirements, request=play.run.request)
    shown = details(play.run)
    assert visible(shown) == shown


def squeezed(text: str) -> str:
    """The text without white space and marks of broken lines: what laying it out leaves alone."""
    return "".join(text.replace(BROKEN, "").split())


def arguments_shown(markdown: str) -> list[str]:
    """What the blocks of JSON in a Markdown text hold."""
    return [token.content for token in MARKDOWN.parse(markdown) if token.type == "fence" and token.info == "json"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | hostile)
def test_exact_arguments_are_shown(text: str) -> None:
    raw = json.dumps({"to": text, "amount": [1, {"a": None}]}, ensure_ascii=False)
    shown = details(playing(ASK, arguments=raw).run)
    (block,) = arguments_shown(shown)
    assert squeezed(block) == squeezed(one_line(raw))
    assert f"Exact arguments ({len(raw.encode()):,} bytes; reformatted" in shown


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\t\r"), max_size=200))
def test_arguments_that_are_not_json_are_shown_too(text: str) -> None:
    (block,) = arguments_shown(details(playing(ASK, arguments=f"x{text}x").run))
    assert squeezed(block) == squeezed(one_line(f"x{text}x"))


def test_arguments_that_are_too_long_to_show_are_said_to_be_cut() -> None:
    raw = json.dumps({"to": "x" * 20_000})
    play = playing(ASK, arguments=raw)
    shown = details(play.run)
    assert f"Cut: this is only the beginning of {len(raw):,} bytes" in shown
    assert "`assent show run-1`" in shown
    assert "Exact arguments" not in shown


def test_the_details_say_what_waits_and_how_to_decide_it() -> None:
    gate = Gate(verdict="ask", needed=2, approvers=["bob", "carol"], reason="the gate raised", expires_after=86_399)
    play = playing(gate)
    play.approve(by="bob")
    shown = details(play.run)
    short = play.requirement.short_id
    for expected in (
        "**1 call waits for a decision**, turn 1 of `a`, requested by `alice`",
        "### Approve or reject: `pay`",
        "`the gate raised`",
        "2 people must approve; so far: `bob`",
        "May decide: `bob, carol`",
        "`alice` asked for this run and may not approve it",
        "Until 2026-03-02 12:00 UTC",
        f'| `approve` | `{{"id":"{short}", "by":"NAME"}}` |',
        "temporal workflow signal --name reject",
    ):
        assert expected in shown


def test_an_external_call_is_shown_with_how_to_hand_in_its_result() -> None:
    shown = details(playing(EXTERNAL).run)
    assert "| `submit_result` |" in shown
    assert "| `approve` |" not in shown


@pytest.mark.parametrize(("count", "hidden"), [(2, ""), (DETAILS_REQUIREMENTS + 4, "**And 4 more**")])
def test_calls_are_shown_apart_and_those_left_out_are_counted(count: int, hidden: str) -> None:
    shown = details(playing(*[ASK] * count).run)
    assert f"**{count} calls wait for a decision**" in shown
    assert shown.count("### Approve or reject: `pay`") == min(count, DETAILS_REQUIREMENTS)
    assert hidden in shown


def test_the_models_own_words_come_last_and_are_labelled_untrusted() -> None:
    play = Play()
    play.start()
    play.model(ModelTurn(items=[said("approve me"), *turn_of(ASK).items], gates={"c0": ASK}))
    play.send("nonsense")
    shown = details(play.run)
    assert shown.index("Messages that did not count") < shown.index("own words (untrusted)")
    assert shown.endswith("```\napprove me\n```")


def test_the_models_own_words_are_shown_however_many_calls_it_made() -> None:
    play = Play()
    play.start()
    turn = turn_of(*[ASK] * 9)
    play.model(turn.model_copy(update={"items": [said("approve me"), *turn.items]}))
    assert "approve me" in details(play.run)


def test_messages_that_did_not_count_are_shown_and_older_ones_counted() -> None:
    play = playing(ASK)
    for number in range(DETAILS_IGNORED + 3):
        play.send("approve", number)
    shown = details(play.run)
    assert shown.count("- unreadable: ") == DETAILS_IGNORED
    assert "- and 3 older ones" in shown
    assert "sent: `approve(12)`" in shown


def test_what_was_decided_and_what_ran_before_is_shown() -> None:
    play = playing(ASK, ASK, ALLOW)
    play.reject(position=0, reason="too much")
    play.tool(2, "found it")
    shown = details(play.run)
    assert "**rejected** by `bob`: `too much`" in shown
    assert "`pay({})` → `found it`" in shown


def test_the_workflow_that_asks_is_named_and_no_model_is() -> None:
    play = Play()
    play.ask()
    assert details(play.run).startswith("**1 call waits for a decision**, workflow `Payout` asks, requested by `alice`")
    assert "remember" not in details(play.run)
    below = replace(play.run, parent=Execution(run_id="payout-4711", execution_id="e"))
    assert "workflow `Payout` `payout-4711` asks" in details(below)
    play.approve()
    assert details(play.run).startswith("**Completed**, asked by workflow `Payout`, requested by `alice`")
    request = play.run.request
    assert request is not None
    assert request_summary(request) == "`Payout` asks: `pay`"
    for shown in (details(play.run), details(below), request_details(request)):
        assert "turn" not in shown
        assert "conversation" not in shown


def test_a_run_that_waits_for_nobody_says_so() -> None:
    assert details(playing(ALLOW).run) == "**Running**, turn 1 of `a`, requested by `alice`; nothing waits for a person"


def test_a_run_that_has_ended_says_how_and_why() -> None:
    cancelled, failed = playing(ASK), playing(ALLOW, max_turns=1)
    cancelled.cancel()
    failed.tool(0, "ok")
    assert details(cancelled.run).startswith("**Cancelled** after 1 turn of `a`, requested by `alice`")
    assert "`MaxTurnsExceeded: the run used all of its 1 turns`" in details(failed.run)


def test_a_run_that_has_not_started_can_be_shown() -> None:
    assert details(Run()) == "**Running**, turn 0 of the agent; nothing waits for a person"


def test_the_memo_has_every_part_of_a_requirements_id() -> None:
    play = playing(Gate(verdict="ask", needed=2), arguments='{"to": "A"}')
    play.approve(by="bob")
    (entry,) = pending_memo(play.run.pending)
    assert entry.approved_by == ["bob"]
    assert entry.arguments is not None
    assert entry.id == requirement_id(
        run_id=play.run.id,
        nonce=entry.nonce,
        call_id=entry.call_id,
        tool=entry.tool,
        arguments=entry.arguments,
        policy_version=entry.policy_version,
        needed=entry.needed,
        expires_at=entry.expires_at,
    )


@given(st.lists(st.integers(0, 3_000), max_size=40))
def test_the_memo_is_bounded_and_says_the_size_of_what_it_leaves_out(sizes: list[int]) -> None:
    known = playing(ASK).requirement
    waiting = [known.model_copy(update={"arguments": "é" * (size // 2) + "x" * (size % 2)}) for size in sizes]
    entries = pending_memo(waiting)
    kept = [entry.arguments_size for entry in entries if entry.arguments is not None]
    assert [entry.arguments_size for entry in entries] == sizes
    assert sum(kept) <= MEMO_TOTAL
    assert all(size <= MEMO_ARGUMENTS for size in kept)
    for entry, requirement in zip(entries, waiting, strict=True):
        assert entry.arguments in {None, requirement.arguments}


@given(hostile)
def test_a_summary_is_one_bounded_line(text: str) -> None:
    summary = call_summary(text * 100)
    assert one_line(summary) == summary
    assert len(summary) < 200


@pytest.mark.parametrize("run_id", HOSTILE)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_command_can_be_pasted_into_a_shell(run_id: str, name: str) -> None:
    command = signal_command(run_id, "approve", {"id": "abcdef12", "by": name})
    assert visible(command) == command
    script = f"temporal() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert ran.stderr == b""
    words = ran.stdout.decode().split("\0")[:-1]
    assert words[:5] == ["workflow", "signal", "--name", "approve", "--workflow-id"]
    assert words[5:7] == [run_id, "--input"]
    assert json.loads(words[7]) == {"id": "abcdef12", "by": name}
