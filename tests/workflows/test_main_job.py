"""The main job, over the real server: an agent asks, waits, is decided by a signal, and finishes."""

from __future__ import annotations

from assent import Agent, approval, tool
from assent.testing import Approved, Environment, Rejected, call, calls, drive, says

RAN: list[str] = []


@tool
def count_users(minimum: int = 0) -> int:
    """Count the users.

    Args:
        minimum: How old they are at least.
    """
    RAN.append(f"count_users({minimum})")
    return 42


@approval
@tool(requires_confirmation=True)
async def deploy(target: str) -> str:
    """Deploy to a target."""
    RAN.append(f"deploy({target})")
    return f"deployed to {target}"


async def test_a_gated_call_waits_and_runs_once_approved(assent_environment: Environment) -> None:
    model = assent_environment.responses(
        calls(call("count_users", minimum=18), call("deploy", target="wait")), says("It is done.")
    )
    agent = Agent(name="deployer", model=model, tools=[count_users, deploy])
    async with assent_environment.serve(agent) as client:
        run = await client.start("deployer", "Deploy it.", requested_by="alice")
        state = await run.until_paused()
        assert state.is_paused
        assert [each.tool_name for each in state.active_requirements] == ["deploy"]
        assert "deploy(wait)" not in RAN
        result = await run.approve(state.active_requirements[0], by="bob")
        assert result.status == "approved"
        assert (await run.result()).content == "It is done."
        assert RAN.count("deploy(wait)") == 1
        [record] = await client.audit(run.id)
        assert (record.status, record.resolved_by, record.result) == ("approved", "bob", "deployed to wait")


async def test_a_rejected_call_tells_the_model_why_and_the_run_goes_on(assent_environment: Environment) -> None:
    model = assent_environment.chat(
        calls(call("deploy", target="reject")), lambda seen: says(f"I was told: {seen.last_output}")
    )
    agent = Agent(name="deployer", model=model, tools=[deploy])
    async with assent_environment.serve(agent) as client:
        run = await client.start("deployer", "Deploy it.")
        state = await drive(run, lambda _: Rejected("not on a Friday"))
        assert state.content == "I was told: Rejected: not on a Friday"
        assert "deploy(reject)" not in RAN


async def test_the_fold_of_the_history_is_what_the_run_says_of_itself(assent_environment: Environment) -> None:
    model = assent_environment.responses(calls(call("deploy", target="fold")), says("done"))
    agent = Agent(name="deployer", model=model, tools=[deploy])
    async with assent_environment.serve(agent) as client:
        run = await client.start("deployer", "Deploy it.", requested_by="alice")
        await run.until_paused()
        handle = client.temporal.get_workflow_handle(run.id)
        folded = (await run.state()).model_dump(mode="json", exclude={"execution_id"})
        live = await handle.query("state")
        live.pop("execution_id")
        assert folded == live
        state = await drive(run, lambda _: Approved())
        live = await handle.query("state")
        live.pop("execution_id")
        assert state.model_dump(mode="json", exclude={"execution_id"}) == live
