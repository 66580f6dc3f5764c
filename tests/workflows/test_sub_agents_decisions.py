"""People and runs below other runs: what waits in one is seen from above, and decided at it alone."""

from __future__ import annotations

import asyncio
import random
import uuid

import pytest

from assent import Agent, Remember, RequirementNotFoundError, RunHandle, RunNotFoundError, RunState
from assent.client import inbox
from assent.client.filters import Wanted
from assent.client.progress import progress_of
from assent.testing import Approved, Conversation, Environment, Reply, Step, call, calls, drive, says
from assent.wire.protocol import MEMO_REQUEST
from assent.wire.visibility import pending_key
from tests.support import memo_only_runs, tools
from tests.support.cli_operator import Operator
from tests.support.pending import pending_with_runs
from tests.support.run_probes import until
from tests.support.visibility import soon
from tests.support.webhook_receiver import NAME, SECRET, receiving
from tests.workflows.test_continue_as_new import executions, live, replay
from tests.workflows.test_notices import to
from tests.workflows.test_starter import terminal
from tests.workflows.test_wire import temporal

PATIENCE = 60
"""Seconds."""
RESTARTS = calls(call("restart", service="web"))
ASKS = calls(call("ask_writer", input="Restart the web."))


def writer(running: Environment, *steps: Step, name: str = "writer", more: list[Agent] | None = None) -> Agent:
    """An agent that restarts something, which waits for a person, and then says so."""
    model = running.responses(*(steps or (RESTARTS, says("The web is restarted."))))
    return Agent(name=name, model=model, tools=[*tools.ALL, *(each.as_tool() for each in more or [])])


def boss(running: Environment, *below: Agent, steps: tuple[Step, ...] = ()) -> Agent:
    """An agent that asks those *below*, and then is done."""
    asks = calls(*(call(f"ask_{each.name}", input="Do it.") for each in below))
    return Agent(name="boss", model=running.responses(*(steps or (asks, says("Done.")))),
                 tools=[*tools.ALL, *(each.as_tool() for each in below)])  # fmt: skip


async def paused(run: RunHandle) -> RunState:
    async with asyncio.timeout(PATIENCE):
        return await run.until_paused()


