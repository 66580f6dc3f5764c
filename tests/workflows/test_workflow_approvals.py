"""`assent.workflow`: approvals, questions, results, gated activities and agents, asked for by any workflow."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.converter import DataConverter
from temporalio.exceptions import ApplicationError, ChildWorkflowError
from temporalio.worker import Replayer, Worker

from assent import (
    Agent,
    AgentClient,
    Approval,
    ConfigurationError,
    DecisionError,
    Requirement,
    RequirementNotFoundError,
    RunHandle,
)
from assent.runtime.connection import connect
from assent.testing import Environment, call, calls, says
from assent.worker import AssentPlugin
from assent.workflow import request_approval
from tests.support.encrypting_codec import Encrypting
from tests.support.payout import Payout, UnsandboxedPayout, boast, fail, wire
from tests.support.tools import pay
from tests.support.visibility import soon

STRICT = AssentPlugin(requires_requester=True)


@asynccontextmanager
async def payouts(client: Client, agents: Sequence[Agent] = (), **more: Any) -> AsyncGenerator[AgentClient]:
    """A worker of the team's with the plugin, and a client of its task queue."""
    queue = f"payouts-{uuid.uuid4().hex[:8]}"
    plugin = AssentPlugin(agents, groups={"finance": ["bob", "dora"]}, gated_activities=["wire"])
    with ThreadPoolExecutor(4) as threads:
        options: dict[str, Any] = {"workflows": [Payout], "activities": [wire, fail, boast], "plugins": [plugin]} | more
        async with Worker(client, task_queue=queue, activity_executor=threads, **options):
            yield AgentClient(client, task_queue=queue)


async def begun(client: AgentClient, what: str, ledger: str = "") -> WorkflowHandle[Payout, str]:
    """A `Payout` that asks."""
    return await client.temporal.start_workflow(
        Payout.run, args=[what, ledger], id=f"payout-{uuid.uuid4().hex[:8]}", task_queue=client.task_queue
    )


async def asked(
    client: AgentClient, handle: WorkflowHandle[Any, Any], after: str = ""
) -> tuple[RunHandle, Requirement]:
    """The run that a workflow asks people in, once it waits; with *after*, one that is not of this execution."""
    async with asyncio.timeout(30):
        while True:
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.HasField("child_workflow_execution_started_event_attributes"):
                    child = event.child_workflow_execution_started_event_attributes.workflow_execution
                    if child.run_id != after:
                        run = client.get_run(child.workflow_id)
                        [requirement] = (await run.until_paused()).active_requirements
                        return run, requirement


async def pending(client: AgentClient, workflow_id: str, count: int) -> list[Approval]:
    """What a workflow waits for, once that are so many."""
    async with asyncio.timeout(30):
        while True:
            found = [each for each in await client.pending() if each.run_id.startswith(workflow_id)]
            if len(found) == count:
                return found
            await asyncio.sleep(0.1)


async def status_of(run: RunHandle, wanted: str) -> bool:
    """Wait until the run has this status."""
    async with asyncio.timeout(20):
        while True:
            if (await run.state()).status == wanted:
                return True
            await asyncio.sleep(0.1)


async def ended(handle: WorkflowHandle[Any, str]) -> str:
    return await asyncio.wait_for(handle.result(), 30)


async def test_a_workflow_waits_for_two_of_its_approvers(assent_environment: Environment) -> None:
    """The inbox, the quorum, the groups, the requester's exclusion, the edit and the audit are those of a run."""
    codec = replace(DataConverter.default, payload_codec=Encrypting())
    client = await Client.connect(assent_environment.server.address, data_converter=codec)
    async with payouts(client) as agents:
        handle = await begun(agents, "approval")
        run, requirement = await asked(agents, handle)
        assert run.id.startswith(f"{handle.id}.wire_transfer-")
        assert (requirement.tool, requirement.needed, requirement.note) == ("wire_transfer", 2, "invoice 4711")
        assert requirement.approvers == ["bob", "dora", "carol"]
        assert await (await run.description()).static_summary() == "`Payout` asks: `wire_transfer`"
        for name in ("clerk", "mallory"):
            with pytest.raises(DecisionError):
                await run.approve(requirement, by=name)
        await run.approve(requirement, by="bob")
        await run.approve(requirement, by="dora")
        assert await ended(handle) == "approved by bob, dora 500000"
        verification = await run.verify()
        assert verification.ok, verification
        histories = [await handle.fetch_history(), await run.history()]
    replayer = Replayer(workflows=[Payout], plugins=[AssentPlugin()], data_converter=codec)
    for history in histories:
        await replayer.replay_workflow(history)


