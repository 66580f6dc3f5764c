"""Recorded runs without a model, in which workflow code asks people: one that waits, and one that was decided."""

from __future__ import annotations

from typing import Final

from assent import Agent, Gate, RunRequest, WorkflowCall
from assent.testing import Environment, says
from tests.replay.waiting_runs import Write, until

NAMES: Final = ("workflow-asking", "workflow-answered")


async def tell_of_a_workflow_that_asks(running: Environment, written: Write) -> None:
    """One of two people approves with other arguments, after a message that no model reads; then the other does."""
    gate = Gate(verdict="ask", needed=2, approvers=["ann", "bob"], expires_after=1e9, reason="invoice 4711")
    call = WorkflowCall(tool="wire_transfer", arguments='{"to": "shop", "cents": 500}', gate=gate, attributes=True)
    request = RunRequest(agent="Payout", input="", requested_by="alice", call=call)
    agent = Agent(name="teller", model=running.responses(says("never asked")))
    for name in NAMES:
        async with running.serve(agent, task_queue=f"record-{name}") as client:
            given = request.model_dump(mode="json", exclude_unset=True)
            await client.temporal.start_workflow("AgentRun", given, id=f"recorded-{name}", task_queue=client.task_queue)
            run = client.get_run(f"recorded-{name}")
            [asked] = (await run.until_paused()).active_requirements
            await run.send_message("Hurry up.", by="alice")
            await run.approve(asked, by="ann", arguments={"cents": 400})
            state = await until(run, lambda state: len(state.requirements) > 1)
            if name == NAMES[1]:
                await run.approve(state.active_requirements[0], by="bob")
                await run.result()
            await written(run, name)
