"""What an adversary found, and must not happen again: wedged runs, lost runs, a poisoned inbox, tools run twice."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from temporalio.client import WorkflowHandle

from assent import Agent, DecisionError, MessageError, RunHandle, RunState, ToolContext, tool
from assent.client.client import AgentClient
from assent.testing import Approved, Conversation, Environment, Rejected, Reply, call, calls, drive, says
from assent.wire.errors import ArgumentsError, HistoryError
from assent.wire.visibility import ANY_TOOL
from tests.support import tools
from tests.support.visibility import soon
from tests.workflows.test_wire import temporal


def told(seen: Conversation) -> Reply:
    return says(str(seen.last_output))


async def agree(client: AgentClient, run: RunHandle) -> None:
    """The fold of the history is what the run says of itself."""
    live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    assert await run.state() == live


@tool
async def hang(context: ToolContext) -> str:
    """Never answer."""
    tools.note(context, "hangs")
    await asyncio.sleep(600)
    return "never"


class UnspeakableError(Exception):
    """An error whose words cannot be read."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


@tool
def misbehave(context: ToolContext, how: str) -> str:
    """Fail in an unusual way."""
    tools.note(context, how)
    errors: dict[str, BaseException] = {
        "unspeakable": UnspeakableError(),
        "surrogate": ValueError("\ud800"),
        "exit": SystemExit(1),
        "cancel": asyncio.CancelledError(),
        "arguments": ArgumentsError("mine, after I acted"),
    }
    raise errors[how]


async def test_many_long_tool_names_do_not_end_the_run(assent_environment: Environment) -> None:
    def run_it() -> str:
        return "ran"

    names = [f"{number:02d}".ljust(64, "x") for number in range(32)]
    gated = [tool(name=name, requires_confirmation=True)(run_it) for name in names]
    model = assent_environment.responses(calls(*[call(name) for name in names]), says("done"))
    async with assent_environment.serve(Agent(name="many", model=model, tools=gated)) as client:
        run = await client.start("many", "Go.", requested_by="\U0001d49c" * 200)
        assert len((await run.until_paused()).active_requirements) == 32
        [found] = await soon(lambda: client.pending(agent="many", tool=names[7]))
        assert found.tool == names[7]
        handle = client.temporal.get_workflow_handle(run.id)
        assert ANY_TOOL in str((await handle.describe()).typed_search_attributes)
        assert (await drive(run, lambda _: Rejected("no"))).status == "completed"


async def test_an_oversize_result_is_refused_at_the_client(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("ship", order="1")), told)
    async with assent_environment.serve(Agent(name="shop", model=model, tools=tools.ALL)) as client:
        run = await client.start("shop", "Ship.")
        [requirement] = (await run.until_paused()).active_requirements
        for attempt in (
            run.submit_result(requirement, by="w", output="x" * 3_000_000),
            run.send("submit_result", {"id": requirement.id, "by": "w", "output": "x" * 3_000_000}),
        ):
            with pytest.raises(MessageError, match="bytes long"):
                await attempt
        with pytest.raises(MessageError, match="not JSON"):
            await run.submit_result(requirement, by="w", output=b"\xff")
        assert (await run.submit_result(requirement, by="w", output="ok")).status == "executed"
        assert (await run.result()).content == "ok"


IMPOSSIBLE_GATES = (
    '"expires_after": -1e300',
    '"remind_every": 5e-324',
    '"escalations": [{"after": -1e300, "approvers": ["a"]}]',
    '"needed": 0',
)
BY_HAND = [
    *('"done"', '{"ok": true}', "null", "[1]"),
    *(f'{{"refused": "no", "gate": {{"verdict": "ask", {each}}}}}' for each in IMPOSSIBLE_GATES),
]


@pytest.mark.parametrize("result", BY_HAND)
async def test_a_result_put_in_by_hand_does_not_wedge_the_run(assent_environment: Environment, result: str) -> None:
    model = assent_environment.responses(calls(call("hang")), told)
    async with assent_environment.serve(Agent(name="stuck", model=model, tools=[hang])) as client:
        run = await client.start("stuck", "Go.")
        await soon(partial(_has_run, run))
        await temporal(
            assent_environment, "activity", "complete", "--workflow-id", run.id, "--activity-id", "1.0",
            "--result", result,
        )  # fmt: skip
        assert "an operator set its result" in (await run.result()).content
        await agree(client, run)


async def test_a_failure_without_words_folds_as_the_run_was_told(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("hang")), told)
    agent = Agent(name="stuck", model=model, tools=[hang])
    async with assent_environment.serve(agent, prefix_cache=0) as client:
        run = await client.start("stuck", "Go.")
        await soon(partial(_has_run, run))
        await temporal(assent_environment, "activity", "fail", "--workflow-id", run.id, "--activity-id", "1.0")
        assert (await run.result()).content.startswith("Error: ")
        await agree(client, run)


async def _has_run(run: RunHandle) -> bool:
    return bool(tools.ran(run.id))


@pytest.mark.parametrize("how", ["unspeakable", "surrogate", "exit", "cancel", "arguments"])
async def test_a_tool_that_fails_in_an_unusual_way_runs_once(assent_environment: Environment, how: str) -> None:
    model = assent_environment.responses(calls(call("misbehave", how=how)), told)
    async with assent_environment.serve(Agent(name="bad", model=model, tools=[misbehave])) as client:
        run = await client.start("bad", "Go.")
        assert (await run.result()).content.startswith("Error: ")
        assert tools.ran(run.id) == [how]


