"""Every decision by the `assent` command, in real processes against a real server: taken, refused, late, ambiguous."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from assent import Agent, Grant, Remember, RequirementNotFoundError, RunHandle, RunState, approval, ask_user, tool
from assent.cli import main
from assent.client.signals import locate_grant
from assent.testing import Answered, Environment, Reply, call, calls, drive, says
from tests.support.cli_operator import Operator
from tests.unit.strategies import NOW


@approval(approvals=2, approvers=["finance", "dana"], escalate=[(timedelta(hours=2), ["ceo"])])
@tool
def pay(to: str, amount: int) -> str:
    """Pay somebody."""
    return f"paid {amount} to {to}"


@tool(requires_confirmation=True)
def fetch(page: int) -> str:
    """Fetch a page."""
    return f"page {page}"


@approval(expires_after=timedelta(days=2))
@tool(requires_user_input=True, user_input_fields=["amount", "memo"])
def transfer(to: str, amount: int, memo: str = "") -> str:
    """Transfer money.

    Args:
        to: who gets it.
        amount: how much, in euro.
        memo: what it is for.
    """
    return f"{amount} to {to}: {memo}"


@approval(expires_after=timedelta(milliseconds=300))
@tool(requires_confirmation=True)
def hurry(what: str) -> str:
    """Do something soon."""
    return what


@tool(external_execution=True)
def ship(version: str) -> dict[str, int]:
    """Ship it, elsewhere."""
    raise NotImplementedError


@tool
def look(at: str) -> str:
    """Look."""
    return f"saw {at}"


@asynccontextmanager
async def deciding(environment: Environment, *steps: Reply) -> AsyncGenerator[tuple[Operator, RunHandle]]:
    """A run whose model makes these calls, paused, and an operator for it."""
    name = f"d-{uuid.uuid4().hex[:6]}"
    agent = Agent(
        name=name,
        model=environment.responses(*steps, says("Done.")),
        tools=[pay, fetch, transfer, hurry, ship, look, ask_user],
        groups={"finance": ["ann", "bob"]},
    )
    async with environment.serve(agent) as client:
        run = await client.start(name, "Do it.", requested_by="alice")
        await run.until_paused()
        yield Operator(environment, client), run


async def the_call(run: RunHandle, tool: str = "") -> str:
    state = await run.state()
    return next(each.short_id for each in state.active_requirements if tool in {"", each.tool})


# -- edits ------------------------------------------------------------------------------------------------------------


async def test_an_edit_is_taken_shown_before_and_after_and_waits_for_the_others(
    assent_environment: Environment,
) -> None:
    async with deciding(assent_environment, calls(call("pay", to="bob", amount=5))) as (at, run):
        short = await the_call(run)
        wrong = await at.assent("approve", run.id, short, "--by", "ann", "--arguments", '{"to": "bob", "amount": "x"}')
        assert (wrong.code, wrong.out) == (1, "")
        assert "no effect: refused: amount: input should be a valid integer" in wrong.err
        edit = ("approve", run.id, short, "--by", "ann", "--arguments", '{"to": "bob", "amount": 3}')
        edited = await at.assent(*edit)
        assert (edited.code, edited.err) == (0, "")
        assert 'before     │ {"to": "bob", "amount": 5}' in edited.out
        assert "changed    │ amount: 5 → 3" in edited.out
        assert 'now        │ {"amount":3,"to":"bob"}' in edited.out
        again = await at.assent(*edit)
        assert (again.code, "superseded: an edit by ann replaced it" in again.err) == (1, True)

        new = await the_call(run)
        assert new in edited.out
        shown = (await at.assent("show", run.id)).out
        waiting = shown[shown.index(f"{new}   pay") :]
        for part in (
            "edited     by ann",
            "changed    │ amount: 5 → 3",
            'before     │ {"to": "bob", "amount": 5}',
            "decides    ann, bob, dana",
            "alice asked for this run and may not approve it",
            "2 people must approve; so far: ann",
            "if there is no decision, these may decide too: ceo",
            f"assent approve {run.id} {new} --by YOUR_NAME",
            "approve also takes --arguments JSON",
            "reject also takes --remember-uses N, --remember-for 2h, to reject further calls too",
        ):
            assert part in waiting
        taken = await at.assent("approve", run.id, new, "--by", "dana", "--json")
        assert (taken.code, taken.json["status"]) == (0, "approved")
        await run.result()
        first, second = await at.records(run.id)
        assert (first["status"], second["edited_by"], second["follows"]) == ("superseded", "ann", first["id"])
        assert second["approvers"] == ["ann", "bob", "dana"]
        assert "edited     by ann; it follows" in (await at.assent("audit", run.id)).out


# -- input ------------------------------------------------------------------------------------------------------------


async def test_fields_are_shown_with_a_command_to_paste_and_filled_in(assent_environment: Environment) -> None:
    asked = call("ask_user", question="Which one?", choices=["red", "blue"])
    async with deciding(assent_environment, calls(call("transfer", to="zoe"), asked)) as (at, run):
        transfer_id, question_id = await the_call(run, "transfer"), await the_call(run, "ask_user")
        shown = (await at.assent("show", run.id)).out
        for part in (
            "field      amount, a whole number: how much, in euro.",
            "field      memo, optional, text: what it is for.",
            'field      answer, one of "red", "blue": the answer.',
            "after that, it counts as rejected",
            f'assent submit-input {run.id} {transfer_id} --by YOUR_NAME --values \'{{"amount":"INTEGER"}}\'',
        ):
            assert part in shown
        blank = ("submit-input", run.id, transfer_id, "--by", "bob", "--values", '{"amount":"INTEGER"}')
        unfilled = await at.assent(*blank)
        assert (unfilled.code, "no effect: refused: amount" in unfilled.err) == (1, True)
        filled = await at.assent(*blank[:-1], '{"amount": 7, "memo": "rent"}')
        assert (filled.code, "filled in by bob" in filled.out) == (0, True)
        assert 'values     │ {"amount":7, "memo":"rent"}' in filled.out
        answered = await at.assent(
            "submit-input", run.id, question_id, "--by", "alice", "--values", '{"answer": "red"}'
        )
        assert (answered.code, answered.err) == (0, "")
        await run.result()
        audit = (await at.assent("audit", run.id)).out
        assert "executed   │ 7 to zoe: rent" in audit
        assert 'values     │ {"answer":"red"}' in audit


async def test_a_scripted_approver_fills_fields_in(assent_environment: Environment) -> None:
    async with deciding(assent_environment, calls(call("transfer", to="zoe"))) as (_, run):
        state = await drive(run, lambda _: Answered({"amount": 4}), by="bob")
    assert [(each.result, each.resolved_by) for each in state.requirements] == [("4 to zoe: ", "bob")]


# -- results ----------------------------------------------------------------------------------------------------------


async def test_a_result_is_checked_and_its_evidence_kept(assent_environment: Environment) -> None:
    async with deciding(assent_environment, calls(call("ship", version="1"))) as (at, run):
        hand_in = ("submit-result", run.id, await the_call(run), "--by", "ci", "--evidence", '{"job": 7}', "--output")
        wrong = await at.assent(*hand_in, '{"at": "noon"}', "--json")
        assert (wrong.code, wrong.json["status"], "at: input should be" in wrong.json["detail"]) == (1, "refused", True)
        done = await at.assent(*hand_in, '{"at": 12}')
        assert (done.code, done.err) == (0, "")
        [record] = await at.records(run.id)
        assert record["evidence"] == {"job": 7}
        assert 'evidence   │ {"job":7}' in (await at.assent("show", run.id)).out


# -- grants -----------------------------------------------------------------------------------------------------------


async def test_a_grant_is_given_shown_used_and_revoked(assent_environment: Environment) -> None:
    pages = [calls(call("fetch", page=number)) for number in (1, 2, 3)]
    async with deciding(assent_environment, *pages) as (at, run):
        remembered = ("--remember-uses", "3", "--remember-for", "2h", "--remember-if", '{"page": {"at_most": 2}}')
        given = await at.assent("approve", run.id, await the_call(run), "--by", "bob", *remembered)
        assert (given.code, given.err) == (0, "")
        state = await run.until_paused()
        [grant] = state.grants
        shown = (await at.assent("show", run.id)).out
        assert f"by grant {grant.short_id}: it did not wait" in shown
        assert f"{grant.short_id}   grant fetch: 2 more of 3 calls, until " in shown
        assert 'if {"page":{"at_most":2.0}}; by bob' in shown
        assert f"assent revoke {run.id} {grant.short_id} --by YOUR_NAME" in shown

        short = await at.assent("revoke", run.id, grant.id[:4], "--by", "sec")
        none = await at.assent("revoke", run.id, "ffffffffff", "--by", "sec")
        assert [(ran.code, ran.out) for ran in (short, none)] == [(3, "")] * 2
        assert "at least 6 digits" in short.err
        assert "no grant of this run has the id" in none.err
        revoked = await at.assent("revoke", run.id, grant.short_id, "--by", "sec", "--reason", "enough", "--json")
        assert (revoked.code, revoked.json["status"], revoked.json["grant"]) == (0, "recorded", grant.id)
        again = await at.assent("revoke", run.id, grant.short_id, "--by", "sec")
        assert (again.code, "duplicate: already revoked by sec" in again.err) == (1, True)
        assert "ended      revoked by sec" in (await at.assent("show", run.id)).out

        watching = await at.start("watch", run.id)
        await run.approve(await the_call(run), by="bob")
        out, _ = await watching.communicate()
        events = out.decode()
        assert "remembered" in events
        assert f"did not wait: grant {grant.short_id} of bob let it through" in events
        assert f"grant {grant.short_id} of fetch: revoked by sec" in events
        assert events.count(" waiting ") == 2


async def test_a_rejection_is_remembered_shown_audited_and_revoked(assent_environment: Environment) -> None:
    pages = [calls(call("fetch", page=number)) for number in (1, 1, 2, 1)]
    async with deciding(assent_environment, *pages) as (at, run):
        remembered = ("--remember-uses", "3", "--remember-if", '{"page": {"equals": 1}}')
        given = await at.assent("reject", run.id, await the_call(run), "--by", "bob", "--reason", "no", *remembered)
        assert (given.code, given.err) == (0, "")
        state = await run.until_paused()
        [grant], [other] = state.grants, state.active_requirements
        assert (other.tool_args, grant.verdict, grant.used) == ({"page": 2}, "reject", 1)
        shown = (await at.assent("show", run.id)).out
        assert f"by grant {grant.short_id}: it did not wait" in shown
        assert (
            f'{grant.short_id}   grant fetch: rejects 2 more of 3 calls, if {{"page":{{"equals":1}}}}; by bob' in shown
        )
        revoked = await at.assent("revoke", run.id, grant.short_id, "--by", "sec")
        assert (revoked.code, revoked.err) == (0, "")
        await run.approve(other, by="bob")
        [last] = (await run.until_paused()).active_requirements
        await run.reject(last, by="bob", reason="no", remember=Remember(uses=1))
        await run.result()
        watched = (await at.assent("watch", run.id)).out
        assert f"did not wait: grant {grant.short_id} of bob rejected it" in watched
        audited = await at.assent("audit", run.id, "--verify")
        assert (audited.code, audited.err) == (0, "")
        assert f"{grant.short_id} decided it: it did not wait" in audited.out
        assert [each.grant for each in await run.audit()] == [None, grant.id, None, None]


def test_a_grant_whose_id_is_not_unique_is_refused() -> None:
    grants = [Grant(id=f"abcdef0{digit}", tool="t", by="b", at=NOW, requirement_id="r") for digit in "12"]
    with pytest.raises(RequirementNotFoundError, match="matches 2 grants"):
        locate_grant(RunState(id="r", grants=grants), "abcdef")
    assert locate_grant(RunState(id="r", grants=grants), "ABCDEF02").id == "abcdef02"


# -- what does not count ----------------------------------------------------------------------------------------------


async def test_a_decision_after_the_deadline_says_that_nobody_decided_in_time(assent_environment: Environment) -> None:
    async with deciding(assent_environment, calls(call("hurry", what="x")), calls(call("fetch", page=1))) as (at, run):
        state = await run.state()
        late_id = next(each.short_id for each in state.requirements if each.tool == "hurry")
        while not (await run.state()).tool_calls > 1:
            await run.until_paused()
        late = await at.assent("approve", run.id, late_id, "--by", "bob")
        assert (late.code, late.out) == (1, "")
        assert "no effect: late: already expired" in late.err
        kinds = await _kinds(at, run)
        assert "expired" in kinds


async def _kinds(at: Operator, run: RunHandle) -> list[str]:
    await run.cancel()
    watched = await at.assent("watch", run.id, "--json")
    return [json.loads(line)["kind"] for line in watched.out.splitlines()]


async def test_pending_says_who_may_decide_and_by_when(assent_environment: Environment) -> None:
    many = calls(call("pay", to="bob", amount=5), call("transfer", to="zoe"), call("ship", version="1"))
    async with deciding(assent_environment, many) as (at, run):
        agent = (await run.state()).agent
        wide = (await at.assent("pending", "--agent", agent, columns=200)).out
        narrow = (await at.assent("pending", "--agent", agent, columns=60)).out
        entries = (await at.assent("pending", "--agent", agent, "--json")).json
    assert "MAY DECIDE" in wide
    assert "ann, bob, dana (0 of 2)" in wide
    assert "UNTIL" in wide
    for command in ("approve RUN ID", "submit-result RUN ID", "submit-input RUN ID"):
        assert f"assent {command} --by YOUR_NAME" in wide
    assert "decides    ann, bob, dana (0 of 2)" in narrow
    by_tool = {entry["tool"]: entry for entry in entries}
    assert by_tool["pay"]["approvers"] == ["ann", "bob", "dana"]
    assert by_tool["transfer"]["expires_at"] is not None


async def test_what_ran_before_and_the_models_own_words_come_last(assent_environment: Environment) -> None:
    looked = calls(call("look", at="the logs"))
    async with deciding(assent_environment, looked, calls(call("fetch", page=1), text="It is safe.")) as (at, run):
        shown = (await at.assent("show", run.id)).out
    assert 'before     │ look({"at": "the logs"}) → saw the logs' in shown
    assert shown.index("before     │ look") > shown.index("assent approve")
    assert shown.rstrip().endswith("│ It is safe.")
    assert "untrusted  the model's own words:" in shown


# -- starting ---------------------------------------------------------------------------------------------------------


async def test_a_run_is_started_within_tighter_bounds(assent_environment: Environment, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\ntool = "look"\ndecision = "ask"\nreason = "not today"\n')
    name = f"s-{uuid.uuid4().hex[:6]}"
    looked = calls(call("look", at="x"), call("look", at="y"))
    agent = Agent(name=name, model=assent_environment.responses(looked, says("Done.")), tools=[look])
    async with assent_environment.serve(agent) as client:
        at = Operator(assent_environment, client)
        bounds = ("--max-turns", "3", "--max-tool-calls", "1", "--policy", str(rules))
        started = await at.assent("start", name, "Look.", *bounds, "--json")
        assert started.code == 0
        state = await client.get_run(started.json["run_id"]).until_paused()
        assert [(each.tool, each.note) for each in state.active_requirements] == [("look", "not today")]
        missing = await at.assent("start", name, "Look.", "--policy", str(tmp_path / "none.toml"))
        assert (missing.code, missing.err.count("\n"), "cannot be read" in missing.err) == (2, 1, True)
        await client.get_run(started.json["run_id"]).cancel()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["approve", "r", "abcdef", "--by", "bob", "--arguments", "[1]"], "--arguments: must be a JSON object"),
        (["approve", "r", "abcdef", "--by", "bob", "--arguments", '{"a": 1, "a": 2}'], "--arguments"),
        (["approve", "r", "abcdef", "--by", "bob", "--remember-for", "soon"], "is not a duration"),
        (["approve", "r", "abcdef", "--by", "bob", "--remember-for", "0m"], "is not a duration"),
        (["approve", "r", "abcdef", "--by", "bob", "--remember-if", "{}"], "--remember-if needs a limit"),
        (["submit-input", "r", "abcdef", "--by", "bob"], "Missing option '--values'"),
        (["submit-input", "r", "abcdef", "--by", "bob", "--values", ""], "--values is empty"),
        (["submit-input", "r", "abcdef", "--by", "bob", "--values", '{"a": NaN}'], "--values"),
        (["submit-result", "r", "a", "--by", "b", "--output", "1", "--evidence", "x"], "--evidence is not JSON"),
        (["revoke", "r", "abcdef"], "Missing option '--by'"),
        (["revoke", "r", "abcdef", "--by", ""], "--by must not be empty"),
        (["start", "a", "p", "--max-turns", "0"], "--max-turns"),
    ],
)
def test_wrong_usage_of_a_decision_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], line: list[str], told: str
) -> None:
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert told in err
