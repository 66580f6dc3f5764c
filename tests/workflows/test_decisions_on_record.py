"""Section A of the abuse cases: what people decide, and what is on record of it. The docstrings name the rows."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from temporalio.client import WorkflowHistory

from assent import Agent, AgentClient, Approval, ToolContext, approval, tool
from assent.audit.approval import approvals_of
from assent.history.fold import fold
from assent.runtime.connection import connect
from assent.testing import Environment, call, calls, says
from assent.wire.protocol import ToolCallInput
from tests.support import tools
from tests.support.run_probes import PATIENCE, calls_of, content, events, executed, told, until
from tests.support.visibility import soon

PAY_A, PAY_B = call("pay", to="A", amount=1), call("pay", to="B", amount=2)


@tool(requires_user_input=True, user_input_fields=["amount"])
def transfer(context: ToolContext, to: str, amount: int) -> str:
    """Move money; a person says how much."""
    tools.note(context, f"transfer({to}, {amount})")
    return f"moved {amount} to {to}"


async def test_a_rejected_tool_that_asks_for_input_does_not_run(assent_environment: Environment) -> None:
    """The model is told; values that come after the rejection run nothing."""
    model = assent_environment.responses(calls(call("transfer", to="ann"), PAY_A), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[transfer, *tools.ALL])) as client:
        run = await client.start("ops", "Go.")
        asked, pay = (await run.until_paused()).active_requirements
        assert asked.needs_user_input
        assert (await run.reject(asked, by="bob", reason="not this month")).status == "rejected"
        assert (await run.submit_input(asked, by="eve", values={"amount": 7}, check=False)).status == "late"
        await run.reject(pay, by="bob", reason="no")
        answers = json.loads(await content(run))
        assert answers[0] == "Rejected: not this month"
        assert calls_of(await run.history(), "transfer") == []
        assert tools.ran(run.id) == []


async def test_a_rejected_external_call_is_told_to_the_model_and_the_run_goes_on(
    assent_environment: Environment,
) -> None:
    """The run finishes; a result that comes after the rejection is not used."""
    model = assent_environment.responses(calls(call("ship", order="7"), PAY_A), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        ship, pay = (await run.until_paused()).active_requirements
        assert ship.needs_external_execution
        assert (await run.reject(ship, by="bob", reason="sold out")).status == "rejected"
        assert (await run.submit_result(ship, by="warehouse", output="shipped", check=False)).status == "late"
        await run.approve(pay, by="bob")
        assert await content(run) == '["Rejected: sold out", "paid 1 to A"]'
        assert (await run.state()).status == "completed"


async def test_two_gated_calls_of_one_turn_are_decided_apart(assent_environment: Environment) -> None:
    """One requirement each, each with its own arguments; approving one approves one."""
    model = assent_environment.responses(calls(PAY_A, PAY_B), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        first, second = (await run.until_paused()).active_requirements
        assert first.tool_args == {"to": "A", "amount": 1}
        assert second.tool_args == {"to": "B", "amount": 2}
        await run.approve(second, by="bob")
        await run.reject(first, by="carol", reason="not A")
        assert await content(run) == '["Rejected: not A", "paid 2 to B"]'
        assert tools.ran(run.id) == ["pay(B, 2)"]
        records = await run.approvals()
        assert [(each.tool_args, each.status, each.resolved_by) for each in records] == [
            ({"to": "A", "amount": 1}, "rejected", "carol"),
            ({"to": "B", "amount": 2}, "approved", "bob"),
        ]


async def test_deciding_one_of_two_leaves_the_other_waiting(assent_environment: Environment) -> None:
    """The other keeps waiting, and the model is asked nothing before both are decided."""
    model = assent_environment.responses(calls(PAY_A, PAY_B), told)
    agent = Agent(name="ops", model=model, tools=tools.ALL)
    async with assent_environment.serve(agent) as client:
        run = await client.start("ops", "Go.")
        first, second = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob")
        await until(run, lambda state: executed(state, "pay") and state.is_paused)
    # The worker is another one, too: what goes on from here is what `continue` is elsewhere.
    async with assent_environment.serve(agent, task_queue=client.task_queue):
        state = await run.until_paused()
        assert (state.is_paused, state.turns) == (True, 1)
        assert [(each.id, each.votes) for each in state.active_requirements] == [(second.id, [])]
        assert tools.ran(run.id) == ["pay(A, 1)"]
        await run.approve(second, by="bob")
        assert await content(run) == '["paid 1 to A", "paid 2 to B"]'


async def test_who_why_what_when_and_the_result_are_read_from_the_history_alone(
    assent_environment: Environment,
) -> None:
    """With no worker, and from the exported history with no server either."""
    model = assent_environment.responses(calls(PAY_A, PAY_B), says("done"))
    before = datetime.now(UTC)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        first, second = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob", reason="invoice 12")
        await run.reject(second, by="carol", reason="no invoice")
        await content(run)
    after = datetime.now(UTC)
    paid, refused = await run.audit()
    assert (paid.requested_by, paid.tool_name, paid.arguments) == ("alice", "pay", '{"to": "A", "amount": 1}')
    assert (paid.resolved_by, paid.reason, paid.status) == ("bob", "invoice 12", "approved")
    assert (paid.execution, paid.result) == ("executed", "paid 1 to A")
    assert (refused.resolved_by, refused.reason, refused.status) == ("carol", "no invoice", "rejected")
    assert (refused.execution, refused.arguments) == (None, '{"to": "B", "amount": 2}')
    for record in (paid, refused):
        [vote] = record.votes
        assert record.resolved_at == vote.at
        assert before <= record.created_at <= vote.at <= after
    exported = (await run.history()).to_json()
    history = WorkflowHistory.from_json(run.id, exported)
    assert approvals_of(fold(history.events, run_id=run.id)) == await run.approvals()


async def test_two_calls_of_one_input_tool_each_take_their_own_values(assent_environment: Environment) -> None:
    """Filled in in another order than asked, each call runs once, with its own values."""
    model = assent_environment.responses(calls(call("transfer", to="ann"), call("transfer", to="bob")), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[transfer])) as client:
        run = await client.start("ops", "Go.")
        ann, bob = (await run.until_paused()).active_requirements
        assert (ann.tool_args, bob.tool_args) == ({"to": "ann"}, {"to": "bob"})
        assert (await run.submit_input(bob, by="carol", values={"amount": 2})).status == "approved"
        await until(run, lambda state: executed(state, "transfer"))
        assert tools.ran(run.id) == ["transfer(bob, 2)"]
        assert (await run.submit_input(ann, by="carol", values={"amount": 1})).status == "approved"
        assert await content(run) == '["moved 1 to ann", "moved 2 to bob"]'
        assert tools.ran(run.id) == ["transfer(bob, 2)", "transfer(ann, 1)"]


async def test_the_decision_itself_wakes_the_run(assent_environment: Environment) -> None:
    """One signal, from somebody who started nothing, and nobody polls or continues."""
    model = assent_environment.responses(calls(PAY_A), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [pay] = (await run.until_paused()).active_requirements
        stranger = AgentClient(await connect(assent_environment.server.address))
        await stranger.get_run(run.id).send("approve", {"id": pay.short_id, "by": "bob"})
        async with asyncio.timeout(PATIENCE):
            while not tools.ran(run.id):  # noqa: ASYNC110 - the tool writes it; no server is asked
                await asyncio.sleep(0.01)
        assert await content(run) == '["paid 1 to A"]'
        history = await run.history()
        assert len(events(history, "WORKFLOW_EXECUTION_SIGNALED")) == 1
        assert events(history, "WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == []


async def test_a_fresh_client_reads_the_same_records_from_the_history(assent_environment: Environment) -> None:
    """There is one store; what was decided is there for a client that never saw the run, with no worker."""
    model = assent_environment.responses(calls(PAY_A, PAY_B), says("done"))
    async with assent_environment.serve(Agent(name="one-store", model=model, tools=tools.ALL)) as client:
        run = await client.start("one-store", "Go.", requested_by="alice")
        first, second = (await run.until_paused()).active_requirements
        await run.approve(first, by="bob")
        await run.reject(second, by="carol", reason="no")
        await content(run)
        records = await run.approvals()
    fresh = AgentClient(await connect(assent_environment.server.address))
    found, total = await soon(lambda: fresh.get_approvals(agent="one-store"), lambda found: found[1] == 2)
    assert total == 2
    assert {each.id: each for each in found} == {each.id: each for each in records}
    approved, _ = await fresh.get_approvals(agent="one-store", status="approved")
    assert [(each.resolved_by, each.result) for each in approved] == [("bob", "paid 1 to A")]
    assert await fresh.get_run(run.id).approvals() == records


async def test_an_audited_tool_that_raises_is_in_the_history_before_it_runs(assent_environment: Environment) -> None:
    """Read by the tool itself as it begins: who approved what, and that it runs; then how it failed."""
    seen: list[Approval] = []
    attempts: list[ToolCallInput] = []
    client = assent_environment.client("any")

    @approval(type="audit")
    @tool(requires_confirmation=True)
    async def wipe(context: ToolContext, user: str) -> str:
        """Wipe a user's data."""
        seen.extend(await client.get_run(context.run_id).approvals())
        attempts.extend(calls_of(await client.get_run(context.run_id).history(), "wipe"))
        message = "the disk is on fire"
        raise OSError(message)

    model = assent_environment.responses(calls(call("wipe", user="u1")), told)
    async with assent_environment.serve(Agent(name="ops", model=model, tools=[wipe])) as serving:
        run = await serving.start("ops", "Go.", requested_by="alice")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob", reason="asked for")
        assert await content(run) == '["Error: OSError: the disk is on fire"]'
        [before], [attempt], [record] = seen, attempts, await run.approvals()
        assert attempt.arguments == '{"user": "u1"}'
        assert (before.approval_type, before.status, before.execution) == ("audit", "approved", "running")
        assert (before.resolved_by, before.reason, before.arguments) == ("bob", "asked for", '{"user": "u1"}')
        assert record == before.model_copy(
            update={"execution": "failed", "result": "Error: OSError: the disk is on fire"}
        )
