"""An agent as a Nexus operation, for workflows of another namespace's team."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.client import WorkflowFailureError
from temporalio.worker import Worker

from assent import Agent, AgentClient
from assent.testing import Environment, call, calls, says
from assent.worker import AssentPlugin
from tests.support.nexus_caller import Caller
from tests.support.tools import pay


async def test_a_workflow_runs_an_agent_through_nexus(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="bob", amount=1)), says("paid"))
    plugin = AssentPlugin([Agent(name="ops", model=model, tools=[pay])], nexus=True)
    client, name = assent_environment.server.client, f"agents-{uuid.uuid4().hex[:8]}"
    target = EndpointTarget(worker=EndpointTarget.Worker(namespace=client.namespace, task_queue=name))
    await client.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(spec=EndpointSpec(name=name, target=target))
    )
    async with (
        Worker(client, task_queue=name, plugins=[plugin]),
        Worker(client, task_queue=f"{name}-callers", workflows=[Caller]),
    ):
        wrong = {"agent": "ops"}
        with pytest.raises(WorkflowFailureError) as refused:
            await client.execute_workflow(Caller.run, args=[name, wrong], id=f"a-{name}", task_queue=f"{name}-callers")
        assert "input: Field required" in str(refused.value.cause and refused.value.cause.__cause__)
        request = {"agent": "ops", "input": "Pay.", "requested_by": "alice"}
        caller = await client.start_workflow(
            Caller.run, args=[name, request], id=f"b-{name}", task_queue=f"{name}-callers"
        )
        agents, run_id = AgentClient(client, task_queue=name), ""
        async with asyncio.timeout(60):
            async for event in caller.fetch_history_events(wait_new_event=True):
                if event.HasField("nexus_operation_started_event_attributes"):
                    run_id = event.links[0].workflow_event.workflow_id
                    break
        run = agents.get_run(run_id)
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        assert await asyncio.wait_for(caller.result(), 30) == "paid"
