"""Approvals in workflow code, without a model: the run that asks people, on the real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import JsonValue
from temporalio import workflow
from temporalio.worker import Worker

from assent import Agent, AgentClient, Decision, Requirement, RunFailedError, RunHandle
from assent.client.start import exists
from assent.testing import Environment, says
from tests.support.visibility import soon
from tests.workflows.test_continue_as_new import executions, live, replay
from tests.workflows.test_decision_binds_one_call import reset

TO_SHOP = '{"to": "shop", "cents": 500}'


def request(verdict: str = "ask", **gate: object) -> dict[str, Any]:
    """The input of a run that asks people about a transfer, for alice."""
    call = {"tool": "wire_transfer", "arguments": TO_SHOP, "gate": {"verdict": verdict, **gate}, "attributes": True}
    return {"agent": "Payout", "input": "", "requested_by": "alice", "call": call}


async def start(client: AgentClient, name: str, given: object) -> RunHandle:
    """A run that some client starts."""
    run_id = f"{client.task_queue}-{name}"
    await client.temporal.start_workflow("AgentRun", given, id=run_id, task_queue=client.task_queue)
    return client.get_run(run_id)


async def pending(run: RunHandle) -> Requirement:
    """The one requirement that the run waits for, once it has begun."""
    assert await soon(lambda: exists(run))
    [requirement] = (await run.until_paused()).active_requirements
    return requirement


async def decided(client: AgentClient, run: RunHandle) -> Decision:
    """The decision with which a run ends; its audit, and what the run says of itself, are in order."""
    async with asyncio.timeout(60):
        result = await run.result()
    verification = await run.verify()
    assert verification.ok, [each for each in verification.checks if each.problems]
    assert verification.complete
    assert await live(client, run) == await run.state()
    await replay(client, run)
    return Decision.model_validate(result.output)


@workflow.defn(name="Payout", sandboxed=False)
class Payout:
    """An ordinary workflow that asks for an approval and goes by it."""

    @workflow.run
    async def run(self, given: dict[str, JsonValue], task_queue: str) -> str:
        """Ask, and return what became of it."""
        run_id = f"{workflow.info().workflow_id}-approval"
        result: dict[str, JsonValue] = await workflow.execute_child_workflow(
            "AgentRun", given, id=run_id, task_queue=task_queue
        )
        decision = Decision.model_validate(result["output"])
        return f"paid {decision.arguments['cents']}" if decision.approved else f"not paid: {decision.reason}"


async def test_people_decide_for_workflow_code_without_a_model(assent_environment: Environment) -> None:
    agent = Agent(name="other", model=assent_environment.responses(says("No model is asked.")))
    async with assent_environment.serve(agent) as client:
        run = await start(client, "two", request(needed=2, approvers=["bob", "carol"], reason="invoice 4711"))
        asked = await pending(run)
        assert (asked.tool, asked.note, asked.turn) == ("wire_transfer", "invoice 4711", 0)
        assert (await run.approve(asked, by="alice", check=False)).status == "refused"
        assert (await run.approve(asked, by="bob")).status == "recorded"
        assert (await run.approve(asked, by="carol", arguments={"to": "shop", "cents": 400})).status == "recorded"
        assert (await run.approve(await pending(run), by="bob")).status == "approved"
        decision = await decided(client, run)
        assert (decision.status, decision.decided_by) == ("approved", ["carol", "bob"])
        assert decision.arguments == {"to": "shop", "cents": 400}

        long = request(needed=2, expires_after=3600)
        run = await start(client, "no", long | {"call": {**long["call"], "continue_after": 16}})
        asked = await pending(run)
        await run.approve(asked, by="carol")
        first = (await run.description()).run_id
        for _ in range(4):
            await run.send_message("Hurry.", by="bob")
        assert await soon(run.description, lambda seen: seen.run_id != first)
        await run.reject(asked, by="bob", reason="not that shop")
        decision = await decided(client, run)
        assert len(await executions(client, run)) > 1
        assert (decision.status, decision.decided_by, decision.reason) == ("rejected", ["bob"], "not that shop")

        run = await start(client, "late", request(expires_after=0.2))
        assert (await decided(client, run)).status == "expired"

        fields = [{"name": "seat", "type": {"enum": ["window", "aisle"]}}]
        run = await start(client, "input", request("input", fields=fields))
        asked = await pending(run)
        assert (
            "seat: 'top' is not one of ['window', 'aisle']"
            in (await run.submit_input(asked, by="bob", values={"seat": "top"}, check=False)).detail
        )
        await run.submit_input(asked, by="bob", values={"seat": "aisle"})
        decision = await decided(client, run)
        assert (decision.approved, decision.values) == (True, {"seat": "aisle"})

        run = await start(
            client, "external", request("external", fields=[{"name": "output", "type": {"type": "integer"}}])
        )
        await run.submit_result(await pending(run), by="bank", output=7, evidence="ticket 9")
        decision = await decided(client, run)
        assert (decision.status, decision.output, decision.evidence) == ("executed", 7, "ticket 9")

        [record] = await client.audit(run.id)
        assert (record.tool, record.gate and record.gate.verdict, record.result) == ("wire_transfer", "external", "7")


async def test_a_workflow_asks_and_is_answered(assent_environment: Environment) -> None:
    agent = Agent(name="other", model=assent_environment.responses(says("No model is asked.")))
    async with assent_environment.serve(agent) as client:
        theirs = f"{client.task_queue}-theirs"
        async with Worker(client.temporal, task_queue=theirs, workflows=[Payout]):
            caller = await client.temporal.start_workflow(
                Payout.run, args=[request(), client.task_queue], id=theirs, task_queue=theirs
            )
            run = client.get_run(f"{theirs}-approval")
            asked = await pending(run)
            found = await soon(lambda: client.pending(tree=theirs), bool)
            assert [(each.id, each.agent, each.caller) for each in found] == [(asked.id, "Payout", theirs)]
            await run.approve(asked, by="bob")
            assert await caller.result() == "paid 500"
            assert (await decided(client, run)).status == "approved"

            caller = await client.temporal.start_workflow(
                Payout.run, args=[request(), client.task_queue], id=f"{theirs}-2", task_queue=theirs
            )
            run = client.get_run(f"{theirs}-2-approval")
            asked = await pending(run)
            await caller.cancel()
            with pytest.raises(RunFailedError, match="cancelled"):
                await run.result()
            assert (await run.state()).requirements[0].status == "cancelled"
            assert (await run.approve(asked, by="bob", check=False)).status == "late"
            assert (await run.verify()).ok


async def test_no_approval_survives_a_reset_to_the_start(assent_environment: Environment) -> None:
    agent = Agent(name="other", model=assent_environment.responses(says("No model is asked.")))
    async with assent_environment.serve(agent) as client:
        run = await start(client, "reset", request())
        asked = await pending(run)
        await run.approve(asked, by="bob")
        assert (await decided(client, run)).approved
        await reset(assent_environment, run, "--type", "FirstWorkflowTask")
        again = await pending(run)
        assert again.id != asked.id
        assert [each.status for each in (await run.state()).ignored_messages] == ["unknown"]
        await run.reject(again, by="bob", reason="changed my mind")
        assert (await decided(client, run)).status == "rejected"


async def test_a_run_that_was_cancelled_before_a_worker_took_it_asked_nothing(assent_environment: Environment) -> None:
    client = assent_environment.client("nobody")
    run = await start(client, "early", request())
    await run.cancel()
    agent = Agent(name="other", model=assent_environment.responses(says("No model is asked.")))
    async with assent_environment.serve(agent, task_queue="nobody"):
        with pytest.raises(RunFailedError, match="cancelled"):
            await run.result()
    assert (await run.state()).requirements == []
    assert (await run.verify()).ok
    await replay(client, run)