async def test_a_model_that_says_too_much_fails_the_run_once(assent_environment: Environment) -> None:
    long_name = assent_environment.responses(calls(call("\x7f" * 200_000)), says("done"))
    many = assent_environment.responses(calls(*[call("look_up", key="k")] * 600), says("done"))
    blown = assent_environment.chat(says(f"[{','.join(['1e15'] * 120_000)}]"), says("[1.0]"))
    agents = [
        Agent(name="long", model=long_name, tools=tools.ALL),
        Agent(name="many", model=many, tools=tools.ALL),
        Agent(name="blown", model=blown, output_type=list[float]),
    ]
    async with assent_environment.serve(*agents) as client:
        states = [await (await client.start(agent.name, "Go.")).until_paused() for agent in agents]
        assert [state.status for state in states] == ["completed", "failed", "completed"]
        assert (states[1].error or "").startswith("TooManyCalls")
        assert states[2].output == [1.0]


async def listed(client: AgentClient, run: RunHandle) -> bool:
    return run.id in [each.run_id for each in await client.pending(agent="ops")]


async def test_a_poisoned_memo_hides_nobody_elses_run(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        await run.until_paused()
        memos: list[dict[str, object]] = [
            {"assent_pending_0": "x", "assent_pending_": {}, "assent_pending_1": [], "assent_pending_x": 1},
            {"assent_pending_7": {"id": 1}},
            {"assent_pending_0": {"id": "a", "kind": "confirmation", "call_id": "c", "tool": "t", "nonce": "n",
                                  "created_at": "2026-01-01T00:00:00"}},
            {"assent_request": ["no"]},
        ]  # fmt: skip
        foreign = [await _start_foreign(client, f"{run.id}-foreign-{index}", memo) for index, memo in enumerate(memos)]
        assert await soon(lambda: listed(client, run))
        assert await client.get_pending_approval_count() >= 1
        approvals, _ = await client.get_approvals(agent="ops")
        assert run.id in [approval.run_id for approval in approvals]
        for handle in foreign:
            await handle.terminate()
        await drive(run, lambda _: Approved())


async def _start_foreign(client: AgentClient, run_id: str, memo: dict[str, object]) -> WorkflowHandle[object, object]:
    handle: WorkflowHandle[object, object] = await client.temporal.start_workflow(
        "AgentRun", "not a request", id=run_id, task_queue="nobody-serves-this", memo=memo
    )
    return handle


async def test_the_inbox_says_who_asked_and_not_what_the_starter_claimed(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="liar", model=model, tools=tools.ALL)) as client:
        await client.temporal.start_workflow(
            "AgentRun", {"agent": "liar", "input": "Go.", "requested_by": "mallory"}, id="lying-memo",
            task_queue=client.task_queue, memo={"assent_request": {"agent": "weather", "requested_by": "ceo"}},
        )  # fmt: skip
        await client.get_run("lying-memo").until_paused()
        [found] = await soon(lambda: client.pending(agent="liar"))
        assert (found.agent, found.requested_by) == ("liar", "mallory")
        await drive(client.get_run("lying-memo"), lambda _: Approved(), by="bob")


async def test_resolving_finds_what_waits_since_a_moment(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        for _ in range(5):
            run = await client.start("ops", "Go.", requested_by="alice")
            [requirement] = (await run.until_paused()).active_requirements
            with pytest.raises(MessageError):
                await client.resolve_approval(requirement.id, status="aproved", resolved_by="bob")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            with pytest.raises(DecisionError, match="asked for this run"):
                await client.resolve_approval(requirement.id, status="approved", resolved_by="alice")
            record = await client.resolve_approval(f" {requirement.id.upper()}", status="approved", resolved_by="bob")
            assert record is not None
            assert record.status == "approved"
            await run.result()


async def test_a_foreign_workflow_is_not_taken_for_a_run(assent_environment: Environment) -> None:
    client = assent_environment.client("nobody-serves-this")
    handle = await client.temporal.start_workflow("Nightly", id="nightly", task_queue="nobody-serves-this")
    with pytest.raises(MessageError, match="'nightly' is taken by a workflow of type 'Nightly'"):
        await client.start("ops", "Go.", id="nightly")
    for read in (client.get_run("nightly").state(), client.get_run("nightly").until_paused()):
        with pytest.raises(HistoryError, match="not a run of Assent"):
            await read
    await handle.terminate()


async def test_waiting_after_a_signal_waits_for_what_the_signal_moves(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        for _ in range(5):
            run = await client.start("ops", "Go.")
            [requirement] = (await run.until_paused()).active_requirements
            await run.send("approve", {"id": requirement.id, "by": "bob"})
            assert (await run.until_paused()).status == "completed"


async def test_a_terminated_run_is_told_as_one(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        watched = asyncio.create_task(_watch(run))
        await client.temporal.get_workflow_handle(run.id).terminate()
        assert (await watched)[-1] == "the server closed the run: terminated"
        assert (await run.approve(requirement, by="bob", check=False)).status == "late"
        state = await run.until_paused()
        assert (state.status, state.requirements[0].status) == ("failed", "cancelled")


async def _watch(run: RunHandle) -> list[str]:
    return [event.text async for event in run.watch()]


async def test_a_placeholder_is_nobody(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        for name in ("NAME", "NAME ", " YOUR NAME"):
            with pytest.raises(MessageError, match="put your own name"):
                await run.approve(requirement, by=name)
        await drive(run, lambda _: Approved(), by="bob")
