"""Runs above and below others: what is told of them, and what nobody can make believe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assent.audit.approval import pending_approval
from assent.cli import output
from assent.client.filters import Wanted, matches
from assent.client.pauses import only_children_move
from assent.client.read import HistoryPosition
from assent.client.run_tree import RunTree, find_in_children
from assent.core.events import AgentAnswered, AgentStarted, Failure
from assent.core.run_state import Run, state_of
from assent.history.fold import HistoryFold
from assent.views.facts import children_of, newest_calls, path_text, previous_calls
from assent.views.web_ui import DETAILS_CHILDREN, details
from assent.wire.protocol import ChildRun, ParentRun, RunRequest, RunResult, Usage
from assent.wire.requirements import Requirement, RunState
from assent.wire.text import visible
from assent.wire.visibility import ParentEntry, RequestMemo, read_request_memo, request_memo
from tests.support.memo_only_runs import NOW, approvals_in, requirement
from tests.unit.strategies import ALLOW, ASK, HOSTILE, TO_B, Play, playing, turn_of
from tests.unit.views.test_web_ui import shape

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


def asking(agent: str = "b", run_id: str = "run-1.b-0", number: int = 1) -> Play:
    """A run for which so many others are at work."""
    play = playing(*([TO_B] * number))
    for position in range(number):
        play.comes(position, {"delegation": {"agent": "b", "input": "do it"}})
        play.tell(AgentStarted(play.at, f"c{position}", f"{run_id}{position or ''}"))
        # Whatever it is called: no worker serves an agent of such a name, and the details are made of what is there.
        named = ChildRun(run_id=f"{run_id}{position or ''}", agent=agent)
        play.run = play.run.with_call(position, replace(play.run.calls[position], delegated=agent, child=named))
    return play


def below(agent: str = "b", run_id: str = "top", tool: str = "ask_b") -> Play:
    """A run that waits for a person, and works for another."""
    play = playing(ASK)
    request = play.run.request or RunRequest(agent="b", input="")
    above = ParentRun(run_id=run_id, agent=agent, tool=tool, call_id="c")
    play.run = replace(play.run, request=request.model_copy(update={"parents": [above]}))
    return play


def branch(run_id: str, *waiting: Requirement, below: tuple[RunTree, ...] = ()) -> RunTree:
    return RunTree(RunState(id=run_id, agent="a", requirements=list(waiting)), ("boss", "a"), HistoryPosition(), below)


# -- the memo ---------------------------------------------------------------------------------------------------------


@given(json_values, st.none() | st.text(max_size=5))
def test_no_memo_is_unreadable(memo: object, parent: str | None) -> None:
    read = read_request_memo(memo, parent)
    assert isinstance(read.agent, str)
    assert not read.parents or read.parents[-1].run_id == parent


def test_a_memo_has_the_runs_above_and_is_believed_where_temporal_agrees() -> None:
    above = [ParentRun(run_id=name, agent=name.upper(), tool="t", call_id="c") for name in ("top", "middle")]
    memo = request_memo(RunRequest(agent="a", input="x", requested_by="alice", parents=above))
    read = read_request_memo(json.loads(json.dumps(memo)), "middle")
    assert [(each.run_id, each.agent) for each in read.parents] == [("top", "TOP"), ("middle", "MIDDLE")]
    assert (read.agent, read.requested_by) == ("a", "alice")
    for parent in ("top", "", None):
        read = read_request_memo(memo, parent)
        assert (read.parents, read.agent, read.requested_by) == ([], "a", "alice")


def test_a_tree_is_its_run_and_those_below() -> None:
    above = [ParentEntry(run_id="top", agent="boss"), ParentEntry(run_id="middle", agent="lead")]
    [waiting] = approvals_in(requirement("r"), run_id="deep")
    waiting = waiting.model_copy(update={"parents": above})
    for tree, wanted in (("top", True), ("middle", True), ("deep", True), ("other", False)):
        assert matches(waiting, Wanted(tree=tree), NOW) is wanted
    assert not Wanted(tree="top").by_server


# -- paths ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(st.sampled_from('ab>" \\'), min_size=1, max_size=8), min_size=1, max_size=4))
def test_no_name_of_an_agent_passes_for_a_path(agents: list[str]) -> None:
    shown, read, decoder = path_text(agents), list[str](), json.JSONDecoder()
    while shown:
        if shown.startswith('"'):
            name, end = decoder.raw_decode(shown)
        else:
            end = shown.find(" > ") if " > " in shown else len(shown)
            name = shown[:end]
        read.append(str(name))
        shown = shown[end:].removeprefix(" > ")
    assert read == agents


@pytest.mark.parametrize(("parent", "caller"), [("payout-4711", "payout-4711"), (None, "")])
def test_the_inbox_names_the_workflow_that_asks_as_temporal_does(parent: str | None, caller: str) -> None:
    memo = request_memo(RunRequest(agent="Payout", input=""), None, "claimed")
    asked = pending_approval("r", read_request_memo(json.loads(json.dumps(memo)), parent), requirement("r"))
    assert asked.caller == caller
    shown = printed(140, lambda console: output.print_pending(console, [asked], "assent"))
    assert f"workflow Payout {caller}".rstrip() in shown


@pytest.mark.parametrize("columns", [80, 140])
def test_the_inbox_shows_the_path_at_any_width(columns: int) -> None:
    above = [ParentEntry(run_id="deploy-7", agent="boss"), ParentEntry(run_id="deploy-7.lead", agent="lead")]
    waiting = pending_approval(
        "deploy-7.lead.clerk", RequestMemo(agent="clerk", requested_by="alice", parents=above), requirement("r")
    )
    shown = printed(columns, lambda console: output.print_pending(console, [waiting], "assent"))
    assert "boss > lead > clerk" in shown
    assert max(map(len, shown.splitlines())) <= columns
    assert waiting.model_dump(mode="json")["parents"] == [
        {"run_id": each.run_id, "agent": each.agent} for each in above
    ]


def printed(columns: int, write: Callable[[Console], None]) -> str:
    file = StringIO()
    write(Console(file=file, width=columns, markup=False, highlight=False, emoji=False))
    return file.getvalue()


# -- the details in the Web UI ----------------------------------------------------------------------------------------


def test_the_details_name_the_runs_at_work_and_lead_to_them() -> None:
    play = asking()
    shown = details(play.run)
    assert "nothing waits for a person in this run; 1 child run is active" in shown
    assert "- `b` in run `run-1.b-0`: `assent show run-1.b-0`, or `temporal workflow metadata" in shown
    play.tell(AgentAnswered(play.at, "run-1.b-0", RunResult(content="x"), Usage()))
    assert "at work" not in details(play.run)


def test_of_more_runs_than_there_is_room_for_the_details_say_how_many() -> None:
    shown = details(asking(number=DETAILS_CHILDREN + 3).run)
    assert f"{DETAILS_CHILDREN + 3} child runs are active" in shown
    assert "- and 3 more" in shown
    assert shown.count("assent show") == DETAILS_CHILDREN


def test_the_details_of_a_run_below_have_its_path() -> None:
    assert "**Path:** `b` > `a`. Parent runs: `assent show top`" in details(below().run)


@given(st.sampled_from(HOSTILE))
def test_no_agent_and_no_id_breaks_out_of_the_details(text: str) -> None:
    for made, plain in ((asking(text, text), asking("plain", "plain")), (below(text, text), below("plain", "plain"))):
        shown = details(made.run)
        assert shape(shown) == shape(details(plain.run))
        assert visible(shown) == shown


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), max_size=5), st.integers(1, 9))
def test_what_ran_last_is_the_end_of_what_ran(turns: list[tuple[int, int]], count: int) -> None:
    """Also where a provider names the calls of every turn alike."""
    play = Play()
    play.start()
    for number, done in turns:
        if any(call.answer is None for call in play.run.calls):
            break
        play.model(turn_of(*[ALLOW] * number))
        for position in range(min(number, done)):
            play.tool(position, f"{position}")
    last, total = newest_calls(play.run, count)
    assert (last, total) == (previous_calls(play.run)[-count:], len(previous_calls(play.run)))


# -- when a run waits for others alone --------------------------------------------------------------------------------


def test_a_run_waits_for_others_while_nothing_else_of_it_moves() -> None:
    play = asking(number=2)
    follower = HistoryFold(run=play.run)
    assert only_children_move(follower)
    assert [each.run_id for each in children_of(play.run)] == ["run-1.b-0", "run-1.b-01"]
    play.tell(AgentAnswered(play.at, "run-1.b-0", Failure("Cancelled", "it was"), Usage()))
    follower.run = play.run
    assert only_children_move(follower), "the other is still at work"
    play.tell(AgentAnswered(play.at, "run-1.b-01", RunResult(content="x"), Usage()))
    follower.run = play.run
    assert not only_children_move(follower), "the model has its turn"


def test_a_run_that_is_about_to_ask_another_moves() -> None:
    play = playing(TO_B, TO_B)
    play.comes(0, {"delegation": {"agent": "b", "input": "do it"}})
    assert not only_children_move(HistoryFold(run=play.run)), "the other call runs"
    play.comes(1, {"delegation": {"agent": "b", "input": "do it"}})
    play.tell(AgentStarted(play.at, "c0", "run-1.b-0"))
    assert not only_children_move(HistoryFold(run=play.run)), "the second run has not begun"
    play.tell(AgentStarted(play.at, "c1", "run-1.b-1"))
    assert only_children_move(HistoryFold(run=play.run))
    assert not only_children_move(HistoryFold(run=replace(play.run, status="cancelled")))
    assert not only_children_move(HistoryFold(run=Run()))


# -- where a call is decided ------------------------------------------------------------------------------------------


def test_where_a_call_below_is_decided_is_said_and_nothing_is_guessed() -> None:
    play = playing(ASK)
    one = play.requirement
    other = one.model_copy(update={"id": one.id[:10] + "f" * 54})
    assert find_in_children(branch("top", one), one.id, "approve") is None, "it is its own"
    tree = branch("top", below=(branch("top.b", below=(branch("it's below", one),)),))
    told = find_in_children(tree, one.short_id, "submit_result")
    assert (
        told
        == f"""call {one.short_id} waits in run 'it'"'"'s below': assent submit-result \
