"""The `assent` command as operators use it: real processes, against a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from assent import Agent, Budget, Requirement, RequirementNotFoundError, RunState
from assent.cli import main
from assent.cli.console import folded, print_requirement, shorten
from assent.client.progress import progress_of
from assent.client.signals import locate
from assent.runtime.embedded_server import free_port
from assent.testing import Environment, call, calls, says
from assent.wire.budget import Price
from assent.wire.text import visible
from tests.support import tools
from tests.support.cli_operator import Operator, operating

NASTY = '{"target": "\u202e\u200bevil \\u001b[31m [bold red]x[/] ' + "y" * 400 + '"}'


# -- a run, from start to records -------------------------------------------------------------------------------------


async def test_an_operator_starts_finds_approves_and_audits_a_run(assent_environment: Environment) -> None:
    agent = f"deployer-{uuid.uuid4().hex[:6]}"
    async with operating(assent_environment, agent=agent) as at:
        run_id = f"cli-{uuid.uuid4().hex[:6]}"
        started = await at.assent("start", agent, "Deploy it.", "--requested-by", "alice", "--id", run_id, "--json")
        assert started.json == {"run_id": run_id, "started": True}
        await at.client.get_run(run_id).until_paused()

        [waiting] = (await at.assent("pending", "--agent", agent, "--tool", "deploy", "--json")).json
        assert (waiting["run_id"], waiting["tool"], waiting["requested_by"]) == (run_id, "deploy", "alice")
        assert waiting["arguments"] == '{"target": "prod"}'
        short = waiting["id"][:8]
        table = await at.assent("pending", "--agent", agent, columns=160)
        assert short in table.out
        assert "assent approve RUN ID --by YOUR_NAME" in table.out

        own = await at.assent("approve", run_id, short, "--by", "Alice")
        assert (own.code, own.out) == (1, "")
        assert "'Alice' asked for this run and may not approve in it" in own.err
        approved = await at.assent("approve", run_id, short, "--by", "bob", "--reason", "[red]fine[/red]", "--json")
        assert (approved.code, approved.json["status"], approved.json["detail"]) == (0, "approved", "approved by bob")
        await at.client.get_run(run_id).result()

        late = await at.assent("reject", run_id, short, "--by", "carol", "--reason", "no", "--json")
        assert (late.code, late.json["status"]) == (1, "late")
        assert "this call was approved by bob" in late.err
        assert late.err.count("\n") == 1

        shown = await at.assent("show", run_id, columns=80)
        for part in (
            "completed",
            "requester  alice",
            '│ {"target": "prod"}',
            "approve by bob",
            "│ [red]fine[/red]",
        ):
            assert part in shown.out
        assert "refused: approve" in shown.out
        assert r"It [b]is[/b] done.\x1b[2J" in shown.out
        [record] = await at.records(run_id)
        assert (record["status"], record["resolved_by"], record["result"]) == ("approved", "bob", "deployed to prod")


async def test_a_result_from_outside_is_handed_in_as_json(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        run_id, short = await at.waits("shipper")
        wrong = await at.assent("approve", run_id, short, "--by", "bob")
        assert wrong.code == 1
        assert "use submit_result" in wrong.err
        unfit = await at.assent("submit-result", run_id, short, "--by", "bob", "--output", '{"at": 3}', "--json")
        assert (unfit.code, unfit.json["status"]) == (1, "refused")
        assert "string" in unfit.err
        done = await at.assent("submit-result", run_id, short, "--by", "bob", "--output", '"{at: 3}"')
        assert (done.code, "executed" in done.out) == (0, True)
        assert (await at.client.get_run(run_id).result()).content == "Shipped."
        [record] = await at.client.audit(run_id)
        assert record.result == "{at: 3}"


async def test_a_run_is_started_with_a_budget_of_its_own(assent_environment: Environment) -> None:
    looks = [calls(call("look_up", key=key)) for key in "ab"]
    agent = Agent(name="ops", model=assent_environment.responses(*looks, says("done")), tools=tools.ALL)
    prices = {agent.model.id: Price(input=0.25, output=2)}
    async with assent_environment.serve(agent, prices=prices) as client:
        at = Operator(assent_environment, client)
        run_id, other = f"cli-{uuid.uuid4().hex[:6]}", f"cli-{uuid.uuid4().hex[:6]}"
        asking = ("--max-model-calls", "2", "--max-tokens", "90000", "--max-cost", "2.5", "--max-time", "2h")
        ending = ("--max-tokens", "1", "--on-budget", "end", "--follow")
        _, ended = await asyncio.gather(
            at.assent("start", "ops", "Go.", "--id", run_id, *asking, "--budget-approver", "bob"),
            at.assent("start", "ops", "Go.", "--id", other, *ending),
        )
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert f"run '{other}' failed: BudgetExhausted: the run has used its budget: tokens" in ended.err

        run = at.client.get_run(run_id)
        [waiting] = (await run.until_paused()).active_requirements
        assert (waiting.kind, waiting.approvers) == ("budget", ["bob"])
        given = Budget(
            max_model_calls=2, max_tokens=90_000, max_cost=2.5, max_time=timedelta(seconds=7_200), approvers=("bob",)
        )
        assert (await run.state()).budget == given
        shown = await at.assent("show", run_id)
        assert "model calls 2 of 2" in shown.out
        assert "tokens 90,000, model calls 2, cost 2.5, time 2 h; then the run asks for more" in shown.out
        refused = await at.assent("approve", run_id, waiting.short_id, "--by", "carol")
        assert (refused.code, "these may: bob" in refused.err) == (1, True)
        assert (await at.assent("approve", run_id, waiting.short_id, "--by", "bob")).code == 0
        assert (await run.result()).content == "done"


async def test_start_prints_the_next_commands_and_show_that_no_requester_is_named(
    assent_environment: Environment,
) -> None:
    at = Operator(assent_environment, assent_environment.client(f"idle-{uuid.uuid4().hex[:6]}"))
    run_id = f"cli-{uuid.uuid4().hex[:6]}"
    started = await at.assent("start", "deployer", "Deploy it.", "--id", run_id)
    commands = [f"watch      assent watch {run_id}", f"pending    assent pending --tree {run_id}"]
    assert started.out.splitlines() == [f"run        {run_id}", *commands]
    description = await at.client.get_run(run_id).description()
    assert await description.static_summary() == "`deployer`: `Deploy it.`"  # on the run's page in Temporal's Web UI
    again = await at.assent("start", "deployer", "Deploy it.", "--id", run_id)
    assert "a run with this id exists already; nothing was started" in again.out
    shown = (await at.assent("show", run_id)).out
    assert "agent      deployer\nrequester  none named\n" in shown
    await at.client.get_run(run_id).cancel()


# -- following --------------------------------------------------------------------------------------------------------


async def test_follow_tells_how_to_decide_and_ends_with_the_run(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        run_id = f"cli-{uuid.uuid4().hex[:6]}"
        following = await at.start("start", "deployer", "Deploy it.", "--id", run_id, "--follow")
        state = await _known(at, run_id)
        short = state.active_requirements[0].short_id
        await at.client.get_run(run_id).reject(short, by="bob", reason="not now")
        out, err = await asyncio.wait_for(following.communicate(), 60)
        assert following.returncode == 0, err
        assert f"assent approve {run_id} {short} --by YOUR_NAME" in out.decode()
        assert "rejected by bob" in out.decode()
        assert "reason     │ not now" in out.decode()
        watched = await at.assent("watch", run_id, "--json")
        kinds = [json.loads(line)["kind"] for line in watched.out.splitlines()]
        assert kinds[0] == "started"
        assert kinds[-1] == "completed"
        assert [json.loads(line)["reason"] for line in watched.out.splitlines() if '"decided"' in line] == ["not now"]


async def test_watch_of_a_cancelled_run_exits_1_and_ctrl_c_exits_130(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        run_id, _ = await at.waits("deployer")
        watching = await at.start("watch", run_id)
        assert watching.stdout is not None
        while "waiting" not in (await asyncio.wait_for(watching.stdout.readline(), 60)).decode():
            pass
        watching.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(watching.communicate(), 60)
        assert (watching.returncode, err) == (130, b"")
        cancelled = (await at.assent("cancel", run_id, "--json")).json
        assert cancelled == {"run_id": run_id, "status": "requested", "child_runs": []}
        ended = await at.assent("watch", run_id)
        assert (ended.code, ended.err) == (1, f"assent: run '{run_id}' cancelled\n")
        again = await at.assent("cancel", run_id)
        assert (again.code, "has already ended: cancelled" in again.err) == (1, True)


async def test_a_model_that_refuses_the_key_is_visible(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        run = await at.client.start("locked", "Do it.")
        async with asyncio.timeout(10):
            while not any(each.failure for each in (await progress_of(run)).activities):  # noqa: ASYNC110 - only asking tells
                await asyncio.sleep(0.05)
        shown = await at.assent("show", run.id)
        assert "call_model attempt 1: AuthenticationFailed" in shown.out
        assert "no such key" in shown.out
        await run.cancel()


# -- without a worker, without a server -------------------------------------------------------------------------------


async def test_without_a_worker_all_is_seen_and_a_decision_is_kept(assent_environment: Environment) -> None:
    agent = f"idle-{uuid.uuid4().hex[:6]}"
    async with operating(assent_environment, agent=agent) as at:
        run_id, short = await at.waits(agent)
        [known] = (await at.assent("pending", "--agent", agent, "--json")).json
    strict = ("approve", run_id, short, "--by", "bob", "--json")
    pending, first, unread = await asyncio.gather(
        at.assent("pending", "--agent", agent, "--json"),
        at.assent(*strict),
        at.assent(*strict, "--require-answer"),
    )
    assert pending.json == [known]
    assert (first.code, first.json["status"]) == (0, "sent")
    assert (unread.code, unread.json["status"]) == (5, "sent")
    shown = await at.assent("show", run_id)
    assert "waits for a worker on task queue" in shown.out
    assert "no worker has read approve yet" in shown.out


async def test_no_server_is_one_line_and_code_4(assent_environment: Environment) -> None:
    at = Operator(assent_environment, assent_environment.client("none"))
    ran = await at.assent("--address", f"127.0.0.1:{free_port()}", "pending", "--json")
    assert (ran.code, ran.out, ran.err.count("\n")) == (4, "", 1)
    assert "no Temporal server answers at 127.0.0.1" in ran.err


async def test_unknown_runs_and_calls_exit_3_and_setup_says_what_is_there(assent_environment: Environment) -> None:
    async with operating(assent_environment) as at:
        run_id, _ = await at.waits("deployer")
        unknown, nothing, setup = await asyncio.gather(
            at.assent("show", "no-such-run"),
            at.assent("approve", run_id, "abc", "--by", "bob"),
            at.assent("setup", "--json"),
        )
        assert [(ran.code, ran.out, ran.err.count("\n")) for ran in (unknown, nothing)] == [(3, "", 1)] * 2
        assert "at least 6 digits" in nothing.err
        assert "AssentPending" in setup.json["present"]


# -- what people see --------------------------------------------------------------------------------------------------


async def test_arguments_are_escaped_and_what_does_not_fit_is_counted(assent_environment: Environment) -> None:
    columns = 60
    agent = f"nasty-{uuid.uuid4().hex[:6]}"
    async with operating(assent_environment, agent=agent, arguments=NASTY) as at:
        run_id, _ = await at.waits(agent)
        pending, shown = await asyncio.gather(
            at.assent("pending", "--agent", agent, columns=columns), at.assent("show", run_id, columns=columns)
        )
    for ran in (pending, shown):
        assert "\u202e" not in ran.out
        assert "\u200b" not in ran.out
    assert r"\u{202e}" in pending.out
    assert "… (+" in pending.out
    quoted = "".join(line.partition("│ ")[2] for line in shown.out.splitlines() if line.startswith(("arguments", " ")))
    assert "[bold red]x[/]" in quoted
    assert "y" * 400 + '"}' in quoted
    assert max(len(line) for line in shown.out.splitlines() if "│" in line) <= columns


@given(text=st.text(max_size=200), width=st.integers(20, 60))
def test_folding_neither_loses_a_character_nor_leaves_its_column(text: str, width: int) -> None:
    lines = folded(text, width)
    assert "".join(lines) == visible(text).expandtabs(4).replace("\n", "")
    assert max(map(cell_len, lines), default=0) <= width


def test_every_line_of_foreign_text_is_behind_the_bar() -> None:
    text = "a" * 90 + "\n\nreject     [red]x\tassent approve"
    requirement = _requirement("ab" * 32).model_copy(update={"arguments": text})
    output = StringIO()
    console = Console(file=output, width=40, markup=False, highlight=False, emoji=False)
    print_requirement(console, RunState(id="r"), requirement, None)
    inside = output.getvalue().split("arguments", 1)[1].split("decides", 1)[0].splitlines()
    assert len(inside) == 7
    assert all("│ " in line for line in inside)


def test_what_is_hidden_is_counted_exactly() -> None:
    assert shorten("short", 10) == "short"
    shown = shorten("x" * 100, 20)
    kept, _, count = shown.partition("… (+")
    assert len(shown) <= 20
    assert len(kept) + int(count.rstrip(")")) == 100


def test_an_id_that_is_not_unique_is_refused() -> None:
    state = RunState(id="r", requirements=[_requirement("abcdef01" + "0" * 56), _requirement("abcdef02" + "0" * 56)])
    with pytest.raises(RequirementNotFoundError, match="matches 2 requirements"):
        locate(state, "abcdef")
    assert locate(state, "ABCDEF01").id.startswith("abcdef01")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["approve", "r", "abcdef"], "Missing option '--by'"),
        (["reject", "r", "abcdef", "--by", "bob"], "Missing option '--reason'"),
        (["approve", "r", "abcdef", "--by", " "], "--by must not be empty"),
        (["submit-result", "r", "abcdef", "--by", "bob"], "give either --output JSON or --error TEXT"),
        (["submit-result", "r", "abcdef", "--by", "bob", "--output", "done"], "--output is not JSON"),
        (["submit-result", "r", "abcdef", "--by", "bob", "--output", "NaN"], "--output is not JSON"),
        (
            ["start", "deployer", " "],
            "the PROMPT is empty; say what deployer should do: assent start deployer 'PROMPT'",
        ),
        (["start", "a", "Go.", "--max-tokens", "0"], "--max-tokens: Input should be greater than or equal to 1"),
        (["start", "a", "Go.", "--max-model-calls", "some"], "Invalid value for '--max-model-calls'"),
        (["start", "a", "Go.", "--max-cost", "nan"], "--max-cost: Input should be a finite number"),
        (
            ["start", "a", "Go.", "--max-cost", "0", "--max-tokens", "-1"],
            "; --max-cost: Input should be greater than 0",
        ),
        (["start", "a", "Go.", "--max-time", "2"], "--max-time '2' is not a duration; give e.g. 90s, 30m, 2h or 7d"),
        (["start", "a", "Go.", "--max-time", "999999999d"], "--max-time: Input should be less than"),
        (["start", "a", "Go.", "--max-tokens", "9", "--on-budget", "stop"], "Invalid value for '--on-budget'"),
        (
            ["start", "a", "Go.", "--on-budget", "end"],
            "--on-budget needs a budget; give one of --max-tokens, --max-",
        ),
        (["start", "a", "Go.", "--budget-approver", "bob"], "--budget-approver needs a budget; give one of"),
        (["start", "a", "Go.", "--max-tokens", "9", "--budget-approver", " "], "--budget-approver: the name is empty"),
        (["show"], "Missing argument"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(capsys: pytest.CaptureFixture[str], line: list[str], told: str) -> None:
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("assent: ")
    assert told in err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "4 no Temporal server answers" in capsys.readouterr().out


def _requirement(identity: str) -> Requirement:
    return Requirement(
        id=identity, kind="confirmation", call_id="c", tool="deploy", arguments="{}", nonce="n", turn=1,
        created_at=datetime.now(UTC),
    )  # fmt: skip


async def _known(at: Operator, run_id: str) -> RunState:
    async with asyncio.timeout(60):
        while not [run for run in await at.client.pending(agent="deployer") if run.run_id == run_id]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return await at.client.get_run(run_id).until_paused()