async def test_rejections_deadlines_questions_and_results_reach_the_workflow(assent_environment: Environment) -> None:
    async with payouts(assent_environment.server.client) as agents:
        plain, short, question, elsewhere = [
            await begun(agents, what) for what in ("plain", "short", "question", "elsewhere")
        ]
        run, requirement = await asked(agents, plain)
        await run.reject(requirement, by="bob", reason="not today")
        assert await ended(plain) == "rejected: not today"
        assert await ended(short) == "False expired"
        run, requirement = await asked(agents, question)
        with pytest.raises(DecisionError, match="cents"):
            await run.submit_input(requirement, values={"iban": "DE1", "cents": "many"}, by="clerk")
        await run.submit_input(requirement, values={"iban": "DE1", "cents": 5}, by="clerk")
        assert await ended(question) == "{'iban': 'DE1', 'cents': 5}"
        run, requirement = await asked(agents, elsewhere)
        with pytest.raises(DecisionError, match="iban"):
            await run.submit_result(requirement, output={"country": "DE"}, by="bank")
        await run.submit_result(requirement, output={"iban": "DE1", "country": "DE"}, by="bank")
        assert await ended(elsewhere) == "Account(iban='DE1', country='DE')"
        several = await begun(agents, "several")
        for each in await pending(agents, several.id, 3):
            await agents.get_run(each.run_id).approve(each.id, by="bob")
        assert await ended(several) == "0:approved 1:approved 2:approved"


async def test_a_gated_activity_runs_once_with_what_was_approved(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    async with payouts(assent_environment.server.client) as agents:
        handle = await begun(agents, "activity", str(ledger))
        run, requirement = await asked(agents, handle)
        assert not ledger.exists()
        results = await asyncio.gather(
            *(run.approve(requirement, by=f"person{n}") for n in range(5)), return_exceptions=True
        )
        assert sum(not isinstance(each, DecisionError) for each in results) >= 1
        assert await ended(handle) == "wired 500 to DE12"
        assert ledger.read_text() == "500 to DE12\n"
        verification = await run.verify()
        assert verification.ok, verification
        rejected = await begun(agents, "activity", str(ledger))
        run, requirement = await asked(agents, rejected)
        await run.reject(requirement, by="bob", reason="too much")
        with pytest.raises(DecisionError):
            await run.approve(requirement, by="bob")
        assert await ended(rejected) == "rejected: too much"
        edited = await begun(agents, "activity", str(ledger))
        run, requirement = await asked(agents, edited)
        await run.approve(
            requirement,
            by="bob",
            arguments={"ledger": str(ledger), "cents": 1, "to": {"iban": "FR1", "country": "FR"}},
        )
        assert await ended(edited) == "wired 1 to FR1"
        assert ledger.read_text() == "500 to DE12\n1 to FR1\n"
        failing = await begun(agents, "failing")
        run, requirement = await asked(agents, failing)
        await run.approve(requirement, by="bob")
        with pytest.raises(WorkflowFailureError) as failed:
            await ended(failing)
        assert str(failed.value.cause) == "ActivityFailed: ValueError: no money"
        large = await begun(agents, "large")
        run, requirement = await asked(agents, large)
        await run.approve(requirement, by="bob")
        with pytest.raises(WorkflowFailureError, match="Workflow execution failed") as failed:
            await ended(large)
        assert str(failed.value.cause).startswith("ActivityResult: 'boast' was executed, but its result is not whole")


async def test_the_end_of_the_workflow_ends_what_it_asked(assent_environment: Environment) -> None:
    """Cancelled, continued as new: nothing waits any more that nobody would hear the answer of."""
    async with payouts(assent_environment.server.client) as agents:
        cancelled = await begun(agents, "plain")
        run, _ = await asked(agents, cancelled)
        await cancelled.cancel()
        with pytest.raises(WorkflowFailureError):
            await ended(cancelled)
        assert await status_of(run, "cancelled")
        continued = await begun(agents, "restarting")
        run, _ = await asked(agents, continued)
        first = (await continued.describe()).run_id
        await continued.signal(Payout.restart)
        assert await status_of(run, "cancelled")
        assert first is not None
        newest = agents.temporal.get_workflow_handle_for(Payout.run, continued.id)
        run, requirement = await asked(agents, newest)
        await run.approve(requirement, by="bob")
        assert await ended(newest) == "approved: None"


async def test_after_a_reset_of_the_workflow_people_are_asked_again(
    assent_environment: Environment, tmp_path: Path
) -> None:
    """What waited is ended; what was approved before authorises nothing."""
    ledger = tmp_path / "ledger"
    async with payouts(assent_environment.server.client) as agents:
        handle = await begun(agents, "activity", str(ledger))
        run, requirement = await asked(agents, handle)
        before = (await run.description()).run_id or ""
        await agents.temporal.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace="default",
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                reason="again",
                workflow_task_finish_event_id=4,
                request_id=uuid.uuid4().hex,
            )
        )
        again = agents.temporal.get_workflow_handle_for(Payout.run, handle.id)
        fresh, second = await asked(agents, again, before)
        assert (fresh.id, second.id) != (run.id, requirement.id)
        with pytest.raises((DecisionError, RequirementNotFoundError)):
            await fresh.approve(requirement, by="bob")
        assert not ledger.exists()
        await fresh.approve(second, by="bob")
        assert await ended(again) == "wired 500 to DE12"
        assert ledger.read_text() == "500 to DE12\n"