'it'"'"'s below' {one.short_id} --by YOUR_NAME --output JSON"""
    )
    assert find_in_children(tree, "0" * 8, "approve") is None
    assert find_in_children(tree, "", "approve") is None
    twice = branch("top", below=(branch("top.b", one), branch("top.c", other)))
    assert find_in_children(twice, one.short_id, "approve") is None
    assert (find_in_children(twice, one.id, "approve") or "").endswith(
        f"assent approve top.b {one.short_id} --by YOUR_NAME"
    )


def test_what_waits_below_is_shown_with_the_commands_that_decide_it_there() -> None:
    play = playing(ASK)
    tree = branch("top", below=(branch("top.b", play.requirement), replace(branch("top.c"), error="cut\n off")))
    shown = printed(100, lambda console: output.print_children(console, tree.children, "assent --namespace x"))
    short = play.requirement.short_id
    assert f"assent --namespace x approve top.b {short} --by YOUR_NAME" in shown
    assert "unreadable cut\\n off" in shown
    first, second = output.child_documents(tree.children)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["run_id"], second["unreadable"]) == ("top.b", "cut\n off")
    state = state_of(below().run)
    above = printed(100, lambda console: output.print_parents(console, state, "assent"))
    assert above == "path       b > a\nparent run b calls ask_b: assent show top\n"