async def test_a_run_that_waits_for_one_below_that_waits_for_a_person_is_paused(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        state = await paused(run)
        assert (state.status, state.active_requirements, len(state.children)) == ("running", [], 1)
        [(child, requirement, path)] = await pending_with_runs(run)
        assert (child.id, requirement.tool, path) == (state.children[0].run_id, "restart", ("boss", "writer"))
        await child.approve(requirement, by="bob")
        state = await paused(run)
        assert (state.status, state.content, await pending_with_runs(run)) == ("completed", "Done.", [])
        await replay(client, run)
        await replay(client, child)


async def test_what_waits_two_runs_below_pauses_the_topmost(assent_environment: Environment) -> None:
    clerk = writer(assent_environment, name="clerk")
    lead = writer(assent_environment, calls(call("ask_clerk", input="Do it.")), says("Ok."), name="lead", more=[clerk])
    async with assent_environment.serve(boss(assent_environment, lead)) as client:
        run = await client.start("boss", "Go.")
        await paused(run)
        [(deep, requirement, path)] = await pending_with_runs(run)
        assert path == ("boss", "lead", "clerk")
        assert [each.agent for each in (await deep.state()).parents] == ["boss", "lead"]
        await deep.reject(requirement, by="bob", reason="no")
        assert (await paused(run)).status == "completed"


async def test_a_run_is_paused_only_once_all_below_are_and_none_is_missed(assent_environment: Environment) -> None:
    def slow(seen: Conversation) -> Reply:
        return calls(call("restart", service="db"), delay=0.4)

    quick, late = writer(assent_environment, name="quick"), writer(assent_environment, slow, says("."), name="late")
    ends = writer(assent_environment, says("At once.", delay=0.2), name="ends")
    async with assent_environment.serve(boss(assent_environment, quick, late, ends)) as client:
        run = await client.start("boss", "Go.")
        state = await paused(run)
        assert [each.agent for each in state.children] == ["quick", "late"]
        waiting = await pending_with_runs(run)
        assert [path[-1] for _, _, path in waiting] == ["quick", "late"]
        # One goes on while the other waits: only once both rest again is the run paused.
        await waiting[0][0].approve(waiting[0][1], by="bob")
        state = await paused(run)
        assert [each.agent for each in state.children] == ["late"]
        await waiting[1][0].approve(waiting[1][1], by="bob")
        assert (await paused(run)).status == "completed"


async def test_whoever_decides_meanwhile_a_run_is_never_left_waiting_and_nothing_that_waits_is_missed(
    assent_environment: Environment,
) -> None:
    def asks(name: str, delay: float) -> Agent:
        both = calls(call("restart", service="web"), call("pay", to="bob", amount=1), delay=delay)
        return writer(assent_environment, both, calls(call("restart", service="db"), delay=delay), says("."), name=name)

    below = [asks("one", 0.0), asks("two", 0.05), asks("three", 0.15)]
    every = [*below, asks("four", 0.1)]
    above = boss(assent_environment, *every)
    async with assent_environment.serve(above) as client:
        runs = [await client.start("boss", "Go.") for _ in range(4)]

        async def decide(run: RunHandle, *, alone: bool = False) -> int:
            rounds = 0
            while (state := await paused(run)).status == "running":
                assert state.children
                waiting = await pending_with_runs(run)
                assert waiting or not alone
                for each in chance.sample(waiting, chance.randint(0, len(waiting))):
                    await each[0].approve(each[1], by=f"person {rounds}", check=False)
                rounds += 1
            assert state.status == "completed"
            return rounds

        # Two people at each run, who do not know of each other.
        chance = random.Random(7)  # noqa: S311 - who decides what when, nothing secret
        lone = await client.start("boss", "Go.")
        await asyncio.gather(decide(lone, alone=True), *(decide(run) for run in [*runs, *runs]))
        for run in runs:
            assert await pending_with_runs(run) == []
            await replay(client, run)


async def test_runs_below_that_end_without_an_answer_hold_nobody_up(assent_environment: Environment) -> None:
    names = ("cancelled", "terminated")
    above = boss(assent_environment, *(writer(assent_environment, name=name) for name in names))
    async with assent_environment.serve(above) as client:
        run = await client.start("boss", "Go.")
        await paused(run)
        (first, _, _), (second, _, _) = await pending_with_runs(run)
        pause = asyncio.create_task(paused(run))
        await first.cancel()
        state = await paused(run)
        while len(state.children) == 2:  # the cancellation may not have been read yet
            state = await paused(run)
        assert [each.run_id for each in state.children] == [second.id]
        await client.temporal.get_workflow_handle(second.id).terminate()
        async with asyncio.timeout(PATIENCE):
            await run.result()
        state = await paused(run)
        assert (state.status, state.content) == ("completed", "Done.")
        assert (await pause).status in {"running", "completed"}


async def test_a_run_below_that_goes_on_in_new_executions_pauses_the_one_above(assent_environment: Environment) -> None:
    steps = [calls(call("look_up", key=str(number))) for number in range(6)]
    below = writer(assent_environment, *steps, RESTARTS, says("."), name="long")
    async with assent_environment.serve(boss(assent_environment, below), continue_after=20) as client:
        run = await client.start("boss", "Go.")
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        assert len(await executions(client, child)) > 1
        await child.approve(requirement, by="bob")
        assert (await paused(run)).status == "completed"


async def test_a_conversation_that_asks_an_agent_answers_or_tells_who_waits(assent_environment: Environment) -> None:
    above = boss(assent_environment, writer(assent_environment), steps=(says("Hello."), ASKS, says("Done.")))
    async with assent_environment.serve(above) as client:
        run = await client.start("boss", "Hi.", conversation=True)
        await paused(run)
        async with asyncio.timeout(PATIENCE):
            state = await run.send_and_wait("Restart it.", by="alice")
        assert (state.status, [each.agent for each in state.children]) == ("running", ["writer"])
        [(child, requirement, _)] = await pending_with_runs(run)
        await child.approve(requirement, by="bob")
        state = await paused(run)
        assert (state.is_idle, state.content) == (True, "Done.")
        await run.close(by="alice")


async def test_a_scripted_approver_decides_below_too(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Go.")
        async with asyncio.timeout(PATIENCE):
            state = await drive(run, lambda _: Approved())
        assert (state.status, state.content) == ("completed", "Done.")


async def test_nothing_sent_to_a_run_decides_for_one_below_it(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Go.", requested_by="alice")
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        with pytest.raises(RequirementNotFoundError) as told:
            await run.approve(requirement, by="bob")
        where = f"call {requirement.short_id} waits in run {child.id}: assent approve {child.id} {requirement.short_id}"
        assert str(told.value) == f"{where} --by YOUR_NAME"
        with pytest.raises(RequirementNotFoundError, match="assent submit-result"):
            await run.submit_result(requirement, by="bob", output="x")
        await run.send("approve", {"id": requirement.id, "by": "bob"})
        await run.send("reject", {"id": requirement.short_id, "by": "bob", "reason": "no"})
        state = await soon(run.state, lambda state: len(state.ignored_messages) == 2)
        assert [(each.status, each.name) for each in state.ignored_messages] == [
            ("unknown", "approve"),
            ("unknown", "reject"),
        ]
        assert state == await live(client, run)
        assert [each.id for each in (await child.state()).active_requirements] == [requirement.id]
        refused = await child.approve(requirement, by="Alice", check=False)
        assert (refused.status, refused.detail) == ("refused", "'Alice' asked for this run and may not approve in it")
        assert tools.ran(child.id) == []


async def test_what_a_run_was_granted_lets_nothing_through_below_it(assent_environment: Environment) -> None:
    above = boss(assent_environment, writer(assent_environment), steps=(RESTARTS, ASKS, RESTARTS, says("Done.")))
    async with assent_environment.serve(above) as client:
        run = await client.start("boss", "Go.")
        state = await paused(run)
        await run.approve(state.active_requirements[0], by="bob", remember=Remember(uses=5))
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        assert (requirement.grant, requirement.status) == (None, "pending")
        await child.reject(requirement, by="bob", reason="no")
        state = await paused(run)
        assert state.status == "completed"
        assert (tools.ran(child.id), tools.ran(run.id)) == ([], ["restart(web)", "restart(web)"])


# -- the inbox --------------------------------------------------------------------------------------------------------


async def test_the_inbox_has_the_path_of_what_waits_and_can_be_narrowed_to_one_tree(
    assent_environment: Environment,
) -> None:
    clerk = writer(assent_environment, name="clerk")
    lead = writer(assent_environment, calls(call("ask_clerk", input="Do it.")), says("Ok."), name="lead", more=[clerk])
    above = boss(assent_environment, lead, steps=(calls(call("ask_lead", input="."), call("restart", service="x")),))
    async with assent_environment.serve(above) as client:
        await client.setup()
        run, another = await client.start("boss", "Go."), await client.start("clerk", "Go.")
        await asyncio.gather(paused(run), paused(another))
        [lead_run] = (await run.state()).children
        found = await soon(lambda: client.pending(tree=run.id), lambda found: len(found) == 2)
        paths = {each.run_id: (each.path, [one.run_id for one in each.parents]) for each in found}
        [(top, _, _), (deep, _, path)] = await pending_with_runs(run)
        assert paths == {top.id: (["boss"], []), deep.id: (["boss", "lead", "clerk"], [run.id, lead_run.run_id])}
        assert list(path) == ["boss", "lead", "clerk"]
        assert [each.run_id for each in await client.pending(tree=lead_run.run_id)] == [deep.id]
        assert [each.run_id for each in await client.pending(tree=another.id)] == [another.id]
        page = await client.pending(tree=run.id, limit=1)
        assert (len(page), page.total) == (1, None)
        rest = await client.pending(tree=run.id, limit=5, page_token=page.next_page_token)
        assert {each.run_id for each in [*page, *rest]} == {run.id, deep.id}
        with pytest.raises(RunNotFoundError):
            await client.pending(tree="no-such-run")
        # Without search attributes the memo alone tells, and the server's own attributes still narrow what is read.
        wanted = Wanted(tree=lead_run.run_id)
        assert [
            each.run_id
            async for found in inbox.pending(client.temporal, wanted, set(), registered=False)
            for each in found
        ] == [deep.id]
        await another.cancel()
        await run.cancel()


@pytest.mark.parametrize(
    "forged",
    [
        {"agent": "boss", "parents": [{"run_id": "deploy-7", "agent": "chief"}]},
        {"agent": "boss", "parents": "everything"},
        {"agent": "boss", "parents": [{"agent": "chief"}, 7]},
        {"agent": "boss", "parents": [{"run_id": "x", "agent": "y"}] * 10_000},
        ["boss"],
        {"agent": ["boss"], "requested_by": {"by": 7}},
        7,
    ],
)
async def test_a_forged_path_is_not_shown_and_hides_nothing(assent_environment: Environment, forged: object) -> None:
    client = assent_environment.client("of-nobody")
    run_id = f"forged-{uuid.uuid4().hex[:8]}"
    waiting = memo_only_runs.requirement("forged").model_dump(mode="json")
    memo = {MEMO_REQUEST: forged, pending_key(0): waiting}
    handle = await client.temporal.start_workflow("AgentRun", id=run_id, task_queue="of-nobody", memo=memo)
    try:
        found = await soon(lambda: client.pending(tree=run_id))
        assert [(each.run_id, each.parents, each.path) for each in found] in (
            [(run_id, [], ["boss"])], [(run_id, [], [""])],
        )  # fmt: skip
        assert (await progress_of(client.get_run(run_id))).agent in {"boss", None}
    finally:
        await handle.terminate()


# -- the commands -----------------------------------------------------------------------------------------------------


async def test_an_operator_sees_from_above_what_waits_below_and_decides_it_there(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        await client.setup()
        at = Operator(assent_environment, client)
        run = await client.start("boss", "Go.", requested_by="alice")
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        await soon(lambda: client.pending(tree=run.id))

        [row] = (await at.assent("pending", "--tree", run.id, "--json")).json
        assert (row["run_id"], row["agent"]) == (child.id, "writer")
        assert row["parents"] == [{"run_id": run.id, "agent": "boss"}]
        for columns in (80, 160):
            assert "boss > writer" in (await at.assent("pending", "--tree", run.id, columns=columns)).out

        shown = (await at.assent("show", run.id, columns=140)).out
        assert "status     running: 1 child run is active" in shown
        assert "child run  boss > writer: waiting: 1 call waits for a person" in shown
        assert f"approve    assent approve {child.id} {requirement.short_id} --by YOUR_NAME" in shown
        [below] = (await at.assent("show", run.id, "--json")).json["child_runs"]
        assert (below["run_id"], below["agent"]) == (child.id, "writer")
        assert (below["status"], below["child_runs"]) == ("waiting", [])
        assert [each["id"] for each in below["requirements"]] == [requirement.id]
        shown = (await at.assent("show", child.id, columns=140)).out
        assert f"path       boss > writer\nparent run boss calls ask_writer: assent show {run.id}\n" in shown

        wrong = await at.assent("approve", run.id, requirement.short_id, "--by", "bob")
        where = f"in run {child.id}: assent approve {child.id} {requirement.short_id} --by YOUR_NAME\n"
        assert (wrong.code, wrong.out) == (3, "")
        assert wrong.err == f"assent: call {requirement.short_id} waits {where}"
        both = await at.assent("reject", run.id, requirement.short_id, "abcdef12", "--by", "bob", "--reason", "no")
        assert both.code == 3
        how = f'assent reject {child.id} {requirement.short_id} --by YOUR_NAME --reason "WHY"'
        assert f"{how}; no requirement" in both.err

        own = await at.assent("approve", child.id, requirement.short_id, "--by", "alice")
        assert (own.code, "may not approve in it" in own.err) == (1, True)
        done = await at.assent("approve", child.id, requirement.short_id, "--by", "bob")
        assert done.code == 0
        assert (await paused(run)).status == "completed"


async def test_the_temporal_command_alone_leads_from_a_run_to_what_waits_below_it(
    assent_environment: Environment,
) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        run = await client.start("boss", "Go.")
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        above = await temporal(assent_environment, "workflow", "metadata", "--workflow-id", run.id)
        assert f"assent show {child.id}" in above
        below = await temporal(assent_environment, "workflow", "metadata", "--workflow-id", child.id)
        assert f"assent show {run.id}" in below
        assert requirement.short_id in below
        await run.cancel()
        assert (await paused(run)).status == "cancelled"


async def test_to_cancel_a_run_says_that_those_below_are_cancelled_with_it(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        at = Operator(assent_environment, client)
        run = await client.start("boss", "Go.")
        await paused(run)
        [(child, _, _)] = await pending_with_runs(run)
        assert (await at.assent("cancel", run.id)).out == (
            f"requested  a worker cancels the run, as soon as one is there\nchild run  {child.id} is cancelled too\n"
        )
        assert (await paused(run)).status == "cancelled"
        await until(child, lambda state: state.status == "cancelled")
        other = await client.start("boss", "Go.")
        state = await paused(other)
        ran = await at.assent("cancel", other.id, "--json")
        below = [each.run_id for each in state.children]
        assert ran.json == {"run_id": other.id, "status": "requested", "child_runs": below}


async def test_a_terminal_asks_about_what_waits_below_and_decides_it_there(assent_environment: Environment) -> None:
    async with assent_environment.serve(boss(assent_environment, writer(assent_environment))) as client:
        at = Operator(assent_environment, client)
        async with terminal(at, "boss", "Go.", "--requested-by", "alice", "--by", "bob") as screen:
            shown = await screen.until("Approve it? [y/n]")
            assert "boss > writer" in shown
            screen.type("y")
            shown = await screen.until("Done.")
            assert "approved by bob" in shown


# -- notices ----------------------------------------------------------------------------------------------------------


async def test_a_notice_of_what_waits_below_has_the_runs_above(
    assent_environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NAME, SECRET)
    above = boss(assent_environment, writer(assent_environment))
    async with (
        receiving() as receiver,
        assent_environment.serve(above, webhooks=[to(receiver)]) as client,
    ):
        run = await client.start("boss", "Go.", requested_by="alice")
        await paused(run)
        [(child, requirement, _)] = await pending_with_runs(run)
        await child.approve(requirement, by="bob")
        told = [each["data"] for each in await receiver.until(3)]
        assert [each["run_id"] for each in told] == [child.id] * 3
        assert [each["parents"] for each in told] == [[{"run_id": run.id, "agent": "boss"}]] * 3
        assert (await paused(run)).status == "completed"