async def test_a_workflow_runs_an_agent(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("refunded"))
    agent = Agent(name="refunds", model=model, tools=[pay])
    async with payouts(assent_environment.server.client, [agent]) as agents:
        handle = await begun(agents, "agent")
        run, requirement = await asked(agents, handle)
        [in_tree] = await soon(lambda: agents.pending(tree=handle.id))
        [on_page] = await agents.pending(tree=handle.id, limit=5)
        assert in_tree.id == on_page.id == requirement.id
        await run.approve(requirement, by="bob")
        assert await ended(handle) == "refunded"


async def test_a_workflow_outside_of_the_sandbox_asks_all_the_same(
    assent_environment: Environment, tmp_path: Path
) -> None:
    ledger = str(tmp_path / "ledger")
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("refunded"))
    agent = Agent(name="refunds", model=model, tools=[pay])
    async with payouts(assent_environment.server.client, [agent], workflows=[UnsandboxedPayout]) as agents:
        handle = await agents.temporal.start_workflow(
            UnsandboxedPayout.run, args=["", ledger], id=f"payout-{uuid.uuid4().hex[:8]}", task_queue=agents.task_queue
        )
        for each in await pending(agents, handle.id, 5):
            run = agents.get_run(each.run_id)
            match each.tool:
                case "ask_person":
                    await run.submit_input(each.id, values={"iban": "DE1", "cents": 5}, by="clerk")
                case "open_account":
                    await run.submit_result(each.id, output={"iban": "DE1", "country": "DE"}, by="bank")
                case _:
                    await run.approve(each.id, by="bob")
        account = "Account(iban='DE1', country='DE')"
        expected = f"approved: None | {{'iban': 'DE1', 'cents': 5}} | {account} | wired 500 to DE12 | refunded"
        assert await ended(handle) == expected
        history = await handle.fetch_history()
    await Replayer(workflows=[UnsandboxedPayout], plugins=[AssentPlugin()]).replay_workflow(history)


async def test_a_workflow_that_waits_outlives_a_worker_that_begins_to_require_a_requester(
    assent_environment: Environment,
) -> None:
    client, queue = assent_environment.server.client, f"payouts-{uuid.uuid4().hex[:8]}"
    agents = AgentClient(client, task_queue=queue)
    options: dict[str, Any] = {"task_queue": queue, "workflows": [Payout], "max_cached_workflows": 0}
    async with Worker(client, plugins=[AssentPlugin()], **options):
        waiting = await begun(agents, "elsewhere")
        run, requirement = await asked(agents, waiting)
    async with Worker(await connect(assent_environment.server.address), plugins=[STRICT], **options):
        await run.submit_result(requirement, by="bank", output={"iban": "DE12", "country": "DE"})
        assert "DE12" in await ended(waiting)
        refused = await begun(agents, "elsewhere")
        with pytest.raises(WorkflowFailureError) as caught:
            await ended(refused)
    child = caught.value.cause
    assert isinstance(child, ChildWorkflowError)
    assert isinstance(child.cause, ApplicationError)
    told = "'open_account' has no requester, which the worker of the workflow requires: give requested_by"
    assert (child.cause.type, child.cause.message) == ("NoRequester", told)


async def test_people_are_asked_from_workflow_code_of_a_worker_with_the_plugin_only(
    assent_environment: Environment,
) -> None:
    with pytest.raises(ConfigurationError, match="only workflow code can ask people so"):
        await request_approval("wire", {})
    client = assent_environment.server.client
    async with payouts(client, plugins=[]) as agents:
        handle = await begun(agents, "plain")
        async with asyncio.timeout(20):
            async for event in handle.fetch_history_events(wait_new_event=True):
                failure = event.workflow_task_failed_event_attributes.failure
                if failure.message:
                    assert "the worker of this workflow has no Assent" in failure.message
                    break
        await handle.terminate()
