"""Resets by the `temporal` command: a run reset to before an approval asks again; a fold still tells what it says."""

from __future__ import annotations

from assent import Agent, RunHandle, RunState
from assent.client.client import AgentClient
from assent.history.resets import Reset
from assent.testing import Approved, Environment, call, calls, drive, says
from tests.support import tools
from tests.support.cli_operator import Operator
from tests.workflows.test_wire import temporal


async def told_by(client: AgentClient, run: RunHandle) -> tuple[RunState, RunState]:
    """What the history folds to, and what the run says of itself."""
    live = RunState.model_validate(await client.temporal.get_workflow_handle(run.id).query("state"))
    return (await run.state()).model_copy(update={"execution_id": ""}), live.model_copy(update={"execution_id": ""})


async def reset(running: Environment, run: RunHandle, *, to: str) -> None:
    """Reset *run* with the `temporal` command."""
    await temporal(
        running, "workflow", "reset", "--workflow-id", run.id, "--type", to, "--reason", "test",
    )  # fmt: skip


async def test_a_reset_to_before_the_approval_asks_again(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.", requested_by="alice")
        [first] = (await run.until_paused()).active_requirements
        await run.send("approve", {"id": first.id, "by": "bob"})
        await run.result()
        await reset(assent_environment, run, to="FirstWorkflowTask")
        state = await run.until_paused()
        assert state.is_paused
        [second] = state.active_requirements
        assert second.id != first.id
        # The signal was applied again by the server, and authorises nothing: its requirement is not this one.
        assert [attempt.status for attempt in state.ignored_messages] == ["unknown"]
        folded, live = await told_by(client, run)
        assert folded == live
        assert tools.ran(run.id) == ["pay(a, 1)"]
        assert (await drive(run, lambda _: Approved(), by="bob")).status == "completed"


async def test_a_reset_is_visible_in_show_audit_and_watch(assent_environment: Environment) -> None:
    """Who, when, why and from where: an execution that a reset made says so."""
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        base = (await run.description()).run_id
        await run.until_paused()
        at = Operator(assent_environment, client)
        assert (await at.assent("show", run.id, "--json")).json["resets"] == []
        await reset(assent_environment, run, to="FirstWorkflowTask")
        [requirement] = (await run.until_paused()).active_requirements
        [found] = (await run.audit()).run.resets
        made = (await run.description()).run_id
        assert (found.execution_id, found.base_execution_id) == (made, base)
        assert found.by
        assert (found.reason or "").endswith("test")  # behind the name of the operating system's user
        assert [found] == await run.resets()
        for command in ("show", "audit"):
            shown = await at.assent(command, run.id, columns=200)
            assert f"reset      {found.at:%Y-%m-%d %H:%M:%SZ} by {found.by} to event {found.event_id} of" in shown.out
            assert f"{base}: {found.reason}" in shown.out
        assert [Reset.model_validate(each) for each in (await at.assent("show", run.id, "--json")).json["resets"]] == [
            found
        ]
        await run.approve(requirement, by="bob")
        await run.result()
        events = [event async for event in run.watch()]
        assert [each.text for each in events if each.kind == "reset"] == [found.text]
        assert (await run.verify()).ok


async def test_a_reset_after_the_approval_replays_cleanly(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        await run.result()
        await reset(assent_environment, run, to="LastWorkflowTask")
        state = await run.until_paused()
        assert state.status == "completed"
        assert tools.ran(run.id) == ["pay(a, 1)"]
        folded, live = await told_by(client, run)
        assert folded == live


async def test_a_reset_that_applies_an_update_again_folds_to_what_the_run_says(
    assent_environment: Environment,
) -> None:
    model = assent_environment.responses(calls(call("pay", to="a", amount=1)), says("done"))
    async with assent_environment.serve(Agent(name="ops", model=model, tools=tools.ALL)) as client:
        run = await client.start("ops", "Go.")
        [requirement] = (await run.until_paused()).active_requirements
        await run.approve(requirement, by="bob")
        await run.result()
        await reset(assent_environment, run, to="FirstWorkflowTask")
        state = await run.until_paused()
        assert state.is_paused
        folded, live = await told_by(client, run)
        assert folded == live
        await drive(run, lambda _: Approved(), by="bob")
